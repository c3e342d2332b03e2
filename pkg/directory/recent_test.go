package directory_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
)

func TestWhatWasRemovedIsFreeBeforeItsNodeReports(t *testing.T) {
	withCopy := func(id string) *v1alpha1.NodeLocalStorage {
		nls := report("n1", map[string][]string{"pool": {id, "other"}})
		g := &nls.Status.NodeStorageInfo.VolumeGroups[0]
		g.LogicalVolumes = append(g.LogicalVolumes, v1alpha1.LogicalVolume{Name: "s", VGName: "pool", Total: int64(gib), SnapshotID: "s", SourceVolumeID: id})
		g.Available -= int64(gib)
		return nls
	}
	for name, test := range map[string]struct {
		report *v1alpha1.NodeLocalStorage
		do     func(d *directory.Directory)
		free   string
	}{
		"a volume that was removed": {
			report("n1", map[string][]string{"pool": {"vol", "other"}}), func(d *directory.Directory) { d.Forget("vol") }, "99Gi",
		},
		"one that was removed twice": {
			report("n1", map[string][]string{"pool": {"vol", "other"}}), func(d *directory.Directory) { d.Forget("vol"); d.Forget("vol") }, "99Gi",
		},
		"one that was made again": {
			report("n1", map[string][]string{"pool": {"vol", "other"}}), func(d *directory.Directory) {
				d.Forget("vol")
				d.Remember("vol", driver.Place{Node: "n1", Group: "pool", Size: gib})
			}, "98Gi",
		},
		"one whose snapshot stays, and keeps it": {
			withCopy("vol"), func(d *directory.Directory) { d.Forget("vol") }, "97Gi",
		},
		"one of which a snapshot was made that is not reported": {
			report("n1", map[string][]string{"pool": {"vol", "other"}}), func(d *directory.Directory) {
				d.RememberSnapshot("s", driver.SnapshotPlace{Node: "n1", Group: "pool", Volume: "vol", Space: gib})
				d.Forget("vol")
			}, "97Gi",
		},
		"one that was never there": {
			report("n1", map[string][]string{"pool": {"vol", "other"}}), func(d *directory.Directory) { d.Forget("none") }, "98Gi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, newClock(), node("n1", corev1.ConditionTrue), test.report)
			test.do(d)
			got, _ := d.Capacity("n1")
			if diff := cmp.Diff(test.free, got.Groups[0].Free.String()); diff != "" {
				t.Errorf("free (-want +got):\n%s", diff)
			}
		})
	}
}
