package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	snapshotRole = "public,snapshot,thicksnapshot"
	legacySnap   = "snap-0f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c11"
)

func TestSnapshotsAreDescribed(t *testing.T) {
	made := time.Unix(1700000000, 123456000)
	at := metav1.NewMicroTime(made)
	tags := []string{
		volume.SnapshotTag("snap-1"), volume.SourceTag("local-1"), volume.CreatedTag(made), volume.SourceSizeTag(10 * mib),
	}
	for name, test := range map[string]struct {
		volume lvm.Volume
		want   v1alpha1.LogicalVolume
	}{
		"a snapshot of ours": {
			lvm.Volume{Name: "snap-1", Group: "share", Size: 4 * mib, Origin: "local-1", Role: snapshotRole, Attr: "swi-a-s---", Tags: tags},
			v1alpha1.LogicalVolume{SnapshotID: "snap-1", SourceVolumeID: "local-1", SourceSize: 10 << 20, CreatedAt: &at},
		},
		"one that claims show themselves, and that ran full": {
			lvm.Volume{
				Name: "snap-1", Group: "share", Size: 4 * mib, Origin: "local-1", Role: snapshotRole, Attr: "swi-I-s---",
				Tags: append(volume.SnapshotPolicy{ReadOnly: true}.Tags(), tags...),
			},
			v1alpha1.LogicalVolume{
				SnapshotID: "snap-1", SourceVolumeID: "local-1", SourceSize: 10 << 20, CreatedAt: &at, RestoreReadOnly: true, Condition: v1alpha1.StorageFault,
			},
		},
		"what a clone is copied from is no CSI snapshot": {
			lvm.Volume{Name: "clone-1", Group: "share", Size: 4 * mib, Origin: "local-1", Role: snapshotRole, Tags: []string{volume.SourceTag("local-1")}},
			v1alpha1.LogicalVolume{Name: "clone-1", SourceVolumeID: "local-1", SourceSize: 20 << 20},
		},
		"a snapshot of the first open-local is known by its name and its origin's": {
			lvm.Volume{Name: legacySnap, Group: "share", Size: 4 * mib, Origin: "local-1", Role: snapshotRole},
			v1alpha1.LogicalVolume{Name: legacySnap, SnapshotID: legacySnap, SourceVolumeID: "my volume", SourceSize: 20 << 20},
		},
		"a snapshot of nobody": {
			lvm.Volume{Name: "backup", Group: "share", Size: 4 * mib, Origin: "local-1", Role: snapshotRole},
			v1alpha1.LogicalVolume{Name: "backup"},
		},
		"a deleted volume that stays for its snapshots": {
			lvm.Volume{Name: "local-1", Group: "share", Size: 4 * mib, Tags: []string{volume.IDTag("local-1"), volume.DeletedTag}},
			v1alpha1.LogicalVolume{Name: "local-1", VolumeID: "local-1", Deleted: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := lvm.Group{Name: "share", Volumes: []lvm.Volume{{Name: "local-1", Size: 20 * mib, Tags: []string{volume.IDTag("my volume")}}}}
			want := test.want
			want.VGName, want.Total = "share", 4<<20
			if want.Name == "" {
				want.Name = "snap-1"
			}
			if want.Condition == "" {
				want.Condition = v1alpha1.StorageReady
			}
			if diff := cmp.Diff(want, describeVolume(test.volume, in, volume.DefaultDriver)); diff != "" {
				t.Errorf("description (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLostSnapshotsAreACondition(t *testing.T) {
	lost := lvm.Volume{Name: "snap-1", Group: "share", Role: snapshotRole, Attr: "swi-I-s---", Tags: []string{volume.SnapshotTag("snap-1")}}
	foreign := lvm.Volume{Name: "backup", Group: "share", Role: snapshotRole, Attr: "swi-I-s---"}
	got := snapshotCondition(lostSnapshots(lvm.Report{Groups: []lvm.Group{{Volumes: []lvm.Volume{foreign, lost}}}}, volume.DefaultDriver), 3)
	want := []metav1.Condition{{
		Type: "SnapshotsWhole", Status: metav1.ConditionFalse, Reason: "SnapshotFull", ObservedGeneration: 3,
		Message: "the space of these snapshots ran full, nothing can be read of them: share/snap-1; delete their VolumeSnapshots",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("condition (-want +got):\n%s", diff)
	}
	if none := snapshotCondition(nil, 3); none != nil {
		t.Errorf("without lost snapshots there is %v", none)
	}
}
