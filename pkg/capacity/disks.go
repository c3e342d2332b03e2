package capacity

import (
	"cmp"
	"fmt"
	"slices"
)

// Disks is how the free space of a group lies on its physical volumes, as it was last
// reported. It is never changed, so that copies of a group share it.
//
// A promise that no report shows yet may come to lie on any of them: a physical volume
// is sure to have only what it had free less all that was promised since.
type Disks struct {
	reported Bytes   // what the group had free when nothing was promised beside the report
	free     []Bytes // of each physical volume; the emptiest first
}

// NewDisks returns the physical volumes of a group that has reported bytes free
// altogether, and nil when there are not even two: nothing is striped there. It keeps
// no reference to free.
func NewDisks(reported Bytes, free []Bytes) *Disks {
	if len(free) < 2 {
		return nil
	}
	free = slices.Clone(free)
	slices.SortFunc(free, func(a, b Bytes) int { return cmp.Compare(b, a) })
	return &Disks{reported: reported, free: free}
}

// Equal reports whether two groups' physical volumes are alike.
func (d *Disks) Equal(other *Disks) bool {
	if d == nil || other == nil {
		return d == other
	}
	return d.reported == other.reported && slices.Equal(d.free, other.free)
}

// String writes all that Equal compares.
func (d *Disks) String() string {
	if d == nil {
		return "-"
	}
	return fmt.Sprintf("%d of %d", d.free, d.reported)
}

// Count returns how many physical volumes there are; d may be nil.
func (d *Disks) Count() int {
	if d == nil {
		return 0
	}
	return len(d.free)
}

// Emptied returns as many physical volumes as d has, of a group that has free bytes
// free and no volume of ours, where nobody knows how that lies on them: on each is as
// much as any could have.
func (d *Disks) Emptied(free Bytes) *Disks {
	if d == nil {
		return nil
	}
	all := make([]Bytes, len(d.free))
	for i := range all {
		all[i] = free
	}
	return &Disks{reported: free, free: all}
}

// sure returns what the physical volume at a place in the order has for certain when
// the group has free bytes left.
func (d *Disks) sure(at int, free, extent Bytes) Bytes {
	return (d.free[at] - max(0, d.reported-free)).Floor(extent)
}

// stripe returns what each of so many stripes takes of its physical volume.
func stripe(size, extent Bytes, stripes int) Bytes {
	extents := int64(size.Extents(extent) / extent)
	return Bytes((extents+int64(stripes)-1)/int64(stripes)) * extent
}

// Stripes returns over how many of g's physical volumes a striped volume goes: the
// largest number, and at least two, that are each sure to have room for their part of
// it in whole extents. It returns 0 when it has no place. Free is what g has left.
func (g *Group) Stripes(size, free Bytes) int {
	for stripes := g.Disks.Count(); stripes >= 2 && g.Extent > 0; stripes-- {
		if g.Disks.sure(stripes-1, free, g.Extent) >= stripe(size, g.Extent, stripes) {
			return stripes
		}
	}
	return 0
}

// Cost returns what a volume of size bytes takes from g, whatever is free there. Of
// how many stripes a striped volume has is known only when it is made, and each
// number rounds in its own way: the most that any takes is what counts.
func (g *Group) Cost(layout Layout, size Bytes) Bytes {
	if g.Kind.Whole() {
		return g.Size
	}
	if layout != Striped || g.Extent <= 0 {
		return size.Extents(g.Extent)
	}
	most := size.Extents(g.Extent)
	for stripes := 2; stripes <= g.Disks.Count(); stripes++ {
		most = max(most, stripe(size, g.Extent, stripes)*Bytes(stripes))
	}
	return most
}

// Fits reports whether g can take a volume that costs what Cost says when it has free
// bytes left.
func (g *Group) Fits(layout Layout, size, free Bytes) bool {
	if g.Kind.Whole() {
		return size <= g.Size && g.Size <= free
	}
	return g.Cost(layout, size) <= free && (layout != Striped || g.Stripes(size, free) > 0)
}

// Largest returns the size of the largest volume of that layout that g could take.
func (g *Group) Largest(layout Layout) Bytes {
	if g.Kind.Whole() && g.Free < g.Size {
		return 0
	}
	if layout != Striped || g.Kind.Whole() {
		return g.Free
	}
	// What Cost adds to whole stripes, at most: the other numbers of stripes round too.
	var rounding, largest Bytes
	if g.Disks.Count() > 2 {
		rounding = Bytes(g.Disks.Count()-1) * g.Extent
	}
	for stripes := 2; stripes <= g.Disks.Count(); stripes++ {
		each := min(g.Disks.sure(stripes-1, g.Free, g.Extent), (g.Free-rounding)/Bytes(stripes))
		largest = max(largest, each.Floor(g.Extent)*Bytes(stripes))
	}
	return largest
}
