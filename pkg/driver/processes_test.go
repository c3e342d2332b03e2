//go:build !root

package driver_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// page is where the processes of every operation are written down.
const page = "../../docs/lvm-processes.md"

// The table stands between these lines of the page.
const tableBegins, tableEnds = "<!-- counted by pkg/driver -->\n", "<!-- end -->\n"

// An operation is a row of the table.
type operation struct {
	name string
	do   func() error
}

// operations returns what happens to volumes, in an order in which it can.
func operations(t *testing.T, b *bed) []operation {
	node := b.host.node
	own := b.own()
	grow := provision.Growth{ID: id, Kind: volume.LVM, Group: "pool", Size: 420 * mib}
	limit := int64(1000)
	modification := provision.Modification{ID: id, Kind: volume.LVM, Group: "pool", IOPS: &limit}
	snapshot := provision.SnapshotSpec{ID: "snap-1", Volume: id, Kind: volume.LVM, Group: "pool", Space: 16 * mib, Step: 16 * mib, Threshold: 50}
	snapshotRemoval := provision.SnapshotRemoval{ID: "snap-1", Kind: volume.LVM, Group: "pool"}
	begin := func() error {
		logical := provision.Logical{Host: lvm.New(node.Counter), Devices: node.Devices, Managed: node.Groups, Prefer: allocator.Binpack, Clock: clock.RealClock{}, Making: begun.NewVolumes(t.TempDir())}
		return logical.Recall(t.Context())
	}
	copied := func(id string, of provision.Source) error {
		_, err := node.Ensure(t.Context(), provision.Spec{ID: id, Kind: volume.LVM, Group: "pool", Size: 420 * mib, Source: of})
		return err
	}
	create := func(id, fsType string) func() error {
		return func() error {
			_, err := b.controller.CreateVolume(t.Context(), claim(id, fsType, int64(400*mib), nil))
			return err
		}
	}
	remove := func(id string) func() error {
		return func() error {
			_, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		}
	}
	unstage := func() error {
		_, err := b.node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging})
		return err
	}
	stage := func() error { _, err := b.node.NodeStageVolume(t.Context(), b.stageRequest("ext4")); return err }
	return []operation{
		{"the node's plugin begins", begin},
		{"create, where the scheduler extender says where", create(id, "ext4")},
		{"create, repeated", create(id, "ext4")},
		{"create a raw block volume", create("block", "block")},
		{"create, where the node chooses its group", func() error {
			_, err := node.Ensure(t.Context(), provision.Spec{ID: "chosen", Kind: volume.LVM, Size: 16 * mib})
			return err
		}},
		{"stage for the first time", stage},
		{"stage, repeated", stage},
		{"publish", func() error { _, err := b.node.NodePublishVolume(t.Context(), b.publishRequest("ext4")); return err }},
		{"statistics and condition", func() error {
			_, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
			return err
		}},
		{"grow the volume", func() error { _, err := node.Grow(t.Context(), grow); return err }},
		{"grow the volume, repeated", func() error { _, err := node.Grow(t.Context(), grow); return err }},
		{"grow its file system", func() error { return b.expandOnNode(t, "ext4", 420*mib) }},
		{"change its limits", func() error { return node.Modify(t.Context(), modification) }},
		{"change its limits, repeated", func() error { return node.Modify(t.Context(), modification) }},
		{"snapshot", func() error { _, err := node.Snapshot(t.Context(), snapshot); return err }},
		{"snapshot, repeated", func() error { _, err := node.Snapshot(t.Context(), snapshot); return err }},
		{"restore a snapshot", func() error { return copied("restored", provision.Source{Snapshot: "snap-1", Group: "pool"}) }},
		{"clone a volume", func() error { return copied("cloned", provision.Source{Volume: id, Group: "pool"}) }},
		{"clone a volume, repeated", func() error { return copied("cloned", provision.Source{Volume: id, Group: "pool"}) }},
		{"delete a snapshot", func() error { return node.RemoveSnapshot(t.Context(), snapshotRemoval) }},
		{"unpublish", func() error {
			_, err := b.node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: b.target})
			return err
		}},
		{"unstage", unstage},
		{"stage a volume that has its file system", stage},
		{"unstage", unstage},
		{"snapshot of a volume that nobody uses", func() error { _, err := node.Snapshot(t.Context(), snapshot); return err }},
		{"delete a volume that has snapshots", func() error {
			return node.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.LVM, Group: "pool"})
		}},
		{"delete the last snapshot of a deleted volume", func() error { return node.RemoveSnapshot(t.Context(), snapshotRemoval) }},
		{"delete", remove("block")},
		{"delete, repeated", func() error {
			b.forgotten(t, "block")
			return remove("block")()
		}},
		{"publish an inline volume for the first time", func() error { return b.publishOwn(t, "ext4") }},
		{"publish an inline volume, repeated", func() error { return b.publishOwn(t, "ext4") }},
		{"look for inline volumes without a pod", func() error { _, err := node.Inlines(t.Context()); return err }},
		{"unpublish an inline volume", func() error { return b.unpublishOwn(t) }},
		{"unpublish an inline volume, repeated", func() error {
			_, err := b.node.NodeUnpublishVolume(t.Context(), own.unpublish())
			return err
		}},
	}
}

// forgotten waits until the node's report is of after a volume was removed.
func (b *bed) forgotten(t *testing.T, id string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		if _, err := b.directory.Find(id); errors.Is(err, driver.ErrNoVolume) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("volume %s is still reported", id)
		}
	}
}

// row is an operation with its processes: those of LVM first, and all others.
func row(name string, runs map[string]int) string {
	var commands, others []string
	total := 0
	for _, program := range slices.Sorted(maps.Keys(runs)) {
		n := runs[program]
		command, isLVM := strings.CutPrefix(program, "lvm ")
		if isLVM {
			total += n
		}
		if command == "grow ext4" {
			command = "resize2fs" // which package mounts starts, and this fake does not
		}
		word := "`" + command + "`"
		if n > 1 {
			word = fmt.Sprintf("%d × %s", n, word)
		}
		if isLVM {
			commands = append(commands, word)
		} else {
			others = append(others, word)
		}
	}
	return fmt.Sprintf("| %s | %d | %s | %s |\n", name, total, or(strings.Join(commands, ", ")), or(strings.Join(others, ", ")))
}

// or returns what a cell of the table holds.
func or(words string) string { return cmp.Or(words, "—") }

func TestTheTableOfProcessesIsAsCounted(t *testing.T) {
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 4 * capacity.GiB})
	r := newRig(t, p, withReserver(&reserver{group: "pool"}))
	b := &bed{rig: r, host: host, controller: csi.NewControllerClient(r.conn), node: csi.NewNodeClient(r.conn)}
	b.staging, b.target = paths(t, id)
	counted := "| operation | LVM | which | others |\n|---|---|---|---|\n"
	written := map[string]bool{}
	for _, operation := range operations(t, b) {
		host.processes()
		if err := operation.do(); err != nil {
			t.Fatalf("%s: %v", operation.name, err)
		}
		if line := row(operation.name, host.processes()); !written[line] {
			counted += line
			written[line] = true
		}
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(content), tableBegins)
	table, _, ends := strings.Cut(rest, tableEnds)
	if table != counted || !begins || !ends {
		t.Errorf("the page has\n%s\nbut counted was this, which belongs between %q and %q of %s:\n%s", table, tableBegins, tableEnds, page, counted)
	}
}
