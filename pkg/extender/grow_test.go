package extender

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/extender/reserve"
)

func quantity(size capacity.Bytes) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(size), resource.BinarySI)}
}

// resize changes what the claim asks for, and what csi-resizer says it has begun to
// give; zero for nothing.
func (w *world) resize(claim string, asks, begun capacity.Bytes) {
	w.t.Helper()
	w.updateClaim(claim, func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.Resources.Requests = quantity(asks)
		pvc.Status.AllocatedResources = nil
		if begun > 0 {
			pvc.Status.AllocatedResources = quantity(begun)
		}
	})
}

// boundOn1 is a world of two nodes with a claim of 30Gi that is bound on n1.
func boundOn1(t *testing.T) *world {
	w := twoNodes(t, claim("a", 30*gib, "lvm"))
	w.bind("a", "n1", "pool", 30*gib)
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	return w
}

func TestGrowthCountsBeforeAnyReport(t *testing.T) {
	w := boundOn1(t)
	w.resize("a", 60*gib, 0)
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.resize("a", 60*gib, 60*gib)
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.report(nls("n1", vg("pool", 100*gib, lv("a", 60*gib))))
	w.until("the report is seen", func() bool { p, _ := w.s.ledger.Where("local-uid-a"); return p.Reported })
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}

func TestGrowthCountsAfterARestart(t *testing.T) {
	w := boundOn1(t)
	w.resize("a", 60*gib, 0)
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.restart()
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}

func TestGrowthThatCannotComeTrueKeepsNobodyOut(t *testing.T) {
	w := boundOn1(t)
	w.create(claim("b", 50*gib, "lvm"))
	w.create(pod("p", "b"))
	w.resize("a", 200*gib, 0)
	w.claimsSeen()
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.mustFit(pod("p", "b"), "n1", "n1")
}

func TestARequestTakenBackFreesItsRoom(t *testing.T) {
	w := boundOn1(t)
	w.resize("a", 90*gib, 90*gib)
	w.wantFree("n1/pool=10Gi n2/pool=100Gi")
	w.resize("a", 50*gib, 90*gib) // csi-resizer may still be at it
	w.claimsSeen()
	w.wantFree("n1/pool=10Gi n2/pool=100Gi")
	w.resize("a", 50*gib, 50*gib)
	w.wantFree("n1/pool=50Gi n2/pool=100Gi")
	w.resize("a", 30*gib, 30*gib)
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
}

func TestARetainedVolumeWishesForNothing(t *testing.T) {
	w := boundOn1(t)
	w.resize("a", 60*gib, 0)
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.deleteClaim("a")
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
}

func TestAClaimThatBindsAtOnceIsCountedWhenItIsMade(t *testing.T) {
	w := twoNodes(t, claim("now", 60*gib, "immediate"), claim("a", 60*gib, "lvm"), pod("p", "a"))
	if _, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: "now", Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
	w.mustFit(pod("p", "a"), "n2", "n1", "n2")
	w.bind("now", "n1", "pool", 60*gib)
	w.until("it exists", func() bool { p, _ := w.s.ledger.Where("local-uid-now"); return p.Exists })
	w.s.ledger.Release("uid-p")
	w.wantFree("n1/pool=40Gi n2/pool=100Gi")
}
