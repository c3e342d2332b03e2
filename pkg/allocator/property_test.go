package allocator

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// someNode draws a node of up to four groups, in extents of one byte so that the
// slow search below is quick.
func someNode(t *rapid.T) capacity.Node {
	n := capacity.Node{Name: "n1"}
	for i := range rapid.IntRange(0, 4).Draw(t, "groups") {
		size := rapid.Int64Range(1, 20).Draw(t, "size")
		g := capacity.Group{
			Name:   fmt.Sprint("g", i),
			Size:   capacity.Bytes(size),
			Free:   capacity.Bytes(rapid.Int64Range(0, size).Draw(t, "free")),
			Extent: 1,
		}
		var disks []capacity.Bytes
		for range rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "disks") {
			disks = append(disks, capacity.Bytes(rapid.Int64Range(0, size).Draw(t, "disk")))
		}
		g.Disks = capacity.NewDisks(g.Free+capacity.Bytes(rapid.Int64Range(0, 3).Draw(t, "promised")), disks)
		n.Groups = append(n.Groups, g)
	}
	return n
}

func someClaims(t *rapid.T) []volume.Claim {
	var c []volume.Claim
	for i := range rapid.IntRange(1, 5).Draw(t, "claims") {
		c = append(c, volume.Claim{
			Name:   fmt.Sprint("c", i),
			Size:   capacity.Bytes(rapid.Int64Range(1, 12).Draw(t, "wants")),
			Group:  rapid.SampledFrom([]string{"", "", "", "g0", "g1"}).Draw(t, "in"),
			Layout: rapid.SampledFrom([]capacity.Layout{capacity.Linear, capacity.Linear, capacity.Striped}).Draw(t, "layout"),
		})
	}
	return c
}

// inOrder returns the claims in the order in which they are placed.
func inOrder(claims []volume.Claim) (ordered []volume.Claim) {
	for _, i := range NewPlanner(claims, Binpack).order {
		ordered = append(ordered, claims[i])
	}
	return ordered
}

// possible tries every way there is.
func possible(n capacity.Node, claims []volume.Claim) bool {
	if len(claims) == 0 {
		return true
	}
	for i := range n.Groups {
		g := &n.Groups[i]
		if claims[0].Group != "" && claims[0].Group != g.Name || !g.Fits(claims[0].Layout, claims[0].Size, g.Free) {
			continue
		}
		takes := g.Cost(claims[0].Layout, claims[0].Size)
		g.Free -= takes
		fits := possible(n, claims[1:])
		g.Free += takes
		if fits {
			return true
		}
	}
	return false
}

func TestAPlaceIsFoundExactlyWhenThereIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, c := someNode(t), someClaims(t)
		prefer := rapid.SampledFrom([]Preference{Binpack, Spread}).Draw(t, "prefer")
		spots, err := Place(n, c, prefer)
		if want := possible(n.Clone(), inOrder(c)); (err == nil) != want {
			t.Fatalf("possible %t, but got %v and %v", want, spots, err)
		}
		if err != nil {
			empty := n.Clone()
			for i := range empty.Groups {
				empty.Groups[i].Free = empty.Groups[i].Size
				empty.Groups[i].Disks = empty.Groups[i].Disks.Emptied(empty.Groups[i].Size)
			}
			if final := err.(*Misfit).Final; final == possible(empty, inOrder(c)) {
				t.Fatalf("%v: final %t is wrong", err, final)
			}
			return
		}
		for i, spot := range spots { // what was answered can be taken, all of it
			if c[i].Group != "" && c[i].Group != spot.Group {
				t.Errorf("claim %d wants group %s and got %s", i, c[i].Group, spot.Group)
			}
			if err := n.Take(spot); err != nil {
				t.Error(err)
			}
		}
		for _, p := range []Preference{Binpack, Spread} {
			if score := Score(n, c, spots, p); score < 0 || score > MaxScore {
				t.Errorf("score %d by %s", score, p)
			}
		}
	})
}

func TestAPlannerRemembersNothingOfTheLastNode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := someClaims(t)
		planner := NewPlanner(c, Spread)
		for range 3 {
			n := someNode(t)
			got, gotErr := planner.Place(n, nil)
			want, wantErr := Place(n, c, Spread)
			if fmt.Sprint(got, gotErr) != fmt.Sprint(want, wantErr) {
				t.Fatalf("got %v and %v, a new planner says %v and %v", got, gotErr, want, wantErr)
			}
		}
	})
}

// TestUpToEightClaimsOnSixteenGroupsAreDecidedExactly leaves the search that prefers no
// time, and compares what is left with every way there is.
func TestUpToEightClaimsOnSixteenGroupsAreDecidedExactly(t *testing.T) {
	tried, found := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n := capacity.Node{Name: "n1"}
		for i := range rapid.IntRange(2, 16).Draw(t, "groups") {
			g := capacity.Group{
				Name: fmt.Sprint("g", i), Size: 40, Extent: 1,
				Kind:  rapid.SampledFrom([]capacity.Kind{capacity.Cut, capacity.Cut, capacity.Device}).Draw(t, "kind"),
				Free:  capacity.Bytes(rapid.Int64Range(0, 20).Draw(t, "free")),
				Media: rapid.SampledFrom([]capacity.Media{"ssd", "hdd"}).Draw(t, "media"),
			}
			if g.Kind.Whole() { // it is free, or it is not
				g.Size, g.Extent, g.Free = g.Free, 0, rapid.SampledFrom([]capacity.Bytes{0, g.Free}).Draw(t, "whole")
			}
			n.Groups = append(n.Groups, g)
		}
		var c []volume.Claim
		for i := range rapid.IntRange(2, ExactClaims).Draw(t, "claims") {
			c = append(c, volume.Claim{
				Name: fmt.Sprint("c", i), Layout: capacity.Linear,
				Size:  capacity.Bytes(rapid.Int64Range(1, 15).Draw(t, "wants")),
				Kind:  rapid.SampledFrom([]capacity.Kind{capacity.Cut, capacity.Cut, capacity.Device}).Draw(t, "of"),
				Media: rapid.SampledFrom([]capacity.Media{"", "", "ssd"}).Draw(t, "on"),
				Group: rapid.SampledFrom([]string{"", "", "", "", "g1"}).Draw(t, "in"),
			})
		}
		planner := NewPlanner(c, rapid.SampledFrom([]Preference{Binpack, Spread}).Draw(t, "prefer"))
		planner.limit = rapid.SampledFrom([]int{0, 5, MaxSteps}).Draw(t, "limit")
		spots, err := planner.Place(n, nil)
		want := possibleSomehow(n.Clone(), c)
		if tried++; want {
			found++
		}
		if (err == nil) != want {
			t.Fatalf("possible %t, but got %v and %v", want, spots, err)
		}
		if misfit, is := err.(*Misfit); is && misfit.Unsure {
			t.Errorf("unsure of %d claims", len(c))
		}
		for i, spot := range spots {
			if g := n.Group(spot.Group); !eligible(&c[i], g) {
				t.Errorf("claim %+v is put into %+v", c[i], g)
			}
			if err := n.Take(spot); err != nil {
				t.Error(err)
			}
		}
	})
	t.Logf("%d nodes, %d of which had a place", tried, found)
}

// possibleSomehow tries every way there is, but one of several groups that are alike.
func possibleSomehow(n capacity.Node, claims []volume.Claim) bool {
	if len(claims) == 0 {
		return true
	}
	c := &claims[0]
	for i := range n.Groups {
		g := &n.Groups[i]
		alike := func(o capacity.Group) bool {
			same := o.Free == g.Free && o.Kind == g.Kind && o.Media == g.Media && (o.Size == g.Size || !o.Kind.Whole())
			return same && o.Name != "g1" && g.Name != "g1"
		}
		if !eligible(c, g) || c.Size > g.Free || slices.ContainsFunc(n.Groups[:i], alike) {
			continue
		}
		before := g.Free
		if g.Free -= c.Size; g.Kind.Whole() {
			g.Free = 0
		}
		fits := possibleSomehow(n, claims[1:])
		if g.Free = before; fits {
			return true
		}
	}
	return false
}

// TestEightClaimsThatFillSixteenGroupsExactlyAreFound plants a way that leaves nothing.
func TestEightClaimsThatFillSixteenGroupsExactlyAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := capacity.Node{Name: "n1"}
		for i := range 16 {
			n.Groups = append(n.Groups, capacity.Group{Name: fmt.Sprint("g", i), Size: 1000, Extent: 1})
		}
		var c []volume.Claim
		for i := range ExactClaims {
			size := capacity.Bytes(rapid.Int64Range(1, 100).Draw(t, "wants"))
			c = append(c, volume.Claim{Name: fmt.Sprint("c", i), Size: size, Layout: capacity.Linear})
			n.Groups[rapid.IntRange(0, 5).Draw(t, "in")].Free += size
		}
		if _, err := Place(n, c, Spread); err != nil {
			t.Fatal(err)
		}
	})
}

// pairs returns so many claims, no two alike, and groups that hold two of them each.
func pairs(claims, groups int) (n capacity.Node, c []volume.Claim) {
	for i := range groups {
		n.Groups = append(n.Groups, capacity.Group{Name: fmt.Sprint("g", i), Size: 100, Free: 100, Extent: 1})
	}
	for i := range claims {
		c = append(c, volume.Claim{Name: fmt.Sprint("c", i), Size: capacity.Bytes(34 + i), Layout: capacity.Linear})
	}
	return n, c
}

// TestTheSearchEnds holds the bound: 17 claims on 8 groups. It says that it did not try
// all ways.
func TestTheSearchEnds(t *testing.T) {
	n, c := pairs(17, 8)
	planner := NewPlanner(c, Binpack)
	_, err := planner.Place(n, nil)
	const want = "vg g7: wants 34 more for c0, 29 free; not all ways to place so many volumes were tried"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if planner.steps <= MaxSteps || planner.steps > MaxSteps+len(c) {
		t.Errorf("took %d steps, %d are allowed", planner.steps, MaxSteps)
	}
	if misfit, is := err.(*Misfit); is && misfit.Final {
		t.Error("it is said to be in vain for ever")
	}
}

// BenchmarkPlaceEightClaimsOnSixteenGroupsInVain is about the most that one node can cost:
// three groups hold two claims each, and thirteen none.
func BenchmarkPlaceEightClaimsOnSixteenGroupsInVain(b *testing.B) {
	n, c := pairs(8, 16)
	for i := range n.Groups[3:] {
		n.Groups[i].Free = 33
	}
	planner := NewPlanner(c, Binpack)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := planner.Place(n, nil); err == nil {
			b.Fatal("8 claims fit where there is room for 6")
		}
	}
}

func BenchmarkPlaceFourClaimsOnFourGroups(b *testing.B) {
	n := node(group("a", 100*gib, free(50*gib)), group("b", 100*gib, free(60*gib)),
		group("c", 100*gib, free(70*gib)), group("d", 100*gib, free(80*gib)))
	planner := NewPlanner(claims(claim("1", 10*gib), claim("2", 20*gib), claim("3", gib), claim("4", 5*gib)), Spread)
	var spots []capacity.Spot
	b.ReportAllocs()
	for b.Loop() {
		spots, _ = planner.Place(n, spots[:0])
	}
}
