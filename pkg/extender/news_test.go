package extender

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/open-local/open-local/pkg/extender/reserve"
)

// TestOldNewsDoesNotMoveAVolumeThatIsBeingMade has the caches lag behind csi-provisioner:
// it asks for a place on the node that was chosen last, while they still show, one after
// another, what was chosen before.
func TestOldNewsDoesNotMoveAVolumeThatIsBeingMade(t *testing.T) {
	w := newWorld(t, node("n1"), node("n2"), claim("a", 30*gib, "lvm"), pod("p", "a"),
		nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 100*gib)))
	reserved := func() {
		t.Helper()
		if _, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: "a", Node: "n2"}); err != nil {
			t.Fatal(err)
		}
	}
	reserved()
	w.wantFree("n1/pool=100Gi n2/pool=70Gi")
	for _, old := range []string{"n1", "", "n1"} {
		w.selectNode("a", old)
		w.claimsSeen()
		w.wantFree("n1/pool=100Gi n2/pool=70Gi")
	}
	w.selectNode("a", "n2")
	w.claimsSeen()
	w.clock.Step(2 * DefaultHoldTimeout)
	w.wantFree("n1/pool=100Gi n2/pool=70Gi") // for good
}

// TestAReservationThatIsGivenUpEndsByItself is the other side of that.
func TestAReservationThatIsGivenUpEndsByItself(t *testing.T) {
	w := newWorld(t, node("n1"), node("n2"), selected(claim("a", 30*gib, "lvm"), "n2"), pod("p", "a"),
		nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 100*gib)))
	ask := reserve.Request{Namespace: "default", Claim: "a", Node: "n2"}
	if _, err := w.s.Reserve(w.ctx(), ask); err != nil {
		t.Fatal(err)
	}
	w.selectNode("a", "")
	w.claimsSeen()
	w.selectNode("a", "n1")
	w.claimsSeen()
	w.wantFree("n1/pool=100Gi n2/pool=70Gi")
	ask.Node = "n1"
	if _, err := w.s.Reserve(w.ctx(), ask); err != nil {
		t.Fatal(err)
	}
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.selectNode("a", "")
	w.claimsSeen()
	w.wantFree("n1/pool=70Gi n2/pool=100Gi")
	w.clock.Step(2 * DefaultHoldTimeout)
	w.s.ledger.Expire(w.clock.Now())
	w.wantFree("n1/pool=100Gi n2/pool=100Gi")
}

// TestAClaimMadeAnewIsNotTakenForTheOneBefore has csi-provisioner know of the new one first.
func TestAClaimMadeAnewIsNotTakenForTheOneBefore(t *testing.T) {
	w := newWorld(t, node("n1"), selected(claim("a", 30*gib, "lvm"), "n1"), pod("p", "a"), nls("n1", vg("pool", 100*gib)))
	ask := reserve.Request{Namespace: "default", Claim: "a", Node: "n1", Volume: "local-uid-new"}
	answered := make(chan error, 1)
	go func() {
		_, err := w.s.Reserve(w.ctx(), ask)
		answered <- err
	}()
	w.deleteClaim("a")
	anew := selected(claim("a", 40*gib, "lvm"), "n1")
	anew.UID = "uid-new"
	w.create(anew)
	select {
	case err := <-answered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	if place, promised := w.s.ledger.Where("local-uid-new"); !promised || place.Node != "n1" {
		t.Errorf("the new claim is at %+v", place)
	}
	ask.Volume = "local-uid-other"
	go func() {
		_, err := w.s.Reserve(w.ctx(), ask)
		answered <- err
	}()
	for !w.clock.HasWaiters() {
		runtime.Gosched()
	}
	w.clock.Step(2 * lagWait)
	if err := <-answered; !errors.Is(err, reserve.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// TestAClaimMadeAnewAHundredTimesIsAlwaysAnother is a StatefulSet's pod that is deleted
// with its claim, again and again. What was there before is reported a little longer.
func TestAClaimMadeAnewAHundredTimesIsAlwaysAnother(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 100*gib)), node("n2"), nls("n2", vg("pool", 100*gib)))
	ctx := context.Background()
	for i := range 100 {
		c, p := claim("data", 40*gib, "lvm"), pod("db-0", "data")
		c.UID, p.UID = types.UID(fmt.Sprint("uid-data-", i)), types.UID(fmt.Sprint("uid-db-", i))
		volume := fmt.Sprint("data-", i)
		w.create(c)
		w.create(p)
		w.until("the claim is seen", func() bool {
			seen, known := w.s.caches.claims.Get("default/data")
			return known && seen.uid() == string(c.UID)
		})
		w.mustFit(p, "n1", "n1")
		w.wantFree("n1/pool=60Gi n2/pool=100Gi")
		w.selectNode("data", "n1")
		answer, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: "data", Volume: "local-" + string(c.UID), Node: "n1"})
		if err != nil || answer.Group != "pool" {
			t.Fatalf("round %d: reserved in %q: %v", i, answer.Group, err)
		}
		w.claimsSeen() // or the place would linger
		made := nls("n1", vg("pool", 100*gib, lv(volume, 40*gib)))
		if i%3 > 0 {
			w.report(made)
		}
		v := pv(volume, "n1", "pool", 40*gib)
		v.Spec.ClaimRef.Name, v.Spec.ClaimRef.UID = "data", c.UID
		w.create(v)
		w.until("the volume is known", func() bool {
			place, _ := w.s.ledger.Where(v.Name)
			return place.Exists
		})
		if i%3 == 0 {
			w.report(made)
		}
		w.deletePod("db-0")
		w.deleteClaim("data")
		if err := w.core.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		w.until("the volume is no longer known", func() bool {
			place, counted := w.s.ledger.Where(v.Name)
			return counted && !place.Exists && place.Reported
		})
		w.wantFree("n1/pool=60Gi n2/pool=100Gi")
		w.report(nls("n1", vg("pool", 100*gib)))
		w.wantFree("n1/pool=100Gi n2/pool=100Gi")
	}
	w.until("nothing is left", func() bool {
		w.s.events.Lock()
		defer w.s.events.Unlock()
		return w.stats().Promises == 0 && w.stats().Holds == 0 && w.stats().Making == 0
	})
}
