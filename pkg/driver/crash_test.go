//go:build !root

package driver_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// An act is what a sidecar or the kubelet does with a machine.
type act = func(*machine, context.Context) error

// A chapter of a volume's life is one thing that happens to it, and may be cut short.
type chapter struct {
	name   string
	before []act
	step   act
	repeat act                        // what its caller does next; nil is the step again
	after  func(*testing.T, *machine) // how it is then
	ends   []act                      // undo all of it, in order
	points int                        // at which it may be cut short
}

func provisioned(m *machine, ctx context.Context) error { return m.provision(ctx, id, nil) }

func unprovisioned(m *machine, ctx context.Context) error { return m.unprovision(ctx, id) }

func expanded(m *machine, ctx context.Context) error { return m.expand(ctx, 500*mib) }

// limited changes a limit of the volume, as csi-resizer does.
func limited(m *machine, ctx context.Context) error {
	_, err := m.controller.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{
		VolumeId: id, MutableParameters: map[string]string{"iops": "2000"},
	})
	return err
}

// copyID is the volume that is made of another, or of its snapshot.
const copyID = "local-c0c0c0c0-2f39-4a0c-8f5f-6c6d1a1f0c11"

func restored(m *machine, ctx context.Context) error {
	return m.provision(ctx, copyID, &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapID},
	}})
}

func cloned(m *machine, ctx context.Context) error {
	return m.provision(ctx, copyID, &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id},
	}})
}

func copyGone(m *machine, ctx context.Context) error { return m.unprovision(ctx, copyID) }

func shown(m *machine, _ context.Context) error { return publishing(m.t, m.node, m.own()) }

func hidden(m *machine, _ context.Context) error { return unpublishing(m.t, m.node, m.own()) }

var chapters = []chapter{
	{
		name: "create", step: provisioned,
		after:  func(t *testing.T, m *machine) { wantOneVolume(t, m, 400*mib) },
		ends:   []act{unprovisioned},
		points: 10,
	},
	{
		name: "delete", before: []act{provisioned}, step: unprovisioned,
		points: 9,
	},
	{
		name: "hand to a pod", before: []act{provisioned}, step: (*machine).attach,
		after:  func(t *testing.T, m *machine) { wantMounts(t, m, 2) },
		ends:   []act{(*machine).detach, unprovisioned},
		points: 7,
	},
	{
		name: "take from a pod", before: []act{provisioned, (*machine).attach}, step: (*machine).detach,
		after:  func(t *testing.T, m *machine) { wantMounts(t, m, 0) },
		ends:   []act{unprovisioned},
		points: 6,
	},
	{
		name: "grow", before: []act{provisioned, (*machine).attach}, step: expanded,
		after:  func(t *testing.T, m *machine) { wantOneVolume(t, m, 500*mib); wantFilled(t, m) },
		ends:   []act{(*machine).detach, unprovisioned},
		points: 10,
	},
	{
		name: "change limits", before: []act{provisioned, (*machine).attach}, step: limited,
		after:  func(t *testing.T, m *machine) { wantLimit(t, m, 2000) },
		ends:   []act{(*machine).detach, unprovisioned},
		points: 6,
	},
	{
		name: "snapshot", before: []act{provisioned, (*machine).attach}, step: (*machine).snapshot,
		after:  func(t *testing.T, m *machine) { wantVolumes(t, m, id, snapID) },
		ends:   []act{(*machine).unsnapshot, (*machine).detach, unprovisioned},
		points: 10,
	},
	{
		name: "delete a snapshot", before: []act{provisioned, (*machine).snapshot}, step: (*machine).unsnapshot,
		after:  func(t *testing.T, m *machine) { wantVolumes(t, m, id) },
		ends:   []act{unprovisioned},
		points: 9,
	},
	{
		name: "delete a volume that has a snapshot", before: []act{provisioned, (*machine).snapshot}, step: unprovisioned,
		after:  func(t *testing.T, m *machine) { wantVolumes(t, m, id, snapID) },
		ends:   []act{(*machine).unsnapshot},
		points: 13,
	},
	{
		name: "delete the last snapshot of a deleted volume", before: []act{provisioned, (*machine).snapshot, unprovisioned}, step: (*machine).unsnapshot,
		points: 12,
	},
	{
		name: "restore", before: []act{provisioned, (*machine).snapshot}, step: restored,
		after:  wantCopy,
		ends:   []act{unprovisioned, (*machine).unsnapshot, copyGone},
		points: 18,
	},
	{
		name: "restore of a deleted volume", before: []act{provisioned, (*machine).snapshot, unprovisioned}, step: restored,
		after:  wantCopy,
		ends:   []act{(*machine).unsnapshot, copyGone},
		points: 18,
	},
	{
		name: "clone", before: []act{provisioned, (*machine).attach}, step: cloned,
		after:  func(t *testing.T, m *machine) { wantVolumes(t, m, id, copyID); wantCopy(t, m) },
		ends:   []act{(*machine).detach, unprovisioned, copyGone},
		points: 25,
	},
	{
		name: "restore into a claim that is then deleted", before: []act{provisioned, (*machine).snapshot}, step: restored, repeat: copyGone,
		after:  func(t *testing.T, m *machine) { wantVolumes(t, m, id, snapID) },
		ends:   []act{(*machine).unsnapshot, unprovisioned},
		points: 18,
	},
	{
		name: "clone into a claim that is then deleted", before: []act{provisioned}, step: cloned, repeat: copyGone,
		after:  func(t *testing.T, m *machine) { wantVolumes(t, m, id) },
		ends:   []act{unprovisioned},
		points: 25,
	},
	{
		name: "delete a clone", before: []act{provisioned, cloned}, step: copyGone,
		after:  func(t *testing.T, m *machine) { wantVolumes(t, m, id) },
		ends:   []act{unprovisioned},
		points: 9,
	},
	{
		name: "publish an inline volume", step: shown,
		after:  func(t *testing.T, m *machine) { wantMounts(t, m, 1) },
		ends:   []act{hidden},
		points: 9,
	},
	{
		name: "publish an inline volume whose pod is then deleted", step: shown, repeat: hidden,
		points: 9,
	},
	{
		name: "unpublish an inline volume", before: []act{shown}, step: hidden,
		points: 7,
	},
}

// TestEverythingMayDieAnywhere ends all processes at each point of each chapter. What
// calls them then begins anew, and calls again until it is told that all went well.
func TestEverythingMayDieAnywhere(t *testing.T) {
	var total atomic.Int64
	var all sync.WaitGroup // most of the time is spent waiting, so they wait at once
	for _, c := range slices.Concat(chapters, wholeChapters) {
		all.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				points := provisiontest.Everywhere(t, c.live)
				total.Add(int64(points))
				if points != c.points {
					t.Errorf("%d points to die at, want %d", points, c.points)
				}
			})
		})
	}
	all.Wait()
	t.Logf("%d points to die at in %d chapters", total.Load(), len(chapters)+len(wholeChapters))
}

func (c chapter) live(t *testing.T, k *provisiontest.Killer) {
	t.Helper()
	m, ctx := newMachine(t, k), t.Context()
	for _, do := range c.before {
		if err := do(m, ctx); err != nil {
			t.Fatal(err)
		}
	}
	k.Aim()
	err := c.step(m, ctx)
	if died := k.Struck() != ""; errors.Is(err, provisiontest.ErrKilled) != died {
		t.Errorf("died %q, and the step says %v", k.Struck(), err)
	}
	k.Revive()
	m.boot()
	repeat := c.repeat
	if repeat == nil {
		repeat = c.step
	}
	if err := repeat(m, ctx); err != nil {
		t.Errorf("after death %q the repeat says %v", k.Struck(), err)
	}
	if c.after != nil {
		c.after(t, m)
	}
	for _, do := range c.ends {
		if err := do(m, ctx); err != nil {
			t.Errorf("after death %q the end says %v", k.Struck(), err)
		}
	}
	m.wantNothing(k.Struck())
}

func wantOneVolume(t *testing.T, m *machine, size capacity.Bytes) {
	t.Helper()
	if diff := cmp.Diff([]string{"pool/" + id}, m.host.node.Volumes()); diff != "" {
		t.Fatalf("volumes (-want +got):\n%s", diff)
	}
	v := m.host.node.Volume("pool", id)
	if v.Size != size {
		t.Errorf("the volume has %s, want %s", v.Size, size)
	}
	for _, tag := range v.Tags {
		if strings.HasPrefix(tag, "open-local.state") {
			t.Errorf("the volume still has the tag %s", tag)
		}
	}
	pv, err := m.cluster.CoreV1().PersistentVolumes().Get(t.Context(), id, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if told := pv.Spec.Capacity.Storage().Value(); told != int64(size) {
		t.Errorf("its PersistentVolume says %d, want %d", told, int64(size))
	}
}

func wantMounts(t *testing.T, m *machine, want int) {
	t.Helper()
	if len(m.host.mounted) != want {
		t.Errorf("%d mounts, want %d: %v", len(m.host.mounted), want, m.host.mounted)
	}
}

// wantFilled checks that the file system is as large as its volume.
func wantFilled(t *testing.T, m *machine) {
	t.Helper()
	v := m.host.node.Volume("pool", id)
	if m.host.filled[v.UUID] != v.Size {
		t.Errorf("the file system has %s of %s", m.host.filled[v.UUID], v.Size)
	}
}

func wantVolumes(t *testing.T, m *machine, names ...string) {
	t.Helper()
	var want []string
	for _, name := range names {
		want = append(want, "pool/"+name)
	}
	got := m.host.node.Volumes()
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

// wantLimit checks what is kept with the volume.
func wantLimit(t *testing.T, m *machine, iops int64) {
	t.Helper()
	if got := volume.LimitsFromTags(m.host.node.Volume("pool", id).Tags); got.IOPS != iops {
		t.Errorf("the volume keeps %+v, want %d iops", got, iops)
	}
}

// wantCopy checks that the copy is whole.
func wantCopy(t *testing.T, m *machine) {
	t.Helper()
	path := lvm.DevicePath("pool", copyID)
	if _, renewed := m.host.node.Devices.Renewed(path); !renewed {
		t.Error("the file system of the copy is not its own")
	}
	if v := m.host.node.Volume("pool", copyID); v.HasTag(volume.CopyingTag) {
		t.Error("the copy is handed out while it is marked as being copied")
	}
}
