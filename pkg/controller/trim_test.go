package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// The reports of thousands of nodes are kept: of each what is needed, and no more.
func TestOfAReportThePhaseAndTheHandlesAreKept(t *testing.T) {
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{
		Name: "n1", Annotations: map[string]string{v1alpha1.AnnotationOrphans: "{}"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "agent"}},
	}}
	nls.Status.Conditions = []metav1.Condition{{Type: "Looked"}}
	nls.Status.NodeStorageInfo = v1alpha1.NodeStorageInfo{
		Phase: v1alpha1.NodeStorageRunning,
		VolumeGroups: []v1alpha1.VolumeGroup{
			{Name: "root", LogicalVolumes: []v1alpha1.LogicalVolume{{Name: "theirs"}}},
			{Name: "pool", LogicalVolumes: []v1alpha1.LogicalVolume{
				{Name: "a", VolumeID: "a", Total: 1}, {Name: "b", VolumeID: "b", Deleted: true}, {Name: "c", SnapshotID: "c", SourceVolumeID: "a"},
			}},
		},
		DeviceInfos: []v1alpha1.DeviceInfo{{Name: "/dev/vda"}, {Name: "/dev/vdb", VolumeID: "d"}},
		MountPoints: []v1alpha1.MountPoint{{Name: "/"}, {Name: "/mnt/e", VolumeID: "e"}},
	}
	want := nls.DeepCopy()
	want.ManagedFields, want.Status = nil, v1alpha1.NodeLocalStorageStatus{NodeStorageInfo: v1alpha1.NodeStorageInfo{
		Phase:        v1alpha1.NodeStorageRunning,
		VolumeGroups: []v1alpha1.VolumeGroup{{LogicalVolumes: []v1alpha1.LogicalVolume{{VolumeID: "a"}}}},
		DeviceInfos:  []v1alpha1.DeviceInfo{{VolumeID: "d"}},
		MountPoints:  []v1alpha1.MountPoint{{VolumeID: "e"}},
	}}
	got, err := trimStatus(nls)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}
