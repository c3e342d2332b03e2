package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A uevent is what the kernel says about one of its objects.
type uevent struct {
	action    string // "add", "remove", "change", ...
	subsystem string
	devname   string // without "/dev/"; empty where there is no device node
}

// parseUevent reads one message of the kernel (lib/kobject_uevent.c): a heading
// "action@path" and then KEY=value, each closed by a zero byte. Messages of udev
// have another heading; they and what cannot be read are not ok.
func parseUevent(message []byte) (event uevent, ok bool) {
	heading, rest, closed := bytes.Cut(message, []byte{0})
	action, _, isHeading := bytes.Cut(heading, []byte("@/"))
	if !closed || !isHeading || len(action) == 0 {
		return uevent{}, false
	}
	for line := range bytes.SplitSeq(rest, []byte{0}) {
		key, value, _ := bytes.Cut(line, []byte("="))
		switch string(key) {
		case "ACTION":
			event.action = string(value)
		case "SUBSYSTEM":
			event.subsystem = string(value)
		case "DEVNAME":
			event.devname = string(value)
		}
	}
	return event, event.action == string(action) && event.subsystem != ""
}

// concernsDisks reports whether what the agent reports may differ after the event.
func (e uevent) concernsDisks() bool { return e.subsystem == "block" }

// The kernel's own messages are multicast group 1; group 2 is udev's, which does
// not reach a container.
const (
	kernelGroup = 1
	// A storm of events must not overrun the socket while a look is on.
	receiveBuffer = 1 << 20
)

// listenKernel opens the kernel's event socket. Events of block devices reach
// every network namespace of the host.
func listenKernel() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("opening the kernel's event socket: %w", err)
	}
	// Only root may exceed the limit; with the default buffer events are lost
	// sooner, and a loss is noticed.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("joining the kernel's events: %w", err)
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}

// watchKernel calls changed for every event of a block device, and when events
// were lost, until ctx ends. It closes socket.
func watchKernel(ctx context.Context, socket *os.File, changed func()) error {
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer func() {
		if stop() {
			_ = socket.Close()
		}
	}()
	conn, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("reading the kernel's events: %w", err)
	}
	buffer := make([]byte, 64<<10) // the kernel's limit is 2 KiB of lines
	for {
		n, fromKernel, err := receive(conn, buffer)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS): // events were lost: anything may have changed
			changed()
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("reading the kernel's events: %w", err)
		case fromKernel:
			if event, ok := parseUevent(buffer[:n]); ok && event.concernsDisks() {
				changed()
			}
		}
	}
}

// rawReader is the part of syscall.RawConn that receive needs.
type rawReader interface {
	Read(func(fd uintptr) (done bool)) error
}

// receive waits for one message and says whether the kernel sent it.
func receive(conn rawReader, buffer []byte) (n int, fromKernel bool, err error) {
	var (
		from    unix.Sockaddr
		recvErr error
	)
	err = conn.Read(func(fd uintptr) bool {
		n, from, recvErr = unix.Recvfrom(int(fd), buffer, 0)
		return !errors.Is(recvErr, unix.EAGAIN)
	})
	if err == nil {
		err = recvErr
	}
	address, isNetlink := from.(*unix.SockaddrNetlink)
	return n, isNetlink && address.Pid == 0, err
}
