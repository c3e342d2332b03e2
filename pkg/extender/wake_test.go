package extender

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/open-local/open-local/pkg/capacity"
)

// wakes has a waker count how often it wakes the scheduler.
func (w *world) wakes() (count *int) {
	w.t.Helper()
	count = new(int)
	w.s.events.Lock()
	defer w.s.events.Unlock()
	w.s.waker = newWaker(w.s, func(context.Context) error { *count++; return nil })
	return count
}

// isLookedAt waits until the waker knows that the pod waits, or does no more.
func (w *world) isLookedAt(pod string, waits bool) {
	w.t.Helper()
	w.until("the waker knows of the pod", func() bool {
		w.s.waker.mu.Lock()
		defer w.s.waker.mu.Unlock()
		_, known := w.s.waker.waiting["default/"+pod]
		return known == waits
	})
}

func TestTheSchedulerIsWokenWhenThereIsRoom(t *testing.T) {
	full := func() []runtime.Object {
		return []runtime.Object{
			node("n1"), nls("n1", vg("pool", 10*gib, lv("old", 8*gib))), pv("old", "n1", "pool", 8*gib),
			node("n2"), nls("n2", vg("pool", 3*gib)), claim("a", 5*gib, "lvm"), pod("p", "a"),
		}
	}
	for name, c := range map[string]struct {
		size   capacity.Bytes // of the claim that waits, unless 5Gi
		happen func(w *world)
		free   string
		want   int
	}{
		"once a volume is in no report any more": {0, func(w *world) {
			w.deletePV("old")
			w.report(nls("n1", vg("pool", 10*gib)))
		}, "n1/pool=10Gi n2/pool=3Gi", 1},
		"once a group has grown": {0, func(w *world) {
			w.report(nls("n2", vg("pool", 7*gib)))
		}, "n1/pool=2Gi n2/pool=7Gi", 1},
		"but not when the volume is still reported": {0, func(w *world) {
			w.deletePV("old")
			w.report(nls("n1", vg("pool", 10*gib, lv("old", 8*gib), lv("new", gib))))
		}, "n1/pool=1Gi n2/pool=3Gi", 0},
		"but not when the room is too small": {0, func(w *world) {
			w.report(nls("n2", vg("pool", 4*gib)))
		}, "n1/pool=2Gi n2/pool=4Gi", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, full()...)
			count := w.wakes()
			w.giveUp("p", "0/2 nodes are available: 2 vg pool: wants 5Gi, 3Gi free.")
			w.isLookedAt("p", true)
			c.happen(w)
			w.wantFree(c.free)
			w.s.waker.try(w.ctx())
			if *count != c.want {
				t.Errorf("the scheduler was woken %d times, want %d; %s", *count, c.want, w.free())
			}
			w.s.waker.try(w.ctx())
			if *count != c.want {
				t.Errorf("the scheduler was woken %d times for one change", *count)
			}
		})
	}
}

// TestRoomThatComesBeforeThePodIsSeenToWait has the scheduler give up on a pod with an
// answer from before there was room.
func TestRoomThatComesBeforeThePodIsSeenToWait(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 3*gib)), claim("a", 5*gib, "lvm"), pod("p", "a"))
	count := w.wakes()
	w.report(nls("n1", vg("pool", 7*gib)))
	w.wantFree("n1/pool=7Gi")
	w.giveUp("p", "0/1 nodes are available: 1 vg pool: wants 5Gi, 3Gi free.")
	w.isLookedAt("p", true)
	w.s.waker.try(w.ctx())
	if *count != 1 {
		t.Errorf("the scheduler was woken %d times, want once", *count)
	}
}

// TestRoomThatComesWithTime has a volume that nobody reports and whose claim is gone.
func TestRoomThatComesWithTime(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 10*gib)), claim("a", 5*gib, "lvm"), pod("p", "a"), pv("made", "n1", "pool", 8*gib))
	w.wantFree("n1/pool=2Gi")
	count := w.wakes()
	w.giveUp("p", "0/1 nodes are available: 1 vg pool: wants 5Gi, 2Gi free.")
	w.isLookedAt("p", true)
	w.deletePV("made")
	w.until("the node is looked at", func() bool {
		_, nodes := w.s.waker.candidates()
		return len(nodes) == 1
	})
	if again := w.s.waker.try(w.ctx()); !again || *count != 0 {
		t.Fatalf("woken %d times before the room is free, looks again: %v", *count, again)
	}
	w.clock.Step(DefaultHoldTimeout + time.Second)
	w.s.waker.try(w.ctx())
	if *count != 1 {
		t.Errorf("the scheduler was woken %d times, want once; %s", *count, w.free())
	}
}

func TestNobodyIsWokenForAPodThatWaitsNoLonger(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"it is gone":      func(w *world) { w.deletePod("p") },
		"it has a node":   func(w *world) { w.updatePod("p", func(p *corev1.Pod) { p.Spec.NodeName = "n1" }) },
		"it has no place": func(w *world) { w.updatePod("p", func(p *corev1.Pod) { p.Status.Conditions = nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, node("n1"), nls("n1", vg("pool", 3*gib)), claim("a", 5*gib, "lvm"), pod("p", "a"))
			count := w.wakes()
			w.giveUp("p", "0/1 nodes are available")
			w.isLookedAt("p", true)
			end(w)
			w.isLookedAt("p", false)
			w.report(nls("n1", vg("pool", 7*gib)))
			w.wantFree("n1/pool=7Gi")
			if w.s.waker.try(w.ctx()); *count != 0 {
				t.Errorf("the scheduler was woken %d times", *count)
			}
		})
	}
}

// TestWakingIsTriedAgain has the API server fail once.
func TestWakingIsTriedAgain(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 3*gib)), claim("a", 5*gib, "lvm"), pod("p", "a"))
	woken := make(chan bool, 2)
	answers := []error{errors.New("the API server is away"), nil}
	w.s.events.Lock()
	w.s.waker = newWaker(w.s, func(context.Context) error {
		err := answers[0]
		answers = answers[1:]
		woken <- err == nil
		return err
	})
	w.s.events.Unlock()
	w.giveUp("p", "0/1 nodes are available")
	w.isLookedAt("p", true)
	go w.s.waker.run(w.ctx())
	w.report(nls("n1", vg("pool", 7*gib)))
	var got []bool
	for deadline := time.After(patience); len(got) < 2; {
		select {
		case ok := <-woken:
			got = append(got, ok)
		case <-time.After(time.Millisecond):
			w.clock.Step(wakeEvery)
		case <-deadline:
			t.Fatalf("the scheduler was woken with these results: %v", got)
		}
	}
	if got[0] || !got[1] {
		t.Errorf("the attempts ended with success %v, want a failure and a success", got)
	}
}

func (w *world) deletePV(claim string) {
	w.t.Helper()
	if err := w.core.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("persistentvolumes"), "", "local-uid-"+claim); err != nil {
		w.t.Fatal(err)
	}
}
