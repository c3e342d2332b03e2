package devfile

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

func link(t *testing.T, root, target, name string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func TestResolveFollowsLinksInsideTheRoot(t *testing.T) {
	root := t.TempDir()
	link(t, root, "/dev/mapper/pool-data", "dev/pool/absolute")
	link(t, root, "../dm-3", "dev/pool/relative")
	link(t, root, "../../../../../etc/passwd", "dev/pool/escaping")
	link(t, root, "/data/kubelet", "var/lib/kubelet")
	link(t, root, "second", "dev/pool/first")
	link(t, root, "relative", "dev/pool/second")
	for path, want := range map[string]string{
		"/dev/pool/absolute":                 "/dev/mapper/pool-data",
		"/dev/pool/relative":                 "/dev/dm-3",
		"/dev/pool/escaping":                 "/etc/passwd",
		"/dev/pool/first":                    "/dev/dm-3",
		"/dev/pool/none":                     "/dev/pool/none",
		"/var/lib/kubelet/pods/x/not/there":  "/data/kubelet/pods/x/not/there",
		"/../../dev/pool/../pool/./relative": "/dev/dm-3",
	} {
		got, err := Root(root).Resolve(path)
		if err != nil || got != root+want {
			t.Errorf("Resolve(%s) = %s, %v; want %s under the root", path, got, err, want)
		}
	}
}

func TestResolveGivesUpOnACircle(t *testing.T) {
	root := t.TempDir()
	link(t, root, "b", "dev/a")
	link(t, root, "a", "dev/b")
	if path, err := Root(root).Resolve("/dev/a"); !errors.Is(err, unix.ELOOP) {
		t.Fatalf("got %s, %v; want ELOOP", path, err)
	}
}

func TestExistsSeesALinkToNowhere(t *testing.T) {
	root := t.TempDir()
	link(t, root, "/dev/mapper/gone", "dev/pool/data")
	for path, want := range map[string]bool{"/dev/pool/data": true, "/dev/pool/other": false, "/dev/none/data": false} {
		if got, err := Root(root).Exists(path); err != nil || got != want {
			t.Errorf("Exists(%s) = %t, %v; want %t", path, got, err, want)
		}
	}
}

func TestLookTellsFilesFromDirectoriesAndNothing(t *testing.T) {
	dirname := t.TempDir()
	root := Root(dirname)
	if err := errors.Join(os.WriteFile(filepath.Join(dirname, "file"), nil, 0o600), os.Mkdir(filepath.Join(dirname, "dir"), 0o755)); err != nil {
		t.Fatal(err)
	}
	file, err := root.Look("/file")
	if err != nil || file.Dir || file.Device != 0 {
		t.Errorf("a file is %+v, %v", file, err)
	}
	dir, err := root.Look("/dir")
	if err != nil || !dir.Dir || dir.FileSystem != file.FileSystem {
		t.Errorf("a directory beside %+v is %+v, %v", file, dir, err)
	}
	if _, err := root.Look("/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v for what is not there, want ErrNotExist", err)
	}
}

func TestOnlyRealDevicesAreAlive(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sys/dev/block/253:7"), 0o755); err != nil {
		t.Fatal(err)
	}
	root := Root(dir)
	if !root.Alive(unix.Mkdev(253, 7)) || root.Alive(unix.Mkdev(253, 300)) {
		t.Error("253:7 is there and 253:300 is not")
	}
}

// used is a file with something in it, as a stand-in for a device.
func used(t *testing.T, size capacity.Bytes) (root Root, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "device")
	if err := os.WriteFile(path, bytes.Repeat([]byte("secret of the former tenant "), int(size)/28+1)[:size], 0o600); err != nil {
		t.Fatal(err)
	}
	return Root(dir), path
}

func wantZeros(t *testing.T, path string, size capacity.Bytes) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, make([]byte, size)) {
		t.Fatalf("%d bytes, or not all of them zero; want %d zeros", len(got), size)
	}
}

func TestZeroLeavesNoByte(t *testing.T) {
	const size = 9*capacity.MiB + 512
	root, path := used(t, size)
	var last capacity.Bytes
	err := root.Zero(t.Context(), "/device", func(done, of capacity.Bytes) {
		if of != size {
			t.Errorf("progress of %s, want %s", of, size)
		}
		last = done
	})
	if err != nil || last != size {
		t.Fatalf("zeroed %s of %s: %v", last, size, err)
	}
	wantZeros(t, path, size)
}

func TestWritingZerosLeavesNoByte(t *testing.T) {
	const size = 9*capacity.MiB + 512
	_, path := used(t, size)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(byWriting(file, 0, size), file.Close()); err != nil {
		t.Fatal(err)
	}
	wantZeros(t, path, size)
}

func TestZeroStopsWhenItsContextEnds(t *testing.T) {
	root, _ := used(t, capacity.MiB)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := root.Zero(ctx, "/device", func(done, _ capacity.Bytes) { t.Errorf("%s were zeroed", done) })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want Canceled", err)
	}
}

func TestUsageAddsUp(t *testing.T) {
	usage, err := Root(t.TempDir()).Usage("/")
	if err != nil {
		t.Fatal(err)
	}
	if usage.Total <= 0 || usage.Used < 0 || usage.Available < 0 || usage.Used+usage.Available > usage.Total || usage.UsedInodes+usage.FreeInodes != usage.TotalInodes {
		t.Errorf("usage does not add up: %+v", usage)
	}
	if _, err := Root(t.TempDir()).Usage("/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v for what is not there, want ErrNotExist", err)
	}
}
