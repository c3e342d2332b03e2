package extender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/gin-gonic/gin"
	"k8s.io/klog/v2"
)

// A Replica says how one of several extenders stands. What is promised is known to the
// one that promised it, so only the leader answers. The others are ready to take over
// and pass on what they are asked: whoever asks need not know the leader.
type Replica interface {
	// Leads reports whether this one leads, beyond doubt.
	Leads() bool
	// Leader returns the host of the leader, which may be this one, or "" while nobody
	// is known to lead.
	Leader() string
}

var errNoLeader = errors.New("no scheduler extender leads at this moment; ask again in a few seconds")

// leads reports whether questions are answered here, as far as others are concerned.
func (s *Scheduler) leads() bool { return s.o.Replica == nil || s.o.Replica.Leads() }

// standby returns a step before a handler: where another extender leads, that is asked,
// at the port at which this one was.
func (s *Scheduler) standby() gin.HandlerFunc {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Context().Value(leaderKey{}).(string) //nolint:forcetypeassert // set below
			r.Out.Header.Set(passedOn, "true")
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			klog.FromContext(r.Context()).V(2).Info("Passing on a question", "leader", r.Context().Value(leaderKey{}), "err", err)
			http.Error(w, errNoLeader.Error(), http.StatusServiceUnavailable)
		},
	}
	return func(c *gin.Context) {
		if s.leads() {
			return
		}
		defer c.Abort()
		leader := s.o.Replica.Leader()
		if leader == "" || c.GetHeader(passedOn) != "" { // two that take each other for the leader end here
			c.String(http.StatusServiceUnavailable, errNoLeader.Error())
			return
		}
		_, port, err := net.SplitHostPort(c.Request.Context().Value(http.LocalAddrContextKey).(net.Addr).String()) //nolint:forcetypeassert // net/http sets it
		if err != nil {
			c.String(http.StatusInternalServerError, err.Error())
			return
		}
		ctx := context.WithValue(c.Request.Context(), leaderKey{}, net.JoinHostPort(leader, port))
		proxy.ServeHTTP(c.Writer, c.Request.WithContext(ctx))
	}
}

// passedOn marks a request that a standby has passed on.
const passedOn = "Open-Local-Passed-On"

// leaderKey is the key of the leader's address in a request's context.
type leaderKey struct{}

// A relay is a listener that keeps connections only while this extender leads. Others
// it ties to the leader as they are: what is encrypted in them is none of its business.
type relay struct {
	net.Listener
	replica Replica
	ctx     context.Context //nolint:containedctx // that of the server; ties end with it

	mu   sync.Mutex // guards what follows
	tied map[net.Conn]string
}

func newRelay(ctx context.Context, listener net.Listener, replica Replica) *relay {
	r := &relay{Listener: listener, replica: replica, ctx: ctx, tied: map[net.Conn]string{}}
	context.AfterFunc(ctx, func() { r.cut("") })
	return r
}

// Accept returns the next connection that is for this extender.
func (r *relay) Accept() (net.Conn, error) {
	for {
		conn, err := r.Listener.Accept()
		if err != nil || r.replica.Leads() {
			r.cut("") // whoever was asked before is not the leader any more
			return conn, err
		}
		leader := r.replica.Leader()
		if leader == "" {
			_ = conn.Close() // the caller tries again
			continue
		}
		r.cut(leader)
		go func() {
			if err := r.tie(conn, leader); err != nil {
				klog.FromContext(r.ctx).V(2).Info("Passing on a connection", "leader", leader, "err", err)
			}
		}()
	}
}

// cut ends the ties to all but the leader.
func (r *relay) cut(leader string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn, to := range r.tied {
		if to != leader {
			_ = conn.Close() // and so ends the other side
		}
	}
}

// tie copies between the connection and the leader until one of them has ended.
func (r *relay) tie(conn net.Conn, leader string) error {
	defer conn.Close() //nolint:errcheck // there is nobody left to tell
	_, port, err := net.SplitHostPort(r.Addr().String())
	if err != nil {
		return err
	}
	other, err := (&net.Dialer{}).DialContext(r.ctx, "tcp", net.JoinHostPort(leader, port))
	if err != nil {
		return fmt.Errorf("connecting to the leader: %w", err)
	}
	defer other.Close() //nolint:errcheck // as above
	r.mu.Lock()
	r.tied[conn] = leader
	r.mu.Unlock()
	if now := r.replica.Leader(); now != leader || r.replica.Leads() {
		return fmt.Errorf("the leader was %s and is %s", leader, now) // since before the tie could be cut
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.tied, conn)
	}()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{conn, other}, {other, conn}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // that one side has hung up is how it ends
			ended <- struct{}{}
		}()
	}
	select {
	case <-ended:
	case <-r.ctx.Done():
	}
	return nil
}
