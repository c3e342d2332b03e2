// Package mountstest has a fake of package mounts for tests, and the examination
// that the fake and the real thing both pass. The fake knows devices, what is on
// them and what is mounted where, all in memory; it refuses to know any file.
package mountstest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/mounts"
)

// Formatter is the part of *mounts.Host that makes file systems.
type Formatter interface {
	Signature(ctx context.Context, device string) (string, error)
	Format(ctx context.Context, device, fsType string, options ...string) error
	Grow(ctx context.Context, device, target, fsType string) error
}

// Mounter is the part of *mounts.Host that mounts.
type Mounter interface {
	Mount(ctx context.Context, device, target, fsType string, options []string) error
	BindMount(ctx context.Context, source, target string, options []string) error
	Unmount(ctx context.Context, target string) error
}

// Looker is the part of *mounts.Host that looks after targets.
type Looker interface {
	IsMounted(target string) (mounts.Mount, bool, error)
	Remove(target string) error
}

// Subject is what is examined.
type Subject struct {
	Formatter
	Mounter
	Looker

	Devices [2]string // blank
	Dir     string    // an empty directory that is there
	FSType  string    // what to format with
}

// Examine checks what must be true of everything that mounts. fresh returns a
// subject on which nothing has happened yet.
func Examine(t *testing.T, fresh func(t *testing.T) Subject) {
	for name, check := range map[string]func(*testing.T, Subject){
		"a blank device is formatted once":                    formatOnce,
		"what is not supported is not formatted":              unsupported,
		"a device that is not there is an error":              noDevice,
		"a mount is found and repeated without stacking":      mountTwice,
		"another device is not mounted on top":                mountOther,
		"a blank device is not mounted":                       mountBlank,
		"a directory is bound and repeated without stacking":  bindTwice,
		"a read-only bind is read-only and not made writable": bindReadOnly,
		"a bind of something else is not made on top":         bindOther,
		"a device is bound to a file without stacking":        bindDevice,
		"options that a bind cannot have are refused":         bindOptions,
		"what is not there cannot be bound":                   bindNothing,
		"unmounting nothing is no error":                      unmountNothing,
		"all that is mounted is taken off the target":         unmountAll,
		"a target is removed when nothing is mounted there":   remove,
		"paths that are not absolute and clean are refused":   badPaths,
		"a caller that has given up changes nothing":          givenUp,
	} {
		t.Run(name, func(t *testing.T) { check(t, fresh(t)) })
	}
}

// ExamineGrowth checks that a file system grows with its device, which is the first of
// the subject's, and only then. Extend makes that device larger; size returns how many
// bytes the file system has that is mounted at target.
func ExamineGrowth(t *testing.T, s Subject, extend func(), size func(target string) int64) {
	target := s.mounted(t)
	before := size(target)
	for range 2 {
		noError(t, s.Grow(t.Context(), s.Devices[0], target, s.FSType))
		if after := size(target); after != before {
			t.Errorf("growing what fills its device changed it from %d bytes to %d", before, after)
		}
	}
	extend()
	for range 2 {
		noError(t, s.Grow(t.Context(), s.Devices[0], target, s.FSType))
	}
	if after := size(target); after <= before {
		t.Errorf("it had %d bytes and has %d", before, after)
	}
	wantError(t, s.Grow(t.Context(), s.Devices[0], target, "vfat"), mounts.ErrUnsupported)
	noError(t, s.Unmount(t.Context(), target))
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func (s Subject) wantSignature(t *testing.T, device, want string) {
	t.Helper()
	got, err := s.Signature(t.Context(), device)
	noError(t, err)
	if got != want {
		t.Errorf("%s holds %q, want %q", device, got, want)
	}
}

// wantMounted returns what is mounted at target.
func (s Subject) wantMounted(t *testing.T, target string, want bool) mounts.Mount {
	t.Helper()
	m, mounted, err := s.IsMounted(target)
	noError(t, err)
	if mounted != want {
		t.Fatalf("mounted at %s: %v, want %v (%+v)", target, mounted, want, m)
	}
	return m
}

// mounted formats the first device and mounts it.
func (s Subject) mounted(t *testing.T) (target string) {
	t.Helper()
	target = s.Dir + "/staged"
	noError(t, s.Format(t.Context(), s.Devices[0], s.FSType))
	noError(t, s.Mount(t.Context(), s.Devices[0], target, s.FSType, nil))
	return target
}

func formatOnce(t *testing.T, s Subject) {
	s.wantSignature(t, s.Devices[0], "")
	noError(t, s.Format(t.Context(), s.Devices[0], s.FSType))
	s.wantSignature(t, s.Devices[0], s.FSType)
	s.wantSignature(t, s.Devices[1], "")
	wantError(t, s.Format(t.Context(), s.Devices[0], s.FSType), mounts.ErrNotBlank)
	s.wantSignature(t, s.Devices[0], s.FSType)
}

func unsupported(t *testing.T, s Subject) {
	for _, fsType := range []string{"vfat", "", "ext4 -F", "../ext4"} {
		wantError(t, s.Format(t.Context(), s.Devices[0], fsType), mounts.ErrUnsupported)
		wantError(t, s.Mount(t.Context(), s.Devices[0], s.Dir+"/a", fsType, nil), mounts.ErrUnsupported)
	}
	s.wantSignature(t, s.Devices[0], "")
}

func noDevice(t *testing.T, s Subject) {
	const missing = "/dev/no-such-device"
	if found, err := s.Signature(t.Context(), missing); err == nil {
		t.Errorf("it holds %q", found)
	}
	if err := s.Format(t.Context(), missing, s.FSType); err == nil {
		t.Error("it was formatted")
	}
	if err := s.Mount(t.Context(), missing, s.Dir+"/a", s.FSType, nil); err == nil {
		t.Error("it was mounted")
	}
	s.wantMounted(t, s.Dir+"/a", false)
}

func mountTwice(t *testing.T, s Subject) {
	target := s.mounted(t)
	m := s.wantMounted(t, target, true)
	if m.Target != target || m.FSType != s.FSType || m.Root != "/" || m.ReadOnly() || m.Source == "" {
		t.Errorf("mount %+v", m)
	}
	noError(t, s.Mount(t.Context(), s.Devices[0], target, s.FSType, nil))
	if diff := cmp.Diff(m, s.wantMounted(t, target, true)); diff != "" {
		t.Errorf("mount after a repetition (-before +after):\n%s", diff)
	}
	noError(t, s.Unmount(t.Context(), target))
	s.wantMounted(t, target, false)
	s.wantSignature(t, s.Devices[0], s.FSType)
	noError(t, s.Mount(t.Context(), s.Devices[0], target, s.FSType, []string{"ro", "noatime"}))
	if m := s.wantMounted(t, target, true); !m.ReadOnly() {
		t.Errorf("mounted with ro it is %+v", m)
	}
}

func mountOther(t *testing.T, s Subject) {
	target := s.mounted(t)
	noError(t, s.Format(t.Context(), s.Devices[1], s.FSType))
	before := s.wantMounted(t, target, true)
	wantError(t, s.Mount(t.Context(), s.Devices[1], target, s.FSType, nil), mounts.ErrMountedOtherwise)
	if diff := cmp.Diff(before, s.wantMounted(t, target, true)); diff != "" {
		t.Errorf("mount (-before +after):\n%s", diff)
	}
	noError(t, s.Mount(t.Context(), s.Devices[1], s.Dir+"/other", s.FSType, nil))
}

func mountBlank(t *testing.T, s Subject) {
	if err := s.Mount(t.Context(), s.Devices[0], s.Dir+"/a", s.FSType, nil); err == nil {
		t.Error("it was mounted")
	}
	s.wantMounted(t, s.Dir+"/a", false)
	s.wantSignature(t, s.Devices[0], "")
}

func bindTwice(t *testing.T, s Subject) {
	staged, target := s.mounted(t), s.Dir+"/pods/one/mount"
	for range 3 {
		noError(t, s.BindMount(t.Context(), staged, target, nil))
	}
	if m := s.wantMounted(t, target, true); m.FSType != s.FSType || m.ReadOnly() {
		t.Errorf("mount %+v", m)
	}
	second := s.Dir + "/pods/two/mount"
	noError(t, s.BindMount(t.Context(), staged, second, []string{"rw"}))
	noError(t, s.Unmount(t.Context(), target))
	s.wantMounted(t, target, false)
	s.wantMounted(t, second, true)
	s.wantMounted(t, staged, true)
}

func bindReadOnly(t *testing.T, s Subject) {
	staged, target := s.mounted(t), s.Dir+"/pods/mount"
	noError(t, s.BindMount(t.Context(), staged, target, []string{"ro"}))
	noError(t, s.BindMount(t.Context(), staged, target, []string{"ro"}))
	if m := s.wantMounted(t, target, true); !m.ReadOnly() {
		t.Errorf("mount %+v", m)
	}
	if m := s.wantMounted(t, staged, true); m.ReadOnly() {
		t.Errorf("the source became read-only: %+v", m)
	}
	wantError(t, s.BindMount(t.Context(), staged, target, nil), mounts.ErrMountedOtherwise)
	noError(t, s.Unmount(t.Context(), target))
	s.wantMounted(t, target, false)
}

func bindOther(t *testing.T, s Subject) {
	staged, target := s.mounted(t), s.Dir+"/pods/mount"
	noError(t, s.Format(t.Context(), s.Devices[1], s.FSType))
	noError(t, s.Mount(t.Context(), s.Devices[1], s.Dir+"/other", s.FSType, nil))
	noError(t, s.BindMount(t.Context(), s.Dir+"/other", target, nil))
	wantError(t, s.BindMount(t.Context(), staged, target, nil), mounts.ErrMountedOtherwise)
}

func bindDevice(t *testing.T, s Subject) {
	target := s.Dir + "/pods/volume"
	for range 3 {
		noError(t, s.BindMount(t.Context(), s.Devices[0], target, nil))
	}
	s.wantMounted(t, target, true)
	wantError(t, s.BindMount(t.Context(), s.Devices[1], target, nil), mounts.ErrMountedOtherwise)
	noError(t, s.Unmount(t.Context(), target))
	s.wantMounted(t, target, false)
	noError(t, s.Remove(target))
	s.wantSignature(t, s.Devices[0], "")
}

func bindOptions(t *testing.T, s Subject) {
	if err := s.BindMount(t.Context(), s.Dir, s.Dir+"/a", []string{"noatime"}); err == nil {
		t.Error("an option was dropped in silence")
	}
	s.wantMounted(t, s.Dir+"/a", false)
}

func bindNothing(t *testing.T, s Subject) {
	for _, source := range []string{s.Dir + "/missing", "/dev/no-such-device"} {
		if err := s.BindMount(t.Context(), source, s.Dir+"/a", nil); err == nil {
			t.Errorf("%s was bound", source)
		}
	}
	s.wantMounted(t, s.Dir+"/a", false)
}

func unmountNothing(t *testing.T, s Subject) {
	target := s.mounted(t)
	for _, path := range []string{s.Dir, s.Dir + "/missing", s.Dir + "/missing/deep"} {
		noError(t, s.Unmount(t.Context(), path))
	}
	s.wantMounted(t, target, true)
	noError(t, s.Unmount(t.Context(), target))
	noError(t, s.Unmount(t.Context(), target))
}

func unmountAll(t *testing.T, s Subject) {
	target := s.mounted(t)
	noError(t, s.BindMount(t.Context(), target, s.Dir+"/one", nil))
	noError(t, s.BindMount(t.Context(), target, s.Dir+"/two", nil))
	for _, path := range []string{target, s.Dir + "/two", s.Dir + "/one"} {
		noError(t, s.Unmount(t.Context(), path))
		s.wantMounted(t, path, false)
	}
}

func remove(t *testing.T, s Subject) {
	target := s.mounted(t)
	wantError(t, s.Remove(target), mounts.ErrBusy)
	s.wantMounted(t, target, true)
	noError(t, s.Unmount(t.Context(), target))
	noError(t, s.Remove(target))
	noError(t, s.Remove(target))
	noError(t, s.Remove(s.Dir+"/missing/deep"))
}

func badPaths(t *testing.T, s Subject) {
	for _, path := range []string{"", "/", "relative", s.Dir + "/../a", s.Dir + "//a", s.Dir + "/a/"} {
		if err := s.Mount(t.Context(), s.Devices[0], path, s.FSType, nil); err == nil {
			t.Errorf("mounted at %q", path)
		}
		if err := s.BindMount(t.Context(), s.Dir, path, nil); err == nil {
			t.Errorf("bound to %q", path)
		}
		if err := s.Unmount(t.Context(), path); err == nil {
			t.Errorf("unmounted %q", path)
		}
		if err := s.Remove(path); err == nil {
			t.Errorf("removed %q", path)
		}
	}
	for _, device := range []string{"", "sdb", s.Dir, "/dev/../etc/passwd", "-F"} {
		if found, err := s.Signature(t.Context(), device); err == nil {
			t.Errorf("%q holds %q", device, found)
		}
		if err := s.Format(t.Context(), device, s.FSType); err == nil {
			t.Errorf("formatted %q", device)
		}
	}
}

func givenUp(t *testing.T, s Subject) {
	target := s.mounted(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, s.Format(ctx, s.Devices[1], s.FSType), context.Canceled)
	wantError(t, s.BindMount(ctx, target, s.Dir+"/a", nil), context.Canceled)
	wantError(t, s.Unmount(ctx, target), context.Canceled)
	s.wantMounted(t, target, true)
	s.wantMounted(t, s.Dir+"/a", false)
	s.wantSignature(t, s.Devices[1], "")
}
