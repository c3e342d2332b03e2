package extender

import (
	"errors"
	"runtime"
	"testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/extender/reserve"
)

// growth and snapshot are what the CSI controller asks before it calls a node.
func growth(bytes int64) reserve.Room {
	return reserve.Room{Node: "n1", Group: "pool", Volume: "local-uid-a", Bytes: bytes}
}

func snapshot(bytes int64) reserve.Room {
	return reserve.Room{Node: "n1", Group: "pool", Volume: "snap-1", Bytes: bytes, New: true}
}

// withVolume is a node of 100Gi with a volume of 30Gi.
func withVolume(t *testing.T) *world {
	bound := claim("a", 30*gib, "lvm")
	bound.Spec.VolumeName = "local-uid-a"
	return newWorld(t, node("n1"), nls("n1", vg("pool", 100*gib, lv("a", 30*gib))), pv("a", "n1", "pool", 30*gib), bound,
		claim("b", 50*gib, "lvm"), pod("b", "b"))
}

// taken is a logical volume of that name in a report.
func taken(name string, size capacity.Bytes) v1alpha1.LogicalVolume {
	v := lv("x", size)
	v.Name = name
	return v
}

func (w *world) mustKeep(r reserve.Room) {
	w.t.Helper()
	if err := w.s.Room(w.ctx(), r); err != nil {
		w.t.Fatal(err)
	}
}

func TestRoomThatIsKeptIsPromisedToNobody(t *testing.T) {
	for name, test := range map[string]struct {
		ask   reserve.Room
		while string
		shown *v1alpha1.NodeLocalStorage
		after string
	}{
		"a volume that grows":       {growth(int64(60 * gib)), "n1/pool=40Gi", nls("n1", vg("pool", 100*gib, lv("a", 60*gib))), "n1/pool=40Gi"},
		"a snapshot":                {snapshot(int64(4 * gib)), "n1/pool=66Gi", nls("n1", vg("pool", 100*gib, lv("a", 30*gib), taken("snap-1", 3*gib))), "n1/pool=67Gi"},
		"what is as large already":  {growth(int64(30 * gib)), "n1/pool=70Gi", nil, "n1/pool=70Gi"},
		"what no report ever shows": {snapshot(int64(4 * gib)), "n1/pool=66Gi", nil, "n1/pool=70Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			w := withVolume(t)
			w.mustKeep(test.ask)
			w.mustKeep(test.ask)
			w.wantFree(test.while)
			if test.shown != nil {
				w.report(test.shown)
			} else {
				w.clock.Step(promiseFactor * DefaultHoldTimeout)
				w.s.ledger.Expire(w.clock.Now())
			}
			w.wantFree(test.after)
		})
	}
}

func TestRoomThatIsNotThereIsRefusedWithNumbers(t *testing.T) {
	w := withVolume(t)
	err := w.s.Room(w.ctx(), growth(int64(101*gib)))
	if want := "no room on the node: vg pool: wants 71Gi more for logical volume local-uid-a, 70Gi free"; !errors.Is(err, reserve.ErrNoRoom) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	w.mustFit(pod("b", "b"), "n1", "n1") // holds 50Gi
	w.s.o.HoldWait = 0
	err = w.s.Room(w.ctx(), snapshot(int64(21*gib)))
	if want := "no room on the node: vg pool: wants 21Gi more for logical volume snap-1, 20Gi free, 50Gi held for pods that are being placed"; text(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	elsewhere := snapshot(1)
	elsewhere.Node = "n2"
	if err := w.s.Room(w.ctx(), elsewhere); !errors.Is(err, reserve.ErrNotReady) {
		t.Errorf("a node nobody reports on: %v", err)
	}
	for _, nonsense := range []reserve.Room{{}, {Node: "n1", Group: "pool", Volume: "v"}, {Node: "n1", Group: "pool", Bytes: 1}, {Node: "n1", Volume: "v", Bytes: 1}} {
		if err := w.s.Room(w.ctx(), nonsense); !errors.Is(err, reserve.ErrInvalid) {
			t.Errorf("%+v: %v", nonsense, err)
		}
	}
}

func TestRoomWaitsForPodsToChoose(t *testing.T) {
	for name, test := range map[string]struct {
		then func(w *world)
		want error
	}{
		"and is there when one is gone": {func(w *world) { w.deletePod("b") }, nil},
		"but not for ever":              {func(w *world) { w.clock.Step(DefaultHoldWait) }, reserve.ErrNoRoom},
	} {
		t.Run(name, func(t *testing.T) {
			w := withVolume(t)
			w.mustFit(pod("b", "b"), "n1", "n1")
			answered := make(chan error, 1)
			go func() { answered <- w.s.Room(w.ctx(), snapshot(int64(21*gib))) }()
			for !w.clock.HasWaiters() {
				runtime.Gosched()
			}
			test.then(w)
			if err := <-answered; !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestRoomIsGivenBack(t *testing.T) {
	w := withVolume(t)
	w.mustKeep(snapshot(int64(4 * gib)))
	w.wantFree("n1/pool=66Gi")
	if err := w.s.GiveBack(snapshot(0)); err != nil {
		t.Fatal(err)
	}
	w.wantFree("n1/pool=70Gi")
}
