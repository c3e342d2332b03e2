package provision_test

import (
	"context"
	"testing"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// TestAGroupWhoseDisksComeLateIsKnownWhenItComes has a process begin without it.
func TestAGroupWhoseDisksComeLateIsKnownWhenItComes(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec(in("slow"), wiped(volume.WipeZero)))
	_, err := n.Snapshot(t.Context(), provision.SnapshotSpec{ID: "snap", Volume: id, Kind: volume.LVM, Group: "slow", Space: 4 * mib, Step: 4 * mib, Threshold: 50})
	must(t, err)
	size := n.Groups["slow"]
	delete(n.Groups, "slow")
	n.Lose("/dev/disk-slow")
	n.Restart()
	if watched := n.Watched(); len(watched) > 0 {
		t.Fatalf("snapshots of a group that is not there are watched: %+v", watched)
	}

	n.Find("/dev/disk-slow")
	n.Groups["slow"] = size
	overwritten := make(chan string, 2)
	n.Devices.Zeroing = func(_ context.Context, path string) error { overwritten <- path; return nil }
	must(t, n.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.LVM, Group: "slow"}))
	if watched := n.Watched(); len(watched) != 1 || watched[0].Name != "snap" {
		t.Errorf("watched are %+v", watched)
	}
	must(t, n.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: "snap", Kind: volume.LVM, Group: "slow"}))
	until(t, func() bool { return len(n.Volumes()) == 0 })
	n.Close()
	if path := <-overwritten; path != lvm.DevicePath("slow", id) {
		t.Errorf("overwritten was %s", path)
	}
}
