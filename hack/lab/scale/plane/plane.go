// Package plane runs a control plane of Kubernetes, csi-provisioner and open-local as
// processes of this machine, on ports that are free. It does not know of which nodes the
// cluster is, or what is asked of it.
package plane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/open-local/open-local/hack/lab/pki"
)

// Programs are those that are run, beside open-local.
var Programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "csi-provisioner"}

// The names of processes, and of those who ask the API server.
const (
	Etcd       = "etcd"
	API        = "kube-apiserver"
	Manager    = "kube-controller-manager"
	Scheduler  = "kube-scheduler"
	Provision  = "csi-provisioner"
	Extender   = "open-local-extender"
	Controller = "open-local-csi"
)

// Options configures a Plane. All must be set but those that are false or 0 for a reason.
type Options struct {
	Dir      string            // of keys, data and logs
	Programs map[string]string // files, by name; open-local among them
	// Driver is the name of the CSI driver.
	Driver string
	// Volumes has csi-provisioner and the CSI controller run at all. Extender has
	// kube-scheduler ask open-local, and Capacity has the CSI controller publish capacity.
	Volumes, Extender, Capacity bool
	Percentage                  int    // of all nodes, of which the scheduler finds the best; 0 for its own choice
	Strategy                    string // of the extender: binpack or spread
	// QPS is what every program may ask of the API server in a second.
	QPS int
	// Workers is how many volumes are made at one time.
	Workers int
}

// A Plane is a control plane that runs, or is about to.
type Plane struct {
	o         Options
	ports     map[string]int
	admin     string // the administrator's token
	authority *pki.Authority
	tokens    map[string]string
	processes []*Process
}

// The ports of a plane.
const (
	portEtcd      = "etcd"
	portPeer      = "etcd-peer"
	portAPI       = "api"
	portManager   = "manager"
	portScheduler = "scheduler"
	portExtender  = "extender"
	portReserve   = "reserve"
	portCSI       = "csi"
	portProvision = "provision"
	portNode      = "node"
)

// New prepares a plane: its directory, keys and ports.
func New(o Options) (*Plane, error) {
	p := &Plane{o: o, ports: map[string]int{}, tokens: map[string]string{}}
	if err := os.MkdirAll(p.file("log"), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the control plane: %w", err)
	}
	if err := p.choosePorts(); err != nil {
		return nil, err
	}
	return p, p.secure()
}

func (p *Plane) file(elem ...string) string {
	return filepath.Join(append([]string{p.o.Dir}, elem...)...)
}

// choosePorts finds ports that nobody listens on. They are all held until the last is
// found.
func (p *Plane) choosePorts() error {
	for _, name := range []string{
		portEtcd, portPeer, portAPI, portManager, portScheduler, portExtender, portReserve, portCSI, portProvision, portNode,
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("looking for a free port: %w", err)
		}
		defer listener.Close()
		address, ok := listener.Addr().(*net.TCPAddr)
		if !ok {
			return fmt.Errorf("looking for a free port: %v is none", listener.Addr())
		}
		p.ports[name] = address.Port
	}
	return nil
}

// NodePort is where all nodes answer.
func (p *Plane) NodePort() int { return p.ports[portNode] }

// NodeKeys is the directory with the certificate of the nodes.
func (p *Plane) NodeKeys() string { return p.file("tls", "node") }

// StoreURL is where etcd answers.
func (p *Plane) StoreURL() string { return p.url("http", portEtcd) }

// MetricsURL is where a process shows its metrics, or empty.
func (p *Plane) MetricsURL(name string) string {
	switch name {
	case Scheduler:
		return p.url("https", portScheduler) + "/metrics"
	case Extender:
		return p.url("http", portExtender) + "/metrics"
	case Controller:
		return p.url("http", portCSI) + "/metrics"
	case Provision:
		return p.url("http", portProvision) + "/metrics"
	}
	return ""
}

// AuditLog is the file in which the API server writes who asked for what, of those of
// Accounted.
func (p *Plane) AuditLog() string { return p.file("log", "audit.jsonl") }

// Accounted are those whose requests are written down.
var Accounted = []string{Extender, Controller, Provision}

func (p *Plane) address(port string) string { return fmt.Sprintf("127.0.0.1:%d", p.ports[port]) }

func (p *Plane) url(scheme, port string) string { return scheme + "://" + p.address(port) }

// RESTConfig is how the administrator reaches the API server, as often as he likes.
func (p *Plane) RESTConfig(agent string) *rest.Config {
	return &rest.Config{
		Host: p.url("https", portAPI), BearerToken: p.admin, QPS: -1, UserAgent: agent,
		TLSClientConfig: rest.TLSClientConfig{CAData: p.authority.Cert},
	}
}

// StartStore starts etcd and waits for it.
func (p *Plane) StartStore(ctx context.Context) error {
	return p.start(ctx, Etcd, p.StoreURL()+"/health")
}

// StartAPI starts the API server and waits for it.
func (p *Plane) StartAPI(ctx context.Context) error {
	return p.start(ctx, API, p.url("https", portAPI)+"/readyz")
}

// StartWork starts all that works on the cluster, and waits for it.
func (p *Plane) StartWork(ctx context.Context) error {
	if err := p.start(ctx, Manager, p.url("https", portManager)+"/healthz"); err != nil {
		return err
	}
	if p.o.Extender {
		if err := p.StartOurs(ctx, Extender); err != nil {
			return err
		}
	}
	if p.o.Volumes {
		if err := p.StartOurs(ctx, Controller); err != nil {
			return err
		}
		if err := p.start(ctx, Provision, p.MetricsURL(Provision)); err != nil {
			return err
		}
	}
	return p.start(ctx, Scheduler, p.url("https", portScheduler)+"/healthz")
}

// StartOurs starts the Extender or the Controller, and waits for it.
func (p *Plane) StartOurs(ctx context.Context, name string) error {
	return p.start(ctx, name, strings.TrimSuffix(p.MetricsURL(name), "metrics")+"readyz")
}

// ServeAPI has the handler answer in place of the API server until ctx ends.
func (p *Plane) ServeAPI(ctx context.Context, handler http.Handler) error {
	listener, err := net.Listen("tcp", p.address(portAPI))
	if err != nil {
		return fmt.Errorf("listening in place of the API server: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err = server.ServeTLS(listener, p.file("tls", "api", "tls.crt"), p.file("tls", "api", "tls.key"))
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("answering in place of the API server: %w", err)
}

// start starts one program and waits until it answers at ready.
func (p *Plane) start(ctx context.Context, name, ready string) error {
	process, err := launch(p.file("log"), name, []string{"NAMESPACE=kube-system", "POD_NAME=" + name}, p.command(name))
	if err != nil {
		return err
	}
	p.processes = append(p.processes, process)
	for {
		if err := process.ended(); err != nil {
			return err
		}
		if err := p.ask(ctx, ready); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", name, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// impatient asks whoever serves; that it is the right one is not the question here.
var impatient = &http.Client{
	Timeout:   time.Minute,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
}

func (p *Plane) ask(ctx context.Context, url string) error {
	answer, err := p.get(ctx, url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

func (p *Plane) get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if url == p.url("https", portAPI)+"/readyz" {
		request.Header.Set("Authorization", "Bearer "+p.admin)
	}
	return impatient.Do(request)
}

// Metrics returns the answer to a question for the metrics of a process.
func (p *Plane) Metrics(ctx context.Context, name string) (*http.Response, error) {
	answer, err := p.get(ctx, p.MetricsURL(name))
	if err != nil {
		return nil, fmt.Errorf("asking %s for its metrics: %w", name, err)
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("asking %s for its metrics: %s", name, answer.Status)
	}
	return answer, nil
}

// Processes returns what runs.
func (p *Plane) Processes() []*Process { return slices.Clone(p.processes) }

// Watch returns why the first program that ends has ended, or when ctx ends.
func (p *Plane) Watch(ctx context.Context) error {
	first := make(chan error, len(p.processes))
	for _, process := range p.Processes() {
		go func() {
			<-process.done
			first <- process.ended()
		}()
	}
	select {
	case err := <-first:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Stop ends all that runs, the last that was started first.
func (p *Plane) Stop() {
	for _, process := range slices.Backward(p.processes) {
		process.stop()
	}
	p.processes = nil
}
