package allocator

import (
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// MaxSteps bounds the search for one node. Up to it the answer is exact: whenever
// any way to place the claims exists, one is found. It is never reached with up to
// 6 claims on 4 groups or 12 claims on 2. Beyond it a pod may be refused by a node
// that could have held it; it is never placed where it does not fit.
const MaxSteps = 10_000

// search tries every way to place the claims, the preferred ones first, within
// MaxSteps.
func (p *Planner) search() bool {
	if len(p.claims) < 2 || len(p.groups) < 2 {
		return false // greedy has seen all there is
	}
	var wants, free capacity.Bytes
	for i := range p.claims {
		wants += p.claims[i].Size
	}
	for group := range p.groups {
		p.free[group] = p.had[group]
		free += p.free[group]
	}
	if wants > free {
		return false // no need to try them all
	}
	p.steps = 0
	return p.searchFrom(0)
}

func (p *Planner) searchFrom(level int) bool {
	if level == len(p.order) {
		return true
	}
	claim := p.order[level]
	for _, group := range p.candidates(level) {
		if p.steps++; p.steps > MaxSteps {
			return false
		}
		p.take(claim, group)
		if p.searchFrom(level + 1) {
			return true
		}
		p.free[group] += p.pricesOf(claim)[group]
	}
	return false
}

// candidates returns the groups worth trying for the claim at that level, the
// preferred first. A claim just like the one before it goes into the same group or
// a later one: the other way round was tried already.
func (p *Planner) candidates(level int) []int {
	claim, first := p.order[level], 0
	if level > 0 {
		if before := p.order[level-1]; alike(p.claims[claim], p.claims[before]) {
			first = p.choice[before]
		}
	}
	var found []int
	for group := first; group < len(p.groups); group++ {
		if p.fits(claim, group) {
			found = append(found, group)
		}
	}
	slices.SortStableFunc(found, func(a, b int) int {
		left, than := p.rest(claim, a), p.rest(claim, b)
		switch {
		case p.better(left, than):
			return -1
		case p.better(than, left):
			return 1
		}
		return 0
	})
	return found
}

// alike reports whether two claims can change places.
func alike(a, b volume.Claim) bool {
	return a.Size == b.Size && a.Group == b.Group && a.Media == b.Media && a.Layout == b.Layout
}

// fitsWhenEmpty reports whether the claims would fit if no volume of ours were on
// the node.
func (p *Planner) fitsWhenEmpty() bool {
	p.empty, p.whole = append(p.empty[:0], p.groups...), p.whole[:0]
	for i := range p.empty {
		all := p.empty[i].Size.Floor(p.empty[i].Extent)
		if p.anyStriped {
			p.empty[i].Disks = p.empty[i].Disks.Emptied(all)
		}
		p.whole = append(p.whole, all)
	}
	p.groups, p.had = p.empty, p.whole
	copy(p.free, p.had)
	return p.greedy() < 0 || p.search()
}
