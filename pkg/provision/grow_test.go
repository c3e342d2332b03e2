package provision_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// growth returns the growth of the volume in group fast to so many bytes.
func growth(size capacity.Bytes, more ...func(*provision.Growth)) provision.Growth {
	g := provision.Growth{ID: id, Kind: volume.LVM, Group: "fast", Size: size}
	for _, change := range more {
		change(&g)
	}
	return g
}

func upTo(limit capacity.Bytes) func(*provision.Growth) {
	return func(g *provision.Growth) { g.Limit = limit }
}

func proven(g *provision.Growth) { g.Proven = true }

func TestGrowMakesAVolumeAsLargeAsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		ask  provision.Growth
		want capacity.Bytes
		err  error
		says string
	}{
		"larger":                              {ask: growth(16 * mib), want: 16 * mib},
		"by a byte":                           {ask: growth(8*mib + 1), want: 12 * mib},
		"to all that the group has":           {ask: growth(64 * mib), want: 64 * mib},
		"to what it has":                      {ask: growth(8 * mib), want: 8 * mib},
		"to less than it has":                 {ask: growth(1), want: 8 * mib},
		"to a limit that whole extents reach": {ask: growth(15*mib, upTo(16*mib)), want: 16 * mib},
		"to a limit between two extents":      {ask: growth(14*mib, upTo(15*mib)), err: provision.ErrOutOfRange, says: "in steps of 4Mi it would have 16Mi, at most 15Mi are allowed"},
		"below what it has":                   {ask: growth(4*mib, upTo(4*mib)), err: provision.ErrOutOfRange, says: "it has 8Mi, at most 4Mi are allowed, and volumes never shrink"},
		"to more than the group has":          {ask: growth(65 * mib), err: lvm.ErrNoSpace, says: "wants 57Mi more, 56Mi free in volume group fast"},
		"above its own limit":                 {ask: growth(16*mib, upTo(8*mib)), err: volume.ErrInvalid},
		"to no size":                          {ask: growth(0), err: volume.ErrInvalid},
		"in a group nobody can have":          {ask: growth(16*mib, func(g *provision.Growth) { g.Group = "../etc" }), err: volume.ErrInvalid},
		"in a group that is not there":        {ask: growth(16*mib, func(g *provision.Growth) { g.Group = "lost" }), err: lvm.ErrGroupNotFound},
		"of a volume that is not there":       {ask: growth(16*mib, func(g *provision.Growth) { g.ID = "local-2" }), err: lvm.ErrVolumeNotFound},
		"of a kind that is not served":        {ask: growth(16*mib, func(g *provision.Growth) { g.Kind = volume.Device }), err: volume.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			mustEnsure(t, n, spec())
			for range 2 {
				got, err := n.Grow(t.Context(), test.ask)
				if got != test.want || !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
					t.Fatalf("got %s and %v, want %s and %v", got, err, test.want, test.err)
				}
				if err != nil && !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v does not say %q", err, test.says)
				}
				if have := n.Volume("fast", id).Size; have != max(test.want, 8*mib) {
					t.Errorf("LVM has %s", have)
				}
			}
		})
	}
}

func TestTheBudgetOfGrowing(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	grow := func(what string, size capacity.Bytes, want map[string]int) {
		t.Helper()
		n.Counter.Reset()
		if _, err := n.Grow(t.Context(), growth(size)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		wantRuns(t, n, want)
	}
	grow("larger", 12*mib, map[string]int{"lvm lvextend": 1})
	grow("the same size", 12*mib, map[string]int{})
	grow("a smaller size", 4*mib, map[string]int{})
	n.Restart()
	grow("larger after a restart", 16*mib, map[string]int{"lvm lvextend": 1})
	n.Reboot()
	n.Restart()
	grow("the same size of an inactive volume", 16*mib, map[string]int{"lvm fullreport": 1})
}

func TestOnlyTheVolumeItselfGrows(t *testing.T) {
	tagged := func(tags ...string) []string { return append([]string{volume.IDTag(id)}, tags...) }
	for name, test := range map[string]struct {
		tags []string
		ask  provision.Growth
		err  error
	}{
		"the volume":                              {tags: tagged(), ask: growth(16 * mib)},
		"a volume of another handle":              {tags: []string{volume.IDTag("another")}, ask: growth(16*mib, proven), err: lvm.ErrNotOurs},
		"an untagged volume":                      {ask: growth(16 * mib), err: lvm.ErrNotOurs},
		"an untagged volume with a PV":            {ask: growth(16*mib, proven)},
		"a volume with other tags of ours":        {tags: []string{volume.TagPrefix + "claim=a/b"}, ask: growth(16*mib, proven), err: lvm.ErrNotOurs},
		"a deleted volume that snapshots keep":    {tags: tagged(volume.TagPrefix + "state=deleted"), ask: growth(16*mib, proven), err: lvm.ErrVolumeNotFound},
		"a snapshot that is shown by a claim":     {tags: []string{volume.SnapshotTag(id)}, ask: growth(16 * mib), err: volume.ErrInvalid},
		"a protected volume, which only may stay": {tags: tagged(lvm.ProtectedTag), ask: growth(16 * mib)},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			if err := n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: id, Size: 8 * mib, Tags: test.tags}); err != nil {
				t.Fatal(err)
			}
			_, err := n.Grow(t.Context(), test.ask)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			want := 8 * mib
			if test.err == nil {
				want = 16 * mib
			}
			if have := n.Volume("fast", id).Size; have != want {
				t.Errorf("LVM has %s, want %s", have, want)
			}
		})
	}
}

// withSnapshot makes the volume and a snapshot of it.
func withSnapshot(t *testing.T, n *provisiontest.Node) {
	t.Helper()
	mustEnsure(t, n, spec())
	if err := n.Host().CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: "fast", Origin: id, Name: "snap", Size: 4 * mib}); err != nil {
		t.Fatal(err)
	}
}

func TestAVolumeWithSnapshotsGrowsWhileNobodyUsesIt(t *testing.T) {
	n := node(t)
	withSnapshot(t, n)
	for _, opened := range []string{id, "snap"} {
		closeVolume := n.Open("fast", opened)
		_, err := n.Grow(t.Context(), growth(16*mib))
		if !errors.Is(err, lvm.ErrHasSnapshots) || !strings.Contains(err.Error(), "stop its pods, or delete the snapshots") {
			t.Errorf("with %s open: %v", opened, err)
		}
		if have := n.Volume("fast", id); have.Size != 8*mib || !have.Active {
			t.Errorf("with %s open it became %+v", opened, have)
		}
		closeVolume()
	}
	n.Counter.Reset()
	size, err := n.Grow(t.Context(), growth(16*mib))
	if err != nil || size != 16*mib {
		t.Fatalf("got %s and %v", size, err)
	}
	wantRuns(t, n, map[string]int{"lvm lvextend": 2, "lvm lvchange": 2})
	if _, err := n.Grow(t.Context(), growth(64*mib)); !errors.Is(err, lvm.ErrNoSpace) || !strings.Contains(err.Error(), "wants 48Mi more, 44Mi free") {
		t.Errorf("more than there is: %v", err)
	}
	for _, name := range []string{id, "snap"} {
		if !n.Volume("fast", name).Active {
			t.Errorf("%s is not active any more", name)
		}
	}
}

func TestARepeatedGrowthFinishesWhereverTheFirstDied(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*testing.T, *provisiontest.Node)
		points  int
	}{
		"a volume":                 {func(t *testing.T, n *provisiontest.Node) { mustEnsure(t, n, spec()) }, 2},
		"a volume with a snapshot": {withSnapshot, 8},
	} {
		t.Run(name, func(t *testing.T) {
			grow := func(n *provisiontest.Node) error { _, err := n.Grow(t.Context(), growth(16*mib)); return err }
			dies(t, test.points, test.prepare, grow, func(t *testing.T, n *provisiontest.Node) {
				if err := grow(n); err != nil {
					t.Fatal(err)
				}
				if have := n.Volume("fast", id).Size; have != 16*mib {
					t.Errorf("LVM has %s", have)
				}
			})
		})
	}
}
