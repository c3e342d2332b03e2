package allocator

import (
	"math/bits"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// MaxSteps bounds the search for one node that tries the preferred ways first. Where it
// ends without an answer, ExactClaims are still decided exactly, whatever the number of
// groups. More may then be refused by a node that could have held them, and the Misfit
// says so; they are never placed where they do not fit.
const (
	MaxSteps    = 2_000
	ExactClaims = 8
)

// An outcome is how a search came out.
type outcome int

const (
	nowhere outcome = iota // there is no way to place them all
	placed
	unsure // there were too many ways to try
)

// search tries every way to place the claims, the preferred ones first.
func (p *Planner) search() outcome {
	if len(p.claims) < 2 || len(p.groups) < 2 {
		return nowhere // greedy has seen all there is
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
		return nowhere // no need to try them all
	}
	p.steps = 0
	switch {
	case p.searchFrom(0):
		return placed
	case p.steps <= p.limit:
		return nowhere
	case len(p.claims) > ExactClaims:
		return unsure
	case p.combine():
		return placed
	}
	return nowhere
}

func (p *Planner) searchFrom(level int) bool {
	if level == len(p.order) {
		return true
	}
	claim := p.order[level]
	for _, group := range p.candidates(level) {
		if p.steps++; p.steps > p.limit {
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
	return a.Size == b.Size && a.Kind == b.Kind && a.Group == b.Group && a.Media == b.Media && a.Layout == b.Layout && a.WholeDisk == b.WholeDisk
}

// A set is some of the claims: bit i stands for the claim that is i-th in order.
type set uint16

// combine goes from group to group, and finds for each set of claims whether the groups
// up to there can hold it. That takes at most 3^claims steps for each group, for each set
// and each part of it that the group might hold, and leaves nothing out.
func (p *Planner) combine() bool {
	all := set(1)<<len(p.order) - 1
	// part[g][s] is what of s goes into group g when the groups up to g hold s; and held
	// says that they do.
	part := make([][]set, len(p.groups))
	held := make([]bool, all+1)
	held[0] = true
	for group := range p.groups {
		alone := p.setsIn(group)
		part[group] = make([]set, all+1)
		now := slices.Clone(held) // without anything in this group
		for s := range held {
			if !held[s] {
				continue
			}
			rest := all &^ set(s)
			for more := rest; more > 0; more = (more - 1) & rest {
				if to := set(s) | more; alone[more] && !now[to] {
					now[to], part[group][to] = true, more
				}
			}
		}
		held = now
	}
	if !held[all] {
		return false
	}
	left := all
	for group, parts := range slices.Backward(part) {
		into := parts[left]
		for level, claim := range p.order {
			if into&(1<<level) > 0 {
				p.choice[claim] = group
			}
		}
		left &^= into
	}
	return true
}

// setsIn reports for each set of claims whether the group alone can hold it. Its claims
// go there in order, and so the last is the one that may not fit.
func (p *Planner) setsIn(group int) []bool {
	fits := make([]bool, 1<<len(p.order))
	fits[0] = true
	for s := 1; s < len(fits); s++ {
		p.free[group] = p.had[group]
		last := bits.Len(uint(s)) - 1
		for level, claim := range p.order[:last] {
			if s&(1<<level) > 0 {
				p.free[group] -= p.pricesOf(claim)[group]
			}
		}
		fits[s] = fits[s&^(1<<last)] && p.fits(p.order[last], group)
	}
	return fits
}

// fitsWhenEmpty is search for the node if no volume of ours were on it.
func (p *Planner) fitsWhenEmpty() outcome {
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
	if p.greedy() < 0 {
		return placed
	}
	return p.search()
}
