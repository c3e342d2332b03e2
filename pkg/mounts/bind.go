package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BindMount makes source, a directory or a device, appear at target, which is made
// if need be. If it appears there already nothing is done. The only options are
// "ro" and "rw". A read-only mount is so from its first moment and for everyone on
// the host (Linux 5.12), but it does not keep anyone from writing to a device.
func (h *Host) BindMount(ctx context.Context, source, target string, options []string) error {
	if err := h.bindMount(ctx, source, target, options); err != nil {
		return fmt.Errorf("bind-mounting %q at %q: %w", source, target, err)
	}
	return nil
}

func (h *Host) bindMount(ctx context.Context, source, target string, options []string) error {
	readOnly, err := bindOptions(options)
	if err := errors.Join(ctx.Err(), err, validTarget(source), validTarget(target)); err != nil {
		return err
	}
	from, err := h.root.Resolve(source)
	if err != nil {
		return err
	}
	at, err := h.seen(target)
	if err != nil {
		return err
	}
	if err := makeLike(from, at); err != nil {
		return err
	}
	m, mounted, err := h.IsMounted(target)
	if err != nil {
		return err
	}
	if !mounted {
		return bind(from, at, readOnly)
	}
	same, err := sameFile(from, at)
	if err == nil && (!same || m.ReadOnly() != readOnly) {
		err = fmt.Errorf("%w: %s", ErrMountedOtherwise, m.Source)
	}
	return err
}

func bindOptions(options []string) (readOnly bool, err error) {
	for _, option := range options {
		switch option {
		case "ro":
			readOnly = true
		case "rw":
		default:
			return false, fmt.Errorf("option %q cannot be given to a bind mount", option)
		}
	}
	return readOnly, nil
}

// makeLike makes target a directory or an empty file, whichever source is.
func makeLike(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(target, 0o750)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// sameFile reports whether two paths lead to one directory or one device.
func sameFile(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := errors.Join(unix.Stat(a, &sa), unix.Stat(b, &sb)); err != nil {
		return false, err
	}
	if sa.Mode&unix.S_IFMT == unix.S_IFBLK && sb.Mode&unix.S_IFMT == unix.S_IFBLK {
		return sa.Rdev == sb.Rdev, nil
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino, nil
}

// bind makes the mount apart and attaches it when it is complete. Changing it after
// it is attached would change our copy only, not the one propagated to the host.
func bind(source, target string, readOnly bool) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer func() { _ = unix.Close(tree) }()
	if readOnly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr); err != nil {
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH))
}
