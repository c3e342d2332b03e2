package allocator

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

func TestAmongGroupsOfOneSizeTheQuickLookFindsWhatTheLongOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := capacity.Bytes(rapid.SampledFrom([]int64{20, math.MaxInt64}).Draw(t, "size"))
		var groups []capacity.Group
		var left []capacity.Bytes
		for i := range rapid.IntRange(1, 6).Draw(t, "groups") {
			groups = append(groups, capacity.Group{
				Name: fmt.Sprint("g", i), Size: size, Extent: 1, Trouble: rapid.SampledFrom([]string{"", "", "", "Fault"}).Draw(t, "trouble"),
			})
			left = append(left, capacity.Bytes(rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(max(0, int64(size)-3), int64(size))).Draw(t, "left")))
		}
		c := []volume.Claim{{Volume: "c", Group: rapid.SampledFrom([]string{"", "", "g0"}).Draw(t, "in"), Size: capacity.Bytes(rapid.Int64Range(1, 12).Draw(t, "wants"))}}
		p := NewPlanner(c, rapid.SampledFrom([]Preference{Binpack, Spread}).Draw(t, "prefer"))
		p.know(groups)
		p.free = left
		if !p.even {
			t.Fatal("the groups are not seen to be of one size")
		}
		quick := p.best(0)
		p.even = false
		if long := p.best(0); quick != long {
			t.Fatalf("of %d left, %d to take: group %d, the long look finds %d", left, c[0].Size, quick, long)
		}
	})
}

func TestGroupsAreEvenOnlyWhereTheirSpaceTellsAll(t *testing.T) {
	cut, other := capacity.Group{Name: "a", Size: 10, Extent: 1}, capacity.Group{Name: "b", Size: 20, Extent: 1}
	whole := capacity.Group{Name: "/dev/sda", Kind: capacity.Device, Size: 10}
	linear, striped := volume.Claim{Size: 1}, volume.Claim{Size: 1, Layout: capacity.Striped}
	for name, test := range map[string]struct {
		groups []capacity.Group
		claims []volume.Claim
		even   bool
	}{
		"of one size":              {[]capacity.Group{cut, cut}, []volume.Claim{linear}, true},
		"of two sizes":             {[]capacity.Group{cut, other}, []volume.Claim{linear}, false},
		"with a disk beside":       {[]capacity.Group{cut, whole}, []volume.Claim{linear}, false},
		"for a claim in stripes":   {[]capacity.Group{cut, cut}, []volume.Claim{linear, striped}, false},
		"none, which holds nobody": {nil, []volume.Claim{linear}, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPlanner(test.claims, Binpack)
			if p.know(test.groups); p.even != test.even {
				t.Errorf("even is %t, want %t", p.even, test.even)
			}
		})
	}
}

func TestSharesAreComparedExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := func(name string) rest {
			size := rapid.OneOf(rapid.Int64Range(1, 12), rapid.Int64Range(1<<40, 1<<40+12), rapid.Int64Range(math.MaxInt64-12, math.MaxInt64)).Draw(t, name+" size")
			left := rapid.OneOf(rapid.Int64Range(0, min(size, 12)), rapid.Int64Range(max(0, size-12), size), rapid.Just(size/2)).Draw(t, name+" left")
			return rest{capacity.Bytes(left), capacity.Bytes(size), capacity.Bytes(left)}
		}
		a, b := some("a"), some("b")
		order := big.NewRat(int64(a.left), int64(a.size)).Cmp(big.NewRat(int64(b.left), int64(b.size)))
		for _, prefer := range []Preference{Binpack, Spread} {
			want := order < 0 // the fuller
			switch {
			case order == 0:
				want = a.whole < b.whole
			case prefer == Spread:
				want = order > 0
			}
			if got := NewPlanner(nil, prefer).better(a, b); got != want {
				t.Fatalf("%s: %d of %d better than %d of %d: %t, want %t", prefer, a.left, a.size, b.left, b.size, got, want)
			}
		}
	})
}
