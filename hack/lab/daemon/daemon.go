package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/open-local/open-local/hack/lab/network"
	"github.com/open-local/open-local/hack/lab/service"
)

// daemon is a lab as it runs.
type daemon struct {
	Config
	log        *slog.Logger
	ctx        context.Context // ends with the daemon
	components []*component
	machines   []*machine
}

// order is how the control plane is started: what is needed goes first.
var order = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "snapshot-controller"}

// Run is the daemon. It must be in namespaces of its own; outside is a listener
// of the host's network namespace, behind which the API server is put. It
// returns when ctx ends or the lab cannot go on.
func Run(ctx context.Context, c Config, outside net.Listener, log *slog.Logger) error {
	if err := ownView(c); err != nil {
		return err
	}
	if err := network.Up(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	d := &daemon{Config: c, log: log, ctx: ctx}
	commands := c.commands()
	for _, name := range order {
		d.components = append(d.components, &component{name: name, argv: commands[name], log: log})
	}
	for i := 1; i <= c.Nodes; i++ {
		m, err := newMachine(c, i)
		if err != nil {
			return err
		}
		d.machines = append(d.machines, m)
	}
	group.Go(func() error { return d.listen(ctx) })
	group.Go(func() error { service.Forward(ctx, outside, hostPort(network.Gateway, network.APIPort)); return nil })
	group.Go(func() error { return d.runServices(ctx) })
	// The nodes take longer to boot than the control plane to start.
	for _, m := range d.machines {
		if err := m.start(); err != nil {
			return err
		}
	}
	for _, component := range d.components[:2] {
		group.Go(func() error { return component.run(ctx, c.Logs()) })
	}
	if err := d.awaitAPI(ctx); err != nil {
		return err
	}
	for _, component := range d.components[2:] {
		group.Go(func() error { return component.run(ctx, c.Logs()) })
	}
	return group.Wait()
}

// ownView makes the mount namespace the lab's own: other processes, other names.
func ownView(c Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leaving the host's mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	names := filepath.Join(c.Runtime, "resolv.conf")
	if err := os.WriteFile(names, []byte("nameserver "+network.DNS+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing resolv.conf: %w", err)
	}
	if err := unix.Mount(names, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("putting the lab's resolv.conf in place: %w", err)
	}
	return nil
}

// listen obeys orders until ctx ends.
func (d *daemon) listen(ctx context.Context) error {
	listener, err := net.Listen("unix", d.Socket())
	if err != nil {
		return fmt.Errorf("listening for orders: %w", err)
	}
	server := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listening for orders: %w", err)
	}
	return nil
}

// runServices serves names and Services.
func (d *daemon) runServices(ctx context.Context) error {
	names := &service.Names{Domain: network.Domain, Fixed: map[string]netip.Addr{}}
	for _, m := range d.machines {
		names.Fixed[m.name] = netip.MustParseAddr(m.ip)
	}
	proxy := &service.Proxy{Log: d.log}
	client, err := kubernetes.NewForConfig(d.restConfig())
	if err != nil {
		return fmt.Errorf("making a client for the API server: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return names.Serve(ctx, hostPort(network.DNS, 53)) })
	group.Go(func() error {
		if err := d.awaitAPI(ctx); err != nil {
			return err
		}
		return service.Watch(ctx, client, names.Use, proxy.Use)
	})
	return group.Wait()
}

func (d *daemon) restConfig() *rest.Config {
	return &rest.Config{
		Host: apiServer, BearerToken: d.Admin, QPS: 50, Burst: 100,
		TLSClientConfig: rest.TLSClientConfig{CAData: d.CA.Cert},
	}
}

// awaitAPI waits until the API server is ready.
func (d *daemon) awaitAPI(ctx context.Context) error {
	// Whether it is the right one is not the question here; nobody else is near.
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, apiServer+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("waiting for the API server: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+d.Admin)
		if answer, err := client.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// bufferedConn is a connection of which some input was read ahead.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (b bufferedConn) Read(p []byte) (int, error) { return b.reader.Read(p) }

// CloseWrite ends the sending side alone, if the connection can.
func (b bufferedConn) CloseWrite() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return b.Close()
}

// Upgrade sends a request over conn that makes it a plain connection to what
// path stands for.
func Upgrade(conn net.Conn, path string) (net.Conn, error) {
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: lab\r\nContent-Length: 0\r\n\r\n", path); err != nil {
		return nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
		return nil, errors.Join(fmt.Errorf("asking for %s: %s: %s", path, answer.Status, text), err)
	}
	return bufferedConn{Conn: conn, reader: reader}, nil
}
