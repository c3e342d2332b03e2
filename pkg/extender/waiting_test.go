package extender

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

func TestSummary(t *testing.T) {
	for name, c := range map[string]struct {
		count map[string]int
		want  string
	}{
		"one node":                        {map[string]int{"full": 1}, "1 node: full"},
		"the reason of most nodes first":  {map[string]int{"full": 2, "no report": 7}, "7 nodes: no report; 2 nodes: full"},
		"equal counts are in one order":   {map[string]int{"b": 2, "a": 2}, "2 nodes: a; 2 nodes: b"},
		"only the first of many are said": {map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}, "1 node: a; 1 node: b; 1 node: c; 1 node: d; and 2 more reasons"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, summary(c.count)); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAPodThatWaitsIsTold has the scheduler give up on pods and reads the events.
func TestAPodThatWaitsIsTold(t *testing.T) {
	const capacitySaid = "0/1 nodes are available: 1 node(s) did not have enough free storage."
	for name, c := range map[string]struct {
		size capacity.Bytes
		said string
		want string // empty: no event
	}{
		"that the scheduler did not ask about it": {
			20 * gib, capacitySaid,
			"Warning NoRoomForVolumes no room for the pod's volumes: 1 node: vg large: wants 20Gi, has 15Gi in all; 1 node: vg pool: wants 20Gi, has 10Gi in all",
		},
		"nothing when the scheduler has said it": {
			20 * gib, "0/2 nodes are available: 1 vg pool: wants 20Gi, has 10Gi in all, 1 vg large: wants 20Gi, has 15Gi in all.", "",
		},
		"nothing when it is not the storage": {
			1 * gib, "0/1 nodes are available: 1 Insufficient cpu.", "",
		},
		"of the nodes that are too small, though the pod may not use the one that is not": {
			15 * gib, "0/2 nodes are available: 1 node(s) did not have enough free storage, 1 node(s) didn't match Pod's node affinity/selector.",
			"Warning NoRoomForVolumes no room for the pod's volumes: 1 node: vg pool: wants 15Gi, has 10Gi in all",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, node("n1"), nls("n1", vg("pool", 10*gib)), node("n2"), nls("n2", vg("large", 15*gib)), claim("a", c.size, "lvm"), pod("p", "a"))
			events := record.NewFakeRecorder(10)
			w.s.o.Events = events
			teller := newTeller(w.s)
			if err := teller.tell("default/p"); err != nil || len(events.Events) > 0 {
				t.Fatalf("a pod that does not wait: %d events, %v", len(events.Events), err)
			}
			w.giveUp("p", c.said)
			if err := teller.tell("default/p"); err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(events.Events) > 0 {
				got = <-events.Events
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAPodIsToldOnceAllOfItIsSeen has a class come after the scheduler gave up on the
// pod that needs it.
func TestAPodIsToldOnceAllOfItIsSeen(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 10*gib)), claim("a", 1*gib, "late"), pod("p", "a"))
	events := record.NewFakeRecorder(10)
	w.s.o.Events = events
	w.giveUp("p", "0/1 nodes are available: 1 node(s) did not have enough free storage.")
	teller := newTeller(w.s)
	w.until("it is known that the class is missing", func() bool {
		teller.try(w.ctx(), "default/p")
		return teller.queue.NumRequeues("default/p") > 0
	})
	if len(events.Events) > 0 {
		t.Fatalf("told without its class: %s", <-events.Events)
	}
	w.create(class("late", "vgName", "other"))
	go teller.run(w.ctx())
	select {
	case got := <-events.Events:
		if diff := cmp.Diff("Warning NoRoomForVolumes no room for the pod's volumes: 1 node: no managed volume group \"other\": wants 1Gi, 0 free", got); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	case <-time.After(patience):
		t.Fatal("the pod was never told")
	}
}

func TestAPodIsNotedOnceForWhatTheSchedulerSays(t *testing.T) {
	calm := podOf(volume.DefaultDriver, pod("p", "a"))
	waits := func(said string) *podRecord {
		p := pod("p", "a")
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: said,
		}}
		return podOf(volume.DefaultDriver, p)
	}
	for name, c := range map[string]struct {
		before, now *podRecord
		want        int
	}{
		"a pod that begins to wait":            {calm, waits("full"), 1},
		"a pod that waited when we started":    {nil, waits("full"), 1},
		"a pod that waits for another reason":  {waits("full"), waits("fuller"), 1},
		"a pod that waits as before":           {waits("full"), waits("full"), 0},
		"a pod that does not wait any more":    {waits("full"), calm, 0},
		"a pod nobody has tried to place yet ": {nil, calm, 0},
	} {
		t.Run(name, func(t *testing.T) {
			teller := newTeller(nil)
			teller.seen(c.before, c.now)
			if got := teller.queue.Len(); got != c.want {
				t.Errorf("%d pods are noted, want %d", got, c.want)
			}
		})
	}
}

// giveUp writes on the pod what the scheduler writes, and waits until it is seen.
func (w *world) giveUp(name, said string) {
	w.t.Helper()
	w.updatePod(name, func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: said,
		}}
	})
	w.until("the scheduler's words are seen", func() bool {
		cached, known := w.s.caches.pods.Get("default/" + name)
		return known && cached.said == said
	})
}
