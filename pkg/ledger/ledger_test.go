package ledger

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	gib  = capacity.GiB
	soon = 30 * time.Second
)

// pool reports one managed group of 100Gi with these volumes of ours in it.
func pool(volumes ...Volume) Report {
	g := Group{Name: "pool", Managed: true, Allocatable: 100 * gib, Available: 100 * gib, Extent: capacity.DefaultExtent}
	for _, v := range volumes {
		v.Ours = true
		g.Volumes = append(g.Volumes, v)
		g.Available -= v.Size
	}
	return Report{Groups: []Group{g}}
}

func lv(name string, size capacity.Bytes) Volume { return Volume{Name: name, Size: size} }

func claim(name string, size capacity.Bytes) volume.Claim {
	return volume.Claim{Volume: name, Name: "default/" + name, Size: size, Layout: capacity.Linear}
}

// offer is one that nobody has seen to fit, for claims in these groups; "" is for a claim
// that is counted already.
func offer(l *Ledger, node string, groups ...string) Offer {
	o := Offer{seen: &seen{node: l.nodes[node], shape: &shape{}, stamp: math.MaxUint64}}
	for i, group := range groups {
		at := capacity.Position(i)
		if group == "" {
			at = capacity.Nowhere
		}
		o.seen.shape.ids = append(o.seen.shape.ids, l.names.id(group))
		o.places = append(o.places, at)
	}
	return o
}

// holds holds one claim of the size for the pod.
func holds(l *Ledger, pod, name string, size capacity.Bytes, nodes ...string) (refused []int) {
	var offers []Offer
	l.mu.Lock()
	for _, node := range nodes {
		offers = append(offers, offer(l, node, "pool"))
	}
	l.mu.Unlock()
	return l.Hold(pod, []volume.Claim{claim(name, size)}, offers, start.Add(soon))
}

// look is what the pod sees of one node.
func look(l *Ledger, pod, node string) View {
	var views Views
	l.See(pod, []string{node}, &views)
	return views.At(0)
}

// wantFree says what the pool on the node has free for a new pod.
func wantFree(t *testing.T, l *Ledger, node string, want capacity.Bytes) {
	t.Helper()
	view := look(l, "a new pod", node)
	if !view.Reported {
		t.Fatalf("node %s has no report", node)
	}
	if got := view.Free[0]; got != want {
		t.Errorf("node %s has %s free, want %s", node, got, want)
	}
}

func TestTheLifeOfAPromise(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(l *Ledger)
		want capacity.Bytes // free of 100Gi on n1
	}{
		"nothing happened": {func(*Ledger) {}, 100 * gib},
		"a hold counts on every node": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n2", "n1")
		}, 90 * gib},
		"a second hold of the pod replaces the first": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1")
			holds(l, "p", "v", 20*gib, "n1")
		}, 80 * gib},
		"the choice of another node ends the hold": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1", "n2")
			l.Choose("v", "n2", start.Add(soon))
		}, 100 * gib},
		"the choice of this node keeps the room": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1", "n2")
			l.Choose("v", "n1", start.Add(soon))
		}, 90 * gib},
		"a hold expires": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1")
			l.Expire(start.Add(soon))
		}, 100 * gib},
		"a hold does not expire early": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1")
			l.Expire(start.Add(soon - 1))
		}, 90 * gib},
		"a confirmed promise does not expire": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1")
			l.Choose("v", "n1", start.Add(soon))
			l.Confirm("v", "n1")
			l.Expire(start.Add(1000 * time.Hour))
		}, 90 * gib},
		"a late report does not free a promise": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), start.Add(soon))
			l.Report("n1", pool())
		}, 90 * gib},
		"a report of the volume does not count it twice": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), start.Add(soon))
			l.Report("n1", pool(lv("v", 10*gib)))
		}, 90 * gib},
		"nor does its PersistentVolume": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), start.Add(soon))
			l.Report("n1", pool(lv("v", 10*gib)))
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 10 * gib})
		}, 90 * gib},
		"the largest size counts": {func(l *Ledger) {
			l.Report("n1", pool(lv("v", 10*gib)))
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 15 * gib})
		}, 85 * gib},
		"a held volume that appears is counted once": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1")
			l.Report("n1", pool(lv("v", 10*gib)))
		}, 90 * gib},
		"a volume listed without being ours is off Allocatable already": {func(l *Ledger) {
			report := pool()
			report.Groups[0].Allocatable -= 10 * gib
			report.Groups[0].Volumes = []Volume{lv("v", 10*gib)}
			l.Report("n1", report)
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 12 * gib})
		}, 88 * gib},
		"less cannot be free than no volume has taken": {func(l *Ledger) {
			report := pool()
			report.Groups[0].Available = 7 * gib
			l.Report("n1", report)
		}, 7 * gib},
		"what cannot be allocated is not free": {func(l *Ledger) {
			report := pool()
			report.Groups[0].Allocatable = 7*gib + 5
			l.Report("n1", report)
		}, 7 * gib},
		"a group that shrank below its promises is full": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1")
			report := pool()
			report.Groups[0].Allocatable = 5 * gib
			l.Report("n1", report)
		}, 0},
		"a deleted claim that nobody saw made lingers": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), time.Time{})
			l.Linger("v", start.Add(soon))
			l.Expire(start.Add(soon - 1))
		}, 90 * gib},
		"but not for ever": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), time.Time{})
			l.Linger("v", start.Add(soon))
			l.Expire(start.Add(soon))
		}, 100 * gib},
		"a deleted claim whose volume was seen made and removed frees at once": {func(l *Ledger) {
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 10 * gib})
			l.Report("n1", pool(lv("v", 10*gib)))
			l.Report("n1", pool())
			l.Gone("v", "n1", start.Add(soon))
		}, 100 * gib},
		"what lingers ends when a report has named it and the next does not": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), time.Time{})
			l.Linger("v", start.Add(soon))
			l.Report("n1", pool(lv("v", 10*gib)))
			l.Report("n1", pool())
		}, 100 * gib},
		"what is still claimed stays when its volume comes and goes": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), time.Time{})
			l.Report("n1", pool(lv("v", 10*gib)))
			l.Report("n1", pool())
		}, 90 * gib},
		"a removed PersistentVolume whose volume is there still counts": {func(l *Ledger) {
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 10 * gib})
			l.Report("n1", pool(lv("v", 10*gib)))
			l.Gone("v", "n1", start.Add(soon))
			l.Expire(start.Add(time.Hour))
		}, 90 * gib},
		"a promise that moves is on one node": {func(l *Ledger) {
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n1", "pool"), time.Time{})
			l.Promise("p", []volume.Claim{claim("v", 10*gib)}, offer(l, "n2", "pool"), time.Time{})
		}, 100 * gib},
		"a claim made anew has another volume": {func(l *Ledger) {
			l.Report("n1", pool(lv("old", 10*gib)))
			l.Promise("p", []volume.Claim{claim("new", 10*gib)}, offer(l, "n1", "pool"), time.Time{})
		}, 80 * gib},
		"a node that comes back finds its promises and volumes": {func(l *Ledger) {
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 10 * gib})
			l.Promise("p", []volume.Claim{claim("w", 10*gib)}, offer(l, "n1", "pool"), time.Time{})
			l.Leave("n1")
			l.Report("n1", pool(lv("v", 10*gib)))
		}, 80 * gib},
		"a volume known before its node reports counts": {func(l *Ledger) {
			l.Leave("n1")
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 10 * gib})
			l.Report("n1", pool())
		}, 90 * gib},
		"a hold that is narrowed to a node that has left is there when the node comes back": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1", "n2")
			l.Leave("n1")
			l.Narrow("p", []string{"n1"})
			l.Report("n1", pool())
		}, 90 * gib},
		"and takes nothing else with it when it ends": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1", "n2")
			l.Leave("n1")
			l.Narrow("p", []string{"n1"})
			l.Report("n1", pool())
			l.Promise("q", []volume.Claim{claim("w", 20*gib)}, offer(l, "n1", "pool"), time.Time{})
			l.Release("p")
		}, 80 * gib},
		"a hold that is narrowed away from a node that has left is not there": {func(l *Ledger) {
			holds(l, "p", "v", 10*gib, "n1", "n2")
			l.Leave("n1")
			l.Narrow("p", []string{"n2"})
			l.Report("n1", pool())
		}, 100 * gib},
		"volumes of one name on two nodes count on both": {func(l *Ledger) {
			l.Report("n1", pool(lv("v", 10*gib)))
			l.Report("n2", pool(lv("v", 10*gib)))
			l.Report("n2", pool())
		}, 90 * gib},
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			l.Report("n1", pool())
			l.Report("n2", pool())
			test.do(l)
			wantFree(t, l, "n1", test.want)
		})
	}
}

func TestAHoldIsRefusedWhereTheRoomHasGone(t *testing.T) {
	l := New()
	l.Report("n1", pool())
	l.Report("n2", pool())
	holds(l, "first", "a", 60*gib, "n1")
	if refused := holds(l, "second", "b", 60*gib, "n1", "n2", "n3"); fmt.Sprint(refused) != "[0 2]" {
		t.Errorf("refused %v, want the full node and the unknown one", refused)
	}
	wantFree(t, l, "n1", 40*gib)
	wantFree(t, l, "n2", 40*gib)
}

func TestAPromiseIsRefusedWhereTheRoomHasGone(t *testing.T) {
	l := New()
	l.Report("n1", pool())
	holds(l, "first", "a", 60*gib, "n1")
	holds(l, "second", "b", 30*gib, "n1")
	if l.Promise("second", []volume.Claim{claim("b", 50*gib)}, offer(l, "n1", "pool"), time.Time{}) {
		t.Error("promised 50Gi where 40Gi were left")
	}
	wantFree(t, l, "n1", 10*gib) // and the hold stays
	if !l.Promise("second", []volume.Claim{claim("b", 40*gib)}, offer(l, "n1", "pool"), time.Time{}) {
		t.Error("what the pod itself holds was in its way")
	}
	wantFree(t, l, "n1", 0)
}

func TestAPodSeesItsOwnHoldAsRoom(t *testing.T) {
	l := New()
	l.Report("n1", pool())
	holds(l, "p", "v", 10*gib, "n1")
	holds(l, "q", "w", 20*gib, "n1")
	view := look(l, "p", "n1")
	if got := view.Free[0]; got != 80*gib {
		t.Errorf("p sees %s free, want 80Gi", got)
	}
	if got := view.Held; len(got) != 1 || view.Groups[got[0]].Name != "pool" {
		t.Errorf("p sees that it holds %v of %v", got, view.Groups)
	}
	var views Views
	l.SeeWithoutHolds([]string{"n1", "n2"}, &views)
	if got := views.At(0).Free[0]; got != 100*gib || views.At(1).Reported {
		t.Errorf("without holds there are %s free, want 100Gi", got)
	}
}

func TestWhereAVolumeIs(t *testing.T) {
	l := New()
	l.Report("n1", pool())
	if place, counted := l.Where("v"); counted {
		t.Fatalf("an unknown volume is at %v", place)
	}
	holds(l, "p", "v", 10*gib, "n1")
	if place, counted := l.Where("v"); counted {
		t.Fatalf("a held volume is at %v", place)
	}
	l.ChooseForPod("p", "n1", start.Add(soon))
	if place, _ := l.Where("v"); place != (Place{Node: "n1", Group: "pool"}) {
		t.Fatalf("a promised volume is at %v", place)
	}
	l.Report("n1", pool(lv("v", 10*gib)))
	if place, _ := l.Where("v"); place != (Place{Node: "n1", Group: "pool", Reported: true, Size: 10 * gib}) {
		t.Fatalf("a reported volume is at %v", place)
	}
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 10 * gib})
	if place, _ := l.Where("v"); place != (Place{Node: "n1", Group: "pool", Exists: true, Reported: true, Size: 10 * gib}) {
		t.Fatalf("a volume with its PersistentVolume is at %v", place)
	}
}

func TestThoseWhoWaitAreWokenWhenRoomMayHaveCome(t *testing.T) {
	for name, change := range map[string]func(l *Ledger){
		"a hold is released":    func(l *Ledger) { l.Release("p") },
		"a hold is narrowed":    func(l *Ledger) { l.Narrow("p", []string{"n2"}) },
		"a hold expires":        func(l *Ledger) { l.Expire(start.Add(time.Hour)) },
		"a pod has landed":      func(l *Ledger) { l.Choose("v", "n2", start.Add(soon)) },
		"a promise is given up": func(l *Ledger) { l.Forget("w") },
		"a report comes":        func(l *Ledger) { l.Report("n1", pool()) },
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			l.Report("n1", pool())
			l.Report("n2", pool())
			l.Promise("q", []volume.Claim{claim("w", gib)}, offer(l, "n1", "pool"), time.Time{})
			holds(l, "p", "v", 10*gib, "n1", "n2")
			changed := l.Changed()
			select {
			case <-changed:
				t.Fatal("woken before anything happened")
			default:
			}
			change(l)
			select {
			case <-changed:
			default:
				t.Error("not woken")
			}
		})
	}
}

func TestStatsAndUses(t *testing.T) {
	l := New()
	l.Report("n1", pool(lv("a", gib), lv("b", gib)))
	l.Exists("unreported", "n2", capacity.Spot{Group: "pool", Size: gib})
	l.Promise("q", []volume.Claim{claim("w", gib)}, offer(l, "n1", "pool"), time.Time{})
	holds(l, "p", "v", gib, "n1")
	if got, want := l.Stats(), (Stats{Nodes: 1, Holds: 1, Promises: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	uses := l.Uses()
	if len(uses) != 1 || uses[0].Name != "n1" || uses[0].Volumes != 3 || uses[0].Groups[0].Free != 96*gib {
		t.Errorf("got %+v", uses)
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	l := New()
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			var views Views
			for i := range 200 {
				pod, name := fmt.Sprint("p", worker), fmt.Sprint("v", worker, i)
				l.Report("n1", pool())
				l.Report("n2", pool())
				l.See(pod, []string{"n1", "n2"}, &views)
				holds(l, pod, name, gib, "n1", "n2")
				l.Changed()
				l.Choose(name, "n1", start.Add(soon))
				l.Expire(start)
				l.Forget(name)
				l.Where(name)
				l.Uses()
			}
		})
	}
	all.Wait()
	wantFree(t, l, "n1", 100*gib)
}

// BenchmarkMemory prints what 10,000 nodes with 50 volumes each cost, every volume
// both reported and known from its PersistentVolume.
func BenchmarkMemory(b *testing.B) {
	const nodes, volumes = 10_000, 50
	for b.Loop() {
		before := heap()
		l := New()
		for n := range nodes {
			node := fmt.Sprintf("node-%05d", n)
			report := pool()
			for v := range volumes {
				name := fmt.Sprintf("local-%08d-0000-0000-0000-%012d", n, v)
				report.Groups[0].Volumes = append(report.Groups[0].Volumes, Volume{Name: name, Size: gib, Ours: true})
			}
			l.Report(node, report)
			for _, v := range report.Groups[0].Volumes {
				l.Exists(v.Name, node, capacity.Spot{Group: "pool", Size: v.Size})
			}
		}
		b.ReportMetric(float64(heap()-before)/(1<<20), "MB")
		runtime.KeepAlive(l)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestWhatEndsByItselfIsCounted has one of each end in time, and one of each too late.
func TestWhatEndsByItselfIsCounted(t *testing.T) {
	l := New()
	l.Report("n1", pool())
	promise := func(name string, until time.Time) {
		l.Promise("p-"+name, []volume.Claim{claim(name, 5*gib)}, offer(l, "n1", "pool"), until)
	}
	holds(l, "chosen", "a", 5*gib, "n1")
	l.Choose("a", "n1", start.Add(soon))
	l.Confirm("a", "n1")
	holds(l, "late", "b", 5*gib, "n1")
	promise("c", start.Add(soon))
	promise("d", time.Time{})
	l.Linger("d", start.Add(soon))
	promise("e", time.Time{})
	l.Linger("e", start.Add(soon))
	l.Report("n1", pool(lv("e", 5*gib)))
	for _, name := range []string{"f", "g"} {
		if lack := keepNew(l, name, 5*gib); lack != nil {
			t.Fatalf("refused: %+v", lack)
		}
	}
	l.Unkeep("g", "n1")
	l.Expire(start.Add(soon - 1))
	if got := l.Stats().Expired; got != (Expired{}) {
		t.Errorf("before its time had ended %+v", got)
	}
	l.Expire(start.Add(soon))
	l.Expire(start.Add(2 * soon))
	if got, want := l.Stats().Expired, (Expired{Holds: 1, Promises: 1, Lingered: 1, Rooms: 1}); got != want {
		t.Errorf("ended have %+v, want %+v", got, want)
	}
}
