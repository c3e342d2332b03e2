package allocator

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A Planner places one set of claims on one node after another. It keeps what
// does not depend on the node, and its working space, so that thousands of nodes
// cost no memory. It is not for use by several goroutines at once.
type Planner struct {
	claims []volume.Claim
	order  []int // of claims, the pickiest first
	prefer Preference
	spread bool // what prefer says
	// anyStriped is true when one of the claims is.
	anyStriped bool

	// What follows from the groups last looked at.
	known  *capacity.Group  // the first of them; nil when they may change
	prices []capacity.Bytes // claims × groups: what each costs there, or never
	sizes  []capacity.Bytes // of the groups
	spoilt []capacity.Bytes // by group: what nobody else can have of it afterwards
	even   bool             // see bestOfEven

	// Working space, of the node being looked at.
	groups []capacity.Group // but for their Free
	had    []capacity.Bytes // by group: what it had free before the claims
	free   []capacity.Bytes // by group: what it has free now
	empty  []capacity.Group // the same groups without volumes of ours
	whole  []capacity.Bytes // what had is made of where nobody else has it
	extent []capacity.Bytes // by claim: the extent that cost was computed for
	cost   []capacity.Bytes // by claim
	choice []int            // by claim: its group
	steps  int
	limit  int // of steps
}

// NewPlanner returns a Planner for the claims.
func NewPlanner(claims []volume.Claim, prefer Preference) *Planner {
	p := &Planner{
		claims: claims,
		order:  make([]int, len(claims)),
		prefer: prefer,
		spread: prefer == Spread,
		limit:  MaxSteps,
		extent: make([]capacity.Bytes, len(claims)),
		cost:   make([]capacity.Bytes, len(claims)),
		choice: make([]int, len(claims)),
	}
	for i := range claims {
		p.order[i] = i
		p.extent[i] = -1
		p.anyStriped = p.anyStriped || claims[i].Layout == capacity.Striped
	}
	slices.SortStableFunc(p.order, func(a, b int) int { return pickier(claims[a], claims[b]) })
	return p
}

// pickier orders claims: those that insist on a group have no choice and go
// first, then those that insist on a medium, then those that want no partition, then the
// larger. Striped ones go last:
// where the others will lie on the disks is not known, and they must have room anyhow.
func pickier(a, b volume.Claim) int {
	return cmp.Or(
		cmp.Compare(striped(a), striped(b)),
		-cmp.Compare(picks(a.Group), picks(b.Group)),
		-cmp.Compare(picks(string(a.Media)), picks(string(b.Media))),
		-cmp.Compare(limited(a), limited(b)),
		-cmp.Compare(a.Size, b.Size),
	)
}

func striped(c volume.Claim) int {
	if c.Layout == capacity.Striped {
		return 1
	}
	return 0
}

func limited(c volume.Claim) int {
	if c.WholeDisk {
		return 1
	}
	return 0
}

func picks(name string) int { return min(1, len(name)) }

// Place appends the spots of all claims on the node, in the order of the claims, to
// into and returns it. The only error is a *Misfit; into is then returned as it came.
func (p *Planner) Place(node capacity.Node, into []capacity.Spot) ([]capacity.Spot, error) {
	p.whole = p.whole[:0]
	for i := range node.Groups {
		p.whole = append(p.whole, node.Groups[i].Free)
	}
	p.know(node.Groups)
	p.known = nil // the caller may change them
	if misfit := p.fit(p.whole); misfit != nil {
		return into, misfit
	}
	for i := range p.claims {
		into = append(into, capacity.Spot{
			Group:  node.Groups[p.choice[i]].Name,
			Size:   p.pricesOf(i)[p.choice[i]],
			Layout: p.claims[i].Layout,
		})
	}
	return into, nil
}

// Fit is Place for groups that have so much left, whatever their Free says; it appends
// the positions of the groups. The groups themselves must never change: many nodes share
// them, and what follows from them is remembered.
func (p *Planner) Fit(groups []capacity.Group, left []capacity.Bytes, into []capacity.Position) ([]capacity.Position, error) {
	if len(groups) == 0 || p.known != &groups[0] || len(p.sizes) != len(groups) {
		p.know(groups)
		if p.known = nil; len(groups) > 0 {
			p.known = &groups[0]
		}
	}
	p.groups = groups
	if misfit := p.fit(left); misfit != nil {
		return into, misfit
	}
	for _, group := range p.choice {
		into = append(into, capacity.Position(group))
	}
	return into, nil
}

// fit chooses a group for every claim, or says why there is none.
func (p *Planner) fit(left []capacity.Bytes) *Misfit {
	p.had = left
	p.free = append(p.free[:0], left...)
	failed := p.greedy()
	if failed < 0 {
		return nil
	}
	misfit := p.explain(failed)
	switch p.search() {
	case placed:
		return nil
	case unsure:
		misfit.Unsure, misfit.Final = true, false
		return misfit
	}
	misfit.Final = misfit.Final || p.fitsWhenEmpty() == nowhere
	return misfit
}

// greedy gives every claim in turn the best group that still has room. It returns
// the first claim without one, or -1. Nearly always this is the whole search, and
// it is done for every node of the cluster.
func (p *Planner) greedy() int {
	for _, claim := range p.order {
		best := p.best(claim)
		if best < 0 {
			return claim
		}
		p.take(claim, best)
	}
	return -1
}

// best returns the best group that has room for the claim, or -1.
func (p *Planner) best(claim int) int {
	if p.even {
		return p.bestOfEven(claim)
	}
	inStripes, best := p.claims[claim].Layout == capacity.Striped, -1
	var bestRest rest
	for i, price := range p.pricesOf(claim) {
		left := p.free[i] - price
		if left < 0 || inStripes && !p.lies(claim, i) {
			continue
		}
		if now := (rest{left, p.sizes[i], left + p.spoilt[i]}); best < 0 || p.better(now, bestRest) {
			best, bestRest = i, now
		}
	}
	return best
}

// bestOfEven is best where groups of one size are cut and nothing lies in stripes. What
// is left says all then; it is looked at in a way that leaves a processor nothing to guess.
func (p *Planner) bestOfEven(claim int) int {
	prices := p.pricesOf(claim)
	free := p.free[:len(prices)]
	best, least, flip := -1, uint64(math.MaxUint64), uint64(0)
	if p.spread {
		flip = math.MaxInt64 // the most is the least
	}
	for i, price := range prices {
		left := free[i] - price
		worth := (uint64(left) ^ flip) | uint64(left>>63) // no room is worth the least
		if worth < least {
			best, least = i, worth
		}
	}
	return best
}

// A rest is what a group would have left.
type rest struct {
	left, size capacity.Bytes // size is that of the group
	whole      capacity.Bytes // left, and all of what is given whole: the smallest that fits is best
}

// better reports whether a is better left than b. Of equal shares the smaller space is,
// so that the larger stays whole for a larger claim. Of equals neither is better.
func (p *Planner) better(a, b rest) bool {
	order := cmp.Compare(a.left, b.left)
	if a.size != b.size { // multiplying is exact, and faster than dividing
		ha, la := bits.Mul64(uint64(a.left), uint64(b.size))
		hb, lb := bits.Mul64(uint64(b.left), uint64(a.size))
		order = cmp.Or(cmp.Compare(ha, hb), cmp.Compare(la, lb))
	}
	if order != 0 {
		return (order < 0) != p.spread
	}
	return a.whole < b.whole
}

// eligible reports whether the claim may lie in the group at all.
func eligible(c *volume.Claim, g *capacity.Group) bool {
	return c.Kind == g.Kind && (c.Group == "" || c.Group == g.Name) && (c.Media == "" || c.Media == g.Media) && (!c.WholeDisk || !g.Partition)
}

func (p *Planner) fits(claim, group int) bool {
	return p.free[group] >= p.pricesOf(claim)[group] && p.lies(claim, group)
}

// lies reports whether a claim, for which the group has room, can lie there in the way
// it wants to.
func (p *Planner) lies(claim, group int) bool {
	c := &p.claims[claim]
	return c.Layout != capacity.Striped || p.groups[group].Kind.Whole() || p.groups[group].Stripes(c.Size, p.free[group]) > 0
}

func (p *Planner) take(claim, group int) {
	p.free[group] -= p.pricesOf(claim)[group]
	p.choice[claim] = group
}

// rest returns what the group would have left after taking the claim.
func (p *Planner) rest(claim, group int) rest {
	left := p.free[group] - p.pricesOf(claim)[group]
	return rest{left, p.sizes[group], left + p.spoilt[group]}
}

// never is what a claim costs where it may not lie: more than anybody has.
const never capacity.Bytes = math.MaxInt64

// pricesOf returns what the claim costs in each of the groups.
func (p *Planner) pricesOf(claim int) []capacity.Bytes {
	return p.prices[claim*len(p.sizes) : (claim+1)*len(p.sizes)]
}

// know computes all that depends on the groups but not on what is free in them.
func (p *Planner) know(groups []capacity.Group) {
	p.prices, p.sizes, p.spoilt, p.groups = p.prices[:0], p.sizes[:0], p.spoilt[:0], groups
	p.even = !p.anyStriped
	for i := range groups {
		p.even = p.even && !groups[i].Kind.Whole() && groups[i].Size == groups[0].Size
		p.sizes = append(p.sizes, max(1, groups[i].Size))
		var spoilt capacity.Bytes
		if groups[i].Kind.Whole() {
			spoilt = groups[i].Size
		}
		p.spoilt = append(p.spoilt, spoilt)
	}
	for claim := range p.claims {
		for i := range groups {
			price := never
			if groups[i].Trouble == "" && eligible(&p.claims[claim], &groups[i]) && p.holds(claim, i) {
				price = p.costIn(claim, i)
			}
			p.prices = append(p.prices, price)
		}
	}
}

// costIn returns what the claim takes of the group. Groups mostly have one extent
// size, so the last answer mostly holds; what stripes take is another matter.
func (p *Planner) costIn(claim, group int) capacity.Bytes {
	if p.groups[group].Extent != p.extent[claim] {
		p.priceIn(claim, &p.groups[group])
	}
	return p.cost[claim]
}

func (p *Planner) priceIn(claim int, g *capacity.Group) {
	c := &p.claims[claim]
	p.cost[claim] = 0
	if !c.TakesNothing() {
		p.cost[claim] = g.Cost(c.Layout, c.Size)
	}
	if c.Layout != capacity.Striped && !g.Kind.Whole() {
		p.extent[claim] = g.Extent
	}
}
