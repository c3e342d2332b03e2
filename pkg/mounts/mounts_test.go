package mounts

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/hostexec"
)

// What takes a kernel is tested by package mountstest, on a real one.

// tree makes a host's root directory with some files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// blank is a device without anything on it.
var blank = strings.Repeat("\x00", 4096)

// xfs is a device that begins like an xfs with the given byte "in progress".
func xfs(inProgress byte) string {
	start := []byte(blank)
	copy(start, "XFSB")
	start[126] = inProgress
	return string(start)
}

// answers is a Runner that answers programs by their name and keeps what was run.
type answers struct {
	out map[string]string
	err map[string]error
	ran []string
}

func (a *answers) Run(_ context.Context, name string, args ...string) ([]byte, error) {
	a.ran = append(a.ran, strings.Join(append([]string{name}, args...), " "))
	return []byte(a.out[name]), a.err[name]
}

func exits(code int) error { return &hostexec.ExitError{Name: "blkid", Code: code} }

func TestSignature(t *testing.T) {
	root := tree(t, map[string]string{"dev/share/data": blank, "dev/share/empty": ""})
	for name, tc := range map[string]struct {
		device string
		out    string
		err    error
		want   string
		wrong  string
		is     error
	}{
		"a file system":        {device: "data", out: "DEVNAME=/dev/share/data\nUUID=1\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n", want: "ext4"},
		"a partition table":    {device: "data", out: "DEVNAME=/dev/share/data\nPTUUID=1\nPTTYPE=gpt\n", want: "gpt"},
		"a file system in one": {device: "data", out: "PTTYPE=dos\nTYPE=vfat\n", want: "vfat"},
		"nothing":              {device: "data", err: exits(2)},
		"nothing, because the device has no size":  {device: "empty", err: exits(2), wrong: "no size"},
		"nothing, because the device is not there": {device: "gone", err: exits(2), wrong: "no such file"},
		"contradictions":           {device: "data", err: exits(8), wrong: "exit 8", is: ErrAmbiguous},
		"a failure":                {device: "data", err: exits(4), wrong: "exit 4"},
		"no blkid on the host":     {device: "data", err: hostexec.ErrNotInstalled, wrong: "not installed", is: hostexec.ErrNotInstalled},
		"an answer without a type": {device: "data", out: "DEVNAME=/dev/share/data\n", wrong: "does not say what"},
		"an empty answer":          {device: "data", wrong: "does not say what"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answers{out: map[string]string{"blkid": tc.out}, err: map[string]error{"blkid": tc.err}}
			got, err := New(a, root).Signature(t.Context(), "/dev/share/"+tc.device)
			if got != tc.want || (err != nil) != (tc.wrong != "") {
				t.Fatalf("got %q and %v, want %q and %q", got, err, tc.want, tc.wrong)
			}
			if err != nil && !strings.Contains(err.Error(), tc.wrong) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %v, want %q and %v", err, tc.wrong, tc.is)
			}
			if diff := cmp.Diff([]string{"blkid -p -o export -- /dev/share/" + tc.device}, a.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFormatForcesNothing(t *testing.T) {
	root := tree(t, map[string]string{"dev/share/data": blank})
	for fsType, want := range map[string]string{
		"ext4": "mkfs.ext4 -q -m 0 -- /dev/share/data", "ext3": "mkfs.ext3 -q -m 0 -- /dev/share/data",
		"xfs": "mkfs.xfs -q -- /dev/share/data", "btrfs": "mkfs.btrfs -q -- /dev/share/data",
	} {
		a := &answers{err: map[string]error{"blkid": exits(2)}}
		if err := New(a, root).Format(t.Context(), "/dev/share/data", fsType); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"blkid -p -o export -- /dev/share/data", want}, a.ran); diff != "" {
			t.Errorf("commands for %s (-want +got):\n%s", fsType, diff)
		}
	}
}

func TestFormatPassesOptionsBeforeTheDevice(t *testing.T) {
	a := &answers{err: map[string]error{"blkid": exits(2)}}
	h := New(a, tree(t, map[string]string{"dev/share/data": blank}))
	if err := h.Format(t.Context(), "/dev/share/data", "ext4", "-m", "5", "-E", "nodiscard"); err != nil {
		t.Fatal(err)
	}
	want := []string{"blkid -p -o export -- /dev/share/data", "mkfs.ext4 -q -m 0 -m 5 -E nodiscard -- /dev/share/data"}
	if diff := cmp.Diff(want, a.ran); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestAnXFSWhoseMkfsWasCutShortIsMadeAnew(t *testing.T) {
	for name, tc := range map[string]struct {
		device string
		want   string // the signature
		is     error  // of formatting
		left   string // the first bytes after formatting
	}{
		"cut short": {device: xfs(1), left: "\x00\x00\x00\x00"},
		"whole":     {device: xfs(0), want: "xfs", is: ErrNotBlank, left: "XFSB"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, map[string]string{"dev/share/data": tc.device})
			h := New(&answers{out: map[string]string{"blkid": "TYPE=xfs\n"}}, root)
			if got, err := h.Signature(t.Context(), "/dev/share/data"); got != tc.want || err != nil {
				t.Errorf("signature %q and %v, want %q", got, err, tc.want)
			}
			if err := h.Format(t.Context(), "/dev/share/data", "xfs"); !errors.Is(err, tc.is) {
				t.Errorf("formatting: got %v, want %v", err, tc.is)
			}
			left, err := os.ReadFile(filepath.Join(root, "dev/share/data"))
			if err != nil || string(left[:4]) != tc.left || len(left) != len(tc.device) {
				t.Errorf("the device begins with %q and has %d bytes (%v), want %q", left[:4], len(left), err, tc.left)
			}
		})
	}
}

func TestWhatCannotBeProvenBlankIsNotFormatted(t *testing.T) {
	root := tree(t, map[string]string{"dev/share/data": blank})
	for _, failure := range []error{exits(8), exits(4), exits(-1), hostexec.ErrNotInstalled, context.DeadlineExceeded} {
		a := &answers{err: map[string]error{"blkid": failure}}
		if err := New(a, root).Format(t.Context(), "/dev/share/data", "ext4"); !errors.Is(err, failure) || len(a.ran) != 1 {
			t.Errorf("got %v after running %q, want %v", err, a.ran, failure)
		}
	}
}

func TestFormattingOutlivesItsCaller(t *testing.T) {
	root := tree(t, map[string]string{"dev/share/data": blank})
	ctx, cancel := context.WithCancel(t.Context())
	runner := hostexec.RunnerFunc(func(inner context.Context, name string, _ ...string) ([]byte, error) {
		if name == "blkid" {
			return nil, exits(2)
		}
		cancel()
		return nil, inner.Err()
	})
	if err := New(runner, root).Format(ctx, "/dev/share/data", "ext4"); err != nil {
		t.Errorf("the caller went away while it formatted, and: %v", err)
	}
}

func TestGrowCommands(t *testing.T) {
	for fsType, want := range map[string]string{
		"ext3": "resize2fs /dev/share/data", "ext4": "resize2fs /dev/share/data",
		"xfs": "xfs_growfs -d /mnt/data", "btrfs": "btrfs filesystem resize max /mnt/data",
	} {
		a := &answers{}
		if err := New(a, "/").Grow(t.Context(), "/dev/share/data", "/mnt/data", fsType); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{want}, a.ran); diff != "" {
			t.Errorf("commands for %s (-want +got):\n%s", fsType, diff)
		}
	}
	if err := New(&answers{}, "/").Grow(t.Context(), "/dev/share/data", "/mnt/data", "vfat"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

// ext is a device that begins with the super block of an ext4 of so many blocks of
// 1 KiB, and that has so many bytes.
func ext(blocks uint32, size int) string {
	device := make([]byte, size)
	super := device[1024:]
	binary.LittleEndian.PutUint32(super[4:], blocks)
	binary.LittleEndian.PutUint16(super[0x38:], 0xEF53)
	return string(device)
}

func TestAnExtThatFillsItsDeviceIsLeftAlone(t *testing.T) {
	const grow = "resize2fs /dev/share/data"
	high := []byte(ext(8, 8<<10))
	high[1024+0x60], high[1024+0x150] = 0x80, 1 // 64bit, and 2^32 blocks more
	for name, tc := range map[string]struct {
		device string
		want   []string
	}{
		"as large as its device":      {device: ext(8, 8<<10)},
		"smaller":                     {ext(8, 9<<10), []string{grow}},
		"far larger than its device":  {string(high), []string{grow}},
		"something else":              {blank, []string{grow}},
		"a device without its blocks": {"", []string{grow}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answers{}
			h := New(a, tree(t, map[string]string{"dev/share/data": tc.device}))
			if err := h.Grow(t.Context(), "/dev/share/data", "/mnt/data", "ext4"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, a.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMountCommand(t *testing.T) {
	root := tree(t, map[string]string{"dev/share/data": ""})
	for name, tc := range map[string]struct {
		options []string
		want    string
	}{
		"with options":    {[]string{"ro", "noatime"}, "mount -t xfs -o ro,noatime -- /dev/share/data /mnt/data"},
		"without options": {nil, "mount -t xfs -- /dev/share/data /mnt/data"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answers{}
			if err := New(a, root).Mount(t.Context(), "/dev/share/data", "/mnt/data", "xfs", tc.options); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tc.want}, a.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if info, err := os.Stat(root + "/mnt/data"); err != nil || !info.IsDir() {
				t.Errorf("the target was not made on the host: %v", err)
			}
		})
	}
}

func TestTheTopmostMountCounts(t *testing.T) {
	root := tree(t, map[string]string{"mountinfo": "1 1 8:1 / ROOT/mnt/a rw - ext4 /dev/sda rw\n2 1 8:2 / ROOT/mnt/a rw - xfs /dev/sdb rw\n" +
		"3 1 8:3 / ROOT/mnt/a/b rw - ext4 /dev/sdc rw\n4 1 8:4 / /mnt/c rw - ext4 /dev/sdd rw\n"})
	h := New(&answers{}, root)
	h.mountinfo = root + "/mountinfo"
	data, err := os.ReadFile(h.mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.mountinfo, []byte(strings.ReplaceAll(string(data), "ROOT", root)), 0o600); err != nil {
		t.Fatal(err)
	}
	for target, source := range map[string]string{"/mnt/a": "/dev/sdb", "/mnt/a/b": "/dev/sdc", "/mnt": "", "/mnt/c": ""} {
		m, mounted, err := h.IsMounted(target)
		if err != nil || m.Source != source || mounted != (source != "") || mounted && m.Target != target {
			t.Errorf("at %s: %v, %+v, %v; want %q", target, mounted, m, err, source)
		}
	}
	below, err := h.Below("/mnt")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, m := range below {
		sources[m.Target] = m.Source
	}
	if diff := cmp.Diff(map[string]string{"/mnt/a": "/dev/sdb", "/mnt/a/b": "/dev/sdc"}, sources); diff != "" || len(below) != len(sources) {
		t.Errorf("%d mounts below /mnt (-want +got):\n%s", len(below), diff)
	}
}
