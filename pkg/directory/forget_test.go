package directory

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	nlsfake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/volume"
)

// A Directory that remembered every volume that ever was would grow for ever.
func TestWhatNobodyShowsAnyMoreIsForgotten(t *testing.T) {
	shown := v1alpha1.LogicalVolume{Name: "vol", VolumeID: "vol"}
	snapshot := v1alpha1.LogicalVolume{Name: "snap", SnapshotID: "snap", SourceVolumeID: "vol"}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "vol"}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: volume.DefaultDriver, VolumeHandle: "vol"}
	recorded := Options{Driver: volume.DefaultDriver}.recordOf(pv)
	for name, test := range map[string]struct {
		volumes []*record
		now     []v1alpha1.LogicalVolume // what the report shows after it showed both
		drop    bool                     // the PersistentVolume goes at the end
		gone    int                      // what is still remembered as gone
	}{
		"neither is shown any more":                   {gone: 0},
		"both are still shown":                        {now: []v1alpha1.LogicalVolume{shown, snapshot}, gone: 2},
		"the volume is still shown":                   {now: []v1alpha1.LogicalVolume{shown}, gone: 1},
		"a PersistentVolume is still there":           {volumes: []*record{recorded}, gone: 1},
		"the PersistentVolume goes after the volume":  {volumes: []*record{recorded}, drop: true, gone: 0},
		"the PersistentVolume goes before the volume": {volumes: []*record{recorded}, now: []v1alpha1.LogicalVolume{shown}, drop: true, gone: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := New(Options{Kubernetes: fake.NewClientset(), Storage: nlsfake.NewSimpleClientset(), Driver: volume.DefaultDriver, NodeGrace: time.Minute, Clock: clock.RealClock{}})
			if err != nil {
				t.Fatal(err)
			}
			before := reportWith(shown, snapshot)
			d.reports.Put(before)
			for _, pv := range test.volumes {
				d.volumes.Put(pv)
			}
			d.Remember("vol", driver.Place{Node: "n1"})
			d.Forget("vol")
			d.ForgetSnapshot("snap")

			d.reports.Put(reportWith(test.now...))
			d.reportChanged(before)
			if test.drop {
				d.volumes.Drop(recorded.Key())
				d.volumeDropped("vol")
			}
			if got := len(d.made.gone) + len(d.snapshots.gone); got != test.gone {
				t.Errorf("%d are remembered as gone, want %d: %v %v", got, test.gone, d.made.gone, d.snapshots.gone)
			}
			if len(d.made.all)+len(d.made.on) > 0 {
				t.Errorf("still remembered as made: %v", d.made)
			}
		})
	}
}

func TestWhatNobodyShowsIsNotRemembered(t *testing.T) {
	d, err := New(Options{Kubernetes: fake.NewClientset(), Storage: nlsfake.NewSimpleClientset(), Driver: volume.DefaultDriver, NodeGrace: time.Minute, Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	d.Remember("vol", driver.Place{Node: "n1"})
	d.Forget("vol") // undone before anybody saw it
	if len(d.made.gone) > 0 {
		t.Errorf("remembered as gone: %v", d.made.gone)
	}
}

func reportWith(volumes ...v1alpha1.LogicalVolume) *report {
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	nls.Status.NodeStorageInfo.VolumeGroups = []v1alpha1.VolumeGroup{{Name: "pool", LogicalVolumes: volumes}}
	return reportOf(nls)
}
