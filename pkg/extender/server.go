package extender

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/metrics"
	"github.com/open-local/open-local/pkg/tlsfiles"
)

// maxRequest bounds a request, in bytes. A scheduler without nodeCacheCapable sends
// whole nodes, some ten kilobytes each.
const maxRequest = 256 << 20

// How long the servers wait: for a request's header, and for requests that are being
// answered when they are told to stop.
const (
	headerTimeout = 10 * time.Second
	stopTimeout   = 5 * time.Second
)

// An Election calls lead when this extender leads, and returns when it does no more.
type Election func(ctx context.Context, lead func(context.Context)) error

// Listeners are where an extender answers: the scheduler on Plain, or on Verbs with
// Options.VerbsTLS, and reservations on Secure with Options.ReserveTLS. The latter two are
// nil without.
type Listeners struct{ Plain, Verbs, Secure net.Listener }

// Run watches and serves until the context ends or the lead is lost. It closes the
// listeners. Without an election it leads from the beginning.
func (s *Scheduler) Run(ctx context.Context, at Listeners, registry *prometheus.Registry, elect Election) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer s.caches.stop()
		if err := s.begin(ctx, elect); err != nil && ctx.Err() == nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	if s.teller != nil {
		group.Go(func() error {
			s.teller.run(ctx)
			return nil
		})
	}
	if s.waker != nil {
		group.Go(func() error {
			s.waker.run(ctx)
			return nil
		})
	}
	group.Go(func() error { return serve(ctx, at.Plain, s.Handler(ctx, registry)) })
	if at.Verbs != nil {
		group.Go(func() error { return s.serveTLS(ctx, at.Verbs, s.o.VerbsTLS, s.VerbsHandler(ctx)) })
	}
	if at.Secure != nil {
		group.Go(func() error { return s.serveTLS(ctx, at.Secure, s.o.ReserveTLS, s.ReserveHandler(ctx)) })
	}
	return group.Wait()
}

// serveTLS is serve with certificates. Where another extender leads, connections are tied
// to that one.
func (s *Scheduler) serveTLS(ctx context.Context, listener net.Listener, config *tls.Config, handler http.Handler) error {
	if config == nil {
		return errors.Join(fmt.Errorf("serving on %s: there is no TLS configuration", listener.Addr()), listener.Close())
	}
	if s.o.Replica != nil {
		listener = newRelay(ctx, listener, s.o.Replica)
	}
	return serve(ctx, tls.NewListener(listener, config), handler)
}

// begin fills the caches and leads, as soon as it is elected.
func (s *Scheduler) begin(ctx context.Context, elect Election) error {
	if elect == nil {
		return s.Start(ctx)
	}
	if err := s.Watch(ctx); err != nil {
		return err
	}
	return elect(ctx, s.Lead)
}

// serve answers until the context ends, and then finishes what it has begun.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout,
		ErrorLog: log.New(complaints{klog.FromContext(ctx)}, "", 0),
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		done <- server.Shutdown(stop)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	return <-done
}

// complaints are what the HTTP server has to say of those who call it: mostly that they
// hung up, or have no certificate.
type complaints struct{ log klog.Logger }

func (c complaints) Write(line []byte) (int, error) {
	c.log.V(2).Info("Serving", "complaint", strings.TrimSpace(string(line)))
	return len(line), nil
}

// engine returns a router that survives a panic in one request.
func engine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.Use(gin.Recovery())
	return e
}

// Handler serves kube-scheduler and those who watch over us. It carries no secrets and
// changes nothing but what room is held for pods that exist.
func (s *Scheduler) Handler(ctx context.Context, registry *prometheus.Registry) http.Handler {
	e := engine()
	verbs := e.Group("/", s.standby())
	if s.o.VerbsTLS == nil {
		s.answerVerbs(ctx, verbs)
	}
	verbs.GET(ExplainPath+"/:namespace/:name", s.explain)
	e.GET("/version", func(c *gin.Context) { c.String(http.StatusOK, s.o.Version) })
	e.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	e.GET("/readyz", func(c *gin.Context) {
		if !s.Useful() {
			c.String(http.StatusServiceUnavailable, errNotReady.Error())
			return
		}
		c.String(http.StatusOK, "ok")
	})
	e.GET("/metrics", gin.WrapH(metrics.HandlerOf(registry, s.snapshot)))
	return e
}

// VerbsHandler serves kube-scheduler alone, on connections with certificates.
func (s *Scheduler) VerbsHandler(ctx context.Context) http.Handler {
	e := engine()
	if s.o.VerbsCaller != "" {
		e.Use(only(s.o.VerbsCaller, "ask for nodes"))
	}
	s.answerVerbs(ctx, e)
	return e
}

func (s *Scheduler) answerVerbs(ctx context.Context, to gin.IRoutes) {
	to.POST("/scheduler/predicates", verb(ctx, s, "filter", s.filter, encodeFilter))
	to.POST("/scheduler/priorities", verb(ctx, s, "prioritize", s.prioritize, encodeScores))
}

// only lets in whoever has proved to have that name.
func only(caller, what string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if c.Request.TLS == nil || tlsfiles.PeerName(*c.Request.TLS) != caller {
			c.AbortWithStatusJSON(http.StatusForbidden, reserve.Refusal{Message: "this certificate may not " + what})
		}
	}
}

// verb adapts a scheduler verb to gin. The scheduler shows a user what stands in a
// result's Error and drops the body of a failed request, so encode gets the error too.
func verb[Out any](
	ctx context.Context, s *Scheduler, name string,
	decide func(context.Context, *extenderv1.ExtenderArgs, *space) (*Out, error), encode func([]byte, *Out, error) (int, []byte),
) gin.HandlerFunc {
	logger := klog.FromContext(ctx).WithValues("verb", name)
	return func(c *gin.Context) {
		begun := time.Now()
		var args extenderv1.ExtenderArgs
		body := http.MaxBytesReader(c.Writer, c.Request.Body, maxRequest)
		w := s.borrow()
		defer s.giveBack(w)
		if err := decodeArgs(body, &args, w); err != nil {
			c.String(http.StatusBadRequest, "decoding the request: %v", err)
			return
		}
		out, err := decide(klog.NewContext(c.Request.Context(), logger), &args, w)
		status, answer := encode(w.answer[:0], out, err)
		w.answer = answer
		c.Header("Content-Length", strconv.Itoa(len(answer))) // else it goes out in small chunks
		c.Data(status, "application/json", answer)
		took := time.Since(begun)
		s.meter.observe(name, outcome(err), took)
		logger.V(2).Info("Answered", "took", took, "outcome", outcome(err), "err", err)
	}
}

// ReserveHandler serves reservations to the one caller that may make them, whose
// certificate the TLS configuration has verified.
func (s *Scheduler) ReserveHandler(ctx context.Context) http.Handler {
	logger := klog.FromContext(ctx).WithValues("verb", "reserve")
	e := engine()
	e.Use(only(s.o.Caller, "reserve"))
	e.POST(reserve.Path, func(c *gin.Context) {
		begun, request := time.Now(), requestOf(c)
		answer, err := s.Reserve(klog.NewContext(c.Request.Context(), logger), request)
		took := time.Since(begun)
		s.meter.observe("reserve", outcome(err), took)
		s.meter.deny("reserve", err)
		logger.V(2).Info("Answered", "claim", klog.KRef(request.Namespace, request.Claim), "node", request.Node,
			"group", answer.Group, "took", took, "outcome", outcome(err), "err", err)
		grant(c, answer, err)
	})
	e.DELETE(reserve.Path, func(c *gin.Context) {
		begun, request := time.Now(), requestOf(c)
		err := s.GiveUp(request)
		took := time.Since(begun)
		s.meter.observe("give up", outcome(err), took)
		logger.V(2).Info("Gave up", "claim", klog.KRef(request.Namespace, request.Claim), "node", request.Node, "took", took, "outcome", outcome(err), "err", err)
		grant(c, struct{}{}, err)
	})
	e.POST(reserve.RoomPath, s.room(ctx, "room", s.Room))
	e.DELETE(reserve.RoomPath, s.room(ctx, "give back", func(_ context.Context, r reserve.Room) error { return s.GiveBack(r) }))
	return e
}

// requestOf returns what is asked about a claim.
func requestOf(c *gin.Context) reserve.Request {
	return reserve.Request{
		Namespace: c.Param("namespace"), Claim: c.Param("name"),
		Volume: c.Query("volume"), Node: c.Query("nodeName"), VolumeType: c.Query("volumeType"), Group: c.Query("vgName"),
		Attempt: c.Query("attempt"),
	}
}

// grant answers one who reserves.
func grant(c *gin.Context, answer any, err error) {
	if err != nil {
		c.JSON(reserve.StatusOf(err), reserve.Refusal{Message: err.Error()})
		return
	}
	c.JSON(http.StatusOK, answer)
}

// room adapts what is done about room on a node to gin.
func (s *Scheduler) room(ctx context.Context, name string, do func(context.Context, reserve.Room) error) gin.HandlerFunc {
	logger := klog.FromContext(ctx).WithValues("verb", name)
	return func(c *gin.Context) {
		begun := time.Now()
		bytes, _ := strconv.ParseInt(c.Query("bytes"), 10, 64) // what is no number is no room
		r := reserve.Room{
			Node: c.Param("namespace"), Volume: c.Param("name"), Group: c.Query("vgName"), Bytes: bytes, New: c.Query("new") == "true",
		}
		err := do(c.Request.Context(), r)
		took := time.Since(begun)
		s.meter.observe(name, outcome(err), took)
		s.meter.deny(name, err)
		logger.V(2).Info("Answered", "node", r.Node, "group", r.Group, "name", r.Volume, "bytes", r.Bytes, "took", took, "outcome", outcome(err), "err", err)
		grant(c, reserve.Kept{Node: r.Node, Group: r.Group, Volume: r.Volume, Bytes: r.Bytes}, err)
	}
}

// statusOf returns the HTTP status for a verb that failed.
func statusOf(err error) int {
	if errors.Is(err, errNotReady) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// quoted returns the text as JSON.
func quoted(text string) []byte {
	b, err := json.Marshal(text)
	if err != nil {
		return []byte(`""`) // a string cannot fail
	}
	return b
}
