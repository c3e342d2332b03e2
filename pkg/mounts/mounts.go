// Package mounts makes file systems, mounts and unmounts them. It refuses to know
// whose volume a device is, and it never writes to a device that holds anything: to
// format what is not blank is an error, whoever asks.
//
// Paths are the host's. It is made to run in a container that sees the host's root
// file system somewhere (/host), with Bidirectional propagation, and reaches every
// path there; what is mounted there is mounted on the host.
//
// File systems are mounted by the host's mount(8), which runs in the host's root
// directory: the mount then has the source that the host knows, and options are
// understood as everywhere on that host. Bind mounts and unmounting need nothing
// from the host's programs and are system calls of our own.
package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/hostexec"
)

// What callers ask about a failure, with errors.Is.
var (
	// ErrNotBlank says that a device that is to be formatted holds something.
	ErrNotBlank = errors.New("device is not blank")
	// ErrMountedOtherwise says that something else is mounted at the target, or the
	// same thing with other access.
	ErrMountedOtherwise = errors.New("something else is mounted there")
	// ErrBusy says that a program still uses what is to be unmounted.
	ErrBusy = errors.New("mount is in use")
	// ErrUnsupported says that a file system is none of those we make.
	ErrUnsupported = errors.New("file system is not supported")
	// ErrAmbiguous says that a device carries signatures of several kinds.
	ErrAmbiguous = errors.New("device carries contradicting signatures")
)

// Host mounts on one host. Its methods may be called from any goroutine; two calls
// for the same target are the caller's to keep apart.
type Host struct {
	runner    hostexec.Runner
	root      devfile.Root
	mountinfo string // the file
}

// New returns the mounts of the host whose root file system is at root and whose
// programs r runs.
func New(r hostexec.Runner, root string) *Host {
	return &Host{runner: r, root: devfile.Root(root), mountinfo: "/proc/self/mountinfo"}
}

// Mount mounts a device's file system at target, a directory, which is made if need
// be. If that device is mounted there already nothing is done; mounts are never
// stacked. The program that mounts may be killed when ctx ends: mounting is a single
// system call.
func (h *Host) Mount(ctx context.Context, device, target, fsType string, options []string) error {
	if err := h.mount(ctx, device, target, fsType, options); err != nil {
		return fmt.Errorf("mounting %q at %q: %w", device, target, err)
	}
	return nil
}

func (h *Host) mount(ctx context.Context, device, target, fsType string, options []string) error {
	if err := errors.Join(validDevice(device), validTarget(target), validFSType(fsType)); err != nil {
		return err
	}
	at, err := h.seen(target)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(at, 0o750); err != nil {
		return err
	}
	if there, err := h.holds(device, target); there || err != nil {
		return err
	}
	args := []string{"-t", fsType}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	_, err = h.runner.Run(ctx, "mount", append(args, "--", device, target)...)
	return err
}

// holds reports whether the device is mounted at target. Another is an error.
func (h *Host) holds(device, target string) (bool, error) {
	m, mounted, err := h.IsMounted(target)
	if err != nil || !mounted {
		return false, err
	}
	number, err := h.number(device)
	if err != nil {
		return false, err
	}
	if m.Major == unix.Major(number) && m.Minor == unix.Minor(number) {
		return true, nil
	}
	// btrfs has a device number of its own; its source tells.
	if source, err := h.number(m.Source); err == nil && source == number {
		return true, nil
	}
	return false, fmt.Errorf("%w: %s", ErrMountedOtherwise, m.Source)
}

// number returns the number of a block device.
func (h *Host) number(device string) (uint64, error) {
	path, err := h.root.Resolve(device)
	if err != nil {
		return 0, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s is not a block device", device)
	}
	return stat.Rdev, nil
}

// maxStacked bounds how many mounts are taken off one target.
const maxStacked = 32

// Unmount takes off whatever is mounted at target. Nothing mounted, or no such
// path, is no error. The target itself stays; see Remove.
func (h *Host) Unmount(ctx context.Context, target string) error {
	if err := validTarget(target); err != nil {
		return fmt.Errorf("unmounting %q: %w", target, err)
	}
	for range maxStacked {
		_, mounted, err := h.IsMounted(target)
		if err != nil || !mounted {
			return err
		}
		at, err := h.seen(target)
		if err := errors.Join(ctx.Err(), err); err != nil {
			return fmt.Errorf("unmounting %s: %w", target, err)
		}
		if err := unmount(at); err != nil {
			return fmt.Errorf("unmounting %s: %w", target, err)
		}
	}
	return fmt.Errorf("unmounting %s: more than %d mounts are stacked there", target, maxStacked)
}

func unmount(at string) error {
	switch err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); {
	case errors.Is(err, unix.EBUSY):
		return ErrBusy
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return nil // someone else was faster; the next look tells
	default:
		return os.NewSyscallError("umount2", err)
	}
}

// Remove deletes an unmounted target: an empty directory or the file that a device
// was mounted on. Nothing there is no error; what is mounted or not empty stays.
func (h *Host) Remove(target string) error {
	_, mounted, err := h.IsMounted(target)
	switch {
	case err != nil:
		return err
	case mounted:
		return fmt.Errorf("removing mount target %s: %w", target, ErrBusy)
	}
	at, err := h.seen(target)
	if err != nil {
		return fmt.Errorf("removing mount target %s: %w", target, err)
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing mount target: %w", err)
	}
	return nil
}

// IsMounted tells what is mounted at target, without starting a program and without
// touching the file system that is mounted.
func (h *Host) IsMounted(target string) (Mount, bool, error) {
	fail := func(err error) (Mount, bool, error) {
		return Mount{}, false, fmt.Errorf("looking what is mounted at %q: %w", target, err)
	}
	if err := validTarget(target); err != nil {
		return fail(err)
	}
	at, err := h.seen(target)
	if err != nil {
		return fail(err)
	}
	all, err := h.all()
	if err != nil {
		return fail(err)
	}
	for _, m := range slices.Backward(all) { // the last is on top
		if m.Target == at {
			m.Target = target
			return m, true, nil
		}
	}
	return Mount{}, false, nil
}

// Below tells all that is mounted somewhere below dir, as IsMounted does. Of several
// mounts at one target it is the one on top.
func (h *Host) Below(dir string) ([]Mount, error) {
	at, err := h.root.Resolve(dir)
	if err != nil {
		return nil, err
	}
	all, err := h.all()
	if err != nil {
		return nil, err
	}
	var below []Mount
	known := map[string]bool{}
	for _, m := range slices.Backward(all) {
		if rest, is := strings.CutPrefix(m.Target, strings.TrimSuffix(at, "/")+"/"); is && rest != "" && !known[m.Target] {
			known[m.Target] = true
			m.Target = filepath.Join(dir, rest)
			below = append(below, m)
		}
	}
	return below, nil
}

func (h *Host) all() ([]Mount, error) {
	data, err := os.ReadFile(h.mountinfo)
	if err != nil {
		return nil, err
	}
	return ParseMountinfo(data)
}

// seen returns where this process sees a target. Links in the way to it are followed
// as the host would; the target itself is not touched, because the file system that
// is mounted there may no longer answer.
func (h *Host) seen(target string) (string, error) {
	dir, err := h.root.Resolve(filepath.Dir(target))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(target)), nil
}

func validTarget(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return fmt.Errorf("path %q is not absolute and clean", path)
	}
	return nil
}

func validDevice(path string) error {
	if !strings.HasPrefix(path, "/dev/") {
		return fmt.Errorf("device %q is not below /dev", path)
	}
	return validTarget(path)
}
