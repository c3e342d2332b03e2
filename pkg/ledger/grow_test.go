package ledger

import (
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
)

// grown is a ledger of one node with a volume of 30Gi that exists and is reported.
func grown(t *testing.T) *Ledger {
	l := New()
	l.Report("n1", pool(lv("v", 30*gib)))
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 30 * gib})
	wantFree(t, l, "n1", 70*gib)
	return l
}

func TestGrowthIsCountedUntilTheReportHasIt(t *testing.T) {
	l := grown(t)
	l.Grow("v", 60*gib)
	wantFree(t, l, "n1", 40*gib)
	l.Report("n1", pool(lv("v", 30*gib))) // written before
	wantFree(t, l, "n1", 40*gib)
	l.Report("n1", pool(lv("v", 60*gib)))
	wantFree(t, l, "n1", 40*gib)
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 60 * gib})
	wantFree(t, l, "n1", 40*gib)
}

func TestGrowthIsCountedWhoeverSpeaksFirst(t *testing.T) {
	l := New()
	l.Grow("v", 60*gib)
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 30 * gib})
	l.Report("n1", pool(lv("v", 30*gib)))
	wantFree(t, l, "n1", 40*gib)
}

func TestGrowthAndTheNewSizeLeaveNoGapBetweenThem(t *testing.T) {
	l := grown(t)
	l.Grow("v", 60*gib)
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 60 * gib})
	l.Grow("v", 60*gib)
	wantFree(t, l, "n1", 40*gib)
	if len(l.wishes)+len(l.grows) > 0 {
		t.Errorf("a wish that came true is remembered: %v, %v", l.wishes, l.grows)
	}
}

func TestGrowthThatDoesNotFitIsNotCounted(t *testing.T) {
	l := grown(t)
	l.Grow("v", 101*gib)
	wantFree(t, l, "n1", 70*gib)
	l.Grow("v", 60*gib)
	wantFree(t, l, "n1", 40*gib)
	l.Grow("v", 101*gib)
	wantFree(t, l, "n1", 70*gib)
	l.Grow("v", 0)
	wantFree(t, l, "n1", 70*gib)
}

func TestAReportDecidesAnewWhatFits(t *testing.T) {
	l := grown(t)
	if refused := holds(l, "p", "w", 50*gib, "n1"); len(refused) > 0 {
		t.Fatal("there was room")
	}
	l.Grow("v", 60*gib) // 20Gi are left
	wantFree(t, l, "n1", 20*gib)
	l.Release("p")
	l.Report("n1", pool(lv("v", 30*gib)))
	wantFree(t, l, "n1", 40*gib)
	l.Report("n1", pool(lv("v", 30*gib), lv("foreign", 50*gib))) // somebody took it
	wantFree(t, l, "n1", 20*gib)
}

func TestAVolumeThatIsGoneLingersAsLargeAsItWasCounted(t *testing.T) {
	l := New()
	l.Report("n1", pool())
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 30 * gib})
	l.Grow("v", 60*gib)
	wantFree(t, l, "n1", 40*gib)
	l.Gone("v", "n1", start.Add(soon))
	wantFree(t, l, "n1", 40*gib)
	l.Expire(start.Add(soon))
	wantFree(t, l, "n1", 100*gib)
}

func TestAVolumeThatComesBackGrowsOnlyIfThatFits(t *testing.T) {
	l := grown(t)
	l.Grow("v", 60*gib)
	wantFree(t, l, "n1", 40*gib)
	l.Gone("v", "n1", start.Add(soon))
	wantFree(t, l, "n1", 70*gib)
	l.Report("n1", pool(lv("v", 30*gib), lv("foreign", 50*gib)))
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 30 * gib})
	wantFree(t, l, "n1", 20*gib)
}
