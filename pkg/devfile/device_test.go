package devfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kernel is a root in which the kernel says of device 253:300, dm-3, what files say.
func kernel(t *testing.T, files map[string]string) Root {
	t.Helper()
	dir := t.TempDir()
	sys := filepath.Join(dir, "sys/devices/virtual/block/dm-3")
	if err := errors.Join(os.MkdirAll(sys, 0o755), os.MkdirAll(filepath.Join(dir, "sys/dev/block"), 0o755), os.Symlink(sys, filepath.Join(dir, "sys/dev/block/253:300"))); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(sys, name)
		if filepath.IsAbs(name) {
			path = filepath.Join(dir, name)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return Root(dir)
}

func TestWhatTheKernelSaysOfADevice(t *testing.T) {
	number := unix.Mkdev(253, 300)
	bad := kernel(t, map[string]string{
		"dm/suspended": "1\n", "ro": "1\n", "dm/name": "pool-local--a\n", "dm/uuid": "LVM-abc\n",
		"stat": "     10 0 80 14 20 0 160 16 3 9 12 0 0 0 0 5 1\n", "/sys/fs/ext4/dm-3/errors_count": "7\n",
	})
	good := kernel(t, map[string]string{"dm/suspended": "0\n", "ro": "0\n", "dm/name": "secret\n", "dm/uuid": "CRYPT-abc\n", "stat": "1 0 0 1 2 0 0 2 0\n"})
	for name, tc := range map[string]struct {
		root                Root
		suspended, readOnly bool
		mapped              string
		errors              int64
		done, running       uint64
	}{
		"a device that is not well": {bad, true, true, "pool-local--a", 7, 30, 3},
		"a device that is well":     {good, false, false, "", 0, 3, 0},
		"a device that is gone":     {Root(t.TempDir()), false, false, "", 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := tc.root.Suspended(number); got != tc.suspended || err != nil {
				t.Errorf("suspended %t, %v", got, err)
			}
			if got, err := tc.root.ReadOnly(number); got != tc.readOnly || err != nil {
				t.Errorf("read-only %t, %v", got, err)
			}
			if got, err := tc.root.MappedName(number); got != tc.mapped || err != nil {
				t.Errorf("name %q, %v", got, err)
			}
			if got, err := tc.root.ExtErrors(number); got != tc.errors || err != nil {
				t.Errorf("errors %d, %v", got, err)
			}
			if done, running, err := tc.root.Work(number); done != tc.done || running != tc.running || err != nil {
				t.Errorf("work %d and %d, %v", done, running, err)
			}
		})
	}
	if _, _, err := kernel(t, map[string]string{"stat": "1 2 3\n"}).Work(number); err == nil {
		t.Error("a file that is cut short is understood")
	}
}

func TestADeviceThatIsGoneCannotBeRead(t *testing.T) {
	for name, root := range map[string]Root{"it and its file": Root(t.TempDir()), "its file": kernel(t, nil)} {
		if err := root.ReadFirst(t.Context(), unix.Mkdev(253, 300)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want ErrNotExist", name, err)
		}
	}
}

func TestADeviceIsAnnounced(t *testing.T) {
	root := Root(t.TempDir())
	device := filepath.Join(string(root), "dev/null-block")
	for _, dir := range []string{"dev", "sys/dev/block/"} {
		if err := os.MkdirAll(filepath.Join(string(root), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/dev/null-block": "it is not a block device", "/dev/nothing": "no such file"} {
		if err := root.Announce(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("announcing %s: got %v, want an error with %q", path, err, want)
		}
	}
}

func TestIntoHowManyRequestsDiscardingIsDivided(t *testing.T) {
	for name, test := range map[string]struct {
		said string
		want int64
	}{
		"a disk that takes all at once": {"2199023255040\n", 1},
		"one that takes half":           {"512\n", 2},
		"one that takes a little less":  {"511\n", 3},
		"one that cannot":               {"0\n", 0},
		"one of which nothing is known": {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			if test.said != "" {
				files["queue/discard_max_bytes"] = test.said
			}
			root := kernel(t, files)
			// A file has no number; the kernel of this test tells of number 0 as well.
			if err := errors.Join(
				os.Symlink(filepath.Join(string(root), "sys/dev/block/253:300"), filepath.Join(string(root), "sys/dev/block/0:0")),
				os.WriteFile(filepath.Join(string(root), "data"), make([]byte, 1024), 0o600),
			); err != nil {
				t.Fatal(err)
			}
			if got, err := root.Discards("/data"); got != test.want || err != nil {
				t.Errorf("got %d, %v; want %d", got, err, test.want)
			}
		})
	}
	if _, err := Root(t.TempDir()).Discards("/dev/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a device that is not there: %v", err)
	}
}
