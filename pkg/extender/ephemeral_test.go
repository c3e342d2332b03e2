package extender

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// scratchPod has an inline volume of that size in the group pool.
func scratchPod(name string, size capacity.Bytes) *corev1.Pod {
	return withInline(pod(name), "scratch", "vgName", "pool", "size", fmt.Sprint(int64(size)))
}

// scratchLV is what its node makes for a scratchPod.
func scratchLV(p *corev1.Pod, size capacity.Bytes) v1alpha1.LogicalVolume {
	id := volume.ForInline(string(p.UID), "scratch")
	return v1alpha1.LogicalVolume{Name: id, VolumeID: id, Total: int64(size)}
}

// onNode returns the pod where it has landed.
func onNode(p *corev1.Pod, node string) *corev1.Pod {
	p.Spec.NodeName = node
	return p
}

func inPhase(p *corev1.Pod, phase corev1.PodPhase) *corev1.Pod {
	p.Status.Phase = phase
	return p
}

func TestInlineVolumesAreCountedAlikeAfterARestart(t *testing.T) {
	p := func() *corev1.Pod { return onNode(scratchPod("p", 30*gib), "n1") }
	made := scratchLV(p(), 30*gib)
	for name, test := range map[string]struct {
		pod    *corev1.Pod
		report v1alpha1.VolumeGroup
		free   string
	}{
		"a pod whose volume is not made yet":        {p(), vg("pool", 100*gib), "70Gi"},
		"a pod whose volume is reported":            {p(), vg("pool", 100*gib, made), "70Gi"},
		"a running pod":                             {inPhase(p(), corev1.PodRunning), vg("pool", 100*gib, made), "70Gi"},
		"a pod whose volume came out larger":        {p(), vg("pool", 100*gib, scratchLV(p(), 31*gib)), "69Gi"},
		"a completed pod whose volume is there":     {inPhase(p(), corev1.PodSucceeded), vg("pool", 100*gib, made), "70Gi"},
		"a completed pod whose volume is gone":      {inPhase(p(), corev1.PodSucceeded), vg("pool", 100*gib), "100Gi"},
		"an evicted pod whose volume is gone":       {inPhase(p(), corev1.PodFailed), vg("pool", 100*gib), "100Gi"},
		"no pod, but its volume":                    {pod("other"), vg("pool", 100*gib, made), "70Gi"},
		"a pod that has not landed":                 {scratchPod("p", 30*gib), vg("pool", 100*gib), "100Gi"},
		"a pod that asks for nonsense":              {onNode(withInline(pod("p"), "scratch", "vgName", "pool", "size", "-1"), "n1"), vg("pool", 100*gib), "100Gi"},
		"a pod with two volumes, one made":          {withInline(p(), "more", "vgName", "pool", "size", "5Gi"), vg("pool", 100*gib, made), "65Gi"},
		"a pod whose volume is another driver's":    {onNode(foreignInline(pod("p")), "n1"), vg("pool", 100*gib), "100Gi"},
		"a pod in a group that is not there at all": {onNode(withInline(pod("p"), "scratch", "vgName", "gone", "size", "30Gi"), "n1"), vg("pool", 100*gib), "100Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, node("n1"), nls("n1", test.report), test.pod)
			for range 2 {
				if got := w.free(); got != "n1/pool="+test.free {
					t.Errorf("%s is free, want %s", got, test.free)
				}
				w.restart()
			}
		})
	}
}

func foreignInline(p *corev1.Pod) *corev1.Pod {
	p = withInline(p, "scratch", "vgName", "pool", "size", "30Gi")
	p.Spec.Volumes[0].CSI.Driver = "csi.example.com"
	return p
}

func TestAnInlineVolumeStaysCountedUntilItIsGone(t *testing.T) {
	p := scratchPod("p", 30*gib)
	w := twoNodes(t, p)
	w.mustFit(p, "n1 n2", "n1", "n2")
	w.updatePod("p", func(p *corev1.Pod) { p.Spec.NodeName = "n1" })
	w.until("it has landed", func() bool { place, _ := w.s.ledger.Where(volume.ForInline("uid-p", "scratch")); return place.Exists })
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.deletePod("p") // before the node has said anything of the volume
	w.create(onNode(scratchPod("later", gib), "n2"))
	w.wantFree("n1/pool=70Gi n2/pool=99Gi")
	w.report(nls("n1", vg("pool", 100*gib, scratchLV(p, 30*gib))))
	w.until("its node has reported", func() bool { place, _ := w.s.ledger.Where(volume.ForInline("uid-p", "scratch")); return place.Reported })
	w.wantFree("n1/pool=70Gi n2/pool=99Gi")
	w.s.ledger.Expire(w.clock.Now().Add(DefaultHoldTimeout)) // the node was down: nobody removes it for long
	w.wantFree("n1/pool=70Gi n2/pool=99Gi")
	w.report(nls("n1", vg("pool", 100*gib)))
	w.wantFree("n1/pool=100Gi n2/pool=99Gi")
}

func TestAnInlineVolumeThatNeverCameToBeIsForgotten(t *testing.T) {
	p := scratchPod("p", 30*gib)
	w := twoNodes(t, onNode(p, "n1"))
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.deletePod("p")
	w.create(onNode(scratchPod("later", gib), "n2"))
	w.wantFree("n1/pool=70Gi n2/pool=99Gi") // it may be in the making
	w.s.ledger.Expire(w.clock.Now().Add(DefaultHoldTimeout))
	w.wantFree("n1/pool=100Gi n2/pool=99Gi")
}

func TestAPodMadeAnewHasAnotherInlineVolume(t *testing.T) {
	first := onNode(scratchPod("p", 30*gib), "n1")
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 100*gib, scratchLV(first, 30*gib))), first)
	w.wantFree("n1/pool=70Gi")
	w.deletePod("p")
	w.until("its end is seen", func() bool { place, _ := w.s.ledger.Where(volume.ForInline("uid-p", "scratch")); return !place.Exists })
	anew := scratchPod("p", 30*gib)
	anew.UID = "uid-anew"
	w.create(anew)
	w.until("it is seen", func() bool {
		p, known := w.s.caches.pods.Get("default/p")
		return known && p.uid == "uid-anew"
	})
	w.mustFit(anew, "n1", "n1")
	w.wantFree("n1/pool=40Gi") // the first is not removed yet
	w.report(nls("n1", vg("pool", 100*gib)))
	w.wantFree("n1/pool=70Gi")
}

func TestABurstOfInlineVolumesOverCommitsNothing(t *testing.T) {
	const pods = 10
	w := twoNodes(t)
	landed := map[string]int{}
	for i := range pods {
		p := scratchPod(fmt.Sprint("p", i), 30*gib)
		w.create(p)
		w.until("it is seen", func() bool { _, known := w.s.caches.pods.Get("default/" + p.Name); return known })
		w.clock.Step(DefaultHoldWait) // nobody waits for others to choose
		fit, reasons := w.filter(p, "n1", "n2")
		if fit == "" {
			for node, reason := range reasons {
				if reason != "vg pool: wants 30Gi, 10Gi free" {
					t.Errorf("pod %d does not fit on %s: %s", i, node, reason)
				}
			}
			continue
		}
		chosen := strings.Fields(fit)[0]
		landed[chosen]++
		w.updatePod(p.Name, func(p *corev1.Pod) { p.Spec.NodeName = chosen })
		w.until("it has landed", func() bool {
			place, _ := w.s.ledger.Where(volume.ForInline(string(p.UID), "scratch"))
			return place.Exists
		})
	}
	if diff := cmp.Diff(map[string]int{"n1": 3, "n2": 3}, landed); diff != "" {
		t.Errorf("pods on nodes of 100Gi, 30Gi each (-want +got):\n%s", diff)
	}
}

func TestAPodIsToldThatNoNodeManagesTheGroupOfItsInlineVolume(t *testing.T) {
	unmanaged := nls("n1", vg("scratch", 100*gib))
	unmanaged.Status.FilteredStorageInfo.VolumeGroups = nil
	p := withInline(pod("p"), "scratch", "vgName", "scratch")
	w := newWorld(t, node("n1"), unmanaged, node("n2"), nls("n2", vg("pool", 100*gib)), p)
	fit, reasons := w.filter(p, "n1", "n2")
	want := map[string]string{"n1": `never: no managed volume group "scratch": wants 1Gi, 0 free`, "n2": `never: no managed volume group "scratch": wants 1Gi, 0 free`}
	if diff := cmp.Diff(want, reasons); diff != "" || fit != "" {
		t.Errorf("fits on %q; reasons (-want +got):\n%s", fit, diff)
	}
	events := record.NewFakeRecorder(10)
	w.s.o.Events = events
	w.giveUp("p", "0/2 nodes are available: 2 node(s) did not have enough free storage.")
	if err := newTeller(w.s).tell("default/p"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-events.Events:
		if want := `Warning NoRoomForVolumes no room for the pod's volumes: 2 nodes: no managed volume group "scratch": wants 1Gi, 0 free`; got != want {
			t.Errorf("event %q, want %q", got, want)
		}
	default:
		t.Error("no event")
	}
}

// withTemplate adds a generic ephemeral volume to the pod.
func withTemplate(p *corev1.Pod, name string) *corev1.Pod {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}})
	return p
}

// madeFor returns the claim as Kubernetes makes it for the generic ephemeral volume
// "scratch" of the pod, with a UID of its own.
func madeFor(p *corev1.Pod, uid string, size capacity.Bytes) *corev1.PersistentVolumeClaim {
	c, yes := claim(p.Name+"-scratch", size, "lvm"), true
	c.UID = types.UID("uid-" + uid)
	c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID, Controller: &yes}}
	return c
}

func TestAPodMadeAnewWaitsForAnEphemeralClaimOfItsOwn(t *testing.T) {
	first := withTemplate(pod("p"), "scratch")
	w := twoNodes(t, first, madeFor(first, "first", 30*gib))
	w.mustFit(first, "n1 n2", "n1", "n2")
	w.selectNode("p-scratch", "n1")
	w.create(pv("first", "n1", "pool", 30*gib))
	w.updateClaim("p-scratch", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "local-uid-first" })
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")

	w.deletePod("p")
	anew := withTemplate(pod("p"), "scratch")
	anew.UID = "uid-anew"
	w.create(anew)
	w.until("it is seen", func() bool {
		p, known := w.s.caches.pods.Get("default/p")
		return known && p.uid == "uid-anew"
	})
	if _, err := w.s.Filter(w.ctx(), &extenderv1.ExtenderArgs{Pod: anew, NodeNames: &[]string{"n1", "n2"}}); err == nil || !strings.Contains(err.Error(), "was not created for pod default/p") {
		t.Errorf("with the claim of its predecessor: got %v", err)
	}
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")

	w.deleteClaim("p-scratch")
	w.create(madeFor(anew, "second", 30*gib))
	w.until("its own claim is seen", func() bool {
		c, known := w.s.caches.claims.Get("default/p-scratch")
		return known && c.uid() == "uid-second"
	})
	w.mustFit(anew, "n1 n2", "n1", "n2")
	w.wantFree("n1/pool=40Gi n2/pool=70Gi")
	w.selectNode("p-scratch", "n1")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi") // the first volume is there until its PersistentVolume goes
}

func TestAPodThatIsDeletedBeforeItsEphemeralClaimHoldsNothing(t *testing.T) {
	p := withTemplate(pod("p"), "scratch")
	w := twoNodes(t, p, madeFor(p, "first", 30*gib))
	w.mustFit(p, "n1 n2", "n1", "n2")
	w.wantFree("n1/pool=70Gi n2/pool=70Gi")
	w.deletePod("p")
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
	w.deleteClaim("p-scratch")
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
}

func TestAnEphemeralClaimWhosePodIsGoneCountsWhileItsVolumeMayBeMade(t *testing.T) {
	p := withTemplate(pod("p"), "scratch")
	w := twoNodes(t, p, madeFor(p, "first", 30*gib))
	w.mustFit(p, "n1 n2", "n1", "n2")
	w.selectNode("p-scratch", "n1")
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.deletePod("p")
	w.deleteClaim("p-scratch")
	w.create(selected(claim("later", gib, "lvm"), "n2")) // what is seen of it was seen later
	w.wantFree("n1/pool=70Gi n2/pool=99Gi")
	w.s.ledger.Expire(w.clock.Now().Add(DefaultHoldTimeout))
	w.wantFree("n1/pool=100Gi n2/pool=99Gi")
}

func TestInlineAndEphemeralVolumesOfOnePodArePlacedTogether(t *testing.T) {
	p := withInline(withTemplate(pod("p"), "scratch"), "more", "vgName", "pool", "size", "71Gi")
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 100*gib)), node("n2"), nls("n2", vg("pool", 101*gib)), p, madeFor(p, "first", 30*gib))
	w.mustFit(p, "n2", "n1", "n2")
}
