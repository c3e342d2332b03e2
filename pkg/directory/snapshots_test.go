package directory_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/volume"
)

const snapUID = "3f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c33"

// withSnapshot is a report with a volume that is deleted and a snapshot of it.
func withSnapshot(node string) *v1alpha1.NodeLocalStorage {
	nls := report(node, map[string][]string{"pool": {"vol"}})
	created := metav1.NewMicroTime(time.Unix(1700000000, 5000))
	group := &nls.Status.NodeStorageInfo.VolumeGroups[0]
	group.LogicalVolumes[0].Deleted = true
	group.LogicalVolumes = append(group.LogicalVolumes, v1alpha1.LogicalVolume{
		Name: "snap", VGName: "pool", Total: int64(4 * gib), SnapshotID: "snap", SourceVolumeID: "vol", SourceSize: int64(gib), CreatedAt: &created,
		RestoreReadOnly: true,
	})
	return nls
}

func TestASnapshotIsFound(t *testing.T) {
	shows := pv("shows", "n1", volume.Context{Kind: volume.LVM, Group: "pool", Snapshot: "snap"}.Attributes())
	reported := driver.SnapshotPlace{
		Node: "n1", Kind: volume.LVM, Group: "pool", Volume: "vol", Size: gib, Space: 4 * gib, Created: time.Unix(1700000000, 5000), ReadOnly: true,
	}
	made := driver.SnapshotPlace{Node: "n2", Kind: volume.LVM, Group: "pool", Volume: "vol"}
	alsoShown, madeShown := reported, made
	alsoShown.ShownBy, madeShown.ShownBy = []string{"shows"}, []string{"shows"}
	for name, test := range map[string]struct {
		objects []runtime.Object
		made    *driver.SnapshotPlace
		want    driver.SnapshotPlace
		err     error
	}{
		"in a report":                        {[]runtime.Object{withSnapshot("n1")}, nil, reported, nil},
		"in a report, whatever was made":     {[]runtime.Object{withSnapshot("n1")}, &made, reported, nil},
		"as it was made, before any report":  {nil, &made, made, nil},
		"with the volumes that show it":      {[]runtime.Object{withSnapshot("n1"), shows}, nil, alsoShown, nil},
		"as it was made, with those as well": {[]runtime.Object{shows}, &made, madeShown, nil},
		"nowhere, and a volume shows it":     {[]runtime.Object{shows}, nil, driver.SnapshotPlace{ShownBy: []string{"shows"}}, driver.ErrNoSnapshot},
		"nowhere":                            {nil, nil, driver.SnapshotPlace{}, driver.ErrNoSnapshot},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, newClock(), test.objects...)
			if test.made != nil {
				d.RememberSnapshot("snap", *test.made)
			}
			got, err := d.FindSnapshot("snap")
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("place (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSnapshotsAndDeletedVolumesAreCountedAndNotMixedUp(t *testing.T) {
	d := open(t, newClock(), withSnapshot("n1"), node("n1", "True"))
	if _, err := d.Find("vol"); !errors.Is(err, driver.ErrNoVolume) {
		t.Errorf("a deleted volume is found: %v", err)
	}
	if all := d.Volumes(); len(all) > 0 {
		t.Errorf("volumes are %v", all)
	}
	free := func() string {
		c, _ := d.Capacity("n1")
		return c.Groups[0].Free.String()
	}
	if got := free(); got != "95Gi" { // of 100, less the volume of 1 and the snapshot of 4
		t.Errorf("%s are free", got)
	}
	d.RememberSnapshot("new", driver.SnapshotPlace{Node: "n1", Group: "pool", Space: 2 * gib})
	d.RememberSnapshot("away", driver.SnapshotPlace{Node: "n2", Group: "pool", Space: 2 * gib})
	d.Remember("shows", driver.Place{Node: "n1", Group: "pool", Size: 7 * gib, Snapshot: "snap"}) // nothing of its own
	if got := free(); got != "93Gi" {
		t.Errorf("%s are free with one that no report shows", got)
	}
	d.ForgetSnapshot("snap")
	if diff := cmp.Diff([]string{"away", "new"}, slices.Sorted(maps.Keys(d.Snapshots()))); diff != "" {
		t.Errorf("snapshots (-want +got):\n%s", diff)
	}
	d.ForgetSnapshot("new")
	if got := free(); got != "95Gi" {
		t.Errorf("%s are free without", got)
	}
}

func TestWhatASnapshotWasMadeOf(t *testing.T) {
	content := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": map[string]any{"name": "snapcontent-" + snapUID},
		"spec": map[string]any{"source": map[string]any{"volumeHandle": "vol"}},
	}}
	kinds := map[schema.GroupVersionResource]string{
		{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshotcontents"}: "VolumeSnapshotContentList",
	}
	contents := directory.Contents{Client: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, content)}
	for id, want := range map[string]string{
		"snap-" + snapUID:                           "vol",
		"my-snaps-" + snapUID:                       "vol", // whatever the prefix
		"snap-4f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c44": "",
		"snap-../../secrets":                        "",
		"snap":                                      "",
	} {
		got, err := contents.SourceOf(t.Context(), id)
		if err != nil || got != want {
			t.Errorf("snapshot %s is of %q, %v, want %q", id, got, err, want)
		}
	}
}
