package extender

import (
	"errors"
	"strings"
	"testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/extender/reserve"
)

// disks is a node that reports so many devices of 60 GiB and offers those of these names.
func disks(offered ...string) *v1alpha1.NodeLocalStorage {
	storage := nls("n1", vg("pool", 100*gib))
	for _, name := range []string{"/dev/sdb", "/dev/sdc"} {
		storage.Status.NodeStorageInfo.DeviceInfos = append(storage.Status.NodeStorageInfo.DeviceInfos,
			v1alpha1.DeviceInfo{Name: name, ID: "wwn-" + name, Total: int64(60 * gib)})
	}
	storage.Status.FilteredStorageInfo.Devices = offered
	return storage
}

// failing is the report with the device in trouble.
func failing(storage *v1alpha1.NodeLocalStorage, name string) *v1alpha1.NodeLocalStorage {
	for i := range storage.Status.NodeStorageInfo.DeviceInfos {
		if d := &storage.Status.NodeStorageInfo.DeviceInfos[i]; d.Name == name {
			d.Condition = v1alpha1.StorageFault
		}
	}
	return storage
}

// groups is a node with two volume groups; those in trouble are faulty, and the others offered.
func groups(first, second v1alpha1.VolumeGroup, offered ...string) *v1alpha1.NodeLocalStorage {
	storage := nls("n1", first, second)
	storage.Status.FilteredStorageInfo.VolumeGroups = offered
	return storage
}

func faulty(g v1alpha1.VolumeGroup) v1alpha1.VolumeGroup {
	g.Condition = v1alpha1.StorageFault
	return g
}

// TestAPlaceThatIsNoneAnyMoreIsNotPromisedAgain has a claim with a place, and then a report
// that says otherwise. The claim gets another place, whoever asks first.
func TestAPlaceThatIsNoneAnyMoreIsNotPromisedAgain(t *testing.T) {
	a, b := vg("a", 60*gib), vg("b", 80*gib)
	for name, test := range map[string]struct {
		class         string
		before, after *v1alpha1.NodeLocalStorage
		first, then   string // the place; then is the reason where there is none
		final         bool
	}{
		"a device is not offered any more, and another is": {
			class: "device", before: disks("/dev/sdb", "/dev/sdc"), after: disks("/dev/sdc"), first: "/dev/sdb", then: "/dev/sdc",
		},
		"a device fails, and another is offered": {
			class: "device", before: disks("/dev/sdb", "/dev/sdc"), after: failing(disks("/dev/sdb", "/dev/sdc"), "/dev/sdb"), first: "/dev/sdb", then: "/dev/sdc",
		},
		"a device is not offered any more, and no other is": {
			class: "device", before: disks("/dev/sdb"), after: disks(), first: "/dev/sdb", then: "no managed device: wants 50Gi, 0 free", final: true,
		},
		"a group is not managed any more, and another is": {
			class: "lvm", before: groups(a, b, "a", "b"), after: groups(a, b, "b"), first: "a", then: "b",
		},
		"a group is faulty, and another is well": {
			class: "lvm", before: groups(a, b, "a", "b"), after: groups(faulty(a), b, "a", "b"), first: "a", then: "b",
		},
		"a group is faulty, and no other has room": {
			class: "lvm", before: groups(a, vg("b", gib), "a", "b"), after: groups(faulty(a), vg("b", gib), "a", "b"), first: "a",
			then: "vg b: wants 50Gi, has 1Gi in all", final: true,
		},
	} {
		for who, ask := range map[string]func(w *world) (place string, err error){
			"the CSI controller asks": func(w *world) (string, error) { return w.place("c") },
			"it asks again, and may be at work there": func(w *world) (string, error) {
				w.s.ledger.Making("local-uid-c", "n1", "first")
				return w.place("c")
			},
			"the scheduler asks": func(w *world) (string, error) {
				fit, reasons := w.filter(pod("p", "c"), "n1")
				if fit == "" {
					return "", errors.New(reasons["n1"])
				}
				return w.place("c")
			},
		} {
			t.Run(name+", and "+who, func(t *testing.T) {
				w := newWorld(t, node("n1"), test.before.DeepCopy(), class("device", "volumeType", "Device"), claim("c", 50*gib, test.class), pod("p", "c"))
				w.selectNode("c", "n1")
				w.until("it has a place", func() bool {
					place, _ := w.s.ledger.Where("local-uid-c")
					return place.Group == test.first
				})
				w.report(test.after.DeepCopy())
				w.until("that is none any more", func() bool {
					place, _ := w.s.ledger.Where("local-uid-c")
					return place.Void
				})
				place, err := ask(w)
				if err != nil {
					place = err.Error()
				}
				if !strings.HasSuffix(place, test.then) {
					t.Errorf("it says %q, want %q", place, test.then)
				}
				if refused := errors.Is(err, reserve.ErrNoRoom); who != "the scheduler asks" && refused != test.final {
					t.Errorf("refused: %t; %v", refused, err)
				}
			})
		}
	}
}

// place asks for the place of the claim on n1.
func (w *world) place(claim string) (string, error) {
	answer, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: claim, Volume: "local-uid-" + claim, Node: "n1", Attempt: "last"})
	return answer.Group + answer.Device + answer.Disk, err
}

// TestTheOtherClaimsOfThePodKeepTheirPlaces has one of two devices fail.
func TestTheOtherClaimsOfThePodKeepTheirPlaces(t *testing.T) {
	storage := func(offered ...string) *v1alpha1.NodeLocalStorage {
		s := disks(offered...)
		s.Status.NodeStorageInfo.DeviceInfos = append(s.Status.NodeStorageInfo.DeviceInfos, v1alpha1.DeviceInfo{Name: "/dev/sdd", ID: "wwn-d", Total: int64(70 * gib)})
		return s
	}
	w := newWorld(t, node("n1"), storage("/dev/sdb", "/dev/sdc", "/dev/sdd"), class("device", "volumeType", "Device"),
		claim("c", 50*gib, "device"), claim("d", 50*gib, "device"), pod("p", "c", "d"))
	w.mustFit(pod("p", "c", "d"), "n1", "n1")
	w.selectNode("c", "n1")
	w.until("both have a place", func() bool { return w.stats().Promises == 2 })
	was, _ := w.s.ledger.Where("local-uid-c")
	kept, _ := w.s.ledger.Where("local-uid-d")
	w.report(storage(kept.Group, "/dev/sdd"))
	w.until("one is void", func() bool { place, _ := w.s.ledger.Where("local-uid-c"); return place.Void })
	w.mustFit(pod("p", "c", "d"), "n1", "n1")
	if place, err := w.place("c"); err != nil || place != "/dev/sdd" {
		t.Errorf("c had %s and gets %s, %v", was.Group, place, err)
	}
	if place, err := w.place("d"); err != nil || place != kept.Group {
		t.Errorf("d had %s and gets %s, %v", kept.Group, place, err)
	}
}

// TestAPlaceIsOfItsKindWhileNobodyReports asks for a device again while the report is away.
func TestAPlaceIsOfItsKindWhileNobodyReports(t *testing.T) {
	w := newWorld(t, node("n1"), disks("/dev/sdb"), class("device", "volumeType", "Device"), claim("c", 50*gib, "device"), pod("p", "c"))
	if place, err := w.place("c"); err != nil || place != "/dev/sdb" {
		t.Fatalf("it gets %s, %v", place, err)
	}
	w.s.ledger.Leave("n1")
	answer, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: "c", Node: "n1"})
	if want := (reserve.Answer{Node: "n1", Device: "/dev/sdb", Identity: "wwn-/dev/sdb", VolumeType: "Device", Claim: "default/c"}); err != nil || answer != want {
		t.Errorf("got %+v and %v, want %+v", answer, err, want)
	}
}

// TestWhatANodeRefusedIsPlacedByItsReport goes once around: a place is promised, refused by its
// node, given back, and the pod filtered again, before and after the report says why.
func TestWhatANodeRefusedIsPlacedByItsReport(t *testing.T) {
	w := newWorld(t, node("n1"), node("n2"), disks("/dev/sdb"), nls("n2", vg("pool", 100*gib)),
		class("device", "volumeType", "Device"), claim("c", 50*gib, "device"), pod("p", "c"), claim("other", 50*gib, "device"), pod("o", "other"))
	ask := reserve.Request{Namespace: "default", Claim: "c", Volume: "local-uid-c", Node: "n1"}
	round := func(attempt string) {
		t.Helper()
		w.mustFit(pod("p", "c"), "n1", "n1", "n2")
		w.selectNode("c", "n1")
		w.until("it is promised", func() bool { return w.stats().Promises == 1 })
		ask.Attempt = attempt
		if answer, err := w.s.Reserve(w.ctx(), ask); err != nil || answer.Device != "/dev/sdb" {
			t.Fatalf("got %+v and %v", answer, err)
		}
	}
	round("first")
	if fit, _ := w.filter(pod("o", "other"), "n1"); fit != "" {
		t.Fatal("it is promised twice")
	}
	for _, late := range []reserve.Request{{Volume: ask.Volume, Node: "n1", Attempt: "before"}, {Volume: ask.Volume, Node: "n2", Attempt: "first"}} {
		if err := w.s.GiveUp(late); err != nil || w.stats().Promises != 1 {
			t.Fatalf("%+v ends %+v, %v", late, w.stats(), err)
		}
	}
	if err := w.s.GiveUp(ask); err != nil || w.stats().Promises+w.stats().Making != 0 {
		t.Fatalf("there are %+v, %v", w.stats(), err)
	}
	w.selectNode("c", "")
	w.claimsSeenOn(w.s)

	round("second") // the report says nothing yet
	if err := w.s.GiveUp(ask); err != nil {
		t.Fatal(err)
	}
	w.selectNode("c", "")
	w.claimsSeenOn(w.s)
	w.report(disks())
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
	if fit, reasons := w.filter(pod("p", "c"), "n1"); fit != "" || !strings.Contains(reasons["n1"], "no managed device") {
		t.Errorf("it fits on %q, and of n1 it says %q", fit, reasons["n1"])
	}
}

// claimsSeenOn waits until the claim shows no node.
func (w *world) claimsSeenOn(s *Scheduler) {
	w.t.Helper()
	w.until("its claim shows no node", func() bool {
		seen, known := s.caches.claims.Get("default/c")
		return known && seen.selected() == ""
	})
}

func TestGivingUpWantsToKnowWhat(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 100*gib)))
	whole := reserve.Request{Volume: "local-uid-c", Node: "n1", Attempt: "first"}
	for name, spoil := range map[string]func(r *reserve.Request){
		"no volume":  func(r *reserve.Request) { r.Volume = "" },
		"no node":    func(r *reserve.Request) { r.Node = "" },
		"no attempt": func(r *reserve.Request) { r.Attempt = "" },
	} {
		r := whole
		spoil(&r)
		if err := w.s.GiveUp(r); !errors.Is(err, reserve.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := w.s.GiveUp(whole); err != nil {
		t.Errorf("what is given up already: %v", err)
	}
	w.s.ready.Store(false)
	if err := w.s.GiveUp(whole); !errors.Is(err, reserve.ErrNotReady) {
		t.Errorf("got %v", err)
	}
}
