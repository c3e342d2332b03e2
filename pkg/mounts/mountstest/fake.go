package mountstest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/open-local/open-local/pkg/mounts"
)

// Fake is a host's mounts in memory. It has physics: a device holds one thing, what
// holds nothing cannot be mounted, and nothing is mounted over something else. Its
// methods may be called from any goroutine.
type Fake struct {
	// Before, when set, is called before anything is changed, with the verb and what
	// it is done to ("format /dev/share/a"). Its error is the verb's. It must not be
	// set while verbs run.
	Before func(verb string) error

	mu      sync.Mutex // guards the fields below
	devices map[string]string
	sizes   map[string]int64  // of devices, where somebody said it
	fills   map[string]int64  // how much of a device its file system fills
	made    map[string]string // with which options
	mounted []mount
	dirs    map[string]bool // directories that are there
}

type mount struct {
	mounts.Mount
	of string // the device or directory that appears there
}

var supported = []string{"btrfs", "ext3", "ext4", "xfs"}

// NewFake returns a host without devices, where the given directories are.
func NewFake(dirs ...string) *Fake {
	f := &Fake{
		devices: map[string]string{}, dirs: map[string]bool{},
		sizes: map[string]int64{}, fills: map[string]int64{}, made: map[string]string{},
	}
	for _, dir := range dirs {
		f.dirs[dir] = true
	}
	return f
}

// AddDevice gives the host a device that holds something, or nothing when signature
// is empty. A device that was there before is replaced.
func (f *Fake) AddDevice(device, signature string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.devices[device] = signature
}

// SetSize says how many bytes a device has. Its file system does not follow before
// Grow.
func (f *Fake) SetSize(device string, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sizes[device] = size
}

// Filled returns how many bytes of its device the file system mounted at target fills.
func (f *Fake) Filled(target string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if there := f.at(target); there != nil {
		return f.fills[there.of]
	}
	return 0
}

// MadeWith returns the options of mkfs that the device was formatted with.
func (f *Fake) MadeWith(device string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made[device]
}

// RemoveDevice takes a device away.
func (f *Fake) RemoveDevice(device string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.devices, device)
}

// Targets lists where something is mounted, in the order it was.
func (f *Fake) Targets() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, m := range f.mounted {
		all = append(all, m.Target)
	}
	return all
}

// Signature is as in package mounts.
func (f *Fake) Signature(ctx context.Context, device string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signature(ctx, device)
}

func (f *Fake) signature(ctx context.Context, device string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	signature, ok := f.devices[device]
	if !ok {
		return "", fmt.Errorf("device %q: %w", device, fs.ErrNotExist)
	}
	return signature, nil
}

// Format is as in package mounts.
func (f *Fake) Format(ctx context.Context, device, fsType string, options ...string) error {
	if err := errors.Join(validFSType(fsType), f.before("format "+device)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	found, err := f.signature(ctx, device)
	if err != nil {
		return err
	}
	if found != "" {
		return fmt.Errorf("%w: %s holds %s", mounts.ErrNotBlank, device, found)
	}
	f.devices[device], f.fills[device], f.made[device] = fsType, f.sizes[device], strings.Join(options, " ")
	return nil
}

// Grow is as in package mounts.
func (f *Fake) Grow(ctx context.Context, device, target, fsType string) error {
	if err := errors.Join(ctx.Err(), validFSType(fsType), validPath(target), f.before("grow "+device)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if there := f.at(target); there == nil || there.of != device {
		return fmt.Errorf("growing the %s of %s: it is not mounted at %s", fsType, device, target)
	}
	f.fills[device] = f.sizes[device]
	return nil
}

// Mount is as in package mounts.
func (f *Fake) Mount(ctx context.Context, device, target, fsType string, options []string) error {
	if err := errors.Join(validFSType(fsType), validPath(target), f.before("mount "+device)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	found, err := f.signature(ctx, device)
	if err != nil {
		return err
	}
	f.makeDirs(target)
	if there := f.at(target); there != nil {
		if there.of != device {
			return fmt.Errorf("%w: %s", mounts.ErrMountedOtherwise, there.of)
		}
		return nil
	}
	if found != fsType {
		return fmt.Errorf("mounting %s at %s: it holds %q, not %s", device, target, found, fsType)
	}
	access := "rw"
	if slices.Contains(options, "ro") {
		access = "ro"
	}
	f.mounted = append(f.mounted, mount{of: device, Mount: mounts.Mount{
		Target: target, Source: device, Root: "/", FSType: fsType, Options: []string{access}, Super: []string{access},
	}})
	return nil
}

// BindMount is as in package mounts.
func (f *Fake) BindMount(ctx context.Context, source, target string, options []string) error {
	if err := errors.Join(ctx.Err(), validPath(source), validPath(target), f.before("bind "+source)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	bound, err := f.whatIsAt(source)
	if err != nil {
		return err
	}
	bound.Target, bound.Options = target, []string{"rw"}
	for _, option := range options {
		if option != "ro" && option != "rw" {
			return fmt.Errorf("option %q cannot be given to a bind mount", option)
		}
		bound.Options = []string{option}
	}
	if there := f.at(target); there != nil {
		if there.of != bound.of || there.ReadOnly() != bound.ReadOnly() {
			return fmt.Errorf("%w: %s", mounts.ErrMountedOtherwise, there.of)
		}
		return nil
	}
	f.makeDirs(filepath.Dir(target))
	f.mounted = append(f.mounted, bound)
	return nil
}

// whatIsAt returns what a bind of source shows.
func (f *Fake) whatIsAt(source string) (mount, error) {
	if there := f.at(source); there != nil {
		return *there, nil
	}
	if _, ok := f.devices[source]; ok {
		return mount{of: source, Mount: mounts.Mount{Source: "udev", Root: strings.TrimPrefix(source, "/dev"), FSType: "devtmpfs"}}, nil
	}
	if f.dirs[source] {
		return mount{of: source, Mount: mounts.Mount{Source: "/dev/root", Root: source, FSType: "ext4"}}, nil
	}
	return mount{}, fmt.Errorf("%s: %w", source, fs.ErrNotExist)
}

// Unmount is as in package mounts.
func (f *Fake) Unmount(ctx context.Context, target string) error {
	if err := errors.Join(ctx.Err(), validPath(target), f.before("unmount "+target)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mounted = slices.DeleteFunc(f.mounted, func(m mount) bool { return m.Target == target })
	return nil
}

// IsMounted is as in package mounts.
func (f *Fake) IsMounted(target string) (mounts.Mount, bool, error) {
	if err := validPath(target); err != nil {
		return mounts.Mount{}, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if there := f.at(target); there != nil {
		return there.Mount, true, nil
	}
	return mounts.Mount{}, false, nil
}

// Remove is as in package mounts.
func (f *Fake) Remove(target string) error {
	if err := errors.Join(validPath(target), f.before("remove "+target)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at(target) != nil {
		return fmt.Errorf("%s: %w", target, mounts.ErrBusy)
	}
	delete(f.dirs, target)
	return nil
}

func (f *Fake) at(target string) *mount {
	for i := range f.mounted {
		if f.mounted[i].Target == target {
			return &f.mounted[i]
		}
	}
	return nil
}

func (f *Fake) makeDirs(dir string) {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		f.dirs[dir] = true
	}
}

func (f *Fake) before(verb string) error {
	if f.Before == nil {
		return nil
	}
	return f.Before(verb)
}

func validFSType(fsType string) error {
	if !slices.Contains(supported, fsType) {
		return fmt.Errorf("%w: %q", mounts.ErrUnsupported, fsType)
	}
	return nil
}

func validPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return fmt.Errorf("path %q is not absolute and clean", path)
	}
	return nil
}
