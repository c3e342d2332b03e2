//go:build root

package provision_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// secret is what a tenant writes, over and over; no two are alike.
func secret(of string) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%-64s", "the secret of "+of)), 64) // 4 KiB
}

// fill writes the secret to all of the device.
func fill(t *testing.T, device string, what []byte) {
	t.Helper()
	file, err := os.OpenFile(device, os.O_WRONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err = file.Write(what); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// found returns how often the secret is on the disks.
func found(t *testing.T, variable string, what []byte) (times int) {
	t.Helper()
	for disk := range strings.SplitSeq(os.Getenv(variable), ",") {
		file, err := os.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetInt(int(file.Fd()), unix.BLKFLSBUF, 0); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 4*mib)
		for {
			n, err := io.ReadFull(file, buffer)
			times += bytes.Count(buffer[:n], what)
			if err != nil {
				break
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return times
}

// forgetNothing has the disks refuse to discard, as long as the test runs.
func forgetNothing(t *testing.T, variable string) {
	t.Helper()
	for disk := range strings.SplitSeq(os.Getenv(variable), ",") {
		modes, err := filepath.Glob(filepath.Join("/sys/class/block", filepath.Base(disk), "device/scsi_disk/*/provisioning_mode"))
		if err != nil || len(modes) != 1 {
			t.Fatalf("how %s discards: %q, %v", disk, modes, err)
		}
		before, err := os.ReadFile(modes[0])
		if err == nil {
			err = os.WriteFile(modes[0], []byte("disabled"), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(modes[0], before, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatARemovedVolumeLeavesOnRealDisks(t *testing.T) {
	const disks = "LAB_SCSI_DISKS"
	for name, test := range map[string]struct {
		forgets bool
		way     volume.Wipe
		left    bool
	}{
		"a disk that forgets, and nothing is said": {true, "", false},
		"a disk that forgets, discard":             {true, volume.WipeDiscard, false},
		"a disk that forgets, none":                {true, volume.WipeNone, true},
		"a disk that forgets, zero":                {true, volume.WipeZero, false},
		"a disk that cannot, discard":              {false, volume.WipeDiscard, true},
		"a disk that cannot, zero":                 {false, volume.WipeZero, false},
	} {
		t.Run(name, func(t *testing.T) {
			if !test.forgets {
				forgetNothing(t, disks)
			}
			b, what := newBedOn(t, disks), secret(name)
			device := b.ensure(provision.Spec{ID: "gone", Size: 64 * mib, Wipe: test.way})
			neighbour := b.ensure(provision.Spec{ID: "stays", Size: 16 * mib})
			fill(t, device, what)
			fill(t, neighbour, secret("neighbour"))
			if times := found(t, disks, what); times != 64*256 {
				t.Fatalf("the secret is there %d times before", times)
			}
			if err := b.Remove(t.Context(), provision.Removal{ID: "gone", Kind: volume.LVM, Group: realGroup}); err != nil {
				t.Fatal(err)
			}
			if times := found(t, disks, what); (times > 0) != test.left {
				t.Errorf("the secret is there %d times after", times)
			}
			if times := found(t, disks, secret("neighbour")); times != 16*256 {
				t.Errorf("the neighbour's secret is there %d times", times)
			}
		})
	}
}

// TestADiskThatDiscardsSlowlyDoesSoWhileLVMDoesNot has it take 64 KiB at a time.
func TestADiskThatDiscardsSlowlyDoesSoWhileLVMDoesNot(t *testing.T) {
	const disks = "LAB_SCSI_DISKS"
	for _, way := range []volume.Wipe{volume.WipeDiscard, volume.WipeZero} {
		t.Run(string(way), func(t *testing.T) {
			b, what := newBedOn(t, disks), secret(string(way))
			device := b.ensure(provision.Spec{ID: "gone", Size: 64 * mib, Wipe: way})
			fill(t, device, what)
			fill(t, b.ensure(provision.Spec{ID: "stays", Size: 16 * mib}), secret("neighbour"))
			file, err := devfile.Root("/").Look(device)
			if err != nil {
				t.Fatal(err)
			}
			limit := fmt.Sprintf("/sys/dev/block/%d:%d/queue/discard_max_bytes", unix.Major(file.Device), unix.Minor(file.Device))
			if err := os.WriteFile(limit, []byte("65536"), 0); err != nil {
				t.Fatal(err)
			}
			if requests, err := devfile.Root("/").Discards(device); requests != 1024 || err != nil {
				t.Fatalf("discarding it takes %d requests, %v", requests, err)
			}
			removal := provision.Removal{ID: "gone", Kind: volume.LVM, Group: realGroup}
			held, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0) // as a mount has it
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Remove(t.Context(), removal); !errors.Is(err, lvm.ErrInUse) {
				t.Errorf("removing what is in use: %v", err)
			}
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
			if times := found(t, disks, what); times != 64*256 {
				t.Errorf("the secret is there %d times, and it is in use", times)
			}
			b.counter.Reset()
			if err := b.Remove(t.Context(), removal); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}, b.counter.Runs()); diff != "" {
				t.Errorf("processes (-want +got):\n%s", diff)
			}
			if times := found(t, disks, what); times > 0 {
				t.Errorf("the secret is there %d times after", times)
			}
			if times := found(t, disks, secret("neighbour")); times != 16*256 {
				t.Errorf("the neighbour's secret is there %d times", times)
			}
		})
	}
}

// TestNothingIsForgottenThatIsNeeded refuses to remove what is protected, and removes
// what a snapshot still shows.
func TestNothingIsForgottenThatIsNeeded(t *testing.T) {
	const disks = "LAB_SCSI_DISKS"
	for _, way := range []volume.Wipe{volume.WipeDiscard, volume.WipeZero} {
		t.Run(string(way), func(t *testing.T) {
			b, what := newBedOn(t, disks), secret(string(way))
			fill(t, b.ensure(provision.Spec{ID: "gone", Size: 32 * mib, Wipe: way}), what)
			removal := provision.Removal{ID: "gone", Kind: volume.LVM, Group: realGroup}
			if err := b.host.ChangeTags(t.Context(), realGroup, "gone", []string{lvm.ProtectedTag}, nil); err != nil {
				t.Fatal(err)
			}
			if err := b.Remove(t.Context(), removal); !errors.Is(err, lvm.ErrProtected) {
				t.Errorf("removing what is protected: %v", err)
			}
			if err := b.host.ChangeTags(t.Context(), realGroup, "gone", nil, []string{lvm.ProtectedTag}); err != nil {
				t.Fatal(err)
			}
			snapshot := provision.SnapshotSpec{ID: "snap", Volume: "gone", Kind: volume.LVM, Group: realGroup, Space: 8 * mib, Step: 8 * mib, Threshold: 50}
			if _, err := b.Snapshot(t.Context(), snapshot); err != nil {
				t.Fatal(err)
			}
			if err := b.Remove(t.Context(), removal); err != nil {
				t.Fatal(err)
			}
			if times := found(t, disks, what); times != 32*256 {
				t.Errorf("the secret is there %d times, and a snapshot shows it", times)
			}
			if err := b.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: "snap", Kind: volume.LVM, Group: realGroup}); err != nil {
				t.Fatal(err)
			}
			until(t, func() bool {
				group, err := b.host.Group(t.Context(), realGroup)
				return err == nil && len(group.Volumes) == 0
			})
			if times := found(t, disks, what); times > 0 {
				t.Errorf("the secret is there %d times after all", times)
			}
		})
	}
}
