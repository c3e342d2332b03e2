package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/guest"
	"github.com/open-local/open-local/hack/lab/network"
	"github.com/open-local/open-local/hack/lab/pulse"
	"github.com/open-local/open-local/hack/lab/vm"
	"github.com/open-local/open-local/hack/lab/wire"
)

// offPatience is how long a node may take to switch itself off.
const offPatience = 30 * time.Second

// bootPatience is how long a node may take to boot.
const bootPatience = time.Minute

// A machine is one node.
type machine struct {
	name   string
	ip     string
	token  string
	kernel vm.Kernel

	mu      sync.Mutex // guards the fields below and the disks of kernel; held while the state changes
	process *os.Process
	ended   chan struct{} // closed when process has ended
	added   int           // how many disks were added to those with which the node began
}

// newMachine makes the card and the disks of node i.
func newMachine(c Config, i int) (*machine, error) {
	name := NodeName(i)
	if err := network.AddNode(i); err != nil {
		return nil, err
	}
	data := c.DiskFile(name, 0)
	if err := disk.Copy(c.Seed, data); err != nil {
		return nil, err
	}
	kernel := vm.Kernel{
		Name: name, Dir: filepath.Join(c.Runtime, name), Log: filepath.Join(c.Logs(), name+"-console.log"),
		Init: filepath.Join(c.Programs(), "init"), Memory: c.Memory, Data: data, Tap: network.Tap(i),
		Config: c.guestConfig(i),
	}
	for j, size := range c.Disks {
		file := c.DiskFile(name, j+1)
		if err := disk.Create(file, size); err != nil {
			return nil, err
		}
		kernel.Disks = append(kernel.Disks, vm.Disk{File: file, Serial: vm.Serial(name, j+1)})
	}
	return &machine{name: name, ip: network.NodeIP(i), token: c.Token, kernel: kernel}, nil
}

// Shares are the directories of the host that nodes see as they are.
func (c Config) Shares() []guest.Share {
	shares := []guest.Share{{Path: c.Logs(), Writable: true}, {Path: c.Images()}, {Path: c.Programs()}}
	for _, dir := range c.Readable {
		shares = append(shares, guest.Share{Path: dir})
	}
	return shares
}

func (c Config) guestConfig(i int) guest.Config {
	name := NodeName(i)
	return guest.Config{
		Hostname: name, DataDisk: disk.Device(0), Disks: len(c.Disks), Shares: c.Shares(),
		SCSI: c.SCSI, SCSISizeMB: int(c.SCSISize >> 20),
		Node: &guest.Node{
			IP: network.NodeIP(i), PodCIDR: network.NodePodCIDR(i),
			Programs: c.Programs(), Images: c.Images(), Logs: c.Logs(), Token: c.Token,
			Kubeconfig: c.Kubeconfig(apiServer, name, c.NodeTokens[name]), CA: string(c.CA.Cert),
			Cert: string(c.Kubelets[name].Cert), Key: string(c.Kubelets[name].Key),
		},
	}
}

// start switches the node on. It is an error if it is on.
func (m *machine) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return fmt.Errorf("node %s is running already", m.name)
	}
	cmd, err := m.kernel.Start(nil)
	if err != nil {
		return err
	}
	m.process, m.ended = cmd.Process, make(chan struct{})
	go pulse.Keep(cmd.Process.Pid, m.ended)
	go func(ended chan struct{}) {
		_ = cmd.Wait() // how a kernel ends tells nothing; its console does
		close(ended)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.process = nil
	}(m.ended)
	return nil
}

// awaitAgent waits until the node takes commands: it has booted then.
func (m *machine) awaitAgent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	for {
		// Short, because a packet sent before the node is there is sent again
		// only after a second, then two, then four.
		dialer := net.Dialer{Timeout: 200 * time.Millisecond}
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(m.ip, guest.AgentPort))
		if err == nil {
			return conn.Close()
		}
		if _, _, running := m.current(); !running {
			return fmt.Errorf("node %s stopped while it booted; its console ends with: %s", m.name, strings.Join(vm.Tail(m.kernel.Console(), 5), "; "))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for node %s to boot: %w", m.name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// current returns the running kernel, or false.
func (m *machine) current() (pid int, ended chan struct{}, running bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return 0, nil, false
	}
	return m.process.Pid, m.ended, true
}

// kill cuts the power: the kernel and the processes in which it runs its own end
// at once, and its disks keep what was written.
func (m *machine) kill(ctx context.Context) error {
	pid, ended, running := m.current()
	if !running {
		return nil
	}
	killSession(pid)
	return m.awaitEnd(ctx, ended)
}

func (m *machine) awaitEnd(ctx context.Context, ended chan struct{}) error {
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("waiting for node %s to stop: %w", m.name, ctx.Err())
	}
	for { // the goroutine in start notes the end right after
		if _, now, running := m.current(); !running || now != ended {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// stop switches the node off in order, or cuts its power if it does not obey.
func (m *machine) stop(ctx context.Context) error {
	_, ended, running := m.current()
	if !running {
		return nil
	}
	orderly, cancel := context.WithTimeout(ctx, offPatience)
	defer cancel()
	if err := m.order(orderly, guest.CommandPowerOff); err == nil {
		if m.awaitEnd(orderly, ended) == nil {
			return nil
		}
	}
	return m.kill(ctx)
}

// order gives the node one of the commands that it carries out itself.
func (m *machine) order(ctx context.Context, name string) error {
	stream, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(m.ip, guest.AgentPort))
	if err != nil {
		return fmt.Errorf("reaching node %s: %w", m.name, err)
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer stop()
	conn := wire.New(stream, stream)
	if err := conn.WriteJSON(wire.Start, wire.Command{Argv: []string{name}, Token: m.token}); err != nil {
		return fmt.Errorf("telling node %s %s: %w", m.name, name, err)
	}
	result, err := conn.Receive(os.Stderr, os.Stderr)
	if err != nil {
		return fmt.Errorf("telling node %s %s: %w", m.name, name, err)
	}
	if result.Code != 0 {
		return fmt.Errorf("node %s answers %s with: %s", m.name, name, result.Error)
	}
	return nil
}

// killSession kills the leader of a session and all others in it, until none is
// left: a kernel may be starting one while it is looked at.
func killSession(leader int) {
	_ = unix.Kill(leader, unix.SIGKILL)
	for range 50 {
		members := sessionMembers(leader)
		if len(members) == 0 {
			return
		}
		for _, pid := range members {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sessionMembers returns the living processes of a session.
func sessionMembers(leader int) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	var members []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		pid, session, alive, ok := parseStat(string(text))
		if ok && alive && session == leader {
			members = append(members, pid)
		}
	}
	return members
}

// parseStat reads a line of /proc/PID/stat. The name, in brackets, may hold
// anything, so what follows is counted from the last bracket.
func parseStat(text string) (pid, session int, alive, ok bool) {
	head, tail, found := strings.Cut(text, " ")
	pid, err := strconv.Atoi(head)
	if !found || err != nil {
		return 0, 0, false, false
	}
	fields := strings.Fields(tail[strings.LastIndex(tail, ")")+1:]) // state, parent, group, session
	if len(fields) < 4 {
		return 0, 0, false, false
	}
	session, err = strconv.Atoi(fields[3])
	return pid, session, fields[0] != "Z" && fields[0] != "X", err == nil
}
