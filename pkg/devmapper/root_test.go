//go:build root

package devmapper_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devmapper"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
)

// This test wants root, LVM with a device-mapper, and a blank disk of at least 200 MiB
// as the first of LAB_DISKS. It overwrites the disk.

const (
	group = "dm-test"
	mib   = capacity.MiB
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, name string, at, size capacity.Bytes) {
	t.Helper()
	file, err := os.OpenFile(lvm.DevicePath(group, name), os.O_WRONLY|os.O_SYNC, 0)
	must(t, err)
	_, err = file.WriteAt(bytes.Repeat([]byte{0x5a}, int(size)), int64(at))
	must(t, errors.Join(err, file.Close()))
}

func TestARealSnapshotTellsHowFullItIs(t *testing.T) {
	disk, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	if disk == "" {
		t.Fatal("set LAB_DISKS to a blank disk that may be overwritten, such as /dev/ubdb")
	}
	ctx, runner := t.Context(), hostexec.OnHost("/")
	host, control := lvm.New(runner), devmapper.New("/")
	must(t, host.CreateGroup(ctx, group, []string{disk}))
	must(t, host.CreateVolume(ctx, lvm.CreateVolume{Group: group, Name: "data-1", Size: 32 * mib}))
	must(t, host.CreateSnapshot(ctx, lvm.CreateSnapshot{Group: group, Origin: "data-1", Name: "snap", Size: 8 * mib}))

	if s, err := control.Snapshot(group, "data-1"); !errors.Is(err, devmapper.ErrNoSnapshot) {
		t.Errorf("an origin is %+v, %v", s, err)
	}
	if s, err := control.Snapshot(group, "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a volume that is not there is %+v, %v", s, err)
	}
	fresh, err := control.Snapshot(group, "snap")
	must(t, err)
	if fresh.Lost || fresh.Space != 8*mib || fresh.Taken > mib || fresh.Metadata > fresh.Taken {
		t.Errorf("a fresh snapshot: %+v", fresh)
	}
	overwrite(t, "data-1", 0, 4*mib)
	used, err := control.Snapshot(group, "snap")
	must(t, err)
	if grown := used.Taken - fresh.Taken; used.Lost || grown < 4*mib || grown > 5*mib {
		t.Errorf("after 4 MiB were overwritten: %+v, before %+v", used, fresh)
	}
	overwrite(t, "data-1", 0, 4*mib) // the same again costs nothing
	if again, err := control.Snapshot(group, "snap"); err != nil || again != used {
		t.Errorf("after the same again: %+v, %v, before %+v", again, err, used)
	}
	must(t, control.Suspend(group, "data-1"))
	if suspended, err := control.Suspended(group, "data-1"); err != nil || !suspended {
		t.Errorf("a suspended volume: %v, %v", suspended, err)
	}
	must(t, control.Resume(group, "data-1"))
	must(t, control.Resume(group, "data-1")) // again
	must(t, control.Suspend(group, "data-1"))
	must(t, host.RefreshVolume(ctx, group, "data-1")) // as whoever finds it so does
	must(t, control.Suspend(group, "data-1"))
	must(t, host.ExtendVolume(ctx, group, "snap", 12*mib)) // which resumes it
	if suspended, err := control.Suspended(group, "data-1"); err != nil || suspended {
		t.Errorf("a volume whose snapshot was extended: suspended is %v, %v", suspended, err)
	}
	if larger, err := control.Snapshot(group, "snap"); err != nil || larger.Space != 12*mib || larger.Taken != used.Taken {
		t.Errorf("after it was extended: %+v, %v", larger, err)
	}
	overwrite(t, "data-1", 4*mib, 16*mib)
	if lost, err := control.Snapshot(group, "snap"); err != nil || !lost.Lost {
		t.Errorf("after it ran full: %+v, %v", lost, err)
	}
	must(t, host.RemoveSnapshot(ctx, group, "snap"))
	must(t, host.RemoveVolume(ctx, group, "data-1"))
	_, err = runner.Run(ctx, "lvm", "vgremove", "--yes", group)
	must(t, err)
}
