package capacity

import (
	"testing"

	"pgregory.net/rapid"
)

// striped is a group of these disks, in extents, of which so many are free after what
// was promised.
func striped(free Bytes, disks ...Bytes) Group {
	var all Bytes
	for _, disk := range disks {
		all += disk
	}
	return Group{Size: all, Free: free, Extent: 1, Disks: NewDisks(all, disks)}
}

func TestStripesAreAsManyAsHaveRoom(t *testing.T) {
	for name, test := range map[string]struct {
		group Group
		size  Bytes
		want  int
	}{
		"all disks alike":                          {striped(40, 10, 10, 10, 10), 40, 4},
		"a part is rounded up to an extent":        {striped(40, 10, 10, 10, 10), 38, 4},
		"one disk too small for a fourth":          {striped(31, 10, 10, 10, 1), 12, 3},
		"two disks too small for a third":          {striped(22, 10, 10, 1, 1), 12, 2},
		"only one disk has room":                   {striped(13, 10, 1, 1, 1), 12, 0},
		"in whatever order they come":              {striped(31, 1, 10, 10, 10), 12, 3},
		"one disk is no stripes":                   {striped(10, 10), 4, 0},
		"no disk is known":                         {Group{Size: 40, Free: 40, Extent: 1}, 4, 0},
		"what was promised may lie on any disk":    {striped(30, 10, 10, 10, 10), 4, 0},
		"and leaves what it cannot have taken":     {striped(38, 10, 10, 10, 10), 32, 4},
		"no size takes one extent of each":         {striped(40, 10, 10, 10, 10), 0, 4},
		"larger parts than any disk has":           {striped(40, 10, 10, 10, 10), 41, 0},
		"fewer, larger parts never help":           {striped(20, 5, 5, 5, 5), 20, 4},
		"the emptiest disks count, not the number": {striped(23, 20, 1, 1, 1), 4, 4},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.group.Stripes(test.size, test.group.Free); got != test.want {
				t.Errorf("%d stripes, want %d", got, test.want)
			}
		})
	}
}

func TestStripesCostWhatAnyNumberOfThemWouldTake(t *testing.T) {
	for name, test := range map[string]struct {
		group Group
		size  Bytes
		want  Bytes
	}{
		"two disks round to two":       {striped(20, 10, 10), 7, 8},
		"two disks and nothing over":   {striped(20, 10, 10), 20, 20},
		"three may be two or three":    {striped(30, 10, 10, 10), 10, 12},
		"one disk rounds to an extent": {striped(10, 10), 7, 7},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.group.Cost(Striped, test.size); got != test.want {
				t.Errorf("it costs %s, want %s", got, test.want)
			}
			if got := test.group.Cost(Linear, test.size); got != test.size {
				t.Errorf("linear it costs %s, want %s", got, test.size)
			}
		})
	}
}

func TestStripesHoldWhateverHappensToPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const extent = 4
		disks := rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, 30), func(n int64) Bytes { return Bytes(n) * extent }), 0, 6).Draw(t, "disks")
		var all Bytes
		for _, disk := range disks {
			all += disk
		}
		promised := min(all, Bytes(rapid.Int64Range(0, 40).Draw(t, "promised"))*extent)
		g := Group{Free: all - promised, Extent: extent, Disks: NewDisks(all, disks)}
		size := Bytes(rapid.Int64Range(0, 400).Draw(t, "size"))
		stripes, cost := g.Stripes(size, g.Free), g.Cost(Striped, size)
		if !g.Fits(Striped, size, g.Free) {
			if g.Largest(Striped) >= max(size, 1) {
				t.Fatalf("%s does not fit and %s is said to", size, g.Largest(Striped))
			}
			return
		}
		part := size.Extents(extent*Bytes(stripes)) / Bytes(stripes)
		if part*Bytes(stripes) > cost || cost < size || cost > g.Free {
			t.Fatalf("%d parts of %s cost %s, free are %s", stripes, part, cost, g.Free)
		}
		// All that was promised goes to one disk after another; the stripes find theirs.
		for worst := range disks {
			room := 0
			for i, disk := range disks {
				if i == worst {
					disk -= promised
				}
				if disk >= part {
					room++
				}
			}
			if room < stripes {
				t.Fatalf("with the promises on disk %d, %d disks have %s free, wanted are %d", worst, room, part, stripes)
			}
		}
	})
}

func TestTheLargestStripedVolumeFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disks := rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, 30), func(n int64) Bytes { return Bytes(n) }), 0, 6).Draw(t, "disks")
		g := striped(0, disks...)
		g.Free = Bytes(rapid.Int64Range(0, int64(g.Size)).Draw(t, "free"))
		if largest := g.Largest(Striped); largest > 0 && !g.Fits(Striped, largest, g.Free) {
			t.Fatalf("%s is said to fit and does not: %+v, %+v", largest, g, g.Disks)
		}
	})
}
