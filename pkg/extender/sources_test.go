package extender

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/volume"
)

// content ties the VolumeSnapshot of that name to a handle.
func content(name, handle, created string) *unstructured.Unstructured {
	c := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
		"metadata": map[string]any{"name": "content-" + name + created, "uid": "uid" + created, "creationTimestamp": "2026-01-01T00:00:" + created + "Z"},
		"spec": map[string]any{
			"driver": volume.DefaultDriver, "volumeSnapshotRef": map[string]any{"namespace": "default", "name": name},
			"source": map[string]any{"volumeHandle": "local-uid-data"},
		},
	}}
	if handle != "" {
		c.Object["status"] = map[string]any{"snapshotHandle": handle}
	}
	return c
}

// snapshots are the contents of a cluster.
func snapshots(contents ...runtime.Object) *dynamicfake.FakeDynamicClient {
	kinds := map[schema.GroupVersionResource]string{contentResource: "VolumeSnapshotContentList", snapshotClassResource: "VolumeSnapshotClassList"}
	return dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, contents...)
}

// see has the Scheduler start anew, and look at contents.
func (w *world) see(contents *dynamicfake.FakeDynamicClient) {
	w.t.Helper()
	w.dynamic = contents
	w.restart()
}

func fromSnapshot(pvc *corev1.PersistentVolumeClaim, name string) *corev1.PersistentVolumeClaim {
	pvc.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ptr.To(snapshotGroup), Kind: "VolumeSnapshot", Name: name}
	return pvc
}

func fromClaim(pvc *corev1.PersistentVolumeClaim, name string) *corev1.PersistentVolumeClaim {
	pvc.Spec.DataSourceRef = &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: name}
	return pvc
}

// snapshotOf is a snapshot on a node as its agent reports it, of 4 GiB.
func snapshotOf(handle string, readOnly bool) v1alpha1.LogicalVolume {
	return v1alpha1.LogicalVolume{Name: handle, SnapshotID: handle, SourceVolumeID: "local-uid-data", Total: int64(4 * gib), RestoreReadOnly: readOnly}
}

// restoring is a world of two nodes: n2 has the volume of claim data and a snapshot of
// it, and nearly no room.
func restoring(t *testing.T, readOnly bool, objects ...runtime.Object) *world {
	t.Helper()
	all := append([]runtime.Object{
		node("n1"), node("n2"), claim("data", 80*gib, "lvm"),
		nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 100*gib, lv("data", 80*gib), snapshotOf("snap-1", readOnly))),
	}, objects...)
	w := newWorld(t, all...)
	w.bind("data", "n2", "pool", 80*gib)
	w.until("the volume is there", func() bool { p, _ := w.s.ledger.Where("local-uid-data"); return p.Exists })
	return w
}

func TestWhatIsMadeOfASnapshotLiesWhereThatDoes(t *testing.T) {
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		shown bool
		fit   string
		n1    string
		n2    string
	}{
		"a copy that fits": {
			claim: fromSnapshot(claim("copy", 10*gib, "lvm"), "nightly"), fit: "n2",
			n1: "never: what a claim of the pod is made of lies on another node: claim default/copy, node n2",
		},
		"a copy that does not": {
			claim: fromSnapshot(claim("copy", 80*gib, "lvm"), "nightly"),
			n1:    "never: what a claim of the pod is made of lies on another node: claim default/copy, node n2", n2: "vg pool: wants 80Gi, 16Gi free",
		},
		"what shows it takes no room": {
			claim: fromSnapshot(claim("copy", 80*gib, "lvm"), "nightly"), shown: true, fit: "n2",
			n1: "never: what a claim of the pod is made of lies on another node: claim default/copy, node n2",
		},
		"a clone": {
			claim: fromClaim(claim("copy", 10*gib, "lvm"), "data"), fit: "n2",
			n1: "never: what a claim of the pod is made of lies on another node: claim default/copy, node n2",
		},
		"what somebody else fills": {
			claim: func() *corev1.PersistentVolumeClaim {
				c := claim("copy", 10*gib, "lvm")
				c.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To("example.com"), Kind: "Backup", Name: "nightly"}
				return c
			}(), fit: "n1 n2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := restoring(t, test.shown, test.claim, pod("p", "copy"))
			w.see(snapshots(content("nightly", "snap-0", "01"), content("nightly", "snap-1", "02"), content("other", "snap-2", "03")))
			fit, reasons := w.filter(pod("p", "copy"), "n1", "n2")
			if fit != test.fit || reasons["n1"] != test.n1 || reasons["n2"] != test.n2 {
				t.Errorf("it fits on %q, and %v", fit, reasons)
			}
		})
	}
}

func TestARestoreIsReservedOnlyBesideItsSource(t *testing.T) {
	w := restoring(t, false, fromSnapshot(claim("copy", 10*gib, "lvm"), "nightly"))
	w.see(snapshots(content("nightly", "snap-1", "01")))
	ask := reserve.Request{Namespace: "default", Claim: "copy", Node: "n1", VolumeType: "LVM"}
	if answer, err := w.s.Reserve(w.ctx(), ask); err == nil {
		t.Errorf("it is placed at %+v", answer)
	}
	ask.Node = "n2"
	answer, err := w.s.Reserve(w.ctx(), ask)
	if err != nil || answer.Group != "pool" {
		t.Errorf("it is placed at %+v: %v", answer, err)
	}
	w.wantFree("n1/pool=100Gi n2/pool=6Gi")
}

func TestWhatShowsASnapshotIsCountedAsNothing(t *testing.T) {
	w := restoring(t, true, fromSnapshot(claim("copy", 80*gib, "lvm"), "nightly"), pod("p", "copy"))
	w.see(snapshots(content("nightly", "snap-1", "01")))
	w.mustFit(pod("p", "copy"), "n2", "n1", "n2")
	w.wantFree("n1/pool=100Gi n2/pool=16Gi")
	w.selectNode("copy", "n2")
	shows := pv("copy", "n2", "pool", 80*gib)
	shows.Spec.CSI.VolumeAttributes[shownSnapshot] = "snap-1"
	w.create(shows)
	w.until("its volume is seen", func() bool { _, known := w.s.caches.volumes.Get(shows.Name); return known })
	w.wantFree("n1/pool=100Gi n2/pool=16Gi")
}

func TestWhatIsNotThereYetIsAskedForAgain(t *testing.T) {
	for name, test := range map[string]struct {
		claim    *corev1.PersistentVolumeClaim
		contents *dynamicfake.FakeDynamicClient
		says     string
	}{
		"a snapshot that is not made":    {fromSnapshot(claim("copy", gib, "lvm"), "nightly"), snapshots(content("nightly", "", "01")), "it is not made yet"},
		"a snapshot of nobody":           {fromSnapshot(claim("copy", gib, "lvm"), "nightly"), snapshots(), "no VolumeSnapshotContent"},
		"a snapshot that nobody reports": {fromSnapshot(claim("copy", gib, "lvm"), "nightly"), snapshots(content("nightly", "snap-9", "01")), "no node reports snapshot snap-9"},
		"a claim that is not there":      {fromClaim(claim("copy", gib, "lvm"), "missing"), snapshots(), "no such claim"},
		"a claim that has no volume":     {fromClaim(claim("copy", gib, "lvm"), "unbound"), snapshots(), "has no volume yet"},
		"what is in another's namespace": {func() *corev1.PersistentVolumeClaim {
			c := fromClaim(claim("copy", gib, "lvm"), "data")
			c.Spec.DataSourceRef.Namespace = ptr.To("kube-system")
			return c
		}(), snapshots(), "namespace kube-system"},
		"a cluster that has no snapshots":  {fromSnapshot(claim("copy", gib, "lvm"), "nightly"), nil, "cannot be read"},
		"a cluster that hides its kind":    {fromSnapshot(claim("copy", gib, "lvm"), "nightly"), absent(), "cannot be read"},
		"a claim of someone else's driver": {fromClaim(claim("copy", gib, "lvm"), "foreign"), snapshots(), "its volume is none of"},
	} {
		t.Run(name, func(t *testing.T) {
			foreign := pv("foreign", "n2", "pool", gib)
			foreign.Spec.CSI.Driver = "other.csi.example.com"
			foreignClaim := claim("foreign", gib, "lvm")
			foreignClaim.Spec.VolumeName = foreign.Name
			w := restoring(t, false, test.claim, pod("p", "copy"), claim("unbound", gib, "lvm"), foreignClaim, foreign,
				claim("plain", gib, "lvm"), pod("q", "plain"))
			if test.contents != nil {
				w.dynamic = test.contents
				w.restart()
				if name != "a cluster that hides its kind" {
					cache.WaitForCacheSync(t.Context().Done(), w.s.caches.contents.informer.HasSynced) // of which there may be no news
				}
			}
			ctx, cancel := context.WithCancel(w.ctx())
			cancel() // nobody waits for what never comes
			names := []string{"n1", "n2"}
			r, err := w.s.Filter(ctx, &extenderv1.ExtenderArgs{Pod: pod("p", "copy"), NodeNames: &names})
			said := ""
			if err != nil {
				said = err.Error()
			} else {
				said = r.FailedNodes["n2"] + r.FailedAndUnresolvableNodes["n2"]
			}
			if !strings.Contains(said, test.says) {
				t.Errorf("it says %q, want %q in it", said, test.says)
			}
			w.mustFit(pod("q", "plain"), "n1 n2", "n1", "n2") // nothing else suffers
		})
	}
}

// absent is a cluster without the kinds of snapshots.
func absent() *dynamicfake.FakeDynamicClient {
	client := snapshots()
	gone := apierrors.NewNotFound(contentResource.GroupResource(), "")
	client.PrependReactor("list", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, gone })
	client.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) { return true, nil, gone })
	return client
}
