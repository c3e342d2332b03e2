package extender

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// TestARestartKnowsWhatGrows has the extender end while a node grows a volume. The pod
// that was refused before is refused after.
func TestARestartKnowsWhatGrows(t *testing.T) {
	w := withVolume(t)
	w.resize("a", 60*gib, 60*gib)
	w.mustKeep(growth(int64(60 * gib)))
	w.selectNode("b", "n1") // by somebody who did not ask
	w.restart()
	w.wantFree("n1/pool=40Gi")
	w.mustFit(pod("b", "b"), "", "n1")
}

// TestWhatIsWishedComesAfterWhatWasPromised has a claim ask for more than there is beside
// a promise. A restart does not turn that round.
func TestWhatIsWishedComesAfterWhatWasPromised(t *testing.T) {
	w := withVolume(t)
	w.selectNode("b", "n1")
	w.wantFree("n1/pool=20Gi")
	w.resize("a", 60*gib, 0)
	w.wantFree("n1/pool=20Gi")
	w.restart()
	w.wantFree("n1/pool=20Gi")
	if place, _ := w.s.ledger.Where("local-uid-b"); place.Node != "n1" {
		t.Error("what was promised is not any more")
	}
}

// A shot is what csi-snapshotter makes of a VolumeSnapshot of claim a, of 30Gi.
func shot(change ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	c := content("nightly", "", "01")
	c.SetAnnotations(map[string]string{beingCreated: "yes"})
	set(c, "local-uid-a", "spec", "source", "volumeHandle")
	set(c, "1", "spec", "volumeSnapshotRef", "uid")
	set(c, "small", "spec", "volumeSnapshotClassName")
	for _, do := range change {
		do(c)
	}
	return c
}

func set(c *unstructured.Unstructured, value string, path ...string) {
	if err := unstructured.SetNestedField(c.Object, value, path...); err != nil {
		panic(err) // a test's own mistake
	}
}

func setting(value string, path ...string) func(*unstructured.Unstructured) {
	return func(c *unstructured.Unstructured) { set(c, value, path...) }
}

// made has the snapshot be made.
func made(c *unstructured.Unstructured) {
	c.SetAnnotations(nil)
	set(c, "snap-1", "status", "snapshotHandle")
	madeAt(c, begin)
}

func madeAt(c *unstructured.Unstructured, when time.Time) {
	if err := unstructured.SetNestedField(c.Object, when.UnixNano(), creationTime...); err != nil {
		panic(err) // a test's own mistake
	}
}

// snapshotClass is a VolumeSnapshotClass of that space.
func snapshotClass(name, key, space string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "metadata": map[string]any{"name": name},
		"driver": volume.DefaultDriver, "parameters": map[string]any{key: space},
	}}
}

// TestARestartKnowsWhichSnapshotsAreMade has the extender end while a node makes a snapshot,
// or has just made it: what was granted for it is kept until a report names it.
func TestARestartKnowsWhichSnapshotsAreMade(t *testing.T) {
	long := func(c *unstructured.Unstructured) { madeAt(c, begin.Add(-promiseFactor*DefaultHoldTimeout-1)) }
	for name, test := range map[string]struct {
		content  *unstructured.Unstructured
		promised bool // claim b of 50Gi
		free     capacity.Bytes
		name     string // of the snapshot; empty where room is kept for none
	}{
		"being made":                                {shot(), false, 60 * gib, "snap-1"},
		"being made, beside what is promised":       {shot(), true, 10 * gib, "snap-1"},
		"made a moment ago":                         {shot(made), false, 60 * gib, "snap-1"},
		"made a moment ago under a name of its own": {shot(made, setting("own-7", "status", "snapshotHandle")), false, 60 * gib, "own-7"},
		"of a class that says nothing":              {shot(setting("default", "spec", "volumeSnapshotClassName")), false, 66 * gib, "snap-1"},
		"of a class that is gone":                   {shot(setting("gone", "spec", "volumeSnapshotClassName")), false, 66 * gib, "snap-1"},
		"made long ago, and lost with its disk":     {shot(made, long), false, 70 * gib, ""},
		"of a class that no node would take":        {shot(setting("wrong", "spec", "volumeSnapshotClassName")), false, 70 * gib, ""},
		"not begun":                                 {shot(func(c *unstructured.Unstructured) { c.SetAnnotations(nil) }), false, 70 * gib, ""},
		"of another driver":                         {shot(setting("elsewhere.example", "spec", "driver")), false, 70 * gib, ""},
		"of a volume that is not there":             {shot(setting("gone", "spec", "source", "volumeHandle")), false, 70 * gib, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := withVolume(t)
			if test.promised {
				w.selectNode("b", "n1")
				w.wantFree("n1/pool=20Gi")
			}
			w.see(snapshots(test.content, snapshotClass("small", "csi.aliyun.com/snapshot-initial-size", "10Gi"),
				snapshotClass("default", "csi.aliyun.com/readonly", "true"), snapshotClass("wrong", "csi.aliyun.com/snapshot-initial-size", "much")))
			if got := w.free(); got != "n1/pool="+test.free.String() {
				t.Errorf("free is %s, want %s", got, test.free)
			}
			if place, _ := w.s.ledger.Where("local-uid-b"); test.promised && place.Node != "n1" {
				t.Error("what was promised is not any more")
			}
			if kept := w.s.ledger.Stats().Rooms; (kept > 0) != (test.name != "") {
				t.Fatalf("%d rooms are kept", kept)
			}
			if test.name == "" {
				return
			}
			w.report(nls("n1", vg("pool", 100*gib, lv("a", 30*gib), taken(test.name, gib))))
			left := 69 * gib
			if test.promised {
				left -= 50 * gib
			}
			w.wantFree("n1/pool=" + left.String())
			if kept := w.s.ledger.Stats().Rooms; kept > 0 {
				t.Errorf("%d rooms are kept for what is reported", kept)
			}
		})
	}
}

// TestWhatIsRecalledDoesNotStandInItsOwnWay asks once more for what there was no room for
// before the restart, and for what there was.
func TestWhatIsRecalledDoesNotStandInItsOwnWay(t *testing.T) {
	for name, test := range map[string]struct {
		wants int64
		free  string
	}{
		"there is room":    {int64(10 * gib), "n1/pool=10Gi"},
		"there is no room": {int64(30 * gib), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := withVolume(t)
			w.create(pv("b", "n1", "pool", 50*gib))
			w.wantFree("n1/pool=20Gi")
			w.see(snapshots(shot(), snapshotClass("small", "csi.aliyun.com/snapshot-initial-size", capacity.Bytes(test.wants).String())))
			if err := w.s.Room(w.ctx(), snapshot(test.wants)); (err == nil) != (test.free != "") {
				t.Error(err)
			}
			if test.free != "" {
				w.wantFree(test.free)
			}
		})
	}
}

// TestARestartKnowsFromWhatClonesAreCopied has the extender end while claim b is a copy of
// claim a in the making.
func TestARestartKnowsFromWhatClonesAreCopied(t *testing.T) {
	for name, test := range map[string]struct {
		class, node string
		free        capacity.Bytes
	}{
		"whose pod has a node":      {"lvm", "n1", 70*gib - 31*gib},
		"whose pod has none yet":    {"lvm", "", 70 * gib},
		"that binds at once":        {"immediate", "", 70*gib - gib},
		"of another driver's class": {"foreign", "n1", 70 * gib},
	} {
		t.Run(name, func(t *testing.T) {
			bound := claim("a", 30*gib, "lvm")
			bound.Spec.VolumeName = "local-uid-a"
			copied := fromClaim(claim("b", 30*gib, test.class), "a")
			w := newWorld(t, node("n1"), nls("n1", vg("pool", 100*gib, lv("a", 30*gib))), pv("a", "n1", "pool", 30*gib), bound, copied, pod("b", "b"), foreign(class("foreign")))
			if test.node != "" {
				w.selectNode("b", test.node)
			}
			w.restart()
			w.wantFree("n1/pool=" + test.free.String())
			w.report(nls("n1", vg("pool", 100*gib, lv("a", 30*gib), taken("clone-local-uid-b", gib))))
			w.until("nothing is kept for what is reported", func() bool { return w.s.ledger.Stats().Rooms == 0 })
		})
	}
}

// TestSnapshotsMayBeAbsent starts where there are no kinds of snapshots, or no right to read
// them.
func TestSnapshotsMayBeAbsent(t *testing.T) {
	what := schema.GroupResource{Group: snapshotGroup, Resource: "volumesnapshotcontents"}
	for name, err := range map[string]error{
		"no such kind": apierrors.NewNotFound(what, ""),
		"no right":     apierrors.NewForbidden(what, "", nil),
	} {
		t.Run(name, func(t *testing.T) {
			w := withVolume(t)
			w.see(refusing(err))
			w.wantFree("n1/pool=70Gi")
			w.mustFit(pod("b", "b"), "n1", "n1")
		})
	}
}

// refusing are snapshots that cannot be read.
func refusing(err error) *dynamicfake.FakeDynamicClient {
	client := snapshots()
	client.PrependReactor("list", "*", func(clienttesting.Action) (bool, kruntime.Object, error) { return true, nil, err })
	return client
}
