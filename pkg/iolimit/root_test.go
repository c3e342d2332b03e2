//go:build root

package iolimit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/volume"
)

// These tests want root, cgroups of version 2, a device-mapper and a blank disk of at
// least 400 MiB in LAB_DISKS. They overwrite the disk.

const (
	mib     = 1 << 20
	cgroups = Root("/sys/fs/cgroup")
	rate    = 4 * mib // bytes a second
	amount  = 20 * mib
)

// bed is a mapped device with a high minor number, a file system on it, and this process in
// a cgroup below that of all pods.
type bed struct {
	device uint64
	path   string // of the device
	dir    string // where the file system is mounted
}

func newBed(t *testing.T, fsType string) bed {
	t.Helper()
	disk, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	if disk == "" {
		t.Fatal("set LAB_DISKS to a blank disk that may be overwritten, such as /dev/ubdb")
	}
	run := func(argv ...string) {
		t.Helper()
		if _, err := hostexec.OnHost("/").Run(t.Context(), argv[0], argv[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	run("dmsetup", "create", "iolimit", "--major", mapperMajor(t), "--minor", "300", "--table", "0 "+strconv.Itoa(400*mib/512)+" linear "+disk+" 0")
	b := bed{path: "/dev/mapper/iolimit", dir: t.TempDir()}
	// What ext4 would do later in the background is none of what is measured.
	how := map[string][]string{"ext4": {"-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, "xfs": {"-f"}, "btrfs": {"-f"}}[fsType]
	run(append(append([]string{"mkfs." + fsType, "-q"}, how...), b.path)...)
	run("mount", b.path, b.dir)
	var stat unix.Stat_t
	if err := unix.Stat(b.path, &stat); err != nil {
		t.Fatal(err)
	}
	b.device = stat.Rdev
	if unix.Minor(b.device) != 300 {
		t.Fatalf("the device has the minor number %d", unix.Minor(b.device))
	}
	// The kernel writes a page back for the cgroup that first had the file in memory,
	// which is a pod's where the file is a pod's.
	enterPod(t, "pod-a")
	b.fill(t)
	t.Cleanup(func() {
		for _, argv := range [][]string{{"umount", b.dir}, {"dmsetup", "remove", "iolimit"}, {"wipefs", "--all", "--quiet", disk}} {
			if _, err := hostexec.OnHost("/").Run(context.Background(), argv[0], argv[1:]...); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// mapperMajor returns the major number of mapped devices.
func mapperMajor(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/devices")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if number, ok := strings.CutSuffix(strings.TrimSpace(line), " device-mapper"); ok {
			return number
		}
	}
	t.Fatal("there is no device-mapper")
	return ""
}

// enterPod puts this process into a cgroup below that of all pods, with the controllers
// that every kubelet turns on. The memory controller knows for which cgroup a file is
// written back. A file that was written to before the io controller was there counts
// for nobody, until the kernel notices some seconds later.
func enterPod(t *testing.T, name string) {
	t.Helper()
	pod := filepath.Join(string(cgroups), "kubepods", name)
	if err := errors.Join(
		os.MkdirAll(pod, 0o755),
		write(filepath.Join(string(cgroups), "cgroup.subtree_control"), "+memory +io"),
		write(filepath.Join(pod, "cgroup.procs"), strconv.Itoa(os.Getpid())),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := write(filepath.Join(string(cgroups), "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
			t.Error(err)
		}
	})
}

func (b bed) file() string { return filepath.Join(b.dir, "file") }

// fill makes the file that is read and written later.
func (b bed) fill(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(b.file(), make([]byte, amount), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
}

// aligned returns memory for direct IO.
func aligned(size int) []byte {
	const align = 4096
	memory := make([]byte, size+align)
	skip := align - int(uintptr(unsafe.Pointer(&memory[0]))%align)
	return memory[skip : skip+size]
}

// move reads or writes all of the file in pieces and returns when they are on disk.
func (b bed) move(how, piece, total int) error {
	file, err := os.OpenFile(b.file(), how, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if how&unix.O_DIRECT == 0 {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
			return err
		}
	}
	buffer := aligned(piece)
	for at := int64(0); at < int64(total); at += int64(piece) {
		if how&os.O_RDWR != 0 {
			_, err = file.WriteAt(buffer, at)
		} else {
			_, err = file.ReadAt(buffer, at)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if how&os.O_RDWR != 0 {
		return file.Sync()
	}
	return nil
}

// tries is how often what took too long is measured anew: the machine may have been
// busy with something else. What was too fast has escaped its limit.
const tries = 3

// wantTime moves data and checks that it takes so long, within 5 %.
func (b bed) wantTime(t *testing.T, how, piece, total int, want time.Duration) {
	t.Helper()
	for try := 1; ; try++ {
		began := time.Now()
		if err := b.move(how, piece, total); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		off := 100 * (took.Seconds() - want.Seconds()) / want.Seconds()
		t.Logf("%d KiB in pieces of %d KiB took %.2f s, %.0f KiB/s, %.0f pieces/s: %+.1f %%", total>>10, piece>>10,
			took.Seconds(), float64(total>>10)/took.Seconds(), float64(total/piece)/took.Seconds(), off)
		switch {
		case -5 <= off && off <= 5:
			return
		case off < -5 || try == tries:
			t.Errorf("it took %s, want %s within 5 %%", took, want)
			return
		}
	}
}

func TestLimitsHoldOnARealKernel(t *testing.T) {
	b := newBed(t, "ext4")
	set := func(limits volume.Limits, want bool) {
		t.Helper()
		if changed, err := cgroups.Set(b.device, limits); err != nil || changed != want {
			t.Fatalf("changed %t, %v", changed, err)
		}
		lines, err := cgroups.Lines()
		wanted := map[uint64]Line{b.device: Of(limits)}
		if limits == (volume.Limits{}) {
			wanted = map[uint64]Line{}
		}
		if diff := cmp.Diff(wanted, lines); diff != "" || err != nil {
			t.Fatalf("%v; lines (-want +got):\n%s", err, diff)
		}
	}
	began := time.Now()
	if err := b.move(os.O_RDWR|unix.O_DIRECT, mib, amount); err != nil {
		t.Fatal(err)
	}
	t.Logf("without a limit: %.0f MiB/s", amount/mib/time.Since(began).Seconds())

	for _, way := range []struct {
		name string
		how  int
	}{
		{"direct writes", os.O_RDWR | unix.O_DIRECT},
		{"buffered writes and fsync", os.O_RDWR},
		{"direct reads", os.O_RDONLY | unix.O_DIRECT},
		{"buffered reads", os.O_RDONLY},
	} {
		t.Run(fmt.Sprintf("%d bytes a second, %s", rate, way.name), func(t *testing.T) {
			set(volume.Limits{BPS: rate}, true)
			set(volume.Limits{BPS: rate}, false)
			b.wantTime(t, way.how, mib, amount, amount/rate*time.Second)
			set(volume.Limits{}, true)
			set(volume.Limits{}, false)
		})
	}
	t.Run("100 operations a second, direct writes", func(t *testing.T) {
		set(volume.Limits{IOPS: 100}, true)
		b.wantTime(t, os.O_RDWR|unix.O_DIRECT, 4096, 500*4096, 5*time.Second)
		set(volume.Limits{}, true)
	})
	t.Run("100 operations a second, direct reads", func(t *testing.T) {
		set(volume.Limits{IOPS: 100}, true)
		b.wantTime(t, os.O_RDONLY|unix.O_DIRECT, 4096, 500*4096, 5*time.Second)
		set(volume.Limits{}, true)
	})
	t.Run("a limit that changes counts at once", func(t *testing.T) {
		set(volume.Limits{BPS: mib}, true)
		set(volume.Limits{BPS: rate, IOPS: 1000}, true)
		b.wantTime(t, os.O_RDWR|unix.O_DIRECT, mib, amount, amount/rate*time.Second)
		set(volume.Limits{}, true)
	})
}

func TestLimitsHoldForOtherFileSystems(t *testing.T) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			b := newBed(t, fsType)
			if _, err := cgroups.Set(b.device, volume.Limits{BPS: rate}); err != nil {
				t.Fatal(err)
			}
			b.wantTime(t, os.O_RDWR|unix.O_DIRECT, mib, amount, amount/rate*time.Second)
			b.wantTime(t, os.O_RDWR, mib, amount, amount/rate*time.Second)
			if _, err := cgroups.Set(b.device, volume.Limits{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPodsShareALimit writes from two cgroups below that of all pods.
func TestPodsShareALimit(t *testing.T) {
	b := newBed(t, "ext4")
	if _, err := cgroups.Set(b.device, volume.Limits{BPS: rate}); err != nil {
		t.Fatal(err)
	}
	const each = amount / 2
	began := time.Now()
	errs := make(chan error, 2)
	for _, pod := range []string{"pod-a", "pod-b"} {
		// A program begins where this process is.
		enterPod(t, pod)
		file := filepath.Join(b.dir, pod)
		go func() {
			_, err := hostexec.OnHost("/").Run(t.Context(), "dd", "if=/dev/zero", "of="+file, "bs=512K", "count="+strconv.Itoa(each>>19), "oflag=direct")
			errs <- err
		}()
		for {
			if _, err := os.Stat(file); err == nil {
				break // it has begun
			}
		}
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	took := time.Since(began)
	t.Logf("2 pods that write %d MiB each took %.2f s together", each/mib, took.Seconds())
	// Less would be too much for the limit; more is the machine's to explain.
	if want := amount / rate * time.Second; took < want*95/100 || took > want*120/100 {
		t.Errorf("it took %s, want %s", took, want)
	}
}
