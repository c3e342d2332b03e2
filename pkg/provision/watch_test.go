package provision_test

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devmapper"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
)

// gauge is the device-mapper of a fake.
type gauge struct {
	n         *provisiontest.Node
	suspended map[string]bool
	held      int // how often writers had to wait
	mu        sync.Mutex
	broken    map[string]error
}

func (g *gauge) Snapshot(group, name string) (devmapper.Snapshot, error) {
	if err := g.broken[name]; err != nil {
		return devmapper.Snapshot{}, err
	}
	if !slices.Contains(g.n.Volumes(), group+"/"+name) {
		return devmapper.Snapshot{}, fs.ErrNotExist
	}
	taken, space, lost := g.n.SnapshotUse(group, name)
	return devmapper.Snapshot{Taken: taken, Space: space, Lost: lost}, nil
}

func (g *gauge) Suspended(group, name string) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.suspended[group+"/"+name], nil
}

func (g *gauge) Suspend(group, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suspended[group+"/"+name] = true
	g.held++
	return nil
}

func (g *gauge) Resume(group, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.suspended, group+"/"+name)
	return nil
}

// watch is a watched node with one volume of 1 GiB and a snapshot of it.
type watch struct {
	*provisiontest.Node
	*provision.Watcher
	t     *testing.T
	gauge *gauge
	clock *testingclock.FakeClock
	told  []string
}

const (
	gib    = capacity.GiB
	shotOf = 64 * mib
)

func watched(t *testing.T, group capacity.Bytes) *watch {
	t.Helper()
	n := provisiontest.New(t, map[string]capacity.Bytes{"fast": group})
	w := &watch{
		Node: n, t: t, gauge: &gauge{n: n, suspended: map[string]bool{}, broken: map[string]error{}},
		clock: testingclock.NewFakeClock(time.Unix(1700000000, 0)),
	}
	mustEnsure(t, n, spec(sized(gib, 0)))
	mustSnapshot(t, n, shot(space(shotOf), func(s *provision.SnapshotSpec) { s.Step = 128 * mib }))
	w.Watcher = &provision.Watcher{
		Volumes: n.Provisioner, Gauge: w.gauge, Host: lvm.New(n.Counter), Devices: n.Devices, Clock: w.clock,
		Tell: func(_ context.Context, t provision.Trouble) { w.told = append(w.told, t.Snapshot.Name+" "+t.Reason) },
	}
	w.look(0)
	n.Counter.Reset()
	return w
}

// look lets time pass, looks, and waits until what is to grow has.
func (w *watch) look(passed time.Duration) time.Duration {
	w.t.Helper()
	w.clock.Step(passed)
	again := w.Look(w.t.Context())
	w.Wait()
	return again
}

func (w *watch) wantSpace(name string, want capacity.Bytes) {
	w.t.Helper()
	if got := w.Volume("fast", name).Size; got != want {
		w.t.Errorf("snapshot %s has %s, want %s", name, got, want)
	}
}

func (w *watch) wantTold(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.told); diff != "" {
		w.t.Errorf("told (-want +got):\n%s", diff)
	}
	w.told = nil
}

func TestAnIdleSnapshotTakesNothing(t *testing.T) {
	w := watched(t, 4*gib)
	for range 100 {
		w.look(time.Second)
	}
	wantRuns(t, w.Node, map[string]int{})
	w.wantSpace(snapID, shotOf)
	w.wantTold()
}

func TestASnapshotGrowsByItsStepAtItsThreshold(t *testing.T) {
	w := watched(t, 4*gib)
	w.Overwrite("fast", id, 28*mib)
	w.look(time.Hour) // slowly
	w.wantSpace(snapID, shotOf)
	w.Overwrite("fast", id, 8*mib)
	w.look(time.Hour)
	w.wantSpace(snapID, shotOf+128*mib)
	wantRuns(t, w.Node, map[string]int{"lvm lvextend": 1})
	if w.gauge.held > 0 {
		t.Error("writers had to wait although there was time")
	}
	w.wantTold()
}

func TestAFastWriterGetsMoreThanTheStep(t *testing.T) {
	w := watched(t, 4*gib)
	w.Overwrite("fast", id, 40*mib)
	w.look(time.Second) // 40 MiB a second
	if w.gauge.held != 1 || len(w.gauge.suspended) > 0 {
		t.Errorf("writers had to wait %d times, and wait for %v", w.gauge.held, w.gauge.suspended)
	}
	w.wantSpace(snapID, shotOf+400*mib)
}

func TestWritersGoOnWhateverBecomesOfWhatTheyWaitFor(t *testing.T) {
	w := watched(t, 4*gib)
	w.Before = func(command string) error {
		if !strings.HasPrefix(command, "lvm lvextend --devices /dev/disk-fast ") {
			t.Errorf("LVM would look at what writers wait for: %s", command)
		}
		if suspended, _ := w.gauge.Suspended("fast", id); !suspended {
			t.Error("nobody waits")
		}
		for suspended := true; suspended; suspended, _ = w.gauge.Suspended("fast", id) {
			w.clock.Step(time.Second) // LVM hangs
			runtime.Gosched()
		}
		return nil
	}
	w.Overwrite("fast", id, 40*mib)
	w.look(time.Second)
	w.wantSpace(snapID, shotOf+400*mib)
	w.wantTold()
}

func TestWritersWaitThatBecomeFastWhileASnapshotGrows(t *testing.T) {
	w := watched(t, 4*gib)
	w.Before = func(string) error { // LVM is at it
		if w.gauge.held > 0 {
			t.Error("writers had to wait although there seemed to be time")
		}
		w.Overwrite("fast", id, 4*mib)
		w.clock.Step(50 * time.Millisecond)
		for range 3 {
			w.Look(t.Context())
		}
		for waited := time.Now(); ; runtime.Gosched() {
			if suspended, _ := w.gauge.Suspended("fast", id); suspended {
				return nil
			}
			if time.Since(waited) > 10*time.Second {
				t.Error("nobody waits")
				return nil
			}
		}
	}
	w.Overwrite("fast", id, 40*mib)
	w.look(time.Hour)
	if w.gauge.held != 1 || len(w.gauge.suspended) > 0 {
		t.Errorf("writers had to wait %d times, and wait for %v", w.gauge.held, w.gauge.suspended)
	}
	w.wantSpace(snapID, shotOf+128*mib)
	w.wantTold()
}

func TestAGroupThatGotAnotherDiskIsGrownAllTheSame(t *testing.T) {
	w := watched(t, 4*gib)
	w.AddDisk("/dev/disk-more", gib)
	must(t, w.Node.Host().ExtendGroup(t.Context(), "fast", []string{"/dev/disk-more"}))
	w.Overwrite("fast", id, 40*mib)
	w.look(time.Second)
	wantRuns(t, w.Node, map[string]int{"lvm lvextend": 2})
	w.wantSpace(snapID, shotOf+400*mib)
	w.Overwrite("fast", id, 300*mib)
	w.look(time.Second) // and from now on its members are known
	wantRuns(t, w.Node, map[string]int{"lvm fullreport": 1, "lvm lvextend": 1})
	w.wantTold()
}

func TestASnapshotNeverGetsMoreThanItCanNeed(t *testing.T) {
	w := watched(t, 4*gib)
	most := capacity.SnapshotSpace(gib).Extents(4 * mib)
	for range 30 {
		w.Overwrite("fast", id, 32*mib)
		w.look(100 * time.Millisecond)
	}
	w.wantSpace(snapID, most)
	w.Counter.Reset()
	for range 30 {
		if again := w.look(time.Second); again != time.Second {
			t.Errorf("one that cannot be full is looked at again in %s", again)
		}
	}
	wantRuns(t, w.Node, map[string]int{})
	w.wantTold()
}

func TestTheSmallerAndFasterTheOftener(t *testing.T) {
	w := watched(t, 16*gib)
	if again := w.look(time.Second); again != 20*time.Millisecond {
		t.Errorf("a small one is looked at again in %s", again)
	}
	must(t, w.Node.Host().ExtendVolume(t.Context(), "fast", snapID, gib))
	if again := w.look(time.Second); again < 200*time.Millisecond || again > time.Second {
		t.Errorf("a large one is looked at again in %s", again)
	}
	w.Overwrite("fast", id, 100*mib)
	if again := w.look(50 * time.Millisecond); again > 200*time.Millisecond {
		t.Errorf("one that fills is looked at again in %s", again)
	}
}

func TestAFullGroupCostsOneSnapshotAndNothingElse(t *testing.T) {
	w := watched(t, gib+192*mib)
	mustEnsure(t, w.Node, spec(func(s *provision.Spec) { s.ID = "other"; s.Size = 32 * mib }))
	mustSnapshot(t, w.Node, shot(named("small"), space(4*mib), func(s *provision.SnapshotSpec) { s.Volume = "other" }))
	w.look(time.Second)
	w.Overwrite("fast", id, 48*mib)
	w.look(time.Hour) // there is less than a step
	free := w.Volume("fast", snapID).Size - shotOf
	if free <= 0 {
		t.Fatal("what the group had left was not given")
	}
	w.wantTold()
	w.Overwrite("fast", id, free)
	w.look(time.Hour)
	w.wantTold(snapID + " " + provision.SnapshotNoSpace)
	w.Counter.Reset()
	w.look(time.Second) // not tried again at once, nor told
	wantRuns(t, w.Node, map[string]int{})
	w.look(time.Minute)
	w.wantTold()
	w.Overwrite("fast", id, 64*mib)
	w.look(time.Second)
	w.look(time.Second)
	w.wantTold(snapID + " " + provision.SnapshotLost)
	if got := w.Node.Devices.Announced(); len(got) != 1 {
		t.Errorf("the node was told to look at %q, want the lost snapshot", got)
	}
	if _, _, lost := w.SnapshotUse("fast", "small"); lost {
		t.Error("the snapshot of another volume was lost, too")
	}
	must(t, w.RemoveSnapshot(t.Context(), unshot(snapID)))
	w.Overwrite("fast", "other", 3*mib)
	w.look(time.Hour)
	if got := w.Volume("fast", "small").Size; got <= 4*mib {
		t.Errorf("the other snapshot did not grow when there was room: %s", got)
	}
	w.wantTold()
}

func TestOneThatCannotBeSeenStopsNoOther(t *testing.T) {
	w := watched(t, 4*gib)
	mustSnapshot(t, w.Node, shot(named("another"), space(shotOf)))
	w.gauge.broken["another"] = errors.New("no such luck")
	w.look(time.Second)
	w.look(time.Second)
	w.Overwrite("fast", id, 40*mib)
	w.look(time.Hour)
	w.wantSpace(snapID, shotOf+128*mib)
	w.wantSpace("another", shotOf)
	w.wantTold("another " + provision.SnapshotNotGrown)
}

func TestOneThatCannotGrowIsToldAndTriedAgain(t *testing.T) {
	w := watched(t, 4*gib)
	w.Before = func(string) error { return errors.New("no such luck") }
	w.Overwrite("fast", id, 40*mib)
	w.look(time.Hour)
	w.look(time.Minute)
	w.wantTold(snapID + " " + provision.SnapshotNotGrown)
	w.Before = nil
	w.look(time.Minute)
	w.wantSpace(snapID, shotOf+128*mib)
	if len(w.gauge.suspended) > 0 {
		t.Errorf("writers wait for %v", w.gauge.suspended)
	}
}

func TestWhoWasLeftWaitingGoesOn(t *testing.T) {
	w := watched(t, 4*gib)
	w.gauge.suspended["fast/"+id] = true
	w.Release(t.Context())
	wantRuns(t, w.Node, map[string]int{"lvm lvchange": 1})
	w.gauge.suspended = map[string]bool{}
	w.Release(t.Context())
	wantRuns(t, w.Node, map[string]int{})
}
