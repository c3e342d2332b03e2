package guest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/wire"
)

// line is the serial line on which a job's outputs leave the machine.
const line = "/dev/ttyS0"

// programPath is where programs are found when a job's environment does not say.
const programPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Boot makes the machine and does its work. It returns when the machine is to
// be switched off.
func Boot(cfg Config) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("asking for the kernel's release: %w", err)
	}
	modules, err := newLoader(cfg.Modules, string(bytes.TrimRight(name.Release[:], "\x00")))
	if err != nil {
		return err
	}
	if err := makeRoot(cfg, modules); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := os.Setenv("PATH", strings.TrimPrefix(programPath, "PATH=")); err != nil {
		return fmt.Errorf("setting PATH: %w", err)
	}
	switch {
	case cfg.Job != nil:
		return report(func(conn *wire.Conn) wire.Result {
			job := *cfg.Job
			job.Env = append(environment(cfg), job.Env...)
			return wire.Run(context.Background(), conn, job)
		})
	case cfg.Seed && cfg.Node != nil:
		return report(func(*wire.Conn) wire.Result { return seed(context.Background(), cfg) })
	case cfg.Node != nil:
		return runNode(context.Background(), cfg)
	}
	return nil
}

// environment is that of every command in a machine. There is no udev, and lvm2
// must be told, or it waits for device nodes that nobody makes.
func environment(cfg Config) []string {
	devices := make([]string, cfg.Disks)
	for i := range devices {
		devices[i] = disk.Device(i + 1)
	}
	programs := programPath
	if cfg.Node != nil {
		programs += ":" + cfg.Node.Programs
	}
	return []string{
		programs, "HOME=/root", "DM_DISABLE_UDEV=1", "LAB=" + cfg.Hostname,
		"LAB_DISKS=" + strings.Join(devices, ","),
		"LAB_SCSI_DISKS=" + strings.Join(findSCSI(), ","),
	}
}

// report does what the machine is for and says on the serial line how it ended.
func report(do func(*wire.Conn) wire.Result) error {
	serial, err := openLine(line)
	if err != nil {
		return err
	}
	conn := wire.New(serial, serial)
	// What came before the line passes bytes unchanged would be garbled.
	if err := conn.Write(wire.Start, nil); err != nil {
		return err
	}
	result := do(conn)
	unix.Sync() // there may be writes on shares and disks
	return conn.WriteJSON(wire.Exit, result)
}

// openLine opens a serial line so that bytes pass unchanged.
func openLine(device string) (*os.File, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the serial line: %w", err)
	}
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("asking for the state of the serial line: %w", err)
	}
	state.Iflag, state.Oflag, state.Lflag = 0, 0, 0
	state.Cflag = state.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	state.Cc[unix.VMIN], state.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, state); err != nil {
		return nil, fmt.Errorf("making the serial line pass bytes unchanged: %w", err)
	}
	return f, nil
}
