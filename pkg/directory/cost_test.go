package directory

import (
	"fmt"
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

// clusterOf is a Directory of nodes with volumes, one of which was just made.
func clusterOf(t testing.TB, nodes, volumes int) *Directory {
	t.Helper()
	d, err := New(Options{Kubernetes: fake.NewClientset(), Storage: nlsfake.NewSimpleClientset(), Driver: volume.DefaultDriver, NodePort: 1736, NodeGrace: time.Minute, Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		name := fmt.Sprintf("node-%05d", i)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		if err := d.node.GetStore().Add(node); err != nil {
			t.Fatal(err)
		}
		nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: name}}
		nls.Status.FilteredStorageInfo.VolumeGroups = []string{"a", "b"}
		for _, group := range []string{"a", "b"} {
			g := v1alpha1.VolumeGroup{Name: group, Total: 1 << 40, Allocatable: 1 << 40, Available: 1 << 40, PhysicalVolumes: []string{"/dev/sda"}, PhysicalVolumesAvailable: []int64{1 << 40}}
			for j := range volumes / 2 {
				id := fmt.Sprintf("local-%05d-%s-%d", i, group, j)
				g.LogicalVolumes = append(g.LogicalVolumes, v1alpha1.LogicalVolume{Name: id, VolumeID: id, Total: 1 << 30})
			}
			nls.Status.NodeStorageInfo.VolumeGroups = append(nls.Status.NodeStorageInfo.VolumeGroups, g)
		}
		d.reports.Put(d.keepReport(nls))
		d.Remember(fmt.Sprint("made-", i), driver.Place{Node: name, Kind: volume.LVM, Group: "a", Size: 1 << 30})
	}
	return d
}

// TestWhatANodeHasCostsAlikeInEveryCluster counts what csi-provisioner's question for the
// capacity of one node takes.
func TestWhatANodeHasCostsAlikeInEveryCluster(t *testing.T) {
	cost := func(nodes, volumes int) float64 {
		d := clusterOf(t, nodes, volumes)
		return testing.AllocsPerRun(20, func() {
			if node, ok := d.Capacity("node-00003"); !ok || len(node.Groups) != 2 {
				t.Fatalf("it has %v", node)
			}
		})
	}
	few, many, full := cost(10, 10), cost(1000, 10), cost(10, 1000)
	if many > few || full > few {
		t.Errorf("of 10 nodes with 10 volumes one takes %v allocations, of 1000 nodes %v, with 1000 volumes %v", few, many, full)
	}
}

// BenchmarkCapacity asks for one node of many, and finds a volume by its handle.
func BenchmarkCapacity(b *testing.B) {
	for _, nodes := range []int{100, 1000, 5000} {
		d := clusterOf(b, nodes, 50)
		b.Run(fmt.Sprintf("capacity/nodes=%d", nodes), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := d.Capacity(fmt.Sprintf("node-%05d", i%nodes)); !ok {
					b.Fatal("it is not there")
				}
			}
		})
		b.Run(fmt.Sprintf("find/nodes=%d", nodes), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := d.Find(fmt.Sprintf("local-%05d-b-%d", i%nodes, i%25)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
