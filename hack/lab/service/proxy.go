package service

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout bounds the wait for a backend that does not answer; the next is
// tried then.
const dialTimeout = 3 * time.Second

// Proxy forwards the ports of Services to their backends. All addresses of
// Services must be local to the network namespace.
type Proxy struct {
	Log *slog.Logger

	mu    sync.Mutex // guards ports
	ports map[netip.AddrPort]*port
}

// A port is one port of one Service with a listener.
type port struct {
	listener net.Listener
	backends atomic.Pointer[[]netip.AddrPort]
	next     atomic.Uint64 // whose turn it is
}

// Use makes the table the one that is forwarded by: it opens and closes ports
// and leaves those that stay alone.
func (p *Proxy) Use(t Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ports == nil {
		p.ports = map[netip.AddrPort]*port{}
	}
	for address, open := range p.ports {
		if _, wanted := t.Backends[address]; !wanted {
			open.listener.Close()
			delete(p.ports, address)
		}
	}
	for address, backends := range t.Backends {
		open, ok := p.ports[address]
		if !ok {
			listener, err := net.Listen("tcp", address.String())
			if err != nil {
				p.Log.Error("Not forwarding a port of a Service", "address", address, "err", err)
				continue
			}
			open = &port{listener: listener}
			p.ports[address] = open
			open.backends.Store(&backends)
			go p.accept(open)
			continue
		}
		open.backends.Store(&backends)
	}
}

// Close closes all ports.
func (p *Proxy) Close() { p.Use(Table{}) }

func (p *Proxy) accept(open *port) {
	for {
		conn, err := open.listener.Accept()
		if err != nil {
			return // closed by Use
		}
		go func() {
			backend, err := open.dial()
			if err != nil {
				p.Log.Warn("No backend of a Service answers", "address", open.listener.Addr(), "err", err)
				reset(conn)
				return
			}
			Splice(conn, backend)
		}()
	}
}

// dial connects to a backend, each in turn, and to the next when one fails.
func (o *port) dial() (net.Conn, error) {
	backends := *o.backends.Load()
	first := o.next.Add(1)
	var last error
	for i := range backends {
		address := backends[(first+uint64(i))%uint64(len(backends))]
		conn, err := net.DialTimeout("tcp", address.String(), dialTimeout)
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, fmt.Errorf("trying %d backends: %w", len(backends), last)
}

// reset ends the connection as a refusal, not as an orderly end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// halfCloser is a connection whose sending side can end alone.
type halfCloser interface{ CloseWrite() error }

// Splice joins two connections until both directions ended, and closes them.
func Splice(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, err := io.Copy(way[0], way[1])
			if half, ok := way[0].(halfCloser); ok && err == nil {
				_ = half.CloseWrite()
				return
			}
			_ = way[0].Close()
		})
	}
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}

// Forward passes every connection that the listener takes on to one address,
// until ctx ends.
func Forward(ctx context.Context, listener net.Listener, address string) {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			far, err := net.DialTimeout("tcp", address, dialTimeout)
			if err != nil {
				reset(conn)
				return
			}
			Splice(conn, far)
		}()
	}
}
