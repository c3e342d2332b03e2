package exclusive

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/mounts"
)

// idle wants nothing to be mounted below a mount point, and its file system nowhere else.
func (p *MountPoints) idle(ctx context.Context, record Record) error {
	below, err := p.Mounts.Below(record.Path)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("%w: something is mounted below it, at %s", ErrOther, below[0].Target)
	}
	m, err := p.isMounted(ctx, record.Path, record.ID)
	if err != nil {
		return err
	}
	all, err := p.Mounts.Below("/")
	if err != nil {
		return err
	}
	for _, other := range all {
		same := other.Major == m.Major && other.Minor == m.Minor
		if m.Major == 0 { // made up, as by btrfs
			same = other.FSType == m.FSType && other.Source == m.Source
		}
		if same && other.Target != record.Path {
			return fmt.Errorf("%w: it is mounted at %s, too", ErrInUse, other.Target)
		}
	}
	return nil
}

// isMounted returns what is mounted at path, which must be all of that file system, or of
// any where id is empty.
func (p *MountPoints) isMounted(ctx context.Context, path, id string) (mounts.Mount, error) {
	m, mounted, err := p.Mounts.IsMounted(path)
	switch {
	case err != nil:
		return m, err
	case !mounted:
		return m, fmt.Errorf("file system %s: %w: nothing is mounted at %s", id, ErrGone, path)
	case m.Root != "/":
		return m, fmt.Errorf("%w: at %s a part of a file system is mounted, %s, and not all of it", ErrOther, path, m.Root)
	case id == "":
		return m, nil
	}
	is, err := p.mountedID(ctx, m)
	if err == nil && is != id {
		err = fmt.Errorf("%w: at %s %q is mounted, and not %s", ErrOther, path, is, id)
	}
	return m, err
}

// open returns the root of the file system that is mounted at path, if it is that one.
// Whatever becomes of the path from then on, what is opened stays that file system.
func (p *MountPoints) open(ctx context.Context, path, id string) (*os.File, error) {
	m, err := p.isMounted(ctx, path, id)
	if err != nil {
		return nil, err
	}
	resolved, err := p.Root.Resolve(path)
	if err != nil {
		return nil, err
	}
	top, err := os.OpenFile(resolved, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := p.isRootOf(top, path, m); err != nil {
		return nil, errors.Join(err, top.Close())
	}
	return top, nil
}

// isRootOf makes sure that what was opened is what was found mounted at path, and not
// the bare directory below.
func (p *MountPoints) isRootOf(top *os.File, path string, m mounts.Mount) error {
	gone := fmt.Errorf("%w: it was unmounted from %s a moment ago", ErrGone, path)
	var opened unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &opened); err != nil {
		return err
	}
	if m.Major != 0 {
		if opened.Dev != unix.Mkdev(m.Major, m.Minor) {
			return gone
		}
		return nil
	}
	// btrfs has made-up numbers, another for each subvolume. So what was opened must be
	// what is seen at the path while that is still mounted there.
	var seen unix.Stat_t
	if err := unix.Stat(top.Name(), &seen); err != nil {
		return err
	}
	again, mounted, err := p.Mounts.IsMounted(path)
	if err != nil {
		return err
	}
	if !mounted || again.Source != m.Source || seen.Dev != opened.Dev || seen.Ino != opened.Ino {
		return gone
	}
	return nil
}

// mountedID says which file system is mounted.
func (p *MountPoints) mountedID(ctx context.Context, m mounts.Mount) (string, error) {
	device, err := p.deviceOf(ctx, m)
	if err != nil || device.UUID == "" {
		return "", err
	}
	return FileSystemID(device.UUID), nil
}

// deviceOf returns the device of what is mounted, or nothing where it has none.
func (p *MountPoints) deviceOf(ctx context.Context, m mounts.Mount) (blockdev.Device, error) {
	number, err := p.numberOf(m)
	if err != nil {
		return blockdev.Device{}, err
	}
	all, err := p.Host.Devices(ctx)
	if err != nil {
		return blockdev.Device{}, err
	}
	for _, d := range all {
		if unix.Mkdev(d.Major, d.Minor) == number {
			return d, nil
		}
	}
	return blockdev.Device{}, nil
}

// numberOf returns the number of the device of what is mounted. That of btrfs is made up:
// its source tells.
func (p *MountPoints) numberOf(m mounts.Mount) (uint64, error) {
	if m.Major != 0 || m.FSType != "btrfs" {
		return unix.Mkdev(m.Major, m.Minor), nil
	}
	file, err := p.Root.Look(m.Source)
	return file.Device, err
}

// wantWhole refuses a file system on a partition.
func (p *MountPoints) wantWhole(ctx context.Context, want WantedMount) error {
	m, err := p.isMounted(ctx, want.Path, want.ID)
	if err != nil {
		return err
	}
	device, err := p.deviceOf(ctx, m)
	if err == nil && device.Type == partition {
		err = fmt.Errorf("%w: it lies on %s, a partition, and the kernel limits the IO of whole disks only", ErrNotFit, device.Path)
	}
	return err
}
