package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/network"
)

// card is the name that a User-Mode Linux kernel gives its first network card.
const card = "vec0"

// runNode makes the machine a Kubernetes node and returns when it is to be
// switched off.
func runNode(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := &node{Config: cfg, Node: *cfg.Node, off: cancel}
	if err := network.Attach(card, n.IP); err != nil {
		return err
	}
	if err := n.prepare(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.listen(ctx) })
	group.Go(func() error { return n.supervise(ctx, "containerd", "--config", etc+"/containerd.toml") })
	group.Go(func() error { return n.runKubelet(ctx) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// node is a machine as it runs.
type node struct {
	Config
	Node
	off     func()     // ends the machine
	loading sync.Mutex // held while images are loaded
}

// prepare gives the node what its programs look for.
func (n *node) prepare() error {
	if err := n.writeFiles(); err != nil {
		return err
	}
	for i := 1; i <= n.Disks; i++ {
		if err := os.Symlink(filepath.Base(disk.Device(i)), disk.Alias(i)); err != nil {
			return fmt.Errorf("naming disk %d: %w", i, err)
		}
	}
	return replaceCPUInfo()
}

// writeFiles writes the configuration of the node's programs.
func (n *node) writeFiles() error {
	if err := os.Setenv("PATH", n.Programs+":"+os.Getenv("PATH")); err != nil {
		return fmt.Errorf("setting PATH: %w", err) // containerd looks there for its shim
	}
	files, err := n.files()
	if err != nil {
		return err
	}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing the node's configuration: %w", err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("writing the node's configuration: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("writing the node's configuration: %w", err)
		}
	}
	if err := os.Chmod("/etc/resolv.conf", 0o644); err != nil {
		return fmt.Errorf("writing the node's configuration: %w", err)
	}
	return nil
}

func replaceCPUInfo() error {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("reading what processor there is: %w", err)
	}
	file := etc + "/cpuinfo"
	if err := os.WriteFile(file, []byte(cpuInfo(string(text))), 0o644); err != nil {
		return fmt.Errorf("writing what processor there is: %w", err)
	}
	return mountPoint{file, "/proc/cpuinfo", "", unix.MS_BIND, ""}.mount()
}

// runKubelet starts the kubelet when the node is ready for pods: volumes are
// there as after the boot of any host, and the pause image can be had.
func (n *node) runKubelet(ctx context.Context) error {
	if err := activateGroups(); err != nil {
		n.say("%v", err)
	}
	if err := awaitSocket(ctx, containerdSocket); err != nil {
		return err
	}
	if err := n.loadImages(ctx, isPause); err != nil {
		return err
	}
	// The others may come later: this line ends when all are there.
	go func() {
		if err := n.loadImages(ctx, every); err != nil {
			n.say("%v", err)
		}
	}()
	// Where the kubelet stands when its pods make mounts, those must spread.
	if err := unix.Mount("", "/var/lib/kubelet", "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing the kubelet's directory: %w", err)
	}
	return n.supervise(ctx, "kubelet", "--config", etc+"/kubelet.json", "--kubeconfig", etc+"/kubeconfig",
		"--root-dir", "/var/lib/kubelet", "--cert-dir", etc+"/pki", "--hostname-override", n.Hostname, "--node-ip", n.IP)
}

// A program that ends is started again after a second, and after twice the time
// whenever it ended soon, up to a limit.
const (
	firstPause = time.Second
	lastPause  = 16 * time.Second
	soon       = 30 * time.Second
)

// supervise runs a program, again whenever it ends, until ctx ends.
func (n *node) supervise(ctx context.Context, name string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(n.Logs, n.Hostname+"-"+name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer log.Close()
	for pause := firstPause; ; {
		cmd := exec.CommandContext(ctx, filepath.Join(n.Programs, name), args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
		started := time.Now()
		err := cmd.Run()
		if time.Since(started) > soon {
			pause = firstPause
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.say("%s ended (%v) and is started again in %s", name, err, pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, lastPause)
		}
	}
}

// say writes on the machine's console.
func (n *node) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lab machine: "+format+"\n", args...)
}

func awaitSocket(ctx context.Context, path string) error {
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(glance):
		}
	}
}
