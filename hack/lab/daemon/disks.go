package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/vm"
)

// plugIn gives the node another disk and returns its device.
func (m *machine) plugIn(ctx context.Context, file string, size disk.Bytes) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.freePlace()
	if i > disk.Max {
		return "", fmt.Errorf("node %s has %d disks, and cannot have more", m.name, disk.Max)
	}
	if err := disk.Create(file, size); err != nil {
		return "", err
	}
	// Never the number of one that was here before: it is another disk.
	d := vm.Disk{File: file, Serial: fmt.Sprintf("%s-added-%d", strings.ToUpper(m.name), m.added+1)}
	if m.process != nil {
		if err := m.kernel.PlugIn(ctx, i, d); err != nil {
			return "", errors.Join(err, os.Remove(file))
		}
	}
	m.added++
	m.setDisk(i, d) // at the next boot it is there again
	return disk.Device(i), nil
}

// freePlace is the number of the first place without a disk.
func (m *machine) freePlace() int {
	for i, d := range m.kernel.Disks {
		if d.File == "" {
			return i + 1
		}
	}
	return len(m.kernel.Disks) + 1
}

// setDisk notes what is plugged in at place i. Places after the last disk are none.
func (m *machine) setDisk(i int, d vm.Disk) {
	disks := append([]vm.Disk(nil), m.kernel.Disks...)
	if i > len(disks) {
		disks = append(disks, vm.Disk{})
	}
	disks[i-1] = d
	for len(disks) > 0 && disks[len(disks)-1].File == "" {
		disks = disks[:len(disks)-1]
	}
	m.kernel.Disks, m.kernel.Config.Disks = disks, len(disks)
}

// place returns where a disk is plugged in, by its device or its serial number.
func (m *machine) place(name string) (int, error) {
	for i, d := range m.kernel.Disks {
		if d.File != "" && (disk.Device(i+1) == name || disk.Alias(i+1) == name || d.Serial == name) {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("disk %q: node %s has none of that name", name, m.name)
}

// A diskOrder is what to do with a disk of a node.
type diskOrder struct {
	verb, name string
	with       string     // the other disk
	size       disk.Bytes // that it shall have
}

// changeDisk does something with a disk and returns the device that it has then.
func (m *machine) changeDisk(ctx context.Context, order diskOrder) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.place(order.name)
	if err != nil {
		return "", err
	}
	switch order.verb {
	case "remove":
		err = m.pullOut(ctx, i)
	case "return":
		err = m.putBack(ctx, i)
	case "discard":
		err = m.discard(ctx, i)
	case "swap":
		err = m.swap(i, order.with)
	case "grow":
		err = m.grow(ctx, i, order.size)
	default:
		err = fmt.Errorf("order %q for disk %s of node %s: there is no such order", order.verb, order.name, m.name)
	}
	return disk.Device(i), err
}

// pullOut takes a disk away while the node runs; the next boot brings it back.
func (m *machine) pullOut(ctx context.Context, i int) error {
	if m.process == nil {
		return nil
	}
	return m.kernel.PullOut(ctx, i)
}

func (m *machine) putBack(ctx context.Context, i int) error {
	if m.process == nil {
		return nil
	}
	return m.kernel.PlugIn(ctx, i, m.kernel.Disks[i-1])
}

// discard takes a disk away for good.
func (m *machine) discard(ctx context.Context, i int) error {
	if err := m.pullOut(ctx, i); err != nil {
		return err
	}
	file := m.kernel.Disks[i-1].File
	m.setDisk(i, vm.Disk{})
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a disk of node %s: %w", m.name, err)
	}
	return nil
}

// swap exchanges two disks: from the next boot on, or when they are put back, each has
// the other's name.
func (m *machine) swap(i int, with string) error {
	j, err := m.place(with)
	if err != nil {
		return err
	}
	one, other := m.kernel.Disks[i-1], m.kernel.Disks[j-1]
	m.setDisk(i, other)
	m.setDisk(j, one)
	return nil
}

// grow makes a disk larger. The kernel asks for a disk's size when it is plugged in, so it
// is pulled out for that moment.
func (m *machine) grow(ctx context.Context, i int, size disk.Bytes) error {
	file := m.kernel.Disks[i-1].File
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("growing a disk of node %s: %w", m.name, err)
	}
	if int64(size) < info.Size() {
		return fmt.Errorf("growing disk %s of node %s to %s: it has %d bytes, and would lose some", disk.Device(i), m.name, size, info.Size())
	}
	if err := m.pullOut(ctx, i); err != nil {
		return err
	}
	if err := os.Truncate(file, int64(size)); err != nil {
		return fmt.Errorf("growing a disk of node %s: %w", m.name, err)
	}
	return m.putBack(ctx, i)
}
