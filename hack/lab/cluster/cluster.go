package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/open-local/open-local/hack/lab/daemon"
	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/guest"
	"github.com/open-local/open-local/hack/lab/network"
	"github.com/open-local/open-local/hack/lab/wire"
)

// A Cluster is a lab that runs. Its methods may be called from several
// goroutines.
type Cluster struct {
	config daemon.Config
}

// ErrNotRunning says that there is no lab in a directory, or that it ended.
var ErrNotRunning = errors.New("the lab is not running; start it with lab up")

// Open returns the lab that runs in dir; empty is DefaultDir.
func Open(dir string) (*Cluster, error) {
	dir, err := absolute(dir)
	if err != nil {
		return nil, err
	}
	if alive, _ := running(dir); !alive {
		return nil, fmt.Errorf("directory %s: %w", dir, ErrNotRunning)
	}
	config, err := daemon.ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	return &Cluster{config: config}, nil
}

// Down stops the lab and removes all of it but its logs.
func (c *Cluster) Down(context.Context) error { return Down(c.config.Dir) }

// Down stops the lab in dir, if any, and removes all of it but its logs.
func Down(dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	return remove(dir)
}

// Dir is the directory of the lab's state.
func (c *Cluster) Dir() string { return c.config.Dir }

// Kubeconfig is the file with which any client on this host is the cluster's
// administrator.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.config.Dir, "kubeconfig") }

// RESTConfig is Kubeconfig for client-go, without a limit on requests.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the lab's kubeconfig: %w", err)
	}
	config.QPS, config.Burst = -1, -1
	return config, nil
}

// Nodes are the names of the nodes.
func (c *Cluster) Nodes() []string {
	names := make([]string, c.config.Nodes)
	for i := range names {
		names[i] = daemon.NodeName(i + 1)
	}
	return names
}

// Disks are the devices of the blank disks, the same on every node.
func (c *Cluster) Disks() []string {
	devices := make([]string, len(c.config.Disks))
	for i := range devices {
		devices[i] = disk.Device(i + 1)
	}
	return devices
}

// Program is the file of one of the built programs, for example "kubectl" or
// "helm".
func (c *Cluster) Program(name string) string { return filepath.Join(c.config.Programs(), name) }

// Logs is the directory with the logs: one file for every program of the control
// plane, and NODE-console.log, NODE-kubelet.log and NODE-containerd.log.
func (c *Cluster) Logs() string { return c.config.Logs() }

// An ExitError says that a command ended with a code other than 0.
type ExitError struct {
	Node   string // where it ran
	Argv   []string
	Code   int
	Stderr string
}

// Error holds what the command complained about.
func (e *ExitError) Error() string {
	return fmt.Sprintf("%s on node %s: exit code %d: %s", strings.Join(e.Argv, " "), e.Node, e.Code, strings.TrimSpace(e.Stderr))
}

// Exec runs a command on a node as root and returns what it printed. A command
// that fails is an *ExitError.
func (c *Cluster) Exec(ctx context.Context, node string, argv ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	code, err := c.Run(ctx, node, wire.Command{Argv: argv}, Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return stdout.String(), err
	}
	if code != 0 {
		return stdout.String(), &ExitError{Node: node, Argv: argv, Code: code, Stderr: stderr.String()}
	}
	return stdout.String(), nil
}

// Streams are a command's. Stdin nil is an empty input.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Run runs a command on a node as root and returns its exit code.
func (c *Cluster) Run(ctx context.Context, node string, command wire.Command, streams Streams) (int, error) {
	ip, err := c.address(node)
	if err != nil {
		return 0, err
	}
	conn, err := c.Dial(ctx, "tcp", net.JoinHostPort(ip, guest.AgentPort))
	if err != nil {
		return 0, fmt.Errorf("running %s on node %s: %w", strings.Join(command.Argv, " "), node, err)
	}
	command.Token = c.config.Token
	return follow(ctx, conn, command, streams)
}

// RunInside runs a command on the host, but in the network and with the files
// and processes of the control plane. Its directory must be set.
func (c *Cluster) RunInside(ctx context.Context, command wire.Command, streams Streams) (int, error) {
	conn, err := c.upgrade(ctx, daemon.PathExec)
	if err != nil {
		return 0, err
	}
	return follow(ctx, conn, command, streams)
}

// Dial connects to an address in the lab's network: of a node, a pod or a
// Service. The network must be tcp.
func (c *Cluster) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("connecting to %s in the lab: network %q: only tcp can be had", address, network)
	}
	return c.upgrade(ctx, daemon.PathDial+"?address="+url.QueryEscape(address))
}

func (c *Cluster) address(node string) (string, error) {
	for i, name := range c.Nodes() {
		if name == node {
			return network.NodeIP(i + 1), nil
		}
	}
	return "", fmt.Errorf("node %q: the lab has %s", node, strings.Join(c.Nodes(), ", "))
}

func follow(ctx context.Context, stream net.Conn, command wire.Command, streams Streams) (int, error) {
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer stop()
	conn := wire.New(stream, stream)
	if err := conn.WriteJSON(wire.Start, command); err != nil {
		return 0, fmt.Errorf("running %s: %w", strings.Join(command.Argv, " "), err)
	}
	go func() { _ = conn.SendInput(streams.Stdin) }() // what fails there, Receive tells
	result, err := conn.Receive(streams.Stdout, streams.Stderr)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil:
		return 0, fmt.Errorf("running %s: %w", strings.Join(command.Argv, " "), err)
	case result.Error != "":
		return 0, errors.New(result.Error)
	}
	return result.Code, nil
}
