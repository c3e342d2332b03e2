package extender

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// onePod is two nodes, a pod of two claims of 30Gi, and the pod filtered.
func onePod(t *testing.T) *world {
	t.Helper()
	w := twoNodes(t, claim("a", 30*gib, "lvm"), claim("b", 30*gib, "lvm"), pod("p", "a", "b"))
	w.mustFit(pod("p", "a", "b"), "n1 n2", "n1", "n2")
	w.wantFree("n1/pool=40Gi n2/pool=40Gi")
	return w
}

func TestTheWayOfAPod(t *testing.T) {
	w := onePod(t)
	w.selectNode("a", "n1") // the first claim shows the node of both
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.selectNode("b", "n1")
	w.bind("a", "n1", "pool", 30*gib)
	w.report(nls("n1", vg("pool", 100*gib, lv("a", 30*gib))))
	w.bind("b", "n1", "pool", 30*gib)
	w.until("nothing is promised", func() bool { return w.stats() == ledger.Stats{Nodes: 2} })
	w.claimsSeen()
	w.report(nls("n1", vg("pool", 100*gib, lv("a", 30*gib), lv("b", 30*gib))))
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.mustFit(pod("p", "a", "b"), "n1 n2", "n1", "n2") // bound claims need no place
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")

	w.deletePod("p")
	for _, name := range []string{"a", "b"} {
		w.deleteClaim(name)
	}
	w.claimsSeen() // or their places would linger
	w.report(nls("n1", vg("pool", 100*gib, lv("b", 30*gib))))
	for _, name := range []string{"a", "b"} {
		if err := w.core.CoreV1().PersistentVolumes().Delete(context.Background(), "local-uid-"+name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.report(nls("n1", vg("pool", 100*gib)))
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
}

func TestAClaimThatGivesUpItsNodeFreesItsRoom(t *testing.T) {
	w := onePod(t)
	w.selectNode("a", "n1")
	w.selectNode("b", "n1")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.selectNode("a", "")
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.mustFit(pod("p", "a", "b"), "n1", "n1") // b keeps its place, a gets one
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}

func TestAClaimThatMovesFreesItsRoom(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"))
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.selectNode("a", "n2")
	w.wantFree("n1/pool=100Gi n2/pool=70Gi")
}

func TestAClaimThatMovesToAFullNodeFreesItsRoom(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"), claim("full", 100*gib, "lvm"))
	w.selectNode("full", "n2")
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=70Gi n2/pool=0")
	w.selectNode("a", "n2")
	w.wantFree("n1/pool=100Gi n2/pool=0")
}

func TestAClaimThatFindsAVolumeThatWasThereNeedsNoRoom(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"))
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.updateClaim("a", func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.VolumeName = "retained" })
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
}

func TestADeletedClaimWhoseVolumeMayBeInTheMakingLingers(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"), claim("b", 30*gib, "lvm"), pod("p", "b"))
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.deleteClaim("a")
	w.create(selected(claim("later", 10*gib, "lvm"), "n2")) // what is seen of it was seen later
	w.wantFree("n1/pool=70Gi n2/pool=90Gi")
	w.clock.Step(DefaultHoldTimeout - 1)
	w.mustFit(pod("p", "b"), "n1 n2", "n1", "n2")
	w.wantFree("n1/pool=40Gi n2/pool=60Gi")
	w.clock.Step(1)
	w.mustFit(pod("p", "b"), "n1 n2", "n1", "n2")
	w.wantFree("n1/pool=70Gi n2/pool=60Gi")
}

func TestAClaimMadeAnewIsAnother(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"))
	w.selectNode("a", "n1")
	w.bind("a", "n1", "pool", 30*gib)
	w.deleteClaim("a")
	anew := claim("a", 30*gib, "lvm")
	anew.UID = "uid-anew"
	w.create(anew)
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}

func TestAPodThatIsGoneHoldsNothing(t *testing.T) {
	w := onePod(t)
	w.deletePod("p")
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
}

func TestWhatWasPromisedWithAnotherGoesWithThePod(t *testing.T) {
	w := onePod(t)
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.deletePod("p")
	later := withInline(pod("later"), "scratch", "vgName", "pool")
	later.Spec.NodeName = "n2"
	w.create(later) // what is seen of it was seen later
	w.wantFree("n1/pool=40Gi n2/pool=99Gi")
	w.s.ledger.Expire(w.clock.Now().Add(DefaultHoldTimeout))
	w.wantFree("n1/pool=70Gi n2/pool=99Gi")
}

func TestAPodThatIsPartlyThereKeepsTheRoomForTheRest(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"), claim("b", 60*gib, "lvm"), pod("p", "a", "b"),
		claim("other", 50*gib, "lvm"), pod("q", "other"))
	w.mustFit(pod("p", "a", "b"), "n1 n2", "n1", "n2")
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=10Gi n2/pool=100Gi")
	w.bind("a", "n1", "pool", 30*gib) // and b's choice failed to be written
	w.until("a is there", func() bool { p, _ := w.s.ledger.Where("local-uid-a"); return p.Exists })
	w.clock.Step(2 * DefaultHoldTimeout)
	w.mustFit(pod("q", "other"), "n2", "n1", "n2")
	w.mustFit(pod("p", "a", "b"), "n1", "n1")
}

// TestAPodThatIsPartlyThereGoesNowhereElse has the other claim find no room beside the
// first, before that is bound.
func TestAPodThatIsPartlyThereGoesNowhereElse(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"), claim("b", 60*gib, "lvm"), pod("p", "a", "b"), claim("other", 50*gib, "lvm"), pod("q", "other"))
	w.create(pv("a", "n1", "pool", 30*gib))
	w.until("a is there", func() bool { p, _ := w.s.ledger.Where("local-uid-a"); return p.Exists })
	w.mustFit(pod("q", "other"), "n1", "n1")
	w.selectNode("other", "n1")
	w.wantFree("n1/pool=20Gi n2/pool=100Gi")
	fit, reasons := w.filter(pod("p", "a", "b"), "n1", "n2")
	want := map[string]string{
		"n1": "vg pool: wants 60Gi, 20Gi free",
		"n2": "never: a volume of the pod is there on another node: claim default/a, node n1",
	}
	if diff := cmp.Diff(want, reasons); diff != "" || fit != "" {
		t.Errorf("fits on %q; reasons (-want +got):\n%s", fit, diff)
	}
	request := reserve.Request{Namespace: "default", Claim: "b", Node: "n2"}
	if answer, err := w.s.Reserve(w.ctx(), request); err == nil {
		t.Errorf("b is reserved in %+v", answer)
	}
	w.deletePod("q")
	w.deleteClaim("other")
	w.claimsSeen()
	w.clock.Step(2 * DefaultHoldTimeout)
	w.s.ledger.Expire(w.clock.Now())
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.mustFit(pod("p", "a", "b"), "n1", "n1", "n2")
}

func TestInlineVolumes(t *testing.T) {
	p := withInline(pod("p"), "scratch", "vgName", "pool", "size", "30Gi")
	w := twoNodes(t, p)
	id := volume.ForInline("uid-p", "scratch")
	made := v1alpha1.LogicalVolume{Name: id, VolumeID: id, Total: int64(30 * gib)}
	w.mustFit(p, "n1 n2", "n1", "n2")
	w.wantFree("n1/pool=70Gi n2/pool=70Gi")
	w.updatePod("p", func(p *corev1.Pod) { p.Spec.NodeName = "n1" })
	w.until("it has landed", func() bool { place, _ := w.s.ledger.Where(id); return place.Exists })
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.report(nls("n1", vg("pool", 100*gib, made)))
	w.until("its volume is reported", func() bool { place, _ := w.s.ledger.Where(id); return place.Reported })
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.updatePod("p", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	w.until("its end is seen", func() bool { place, _ := w.s.ledger.Where(id); return !place.Exists })
	w.wantFree("n1/pool=70Gi n2/pool=100Gi") // until it is removed
	w.report(nls("n1", vg("pool", 100*gib)))
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
	w.deletePod("p")
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
}

func TestADeletedNodeLeavesAtOnceAndMayComeBack(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"))
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	if err := w.core.CoreV1().Nodes().Delete(context.Background(), "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantFree("n2/pool=100Gi")
	w.report(nls("n1", vg("pool", 200*gib))) // a last word of its agent
	w.wantFree("n2/pool=100Gi")
	w.create(node("n1"))
	w.wantFree("n1/pool=170Gi n2/pool=100Gi")
	if err := w.storage.CsiV1alpha1().NodeLocalStorages().Delete(context.Background(), "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantFree("n2/pool=100Gi")
}

func TestAChoiceSeenBeforeTheNodeReportsIsPromisedThen(t *testing.T) {
	w := newWorld(t, node("n1"), claim("a", 30*gib, "lvm"))
	w.selectNode("a", "n1")
	w.create(nls("n1", vg("pool", 100*gib)))
	w.wantFree("n1/pool=70Gi")
}

func TestARestartKnowsWhatWasPromised(t *testing.T) {
	scratch := withInline(pod("scratch"), "s", "vgName", "pool", "size", "5Gi")
	scratch.Spec.NodeName = "n1"
	w := twoNodes(t,
		claim("a", 10*gib, "lvm"), claim("b", 20*gib, "lvm"), claim("c", 30*gib, "lvm"), pod("p", "b", "c"), scratch)
	w.bind("a", "n1", "pool", 10*gib)
	w.selectNode("b", "n1") // and c was about to be
	w.wantFree("n1/pool=35Gi n2/pool=100Gi")
	w.report(nls("n1", vg("pool", 100*gib, lv("a", 10*gib), lv("b", 20*gib))))
	w.restart()
	if got := w.free(); got != "n1/pool=35Gi n2/pool=100Gi" {
		t.Errorf("after a restart %s is free", got)
	}
}

func TestASecondPromiseNeedsNoSecondRoom(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), pod("p", "a"))
	w.mustFit(pod("p", "a"), "n1 n2", "n1", "n2")
	w.selectNode("a", "n1")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.mustFit(pod("p", "a"), "n1", "n1") // the scheduler tries again
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}

func TestReserve(t *testing.T) {
	ask := func(claim, node string) reserve.Request {
		return reserve.Request{Namespace: "default", Claim: claim, Node: node, VolumeType: "LVM"}
	}
	for name, test := range map[string]struct {
		before  func(w *world)
		request reserve.Request
		group   string
		reason  string
		free    string
	}{
		"what was held is promised": {
			before:  func(w *world) { w.mustFit(pod("p", "a", "b"), "n1 n2", "n1", "n2") },
			request: ask("a", "n1"), group: "pool",
			free: "n1/pool=40Gi n2/pool=100Gi",
		},
		"what was promised is answered again": {
			before: func(w *world) {
				w.mustFit(pod("p", "a", "b"), "n1 n2", "n1", "n2")
				w.selectNode("a", "n2")
				w.wantFree("n1/pool=100Gi n2/pool=40Gi")
			},
			request: ask("b", "n2"), group: "pool",
			free: "n1/pool=100Gi n2/pool=40Gi",
		},
		"without a hold the whole pod is placed": {
			before:  func(*world) {},
			request: ask("a", "n1"), group: "pool",
			free: "n1/pool=40Gi n2/pool=100Gi",
		},
		"a claim of no pod is placed alone": {
			before: func(w *world) {
				w.deletePod("p")
				w.until("it is gone", func() bool { return len(w.s.podsOf("default/a")) == 0 })
			},
			request: ask("a", "n1"), group: "pool",
			free: "n1/pool=70Gi n2/pool=100Gi",
		},
		"an immediate claim is placed where it is asked for": {
			before:  func(*world) {},
			request: ask("now", "n1"), group: "pool",
			free: "n1/pool=99Gi n2/pool=100Gi",
		},
		"a volume that is there is where it is": {
			before: func(w *world) {
				w.report(nls("n1", vg("other", 100*gib, lv("a", 30*gib)), vg("pool", 100*gib)))
				w.wantFree("n1/other=70Gi n1/pool=100Gi n2/pool=100Gi")
			},
			request: ask("a", "n1"), group: "other",
			free: "n1/other=70Gi n1/pool=100Gi n2/pool=100Gi",
		},
		"there is no room": {
			before: func(w *world) {
				w.report(nls("n1", vg("pool", 100*gib, lv("x", 95*gib))))
				w.wantFree("n1/pool=5Gi n2/pool=100Gi")
			},
			request: ask("a", "n1"),
			reason:  "no room on the node: vg pool: wants 30Gi more for default/a, 5Gi free",
			free:    "n1/pool=5Gi n2/pool=100Gi",
		},
		"there is room for the claim and not for its pod": {
			before: func(w *world) {
				w.report(nls("n1", vg("pool", 100*gib, lv("x", 60*gib))))
				w.wantFree("n1/pool=40Gi n2/pool=100Gi")
			},
			request: ask("a", "n1"),
			reason:  "no room on the node: vg pool: wants 30Gi more for default/b, 10Gi free",
			free:    "n1/pool=40Gi n2/pool=100Gi",
		},
		"a node nobody has reported on": {
			before:  func(*world) {},
			request: ask("a", "n3"),
			reason:  "no room on the node: node has no NodeLocalStorage report",
			free:    "n1/pool=100Gi n2/pool=100Gi",
		},
		"a claim that selected another node": {
			before:  func(w *world) { w.selectNode("a", "n2"); w.wantFree("n1/pool=100Gi n2/pool=40Gi") },
			request: ask("a", "n1"),
			reason:  "the volume has its place on another node: the claim has selected node n2",
			free:    "n1/pool=100Gi n2/pool=40Gi",
		},
		"a volume that lies on another node": {
			before:  func(w *world) { w.create(pv("a", "n2", "pool", 30*gib)); w.wantFree("n1/pool=100Gi n2/pool=70Gi") },
			request: ask("a", "n1"),
			reason:  "the volume has its place on another node: it lies on node n2",
			free:    "n1/pool=100Gi n2/pool=70Gi",
		},
		"a volume that lies in another group than the class says": {
			before:  func(w *world) { w.create(pv("a", "n2", "pool", 30*gib)); w.wantFree("n1/pool=100Gi n2/pool=70Gi") },
			request: reserve.Request{Namespace: "default", Claim: "a", Node: "n2", Group: "fast"},
			reason:  "the volume has its place on another node: it lies in vg pool of node n2, not in vg fast",
			free:    "n1/pool=100Gi n2/pool=70Gi",
		},
		"a claim that is not ours": {
			before:  func(*world) {},
			request: ask("foreign", "n1"),
			reason:  "invalid claim: its storage class is not served by local.csi.aliyun.com, or it is bound",
			free:    "n1/pool=100Gi n2/pool=100Gi",
		},
		"a claim whose class is wrong": {
			before:  func(*world) {},
			request: ask("wrong", "n1"),
			reason:  `invalid claim: storage class "wrong": invalid parameter "color": not known; known are bps, csi.storage.k8s.io/fstype, fsType, fstype, iops, lvmType, mediaType, mkfsOptions, vgName, volumeType, wipe`,
			free:    "n1/pool=100Gi n2/pool=100Gi",
		},
		"a claim whose class is gone": {
			before:  func(*world) {},
			request: ask("classless", "n1"),
			reason:  `the scheduler extender cannot answer now: storage class "gone" of claim default/classless: not seen yet`,
			free:    "n1/pool=100Gi n2/pool=100Gi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoNodes(t, claim("a", 30*gib, "lvm"), claim("b", 30*gib, "lvm"), pod("p", "a", "b"),
				claim("now", gib, "immediate"), claim("foreign", gib, "foreign"), foreign(class("foreign")),
				claim("wrong", gib, "wrong"), class("wrong", "color", "red"), claim("classless", gib, "gone"))
			test.before(w)
			for range 2 { // the same answer ever after
				answer, err := w.s.Reserve(w.ctx(), test.request)
				if got := text(err); got != test.reason {
					t.Fatalf("got %q, want %q", got, test.reason)
				}
				if want := (reserve.Answer{
					Node: test.request.Node, Group: test.group, VolumeType: "LVM", Claim: "default/" + test.request.Claim,
				}); err == nil && answer != want {
					t.Errorf("got %+v, want %+v", answer, want)
				}
				w.wantFree(test.free)
			}
		})
	}
}

func TestAnUnknownClaimIsWaitedForAndThenUnknown(t *testing.T) {
	w := twoNodes(t)
	request := reserve.Request{Namespace: "default", Claim: "a", Node: "n1"}
	failed := make(chan error, 1)
	go func() {
		_, err := w.s.Reserve(w.ctx(), request)
		failed <- err
	}()
	for !w.clock.HasWaiters() {
		runtime.Gosched()
	}
	w.clock.Step(lagWait)
	if err := <-failed; reserve.StatusOf(err) != 404 {
		t.Errorf("got %v, want 404", err)
	}
}

func TestARaceForTheLastRoomHasOneWinner(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 50*gib)),
		claim("a", 30*gib, "lvm"), claim("b", 30*gib, "lvm"), pod("a", "a"), pod("b", "b"))
	results := make(chan error, 2)
	for _, name := range []string{"a", "b"} {
		go func() {
			_, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: name, Node: "n1"})
			results <- err
		}()
	}
	first, second := <-results, <-results
	if (first == nil) == (second == nil) {
		t.Errorf("got %v and %v, want one winner", first, second)
	}
	w.wantFree("n1/pool=20Gi")
}

func TestMediaOfAGroup(t *testing.T) {
	devices := []v1alpha1.DeviceInfo{
		{Name: "/dev/sda", MediaType: "hdd"}, {Name: "/dev/sdb", MediaType: "ssd"},
		{Name: "/dev/nvme0n1", MediaType: "ssd"}, {Name: "/dev/nvme0n11", MediaType: "hdd"},
	}
	for name, test := range map[string]struct {
		disks []string
		want  capacity.Media
	}{
		"a whole disk":                   {[]string{"/dev/sdb"}, "ssd"},
		"a partition":                    {[]string{"/dev/sdb2"}, "ssd"},
		"a partition of an NVMe disk":    {[]string{"/dev/nvme0n1p3"}, "ssd"},
		"a disk whose name goes on":      {[]string{"/dev/nvme0n11"}, "hdd"},
		"two of a kind":                  {[]string{"/dev/sdb", "/dev/nvme0n1"}, "ssd"},
		"two of different kinds":         {[]string{"/dev/sdb", "/dev/sda"}, ""},
		"a disk the report does not say": {[]string{"/dev/sdc"}, ""},
		"no disks":                       {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mediaOf(&v1alpha1.VolumeGroup{PhysicalVolumes: test.disks}, devices); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestTwentyPodsFillTwoNodesToTheLastExtent is a burst: the scheduler decides on one
// pod after the other, and writes what it decided when it finds the time. Time stands
// still, so nothing gets on by waiting for a timeout.
func TestTwentyPodsFillTwoNodesToTheLastExtent(t *testing.T) {
	const pods = 20
	var objects []kruntime.Object
	name := func(i int) string { return fmt.Sprint("p", i) }
	for i := range pods {
		objects = append(objects, claim(name(i), 10*gib, "lvm"), pod(name(i), name(i)))
	}
	w := twoNodes(t, objects...)
	chosen := make([]string, pods)
	var writing sync.WaitGroup
	for i := range pods {
		fit, reasons := w.filter(pod(name(i), name(i)), "n1", "n2")
		nodes := strings.Fields(fit)
		if len(nodes) == 0 {
			t.Fatalf("pod %d of %d fits nowhere: %v; %s", i, pods, reasons, w.free())
		}
		if _, err := w.s.Prioritize(w.ctx(), &extenderv1.ExtenderArgs{Pod: pod(name(i), name(i)), NodeNames: &nodes}); err != nil {
			t.Fatal(err)
		}
		chosen[i] = nodes[i%len(nodes)]
		writing.Go(func() { w.selectNode(name(i), chosen[i]) })
	}
	writing.Wait()
	for i := range pods {
		_, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: name(i), Node: chosen[i]})
		if err != nil {
			t.Errorf("pod %d: %v", i, err)
		}
	}
	w.wantFree("n1/pool=0 n2/pool=0")
}
