package extender

import (
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// TestAPodDoesNotWaitWhereAnotherNodeHasRoom has nodes with room for one pod each, and
// no time passes.
func TestAPodDoesNotWaitWhereAnotherNodeHasRoom(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"), claim("b", 60*gib, "lvm"), claim("c", 60*gib, "lvm"), pod("a", "a"), pod("b", "b"), pod("c", "c"))
	w.mustFit(pod("a", "a"), "n1", "n1")
	w.mustFit(pod("b", "b"), "n2", "n1", "n2")
	if w.clock.HasWaiters() {
		t.Error("somebody waits")
	}
	answer := w.waiting(pod("c", "c"), "n1", "n2") // only now holds are all that is in the way
	w.clock.Step(DefaultHoldWait)
	w.wantAnswer(answer, "")
}

// TestANodeThatChangedIsRefusedWithNumbers looks at a node that changes each time it is
// looked at: what is in the way at last is said, and if nothing is, that.
func TestANodeThatChangedIsRefusedWithNumbers(t *testing.T) {
	w := twoNodes(t, claim("a", 60*gib, "lvm"))
	claims := []volume.Claim{{Volume: "local-uid-a", Name: "default/a", Size: 60 * gib}}
	for name, test := range map[string]struct {
		size capacity.Bytes
		want string
	}{
		"there is none now": {120 * gib, "vg pool: wants 120Gi, has 100Gi in all"},
		"there is room now": {60 * gib, "node changed while it was looked at: wants 60Gi, 100Gi free now"},
	} {
		t.Run(name, func(t *testing.T) {
			claims[0].Size = test.size
			var views ledger.Views
			w.s.ledger.See("a", []string{"n1"}, &views)
			view := views.At(0)
			if got := whyChanged(w.s.plan(claims), &view); got.Error() != test.want {
				t.Errorf("got %v, want %s", got, test.want)
			}
		})
	}
}
