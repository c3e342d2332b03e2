package allocator

import (
	"fmt"
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
			if score := Score(n, spots, p); score < 0 || score > MaxScore {
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

// TestTheSearchEnds holds the bound: 24 claims that nearly fit on 8 groups.
func TestTheSearchEnds(t *testing.T) {
	n := capacity.Node{}
	for i := range 8 {
		n.Groups = append(n.Groups, capacity.Group{Name: fmt.Sprint("g", i), Size: 100, Free: 100, Extent: 1})
	}
	var c []volume.Claim
	for i := range 24 {
		c = append(c, volume.Claim{Name: fmt.Sprint("c", i), Size: capacity.Bytes(33 + i%2), Layout: capacity.Linear})
	}
	planner := NewPlanner(c, Binpack)
	if _, err := planner.Place(n, nil); err == nil {
		t.Fatal("12 claims of 34 and 12 of 33 fit 8 groups of 100")
	}
	if planner.steps > MaxSteps+1 {
		t.Errorf("took %d steps, %d are allowed", planner.steps, MaxSteps)
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
