package capacity

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTakeTakesOrSaysWhyNot(t *testing.T) {
	for name, test := range map[string]struct {
		spot   Spot
		left   Bytes
		reason string
	}{
		"part of a group":      {spot: Spot{Group: "share", Size: 4 * GiB}, left: 6 * GiB},
		"the last extent":      {spot: Spot{Group: "share", Size: 10 * GiB}, left: 0},
		"more than there is":   {spot: Spot{Group: "share", Size: 11 * GiB}, left: 10 * GiB, reason: `taking 11Gi on node "n1": volume group "share" has 10Gi free`},
		"a group not there":    {spot: Spot{Group: "other", Size: GiB}, left: 10 * GiB, reason: `taking 1Gi on node "n1": no volume group "other"`},
		"the name has no case": {spot: Spot{Group: "Share", Size: GiB}, left: 10 * GiB, reason: `taking 1Gi on node "n1": no volume group "Share"`},
	} {
		t.Run(name, func(t *testing.T) {
			node := Node{Name: "n1", Groups: []Group{{Name: "share", Size: 10 * GiB, Free: 10 * GiB, Extent: DefaultExtent}}}
			before := node.Clone()
			err := node.Take(test.spot)
			if got := reason(err); got != test.reason {
				t.Errorf("got %q, want %q", got, test.reason)
			}
			if got := node.Group("share").Free; got != test.left {
				t.Errorf("%s left, want %s", got, test.left)
			}
			if diff := cmp.Diff(10*GiB, before.Group("share").Free); diff != "" {
				t.Errorf("the clone changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLargestFreeIgnoresGroupsInTrouble(t *testing.T) {
	node := Node{Groups: []Group{
		{Name: "a", Free: 2 * GiB},
		{Name: "b", Free: 3 * GiB},
		{Name: "c", Free: 9 * GiB, Trouble: "DiskFault"},
	}}
	if got := node.LargestFree(); got != 3*GiB {
		t.Errorf("got %s, want 3Gi", got)
	}
	if got := (Node{}).LargestFree(); got != 0 {
		t.Errorf("a node without groups has %s free", got)
	}
}

func TestALinearVolumeCostsItsExtents(t *testing.T) {
	group := Group{Extent: DefaultExtent}
	if got := group.Cost(Linear, 1); got != 4*MiB {
		t.Errorf("one byte costs %s, want 4Mi", got)
	}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
