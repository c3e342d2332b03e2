package allocator

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	mib = capacity.MiB
	gib = capacity.GiB
)

// A groupOption states what matters of a group in a test.
type groupOption func(*capacity.Group)

func free(free capacity.Bytes) groupOption { return func(g *capacity.Group) { g.Free = free } }
func media(media capacity.Media) groupOption {
	return func(g *capacity.Group) { g.Media = media }
}
func trouble(why string) groupOption { return func(g *capacity.Group) { g.Trouble = why } }
func extent(size capacity.Bytes) groupOption {
	return func(g *capacity.Group) { g.Extent = size }
}

// group returns an empty group.
func group(name string, size capacity.Bytes, options ...groupOption) capacity.Group {
	g := capacity.Group{Name: name, Size: size, Free: size, Extent: capacity.DefaultExtent}
	for _, option := range options {
		option(&g)
	}
	return g
}

func node(groups ...capacity.Group) capacity.Node {
	return capacity.Node{Name: "n1", Groups: groups}
}

// disks says how what is free in the group lies on its physical volumes.
func disks(free ...capacity.Bytes) groupOption {
	return func(g *capacity.Group) {
		g.Free = 0
		for _, disk := range free {
			g.Free += disk
		}
		g.Disks = capacity.NewDisks(g.Free, free)
	}
}

type claimOption func(*volume.Claim)

func inStripes(c *volume.Claim) { c.Layout = capacity.Striped }

func in(group string) claimOption             { return func(c *volume.Claim) { c.Group = group } }
func on(media volume.Media) claimOption       { return func(c *volume.Claim) { c.Media = media } }
func claims(c ...volume.Claim) []volume.Claim { return c }

func claim(name string, size capacity.Bytes, options ...claimOption) volume.Claim {
	c := volume.Claim{Volume: "local-" + name, Name: "default/" + name, Size: size, Layout: capacity.Linear}
	for _, option := range options {
		option(&c)
	}
	return c
}

func TestPlace(t *testing.T) {
	for name, test := range map[string]struct {
		node   capacity.Node
		claims []volume.Claim
		prefer Preference // Binpack when empty
		want   string     // the groups, in the order of the claims
		reason string
		final  bool
	}{
		"no claims need no groups": {node: node()},
		"binpack fills the fuller group, not the smaller": {
			node:   node(group("large", 100*gib, free(20*gib)), group("small", 10*gib)),
			claims: claims(claim("a", gib)),
			want:   "large",
		},
		"spread takes the emptier group, not the larger": {
			node:   node(group("large", 100*gib, free(20*gib)), group("small", 10*gib)),
			claims: claims(claim("a", gib)),
			prefer: Spread,
			want:   "small",
		},
		"spread counts what the pod's other claims just took": {
			node:   node(group("a", 10*gib), group("b", 10*gib, free(9*gib))),
			claims: claims(claim("1", 6*gib), claim("2", 6*gib)),
			prefer: Spread,
			want:   "a b",
		},
		"equals go by name": {
			node:   node(group("a", 10*gib), group("b", 10*gib)),
			claims: claims(claim("1", gib)),
			want:   "a",
		},
		"a claim that names its group ignores better ones": {
			node:   node(group("fast", 10*gib), group("slow", 900*gib)),
			claims: claims(claim("data", 8*gib, in("fast"))),
			prefer: Spread,
			want:   "fast",
		},
		"a claim that names its group goes first": {
			node:   node(group("a", 10*gib), group("b", 10*gib)),
			claims: claims(claim("any", 10*gib), claim("picky", 4*gib, in("a"))),
			want:   "b a",
		},
		"a claim that names a medium goes before one that does not": {
			node:   node(group("a", 10*gib, media(volume.SSD)), group("b", 10*gib, media(volume.HDD))),
			claims: claims(claim("any", 10*gib), claim("picky", 4*gib, on(volume.SSD))),
			want:   "b a",
		},
		"two claims that fit only one way are placed that way": {
			node:   node(group("a", 10*gib), group("b", 10*gib, free(6*gib))),
			claims: claims(claim("small", 6*gib), claim("large", 10*gib)),
			want:   "b a",
		},
		"largest first is not enough: 6 5 4 3 2 on 10 and 10": {
			node:   node(group("a", 10*gib), group("b", 10*gib)),
			claims: claims(claim("1", 6*gib), claim("2", 5*gib), claim("3", 4*gib), claim("4", 3*gib), claim("5", 2*gib)),
			prefer: Spread,
			want:   "a b a b b",
		},
		"equal claims are not tried twice over": {
			node: node(group("a", 12*gib), group("b", 10*gib)),
			claims: claims(claim("1", 4*gib), claim("2", 4*gib), claim("3", 4*gib),
				claim("4", 5*gib), claim("5", 5*gib)),
			want: "a a a b b",
		},
		"the last extent counts": {
			node:   node(group("a", 12*mib)),
			claims: claims(claim("1", 5*mib), claim("2", 1)),
			want:   "a a",
		},
		"rounding to extents can be what does not fit": {
			node:   node(group("a", 8*mib)),
			claims: claims(claim("1", 5*mib), claim("2", 1)),
			reason: "vg a: wants 4Mi more for default/2, 0 free",
			final:  true,
		},
		"every group has its own extents": {
			node:   node(group("coarse", 10*gib, extent(gib), free(gib)), group("fine", 10*gib, free(8*mib))),
			claims: claims(claim("1", 5*mib), claim("2", 5*mib)),
			want:   "coarse fine",
		},
		"no groups": {
			node:   node(),
			claims: claims(claim("a", gib)),
			reason: "no managed volume group: wants 1Gi, 0 free",
			final:  true,
		},
		"a group that is not there": {
			node:   node(group("a", 10*gib)),
			claims: claims(claim("a", gib, in("x"))),
			reason: `no managed volume group "x": wants 1Gi, 0 free`,
			final:  true,
		},
		"a medium that is not there": {
			node:   node(group("a", 10*gib, media(volume.HDD)), group("mixed", 10*gib)),
			claims: claims(claim("a", gib, on(volume.SSD))),
			reason: "no managed volume group on ssd: wants 1Gi, 0 free",
			final:  true,
		},
		"a group on the wrong medium": {
			node:   node(group("a", 10*gib, media(volume.HDD))),
			claims: claims(claim("a", gib, in("a"), on(volume.SSD))),
			reason: `no managed volume group "a" on ssd: wants 1Gi, 0 free`,
			final:  true,
		},
		"no room now": {
			node:   node(group("open-local-pool-0", 100*gib, free(12*gib))),
			claims: claims(claim("a", 20*gib)),
			reason: "vg open-local-pool-0: wants 20Gi, 12Gi free",
		},
		"no room ever": {
			node:   node(group("open-local-pool-0", 10*gib)),
			claims: claims(claim("a", 20*gib)),
			reason: "vg open-local-pool-0: wants 20Gi, has 10Gi in all",
			final:  true,
		},
		"the reason names the group with most room of those large enough": {
			node:   node(group("a", 10*gib), group("b", 100*gib, free(5*gib)), group("c", 100*gib, free(7*gib))),
			claims: claims(claim("1", 20*gib)),
			reason: "vg c: wants 20Gi, 7Gi free",
		},
		"two claims that fit alone but not together": {
			node:   node(group("share", 10*gib)),
			claims: claims(claim("a", 6*gib), claim("b", 6*gib)),
			reason: "vg share: wants 6Gi more for default/b, 4Gi free",
			final:  true,
		},
		"two claims that would fit together if the group were empty": {
			node:   node(group("share", 20*gib, free(10*gib))),
			claims: claims(claim("a", 6*gib), claim("b", 6*gib)),
			reason: "vg share: wants 6Gi more for default/b, 4Gi free",
		},
		"stripes go where several disks have room, not where most room is": {
			node:   node(group("one", 100*gib, disks(100*gib)), group("uneven", 100*gib, disks(90*gib, 2*gib)), group("two", 100*gib, disks(6*gib, 5*gib))),
			claims: claims(claim("1", 10*gib, inStripes)),
			prefer: Spread,
			want:   "two",
		},
		"stripes have no room": {
			node:   node(group("uneven", 100*gib, disks(90*gib, 2*gib))),
			claims: claims(claim("1", 10*gib, inStripes)),
			reason: "vg uneven: wants 10Gi in equal parts on two or more disks; no two are sure to have the room, 92Gi free in all",
		},
		"stripes on one disk are never": {
			node:   node(group("one", 100*gib, disks(100*gib))),
			claims: claims(claim("1", 10*gib, inStripes)),
			reason: "vg one: wants 10Gi in equal parts on two or more disks; no two are sure to have the room, 100Gi free in all",
			final:  true,
		},
		"stripes find room beside what the pod's other volumes may take of any disk": {
			node:   node(group("a", 20*gib, disks(10*gib, 10*gib)), group("b", 20*gib, disks(9*gib, 9*gib))),
			claims: claims(claim("striped", 12*gib, inStripes), claim("linear", 6*gib)),
			prefer: Spread,
			want:   "b a",
		},
		"a group in trouble takes nothing": {
			node:   node(group("a", 10*gib, trouble("DiskFault"))),
			claims: claims(claim("1", gib)),
			reason: "vg a: DiskFault: wants 1Gi, 10Gi free",
			final:  true,
		},
		"a group in trouble is not the reason when another is full": {
			node:   node(group("a", 10*gib, trouble("DiskFault")), group("b", 10*gib, free(0))),
			claims: claims(claim("1", gib)),
			reason: "vg b: wants 1Gi, 0 free",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if test.prefer == "" {
				test.prefer = Binpack
			}
			before := test.node.Clone()
			spots, err := Place(test.node, test.claims, test.prefer)
			if misfit, ok := errors.AsType[*Misfit](err); ok {
				if misfit.Error() != test.reason || misfit.Final != test.final {
					t.Fatalf("got %q (final %t), want %q (final %t)", misfit, misfit.Final, test.reason, test.final)
				}
				if len(spots) > 0 {
					t.Fatalf("a misfit came with spots %v", spots)
				}
			} else if test.reason != "" || err != nil {
				t.Fatalf("got %v, want %q", err, test.reason)
			}
			var groups []string
			for _, spot := range spots {
				groups = append(groups, spot.Group)
			}
			if got := strings.Join(groups, " "); got != test.want {
				t.Errorf("got groups %q, want %q", got, test.want)
			}
			if diff := cmp.Diff(before, test.node); diff != "" {
				t.Errorf("the node changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestSpotsAreWholeExtentsInTheOrderOfTheClaims(t *testing.T) {
	got, err := Place(node(group("a", gib)), claims(claim("1", 1), claim("2", 100_000_000)), Binpack)
	if err != nil {
		t.Fatal(err)
	}
	want := []capacity.Spot{
		{Group: "a", Size: 4 * mib, Layout: capacity.Linear},
		{Group: "a", Size: 96 * mib, Layout: capacity.Linear},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spots (-want +got):\n%s", diff)
	}
}

func TestScore(t *testing.T) {
	// Each claim asks for what it takes, but for a quarter of a disk.
	claims := func(spots []capacity.Spot) []volume.Claim {
		var all []volume.Claim
		for _, spot := range spots {
			asked := spot.Size
			if asked == 40*gib && len(spots) == 1 {
				asked /= 4
			}
			all = append(all, volume.Claim{Size: asked})
		}
		return all
	}
	wholly := func(g capacity.Group) capacity.Group {
		g.Kind, g.Extent = capacity.Device, 0
		return g
	}
	spot := func(group string, size capacity.Bytes) capacity.Spot {
		return capacity.Spot{Group: group, Size: size}
	}
	for name, test := range map[string]struct {
		node    capacity.Node
		spots   []capacity.Spot
		binpack int64
		spread  int64
	}{
		"what is used already counts": {
			node:    node(group("a", 100*gib, free(30*gib))),
			spots:   []capacity.Spot{spot("a", 10*gib)},
			binpack: 8, spread: 2,
		},
		"a small empty group is not fuller than a large full one": {
			node:    node(group("a", 10*gib)),
			spots:   []capacity.Spot{spot("a", gib)},
			binpack: 1, spread: 9,
		},
		"full": {
			node:    node(group("a", 10*gib, free(gib))),
			spots:   []capacity.Spot{spot("a", gib)},
			binpack: 10, spread: 0,
		},
		"groups that are not touched have no part": {
			node:    node(group("a", 10*gib), group("b", 1000*gib, free(0))),
			spots:   []capacity.Spot{spot("a", gib)},
			binpack: 1, spread: 9,
		},
		"touched groups count by their size": {
			node:    node(group("a", 10*gib), group("b", 90*gib)),
			spots:   []capacity.Spot{spot("a", 10*gib), spot("b", 40*gib)},
			binpack: 5, spread: 5,
		},
		"spots in one group add up": {
			node:    node(group("a", 10*gib)),
			spots:   []capacity.Spot{spot("a", 3*gib), spot("a", 4*gib)},
			binpack: 7, spread: 3,
		},
		"of a disk counts how little of it is wasted": {
			node:    node(wholly(group("a", 40*gib)), group("b", 1000*gib)),
			spots:   []capacity.Spot{spot("a", 40*gib)},
			binpack: 3, spread: 3,
		},
		"no spots, no opinion": {node: node(group("a", 10*gib, free(0)))},
		"a group that is gone": {node: node(), spots: []capacity.Spot{spot("a", gib)}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Score(test.node, claims(test.spots), test.spots, Binpack); got != test.binpack {
				t.Errorf("binpack: got %d, want %d", got, test.binpack)
			}
			if got := Score(test.node, claims(test.spots), test.spots, Spread); got != test.spread {
				t.Errorf("spread: got %d, want %d", got, test.spread)
			}
		})
	}
}

func TestPreferencesHaveTwoNames(t *testing.T) {
	for _, want := range []Preference{Binpack, Spread} {
		if got, err := PreferenceNamed(string(want)); got != want || err != nil {
			t.Errorf("%q: got %q and %v", want, got, err)
		}
	}
	if _, err := PreferenceNamed("random"); err == nil || err.Error() != `scheduling strategy "random" is none of [binpack spread]` {
		t.Errorf("got %v", err)
	}
}
