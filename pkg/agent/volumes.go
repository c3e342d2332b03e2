package agent

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// describeVolume says of a logical volume of the group what others need to know.
func describeVolume(v lvm.Volume, in lvm.Group, driver string) v1alpha1.LogicalVolume {
	described := v1alpha1.LogicalVolume{
		Name: v.Name, VGName: v.Group, Total: int64(v.Size), ReadOnly: v.ReadOnly, Condition: v1alpha1.StorageReady,
	}
	if v.Health != "" || v.Invalid() {
		described.Condition = v1alpha1.StorageFault
	}
	if !oursHere(v, driver) {
		return described
	}
	if v.IsSnapshot() {
		describeSnapshot(&described, v, in)
		return described
	}
	described.VolumeID = handleOf(v)
	described.Deleted = v.HasTag(volume.DeletedTag)
	return described
}

// handleOf returns the handle of a volume of ours.
func handleOf(v lvm.Volume) string {
	if id, ok := volume.IDFromTags(v.Tags); ok {
		return id
	}
	return v.Name // of the first open-local, which put no tags on its volumes
}

// oursHere reports whether v is one of this installation's.
func oursHere(v lvm.Volume, driver string) bool {
	if other, named := volume.DriverFromTags(v.Tags); named && other != driver {
		return false
	}
	return volume.Counted(v.Name, v.Tags)
}

// describeSnapshot adds what tags say of a snapshot. Of one of the first open-local only
// its name and that of its origin are known.
func describeSnapshot(described *v1alpha1.LogicalVolume, v lvm.Volume, in lvm.Group) {
	described.SnapshotID, _ = volume.SnapshotFromTags(v.Tags)
	described.SourceVolumeID, _ = volume.SourceFromTags(v.Tags)
	if described.SnapshotID == "" && described.SourceVolumeID == "" {
		described.SnapshotID = v.Name
	}
	origin, _ := in.Volume(v.Origin)
	if described.SourceVolumeID == "" {
		described.SourceVolumeID, _ = volume.IDFromTags(origin.Tags)
	}
	if described.SourceVolumeID == "" {
		described.SourceVolumeID = v.Origin
	}
	described.SourceSize = int64(origin.Size)
	if size, ok := volume.SourceSizeFromTags(v.Tags); ok {
		described.SourceSize = int64(size)
	}
	if at, ok := volume.CreatedFromTags(v.Tags); ok {
		created := metav1.NewMicroTime(at)
		described.CreatedAt = &created
	}
	described.RestoreReadOnly = volume.SnapshotPolicyFromTags(v.Tags).ReadOnly
}

// lostSnapshots names the snapshots of ours that ran full.
func lostSnapshots(report lvm.Report, driver string) []string {
	var lost []string
	for _, g := range report.Groups {
		for _, v := range g.Volumes {
			if v.Invalid() && oursHere(v, driver) {
				lost = append(lost, v.Group+"/"+v.Name)
			}
		}
	}
	slices.Sort(lost)
	return lost
}
