//go:build root

package exclusive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/wipe"
)

// These tests want root and two SCSI disks in LAB_SCSI_DISKS, separated by commas. They
// overwrite the disks.

type lab struct {
	*testing.T
	root  string // of the book
	disks []blockdev.Device
}

func newLab(t *testing.T) lab {
	t.Helper()
	l := lab{T: t, root: t.TempDir()}
	for path := range strings.SplitSeq(os.Getenv("LAB_SCSI_DISKS"), ",") {
		for _, d := range l.devices() {
			if d.Path == path {
				l.disks = append(l.disks, d)
			}
		}
	}
	if len(l.disks) < 2 {
		t.Fatal("set LAB_SCSI_DISKS to two SCSI disks that may be overwritten, such as /dev/sda,/dev/sdb")
	}
	l.Cleanup(func() {
		for _, d := range l.disks {
			devtest.Blank(t, l.path(d.ID))
		}
	})
	return l
}

func (l lab) devices() []blockdev.Device {
	l.Helper()
	all, err := blockdev.New(hostexec.OnHost("/"), "/").Devices(context.WithoutCancel(l.Context()))
	must(l.T, err)
	return all
}

// path returns what a disk is called now.
func (l lab) path(id string) string {
	l.Helper()
	for _, d := range l.devices() {
		if d.ID == id {
			return d.Path
		}
	}
	l.Fatalf("no device is %s", id)
	return ""
}

// appears waits for a disk: the kernel goes on with it after it was told to look.
func (l lab) appears(id string) {
	l.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if slices.ContainsFunc(l.devices(), func(d blockdev.Device) bool { return d.ID == id }) {
			return
		}
	}
	l.Fatalf("no device is %s, half a minute after it was plugged in", id)
}

func (l lab) run(program string, args ...string) {
	l.Helper()
	if _, err := hostexec.OnHost("/").Run(l.Context(), program, args...); err != nil {
		l.Fatal(err)
	}
}

// real is a process that has just started.
func (l lab) real() *Devices {
	runner := hostexec.OnHost("/")
	return &Devices{Book: NewBook(l.root), Host: blockdev.New(runner, "/"), Wiper: wipe.New(runner, "/"), Zero: ZeroOn("/")}
}

func (l lab) mounts() *MountPoints {
	runner := hostexec.OnHost("/")
	return &MountPoints{Book: NewBook(l.root), Host: blockdev.New(runner, "/"), Mounts: mounts.New(runner, "/"), Root: "/"}
}

// swapNames unplugs both disks and plugs them in the other way round, as a reboot may.
func (l lab) swapNames() {
	l.Helper()
	type plug struct{ scan, id string }
	var plugs []plug
	for _, d := range l.disks {
		device, err := filepath.EvalSymlinks(filepath.Join("/sys/class/block", filepath.Base(d.Path), "device"))
		must(l.T, err)
		scan := filepath.Join("/sys/class/scsi_host", filepath.Base(filepath.Dir(filepath.Dir(device))), "scan")
		plugs = append(plugs, plug{scan, d.ID})
	}
	for _, d := range l.disks {
		must(l.T, os.WriteFile(filepath.Join("/sys/class/block", filepath.Base(d.Path), "device/delete"), []byte("1"), 0))
	}
	if l.disks[0].Path < l.disks[1].Path {
		slices.Reverse(plugs)
	}
	for _, p := range plugs { // each has its name before the next gets one
		must(l.T, os.WriteFile(p.scan, []byte("0 0 0"), 0))
		l.appears(p.id)
	}
	a, b := l.path(l.disks[0].ID), l.path(l.disks[1].ID)
	if a != l.disks[1].Path || b != l.disks[0].Path {
		l.Fatalf("the disks were %s and %s, and are %s and %s", l.disks[0].Path, l.disks[1].Path, a, b)
	}
	l.disks[0].Path, l.disks[1].Path = a, b
}

func TestSwappingTheNamesOfTwoRealDisksLosesAndMixesNothing(t *testing.T) {
	l := newLab(t)
	for i, name := range []string{"a", "b"} {
		taken, err := l.real().Take(t.Context(), Want{Volume: name, ID: l.disks[i].ID, Size: 32 * capacity.MiB}, quietly)
		must(t, err)
		l.run("mkfs.ext4", "-q", "-L", name, taken.Path)
	}
	l.swapNames()
	defer l.swapNames()
	for _, name := range []string{"a", "b"} {
		found, err := l.real().Find(t.Context(), Ref{Volume: name})
		must(t, err)
		out, err := hostexec.OnHost("/").Run(t.Context(), "blkid", "-p", "-o", "value", "-s", "LABEL", found.Path)
		must(t, err)
		if got := strings.TrimSpace(string(out)); got != name {
			t.Errorf("volume %s is on %s, which is labelled %q", name, found.Path, got)
		}
	}
	// Whoever has the old name of its disk in mind destroys nothing else.
	must(t, l.real().Release(t.Context(), Ref{Volume: "a", ID: l.disks[0].ID, Path: l.disks[1].Path}, quietly))
	if _, err := l.real().Find(t.Context(), Ref{Volume: "b"}); err != nil {
		t.Error(err)
	}
	l.run("blkid", "-p", l.path(l.disks[1].ID))
	must(t, l.real().Release(t.Context(), Ref{Volume: "b"}, quietly))
}

func TestNoByteOfAFormerTenantIsOnARealBlockVolume(t *testing.T) {
	l := newLab(t)
	disk := l.disks[0]
	fill := func() {
		file, err := os.OpenFile(disk.Path, os.O_WRONLY|os.O_SYNC, 0)
		must(t, err)
		_, err = file.Write(bytes.Repeat([]byte("secret!!"), int(disk.Size)/8))
		must(t, errors.Join(err, file.Close()))
	}
	wantNothing := func() {
		content, err := os.ReadFile(disk.Path)
		must(t, err)
		if !bytes.Equal(content, make([]byte, disk.Size)) {
			t.Error("something is left on it")
		}
	}
	fill() // by whoever had the disk before us: nobody recognises it
	want := Want{Volume: "v", ID: disk.ID, Block: true, Wipe: wipe.None}
	_, err := l.real().Take(t.Context(), want, quietly)
	wantError(t, err, ErrNotFit)
	devtest.Blank(t, disk.Path) // and yet between its ends is what it was
	_, err = l.real().Take(t.Context(), want, quietly)
	must(t, err)
	wantNothing()
	fill()
	must(t, l.real().Release(t.Context(), Ref{Volume: "v"}, quietly)) // the class keeps the data between the ends
	want.Volume, want.Wipe = "next", wipe.Zero
	_, err = l.real().Take(t.Context(), want, quietly)
	must(t, err)
	wantNothing()
	must(t, l.real().Release(t.Context(), Ref{Volume: "next"}, quietly))
}

func TestARealDeviceInUseIsNotWiped(t *testing.T) {
	l := newLab(t)
	taken, err := l.real().Take(t.Context(), Want{Volume: "v", ID: l.disks[0].ID}, quietly)
	must(t, err)
	l.run("mkfs.ext4", "-q", taken.Path)
	dir := t.TempDir()
	l.run("mount", taken.Path, dir)
	wantError(t, l.real().Release(t.Context(), Ref{Volume: "v"}, quietly), wipe.ErrInUse)
	l.run("umount", dir)
	l.run("blkid", "-p", taken.Path)
	must(t, l.real().Release(t.Context(), Ref{Volume: "v"}, quietly))
}

// mounted makes a file system on the first disk and mounts it.
func (l lab) mounted(fsType string, args ...string) (want WantedMount) {
	l.Helper()
	disk := l.disks[0]
	l.run("mkfs."+fsType, append(args, "-q", disk.Path)...)
	dir := l.TempDir()
	l.run("mount", disk.Path, dir)
	l.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	for _, d := range l.devices() {
		if d.ID == disk.ID {
			want = WantedMount{Volume: "v", Path: dir, ID: FileSystemID(d.UUID)}
		}
	}
	return want
}

func TestARealMountPointIsEmptiedWhateverIsInIt(t *testing.T) {
	for fsType, args := range map[string][]string{"ext4": nil, "btrfs": {"--mixed"}} {
		t.Run(fsType, func(t *testing.T) {
			l := newLab(t)
			want := l.mounted(fsType, args...)
			_, err := l.mounts().Take(t.Context(), want)
			must(t, err)
			others := t.TempDir()
			must(t, os.WriteFile(filepath.Join(others, "file"), []byte("kept"), 0o600))
			must(t, os.Symlink(others, filepath.Join(want.Path, "out")))
			must(t, os.MkdirAll(filepath.Join(want.Path, "dir/kept"), 0o700))
			must(t, os.WriteFile(filepath.Join(want.Path, "dir/kept/file"), []byte("data"), 0o400))
			l.run("chattr", "+i", filepath.Join(want.Path, "dir/kept/file"))
			l.run("chattr", "+i", filepath.Join(want.Path, "dir/kept"))
			l.run("chattr", "+a", filepath.Join(want.Path, "dir"))
			if fsType == "btrfs" {
				l.run("btrfs", "subvolume", "create", filepath.Join(want.Path, "sub"))
				must(t, os.MkdirAll(filepath.Join(want.Path, "sub/deep/er"), 0o755))
				must(t, os.MkdirAll(filepath.Join(want.Path, "plain"), 0o755))
				l.run("btrfs", "subvolume", "create", filepath.Join(want.Path, "plain/inner"))
				must(t, os.MkdirAll(filepath.Join(want.Path, "plain/inner/deep/er"), 0o755))
			}
			must(t, unix.Mknod(filepath.Join(want.Path, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
			must(t, errors.Join(os.Chmod(want.Path, 0o777), os.Chown(want.Path, 1000, 1000)))
			must(t, l.mounts().Release(t.Context(), Ref{Volume: "v"}))
			must(t, isEmpty(open(t, want.Path)))
			var stat unix.Stat_t
			must(t, unix.Stat(want.Path, &stat))
			if stat.Mode&0o7777 != 0o755 || stat.Uid != 0 || stat.Gid != 0 {
				t.Errorf("its root is of %d:%d with mode %o", stat.Uid, stat.Gid, stat.Mode&0o7777)
			}
			if kept, err := os.ReadFile(filepath.Join(others, "file")); err != nil || string(kept) != "kept" {
				t.Errorf("what lies elsewhere is %q, %v", kept, err)
			}
			want.Volume = "next"
			_, err = l.mounts().Take(t.Context(), want)
			must(t, err)
			work := filepath.Join(want.Path, "work")
			must(t, os.Mkdir(work, 0o755))
			deepTree(t, work, 3000)
			manyFiles(t, work, 3*batch)
		})
	}
}

func TestARealMountPointThatIsNotWhatItShouldBe(t *testing.T) {
	l := newLab(t)
	want := l.mounted("ext4")
	_, err := l.mounts().Take(t.Context(), WantedMount{Volume: "w", Path: want.Path, ID: FileSystemID("another")})
	wantError(t, err, ErrOther)
	must(t, os.WriteFile(filepath.Join(want.Path, "file"), []byte("data"), 0o600))
	_, err = l.mounts().Take(t.Context(), want)
	wantError(t, err, ErrNotFit)
	must(t, os.Remove(filepath.Join(want.Path, "file")))
	_, err = l.mounts().Take(t.Context(), want)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(want.Path, "file"), []byte("data"), 0o600))
	_, err = l.mounts().Take(t.Context(), WantedMount{Volume: "w", Path: want.Path, ID: want.ID})
	wantError(t, err, ErrTaken)
	_, err = l.mounts().Find(t.Context(), Ref{Volume: "v"})
	must(t, err)

	below := filepath.Join(want.Path, "below")
	must(t, os.Mkdir(below, 0o755))
	must(t, unix.Mount("tmpfs", below, "tmpfs", 0, ""))
	must(t, os.WriteFile(filepath.Join(below, "kept"), nil, 0o600))
	wantError(t, l.mounts().Release(t.Context(), Ref{Volume: "v"}), ErrOther)
	wantNames(t, below, "kept")
	must(t, unix.Unmount(below, 0))

	must(t, unix.Unmount(want.Path, 0))
	must(t, os.WriteFile(filepath.Join(want.Path, "on the root file system"), nil, 0o600))
	_, err = l.mounts().Find(t.Context(), Ref{Volume: "v"})
	wantError(t, err, ErrGone)
	wantError(t, l.mounts().Release(t.Context(), Ref{Volume: "v"}), ErrGone)
	wantNames(t, want.Path, "on the root file system")

	must(t, os.Remove(filepath.Join(want.Path, "on the root file system")))
	must(t, unix.Mount("tmpfs", want.Path, "tmpfs", 0, ""))
	_, err = l.mounts().Find(t.Context(), Ref{Volume: "v"})
	if !errors.Is(err, ErrOther) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something else is mounted: got %v", err)
	}
	must(t, unix.Unmount(want.Path, 0))
	l.run("mount", l.disks[0].Path, want.Path)
	wantNames(t, want.Path, "below", "file", "lost+found")
	must(t, l.mounts().Release(t.Context(), Ref{Volume: "v"}))
	wantNames(t, want.Path, "lost+found")
}
