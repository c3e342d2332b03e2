package mounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Renew makes a file system that is a byte for byte copy of another one of its own
// right: an xfs and a btrfs get a UUID of their own, without which the kernel would not
// mount them beside the other. With grow, the file system fills its device afterwards.
// Where nothing is known on the device nothing is done. The file system is mounted at
// dir for a moment where that is necessary; dir is gone afterwards. The programs may be
// killed when ctx ends: then the device holds nothing that can be relied on.
func (h *Host) Renew(ctx context.Context, device, dir string, grow bool) error {
	fsType, err := h.Signature(ctx, device)
	if err == nil {
		err = h.renew(ctx, copied{device: device, dir: dir, fsType: fsType, grow: grow})
	}
	if err != nil {
		return fmt.Errorf("renewing the file system of %q: %w", device, errors.Join(err, h.Abandon(context.WithoutCancel(ctx), dir)))
	}
	return nil
}

// Abandon takes off whatever is mounted at dir, and removes dir.
func (h *Host) Abandon(ctx context.Context, dir string) error {
	if err := h.Unmount(ctx, dir); err != nil {
		return err
	}
	return h.Remove(dir)
}

// Flush writes what was written to a mounted btrfs to its device. A snapshot of the
// device would otherwise hold what was committed last, up to half a minute before: the
// kernel brings every other file system to rest for that, and not this one. Where none
// is mounted nothing is done.
func (h *Host) Flush(device string) error {
	number, err := h.number(device)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(h.mountinfo)
	if err != nil {
		return err
	}
	all, err := ParseMountinfo(data)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.FSType != "btrfs" {
			continue
		}
		if source, err := h.number(m.Source); err != nil || source != number {
			continue
		}
		return flush(m.Target)
	}
	return nil
}

func flush(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.Syncfs(int(file.Fd())); err != nil {
		return fmt.Errorf("flushing the file system at %s: %w", dir, err)
	}
	return nil
}

// copied is a file system that is yet to become its own.
type copied struct {
	device, dir, fsType string
	grow                bool
}

func (h *Host) renew(ctx context.Context, c copied) error {
	switch c.fsType {
	case "xfs":
		// Its UUID is in every record of its journal, which the kernel must have
		// replayed first.
		if err := h.whileMounted(ctx, c, []string{"nouuid"}); err != nil {
			return err
		}
		return h.newXFSID(ctx, c.device)
	case "btrfs":
		// The kernel must never mount two with the same: it would take them for one.
		if err := h.newBtrfsID(ctx, c.device); err != nil {
			return err
		}
	case "ext3", "ext4":
	default:
		return nil // none that we make
	}
	if !c.grow {
		return nil
	}
	return h.whileMounted(ctx, c, nil)
}

// whileMounted mounts a file system, which replays its journal, grows it if wanted and
// unmounts it.
func (h *Host) whileMounted(ctx context.Context, c copied, options []string) error {
	if err := h.Mount(ctx, c.device, c.dir, c.fsType, options); err != nil {
		return err
	}
	if c.grow {
		if err := h.Grow(ctx, c.device, c.dir, c.fsType); err != nil {
			return err
		}
	}
	return h.Abandon(ctx, c.dir)
}

// newXFSID gives an xfs a UUID of its own, in the way of xfs_admin(8), which is a shell
// script around this program.
func (h *Host) newXFSID(ctx context.Context, device string) error {
	before, err := h.xfsID(device)
	if err != nil {
		return err
	}
	if _, err := h.runner.Run(ctx, "xfs_db", "-x", "-p", "xfs_admin", "-c", "uuid generate", device); err != nil {
		return err
	}
	after, err := h.xfsID(device)
	if err == nil && before == after {
		err = errors.New("xfs_db gave it no UUID of its own")
	}
	return err
}

// xfsIDAt is where the UUID stands in the super block of an xfs.
const xfsIDAt = 32

func (h *Host) xfsID(device string) (id [16]byte, err error) {
	file, err := h.open(device, os.O_RDONLY)
	if err != nil {
		return id, err
	}
	defer func() { _ = file.Close() }()
	_, err = io.ReadFull(io.NewSectionReader(file, xfsIDAt, int64(len(id))), id[:])
	return id, err
}
