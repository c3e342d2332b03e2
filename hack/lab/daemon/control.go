package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/guest"
	"github.com/open-local/open-local/hack/lab/service"
	"github.com/open-local/open-local/hack/lab/wire"
)

// Status is how the lab is.
type Status struct {
	Components []Component `json:"components"`
	Nodes      []Node      `json:"nodes"`
}

// A Component is a program of the control plane.
type Component struct {
	Name     string `json:"name"`
	Running  bool   `json:"running"`
	Restarts int    `json:"restarts"`
}

// A Node is a machine of the lab; whether Kubernetes calls it ready is another
// matter.
type Node struct {
	Name    string `json:"name"`
	IP      string `json:"ip"`
	Running bool   `json:"running"`
}

// Paths of the daemon's interface, HTTP on a Unix socket.
const (
	PathStatus    = "/status"
	PathNode      = "/nodes/"      // POST NAME/start, NAME/kill, NAME/reboot, NAME/images, NAME/disks, NAME/disks/VERB
	PathComponent = "/components/" // POST NAME/restart
	PathDial      = "/dial"        // upgrades to a connection to ?address=
	PathExec      = "/exec"        // upgrades to the protocol of package wire
)

// handler is the interface of the daemon.
func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d.status()) // who asked is gone
	})
	mux.HandleFunc("POST "+PathNode+"{name}/{verb}", d.obey(func(ctx context.Context, r *http.Request) error {
		return d.changeNode(ctx, r.PathValue("name"), r.PathValue("verb"))
	}))
	mux.HandleFunc("POST "+PathNode+"{name}/disks", answer(d.plugIn))
	mux.HandleFunc("POST "+PathNode+"{name}/disks/{verb}", answer(d.changeDisk))
	mux.HandleFunc("POST "+PathComponent+"{name}/restart", d.obey(func(_ context.Context, r *http.Request) error {
		return d.restart(r.PathValue("name"))
	}))
	mux.HandleFunc("POST "+PathDial, upgrade(d.log, func(ctx context.Context, r *http.Request) (func(net.Conn), error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		far, err := new(net.Dialer).DialContext(ctx, "tcp", r.URL.Query().Get("address"))
		if err != nil {
			return nil, err
		}
		return func(conn net.Conn) { service.Splice(conn, far) }, nil
	}))
	mux.HandleFunc("POST "+PathExec, upgrade(d.log, func(context.Context, *http.Request) (func(net.Conn), error) {
		return func(stream net.Conn) { d.exec(stream) }, nil
	}))
	return mux
}

func (d *daemon) obey(order func(context.Context, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// An order that was begun is finished, whoever waits for it.
		if err := order(context.WithoutCancel(r.Context()), r); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}
}

// upgrade turns a request into a plain connection that the function gets.
func upgrade(log *slog.Logger, prepare func(context.Context, *http.Request) (func(net.Conn), error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		use, err := prepare(r.Context(), r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			log.Error("Not taking over a connection", "err", err)
			return
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lab\r\n\r\n")); err != nil {
			return
		}
		use(bufferedConn{Conn: conn, reader: buffered.Reader})
	}
}

// exec runs a command in the lab's namespaces.
func (d *daemon) exec(stream net.Conn) {
	conn := wire.New(stream, stream)
	command, err := conn.Request()
	if err != nil {
		d.log.Error("Not running a command", "err", err)
		return
	}
	if err := conn.WriteJSON(wire.Exit, wire.Run(d.ctx, conn, command)); err != nil {
		d.log.Error("Not answering how a command ended", "err", err)
	}
}

func (d *daemon) status() Status {
	var s Status
	for _, c := range d.components {
		s.Components = append(s.Components, c.status())
	}
	for _, m := range d.machines {
		_, _, running := m.current()
		s.Nodes = append(s.Nodes, Node{Name: m.name, IP: m.ip, Running: running})
	}
	return s
}

// plugIn answers with the device of the new disk.
func (d *daemon) plugIn(ctx context.Context, r *http.Request) (string, error) {
	m, err := d.machine(r.PathValue("name"))
	if err != nil {
		return "", err
	}
	size, err := disk.ParseBytes(r.URL.Query().Get("size"))
	if err != nil {
		return "", err
	}
	return m.plugIn(ctx, d.file("disks", fmt.Sprintf("%s-added-%d.img", m.name, time.Now().UnixNano())), size)
}

// changeDisk answers with the device of a disk with which something was done.
func (d *daemon) changeDisk(ctx context.Context, r *http.Request) (string, error) {
	m, err := d.machine(r.PathValue("name"))
	if err != nil {
		return "", err
	}
	asked := r.URL.Query()
	order := diskOrder{verb: r.PathValue("verb"), name: asked.Get("disk"), with: asked.Get("with")}
	if size := asked.Get("size"); size != "" {
		if order.size, err = disk.ParseBytes(size); err != nil {
			return "", err
		}
	}
	return m.changeDisk(ctx, order)
}

// answer carries out an order that has an answer, whoever waits for it.
func answer(order func(context.Context, *http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := order(context.WithoutCancel(r.Context()), r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_, _ = w.Write([]byte(text)) // who asked is gone
	}
}

func (d *daemon) machine(name string) (*machine, error) {
	for _, m := range d.machines {
		if m.name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("node %q: the lab has no such node", name)
}

func (d *daemon) changeNode(ctx context.Context, name, verb string) error {
	m, err := d.machine(name)
	if err != nil {
		return err
	}
	switch verb {
	case "kill":
		return m.kill(ctx)
	case "images":
		return m.order(ctx, guest.CommandImages)
	case "reboot":
		if err := m.stop(ctx); err != nil {
			return err
		}
	case "start":
	default:
		return fmt.Errorf("order %q for node %s: there is no such order", verb, name)
	}
	if err := m.start(); err != nil {
		return err
	}
	return m.awaitAgent(ctx)
}

func (d *daemon) restart(name string) error {
	for _, c := range d.components {
		if c.name == name {
			return c.restart()
		}
	}
	return fmt.Errorf("component %q: the control plane has no such program", name)
}
