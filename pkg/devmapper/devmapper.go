// Package devmapper asks the kernel's device-mapper how full a snapshot is, and has
// writers wait, through its control device and without any process. It changes no
// device's table, and refuses to know more of LVM than how a logical volume's device is
// called.
package devmapper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

// sector is the unit in which the device-mapper counts, whatever the disk's own is.
const sector capacity.Bytes = 512

// A Snapshot is what the device-mapper says of one.
type Snapshot struct {
	Taken, Space capacity.Bytes // of the space for what is overwritten
	Metadata     capacity.Bytes // of Taken: what lists the pieces that are kept
	// Lost says that the space ran full, so that nothing can be read of the snapshot.
	Lost bool
}

// ErrNoSnapshot says that a device is there and is no snapshot.
var ErrNoSnapshot = errors.New("device is no snapshot")

// Control is the way to the device-mapper of a host. Its methods may be called from any
// goroutine.
type Control struct{ path string }

// New returns the device-mapper of the host whose root directory is at root.
func New(root string) *Control {
	return &Control{path: filepath.Join(root, "dev/mapper/control")}
}

// Name returns how the device-mapper calls the device of a logical volume: hyphens of
// the group and of the volume are doubled, and one stands between them.
func Name(group, volume string) string {
	double := strings.NewReplacer("-", "--")
	return double.Replace(group) + "-" + double.Replace(volume)
}

// Snapshot returns how full a snapshot is. One that has no device, because there is
// none or it is not active, is fs.ErrNotExist. ErrNoSnapshot says that it is something
// else.
func (c *Control) Snapshot(group, volume string) (Snapshot, error) {
	name := Name(group, volume)
	targets, err := c.status(name)
	if err != nil {
		return Snapshot{}, fmt.Errorf("asking the device-mapper about %s: %w", name, err)
	}
	if len(targets) != 1 || targets[0].kind != "snapshot" {
		return Snapshot{}, fmt.Errorf("asking the device-mapper about %s, which is %v: %w", name, targets, ErrNoSnapshot)
	}
	snapshot, err := parseSnapshot(targets[0].status)
	if err != nil {
		return Snapshot{}, fmt.Errorf("asking the device-mapper about %s: %w", name, err)
	}
	return snapshot, nil
}

// parseSnapshot reads what the snapshot target says of itself: "taken/all metadata" in
// sectors, or that it is lost.
func parseSnapshot(status string) (Snapshot, error) {
	switch status {
	case "Invalid", "Overflow", "Merge failed":
		return Snapshot{Lost: true}, nil
	}
	use, listed, _ := strings.Cut(status, " ")
	taken, all, _ := strings.Cut(use, "/")
	var numbers [3]capacity.Bytes
	for i, word := range []string{taken, all, listed} {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || n < 0 || n > int64(1<<62/sector) {
			return Snapshot{}, fmt.Errorf("reading the status %q of a snapshot: want sectors taken/all listed", status)
		}
		numbers[i] = capacity.Bytes(n) * sector
	}
	return Snapshot{Taken: numbers[0], Space: numbers[1], Metadata: numbers[2]}, nil
}

// Suspend has everybody wait who reads or writes the device of a logical volume, until
// Resume, or until LVM has changed the volume. What was begun has ended when it returns;
// file systems on it are not brought to rest.
func (c *Control) Suspend(group, volume string) error {
	return c.order("suspending", Name(group, volume), unix.DM_SUSPEND_FLAG|unix.DM_SKIP_LOCKFS_FLAG)
}

// Resume ends what Suspend began. It must not be called while LVM changes the volume.
func (c *Control) Resume(group, volume string) error {
	return c.order("resuming", Name(group, volume), 0)
}

func (c *Control) order(doing, name string, flags uint32) error {
	buffer, err := request(name, firstBuffer)
	if err == nil {
		order.PutUint32(buffer[atFlags:], flags)
		err = c.ask(unix.DM_DEV_SUSPEND, buffer)
	}
	if err != nil {
		return fmt.Errorf("%s the device %s: %w", doing, name, err)
	}
	return nil
}

// Suspended reports whether the device of a logical volume is suspended, by whomever.
func (c *Control) Suspended(group, volume string) (bool, error) {
	name := Name(group, volume)
	buffer, err := request(name, firstBuffer)
	if err == nil {
		err = c.ask(unix.DM_DEV_STATUS, buffer)
	}
	if err != nil {
		return false, fmt.Errorf("asking the device-mapper about %s: %w", name, err)
	}
	return order.Uint32(buffer[atFlags:])&unix.DM_SUSPEND_FLAG != 0, nil
}

// ask hands a request to the kernel, which answers in the same buffer. A device that is
// not there is fs.ErrNotExist.
func (c *Control) ask(command uintptr, buffer []byte) error {
	control, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }()
	err = ioctl(control.Fd(), command, buffer)
	if errors.Is(err, unix.ENXIO) {
		return fs.ErrNotExist
	}
	return err
}

// status asks for the status of every target of a device.
func (c *Control) status(name string) ([]target, error) {
	for size := firstBuffer; size <= largestBuffer; size *= 8 {
		buffer, err := request(name, size)
		if err != nil {
			return nil, err
		}
		if err := c.ask(unix.DM_TABLE_STATUS, buffer); err != nil {
			return nil, err
		}
		targets, full, err := parseTargets(buffer)
		if err != nil || !full {
			return targets, err
		}
	}
	return nil, fmt.Errorf("its status takes more than %d bytes", largestBuffer)
}
