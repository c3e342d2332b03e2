package directory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	nlsfake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	gib   = capacity.GiB
	grace = 5 * time.Minute
)

// node is a Node with an address, ready or not.
func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: "fd00::7"},
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: ready}},
		},
	}
}

// pv is a PersistentVolume of ours on a node.
func pv(id, nodeName string, attributes map[string]string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: id}}
	v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: volume.DefaultDriver, VolumeHandle: id, VolumeAttributes: attributes}
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: volume.TopologyKey, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName}}},
	}}}}
	return v
}

func lvmIn(group string) map[string]string {
	return volume.Context{Kind: volume.LVM, Group: group}.Attributes()
}

// report is what the agent of a node says: each group has 100 GiB on one ssd.
func report(name string, groups map[string][]string) *v1alpha1.NodeLocalStorage {
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: name}}
	nls.Status.NodeStorageInfo.Phase = v1alpha1.NodeStorageRunning
	nls.Status.NodeStorageInfo.DeviceInfos = []v1alpha1.DeviceInfo{{Name: "/dev/sdb", MediaType: "ssd"}, {Name: "/dev/sdc", MediaType: "hdd"}}
	for group, ids := range groups {
		g := v1alpha1.VolumeGroup{
			Name: group, Total: int64(100 * gib), Allocatable: int64(100 * gib), Available: int64(100 * gib), ExtentSize: int64(4 * capacity.MiB),
			PhysicalVolumes: []string{"/dev/sdb"}, Condition: v1alpha1.StorageReady,
		}
		for _, id := range ids {
			g.LogicalVolumes = append(g.LogicalVolumes, v1alpha1.LogicalVolume{Name: volume.NameOf(id), VGName: group, Total: int64(gib), VolumeID: id})
			g.Available -= int64(gib)
		}
		nls.Status.NodeStorageInfo.VolumeGroups = append(nls.Status.NodeStorageInfo.VolumeGroups, g)
		nls.Status.FilteredStorageInfo.VolumeGroups = append(nls.Status.FilteredStorageInfo.VolumeGroups, group)
	}
	return nls
}

// remote stands for the client of the node at an address.
type remote struct {
	driver.RemoteNode
	address string
}

// open returns a Directory of these objects.
func open(t *testing.T, clock *testingclock.FakeClock, objects ...runtime.Object) *directory.Directory {
	t.Helper()
	var core, storage []runtime.Object
	for _, object := range objects {
		if _, ok := object.(*v1alpha1.NodeLocalStorage); ok {
			storage = append(storage, object)
		} else {
			core = append(core, object)
		}
	}
	return openOn(t, clock, fake.NewClientset(core...), nlsfake.NewSimpleClientset(storage...))
}

// openOn returns a Directory of what these API servers have.
func openOn(t *testing.T, clock *testingclock.FakeClock, core *fake.Clientset, storage *nlsfake.Clientset) *directory.Directory {
	t.Helper()
	d, err := directory.New(directory.Options{
		Kubernetes: core, Storage: storage,
		Driver: volume.DefaultDriver, NodePort: 1736, NodeGrace: grace, Clock: clock,
		Dial: func(address string) (driver.RemoteNode, error) { return remote{address: address}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func newClock() *testingclock.FakeClock {
	return testingclock.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
}

func TestAVolumeIsFound(t *testing.T) {
	foreign := pv("vol", "n1", lvmIn("pool"))
	foreign.Spec.CSI.Driver = "other.csi.example.com"
	onlyHostPath := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "vol"}}
	for name, test := range map[string]struct {
		objects []runtime.Object
		made    *driver.Place
		want    driver.Place
		err     error
	}{
		"nowhere": {err: driver.ErrNoVolume},
		"in a PersistentVolume": {
			objects: []runtime.Object{node("n1", corev1.ConditionTrue), pv("vol", "n1", lvmIn("pool"))},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: gib, Proven: true},
		},
		"in a PersistentVolume that only the first open-local's keys are in": {
			objects: []runtime.Object{node("n1", corev1.ConditionTrue), pv("vol", "n1", map[string]string{"volumeType": "LVM", "vgName": "old"})},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "old", Size: gib, Proven: true},
		},
		"in a report, without a PersistentVolume": {
			objects: []runtime.Object{node("n1", corev1.ConditionTrue), report("n1", map[string][]string{"pool": {"vol"}})},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: gib},
		},
		"in both": {
			objects: []runtime.Object{node("n1", corev1.ConditionTrue), pv("vol", "n1", lvmIn("pool")), report("n1", map[string][]string{"pool": {"vol"}})},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: gib, Proven: true},
		},
		"in another group than its PersistentVolume says": {
			objects: []runtime.Object{node("n1", corev1.ConditionTrue), pv("vol", "n1", lvmIn("pool")), report("n1", map[string][]string{"renamed": {"vol"}})},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "renamed", Size: gib},
		},
		"on two nodes": {
			objects: []runtime.Object{
				node("n1", corev1.ConditionTrue), node("n2", corev1.ConditionTrue), pv("vol", "n2", lvmIn("pool")),
				report("n1", map[string][]string{"pool": {"vol"}}), report("n2", map[string][]string{"pool": {"vol"}}),
			},
			want: driver.Place{Node: "n2", Kind: volume.LVM, Group: "pool", Size: gib, Proven: true},
		},
		"just made": {
			objects: []runtime.Object{node("n1", corev1.ConditionTrue), report("n1", nil)},
			made:    &driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: 2 * gib},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: 2 * gib},
		},
		"just made, and recorded already": {
			objects: []runtime.Object{node("n1", corev1.ConditionTrue), pv("vol", "n1", lvmIn("pool"))},
			made:    &driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: 2 * gib},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: 2 * gib, Proven: true},
		},
		"in the report of a node that is not ready": {
			objects: []runtime.Object{node("n1", corev1.ConditionFalse), report("n1", map[string][]string{"pool": {"vol"}})},
			want:    driver.Place{Node: "n1", Kind: volume.LVM, Group: "pool", Size: gib},
		},
		"in a PersistentVolume of another driver":            {objects: []runtime.Object{foreign}, err: driver.ErrNoVolume},
		"in the name of a PersistentVolume without a driver": {objects: []runtime.Object{onlyHostPath}, err: driver.ErrNoVolume},
		"in a PersistentVolume whose node is missing":        {objects: []runtime.Object{pv("vol", "n9", lvmIn("pool"))}, err: driver.ErrNodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, newClock(), test.objects...)
			if test.made != nil {
				d.Remember("vol", *test.made)
			}
			got, err := d.Find("vol")
			if !errors.Is(err, test.err) {
				t.Fatalf("got error %v, want %v", err, test.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("place (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVolumesGoWithTheirNodeAfterAWhile(t *testing.T) {
	clock := newClock()
	d := open(t, clock, pv("vol", "n9", lvmIn("pool")))
	for _, step := range []time.Duration{0, time.Minute, grace - time.Minute - time.Second} {
		clock.Step(step)
		if _, err := d.Find("vol"); !errors.Is(err, driver.ErrNodeUnavailable) {
			t.Errorf("after %s: got %v, want ErrNodeUnavailable", step, err)
		}
	}
	clock.Step(time.Second)
	if _, err := d.Find("vol"); !errors.Is(err, driver.ErrNoVolume) {
		t.Errorf("after %s: got %v, want ErrNoVolume", grace, err)
	}
}

func TestWhereAVolumeWasIsToldWhenItsNodeIsGone(t *testing.T) {
	clock := newClock()
	d := open(t, clock, pv("vol", "n9", lvmIn("pool")))
	d.Remember("made", driver.Place{Node: "n9", Kind: volume.LVM, Group: "other"})
	for _, id := range []string{"vol", "made"} {
		if _, err := d.Find(id); !errors.Is(err, driver.ErrNodeUnavailable) {
			t.Fatalf("got %v, want ErrNodeUnavailable", err)
		}
	}
	clock.Step(grace)
	for id, group := range map[string]string{"vol": "pool", "made": "other"} {
		was, err := d.Find(id)
		if !errors.Is(err, driver.ErrNoVolume) || was.Node != "n9" || was.Group != group {
			t.Errorf("%s was at %+v, %v; want group %s of n9 and ErrNoVolume", id, was, err, group)
		}
	}
	if was, err := d.Find("never"); !errors.Is(err, driver.ErrNoVolume) || was.Node != "" {
		t.Errorf("a volume that never was was at %+v, %v", was, err)
	}
	if naming := d.Naming("vol"); len(naming) != 1 || len(d.Naming("made")) != 0 {
		t.Errorf("named by %v", naming)
	}
}

// A node that leaves a second time is waited for anew: counted from the first time, its
// volumes would be gone at once.
func TestANodeThatLeavesAgainIsWaitedForAgain(t *testing.T) {
	for name, returns := range map[string]runtime.Object{"the node": node("n9", corev1.ConditionTrue), "its report": report("n9", nil)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := newClock()
				core, storage := fake.NewClientset(pv("vol", "n9", lvmIn("pool"))), nlsfake.NewSimpleClientset()
				d := openOn(t, clock, core, storage)
				want := func(want error) {
					t.Helper()
					synctest.Wait()
					if _, err := d.Find("vol"); !errors.Is(err, want) {
						t.Errorf("got %v, want %v", err, want)
					}
				}
				want(driver.ErrNodeUnavailable)
				clock.Step(grace)
				tracker, of := core.Tracker(), corev1.SchemeGroupVersion.WithResource("nodes")
				if _, is := returns.(*v1alpha1.NodeLocalStorage); is {
					tracker, of = storage.Tracker(), v1alpha1.SchemeGroupVersion.WithResource("nodelocalstorages")
				}
				if err := tracker.Create(of, returns, ""); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // nobody asks while it is there
				if err := tracker.Delete(of, "", "n9"); err != nil {
					t.Fatal(err)
				}
				want(driver.ErrNodeUnavailable)
				clock.Step(grace)
				want(driver.ErrNoVolume)
			})
		})
	}
}

func TestVolumesStayWhileOnlyTheNodeOrOnlyTheReportIsGone(t *testing.T) {
	for name, there := range map[string]runtime.Object{
		"the report is gone": node("n1", corev1.ConditionUnknown),
		"the node is gone":   report("n1", nil),
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			d := open(t, clock, pv("vol", "n1", lvmIn("pool")), there)
			for range 3 {
				if _, err := d.Find("vol"); err != nil {
					t.Fatalf("got %v, want the place that the PersistentVolume records", err)
				}
				clock.Step(grace)
			}
			if _, err := d.Connect("n1"); !errors.Is(err, driver.ErrNodeUnavailable) {
				t.Errorf("connecting: got %v, want ErrNodeUnavailable", err)
			}
		})
	}
}

func TestWhatWasRemovedIsNotListed(t *testing.T) {
	d := open(t, newClock(), node("n1", corev1.ConditionTrue), pv("recorded", "n1", lvmIn("pool")), report("n1", map[string][]string{"pool": {"reported", "removed"}}))
	d.Remember("made", driver.Place{Node: "n1"})
	d.Remember("unmade", driver.Place{Node: "n1"})
	d.Forget("removed")
	d.Forget("unmade")
	for range 2 {
		var got []string
		all := d.Volumes()
		for _, id := range []string{"made", "recorded", "removed", "reported", "unmade"} {
			if _, listed := all[id]; listed {
				got = append(got, id)
			}
		}
		if diff := cmp.Diff([]string{"made", "recorded", "reported"}, got); diff != "" {
			t.Errorf("listed (-want +got):\n%s", diff)
		}
	}
	d.Remember("removed", driver.Place{Node: "n1"})
	if _, listed := d.Volumes()["removed"]; !listed {
		t.Error("a volume that was made again is not listed")
	}
}

func TestConnectReachesNodesThatAreReady(t *testing.T) {
	bare := node("bare", corev1.ConditionTrue)
	bare.Status.Addresses = bare.Status.Addresses[:1]
	d := open(t, newClock(), node("n1", corev1.ConditionTrue), node("down", corev1.ConditionUnknown), bare)
	got, err := d.Connect("n1")
	if err != nil || got.(remote).address != "[fd00::7]:1736" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, name := range []string{"down", "bare", "none"} {
		if _, err := d.Connect(name); !errors.Is(err, driver.ErrNodeUnavailable) {
			t.Errorf("%s: got %v, want ErrNodeUnavailable", name, err)
		}
	}
}

func TestCapacityIsWhatTheReportLeaves(t *testing.T) {
	nls := report("n1", map[string][]string{"pool": {"a", "b"}, "hidden": nil, "mixed": nil, "broken": nil})
	for i := range nls.Status.NodeStorageInfo.VolumeGroups {
		switch g := &nls.Status.NodeStorageInfo.VolumeGroups[i]; g.Name {
		case "pool":
			g.Allocatable = int64(50 * gib) // the rest is others' or reserved
		case "mixed":
			g.PhysicalVolumes = append(g.PhysicalVolumes, "/dev/sdc")
			g.Available, g.ExtentSize = int64(10*gib+1), 0
		case "broken":
			g.Condition, g.Allocatable = v1alpha1.StorageFault, 0
		}
	}
	nls.Status.FilteredStorageInfo.VolumeGroups = []string{"pool", "mixed", "broken", "gone"}
	d := open(t, newClock(), node("n1", corev1.ConditionTrue), nls, node("down", corev1.ConditionFalse), report("down", map[string][]string{"pool": nil}))
	d.Remember("a", driver.Place{Node: "n1", Group: "pool", Size: gib}) // reported already
	d.Remember("c", driver.Place{Node: "n1", Group: "pool", Size: 3 * gib})
	d.Remember("d", driver.Place{Node: "down", Group: "pool", Size: 3 * gib})

	got, known := d.Capacity("n1")
	want := capacity.Node{Name: "n1", Groups: []capacity.Group{
		{Name: "broken", Extent: 4 * capacity.MiB, Media: "ssd", Trouble: "DiskFault"},
		{Name: "mixed", Size: 100 * gib, Free: 10 * gib, Extent: capacity.DefaultExtent},
		{Name: "pool", Size: 50 * gib, Free: 45 * gib, Extent: 4 * capacity.MiB, Media: "ssd"},
	}}
	if diff := cmp.Diff(want, got); diff != "" || !known {
		t.Errorf("known %t (-want +got):\n%s", known, diff)
	}
	for _, name := range []string{"down", "none"} {
		if got, known := d.Capacity(name); known {
			t.Errorf("%s has %v", name, got)
		}
	}
	if diff := cmp.Diff([]string{"down", "n1"}, d.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestANodeKnowsWhatItManages(t *testing.T) {
	pending := report("n1", map[string][]string{"pool": nil})
	pending.Status.NodeStorageInfo.Phase = v1alpha1.NodeStoragePending
	for name, test := range map[string]struct {
		objects []runtime.Object
		want    map[string]capacity.Bytes
		err     error
	}{
		"no report":                   {objects: []runtime.Object{report("n2", map[string][]string{"pool": nil})}, err: provision.ErrNotReady},
		"a report that nobody filled": {objects: []runtime.Object{pending}, err: provision.ErrNotReady},
		"a report":                    {objects: []runtime.Object{report("n1", map[string][]string{"pool": {"a"}})}, want: map[string]capacity.Bytes{"pool": 100 * gib}},
		"nothing to manage":           {objects: []runtime.Object{report("n1", nil)}, want: map[string]capacity.Bytes{}},
	} {
		t.Run(name, func(t *testing.T) {
			own, err := directory.NewOwn(nlsfake.NewSimpleClientset(test.objects...), "n1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := own.Managed(); !errors.Is(err, provision.ErrNotReady) || !errors.Is(own.Ready(), provision.ErrNotReady) {
				t.Errorf("before it looked: %v, %v; want ErrNotReady", err, own.Ready())
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { own.Run(ctx); close(ended) }()
			for own.Ready() != nil {
				if ctx.Err() != nil {
					t.Fatal("it never became ready")
				}
			}
			got, err := own.Managed()
			if !errors.Is(err, test.err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("managed (-want +got):\n%s", diff)
			}
			cancel()
			<-ended
		})
	}
}
