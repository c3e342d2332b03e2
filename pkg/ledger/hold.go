package ledger

import (
	"time"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A hold keeps room for a pod on every node it may still land on. Thousands of nodes
// share one, so it holds the least: per node and claim the group, whose extent size
// gives the claim's cost.
type hold struct {
	pod    string
	claims []volume.Claim
	nodes  []*node
	groups []groupID // of nodes × claims; noGroup where the claim has its place already
	until  time.Time
}

// heldAt is one hold on one node; at is the node's position in the hold.
type heldAt struct {
	*hold
	at int
}

// spots returns the group of every claim at ref's node.
func (ref heldAt) spots() []groupID {
	size := len(ref.claims)
	return ref.groups[ref.at*size : (ref.at+1)*size]
}

// An Offer says that a pod may land on the node of a View and where its volumes would
// go there, in the order of the pod's claims.
type Offer struct {
	seen   *seen
	places []capacity.Position
}

// Node returns the name of the node; it is empty when nobody has reported on it.
func (o *Offer) Node() string {
	if o.seen.node == nil {
		return ""
	}
	return o.seen.node.name
}

// offered returns the node of the offer if it has a report, or nil.
func (l *Ledger) offered(o *Offer) *node {
	n := o.seen.node
	if n != nil && n.dropped {
		n = l.nodes[n.name]
	}
	if n == nil || !n.reported {
		return nil
	}
	return n
}

// place returns where the claim at that position is to go, as n is now.
func (o *Offer) place(n *node, claim int) capacity.Position {
	at := o.places[claim]
	if at >= 0 && n.shape != o.seen.shape {
		return n.index(o.seen.shape.ids[at])
	}
	return at
}

// stands reports whether what was seen of n is what it has, or less.
func (o *Offer) stands(n *node) bool { return o.seen.node == n && o.seen.stamp == n.stamp }

// Hold keeps room for the claims of the pod on all nodes offered, until then, in
// place of what the pod held before. It returns the positions of the offers that it
// refused because the node changed since it was seen and has no such room now. A
// pod that holds nothing has no hold.
func (l *Ledger) Hold(pod string, claims []volume.Claim, offers []Offer, until time.Time) (refused []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release(l.holds[pod])
	if len(claims) == 0 {
		return nil
	}
	h := l.empty(len(offers), len(claims))
	h.pod, h.claims, h.until = pod, claims, until
	its := l.priced(claims)
	for i := range offers {
		n := l.offered(&offers[i])
		if n == nil || !h.enter(n, &offers[i], its) {
			refused = append(refused, i)
		}
	}
	for _, claim := range claims { // a pod that is still tried keeps what was promised with it
		if deadline, set := l.deadlines[claim.Volume]; set && deadline.Before(until) {
			l.deadlines[claim.Volume] = until
		}
	}
	if len(h.nodes) > 0 {
		l.holds[pod] = h
		l.due(until)
	}
	return refused
}

// empty returns a hold with room for so many nodes and claims. The last that has ended
// is used again: those of thousands of nodes take a tenth of a megabyte for each pod.
func (l *Ledger) empty(nodes, claims int) *hold {
	h, size := l.spare, nodes*claims
	if h == nil || cap(h.nodes) < nodes || cap(h.groups) < size || cap(h.groups) > 8*size {
		return &hold{nodes: make([]*node, 0, nodes), groups: make([]groupID, 0, size)}
	}
	l.spare = nil
	clear(h.nodes)
	h.nodes, h.groups = h.nodes[:0], h.groups[:0]
	return h
}

// countedAnywhere reports for each claim whether some node counts it. Mostly none
// does, which saves looking on every node.
func (l *Ledger) countedAnywhere(claims []volume.Claim) []bool {
	counted := make([]bool, len(claims))
	for i := range claims {
		_, counted[i] = l.where[claims[i].Volume]
	}
	return counted
}

// enter adds n to the hold, or returns false and changes nothing when the places do
// not fit.
func (h *hold) enter(n *node, offer *Offer, its *priced) bool {
	first, stands := len(h.groups), offer.stands(n)
	for i := range h.claims {
		claim := &h.claims[i]
		if its.counted[i] && n.keeps(claim.Volume) {
			h.groups = append(h.groups, noGroup)
			continue
		}
		at := offer.place(n, i)
		if at < 0 {
			h.undo(n, first)
			return false
		}
		s := &n.sums[at]
		if !stands && !fits(claim, &n.shape.groups[at], s.raw()) {
			h.undo(n, first)
			return false
		}
		s.held += its.cost(i, n, at)
		h.groups = append(h.groups, s.id)
	}
	h.nodes = append(h.nodes, n)
	n.holds = append(n.holds, heldAt{hold: h, at: len(h.nodes) - 1})
	n.stamp++
	return true
}

// undo takes back an enter that did not fit.
func (h *hold) undo(n *node, first int) {
	for i, id := range h.groups[first:] {
		if at := n.index(id); at >= 0 {
			n.sums[at].held -= cost(&h.claims[i], &n.shape.groups[at])
		}
	}
	h.groups = h.groups[:first]
}

func cost(claim *volume.Claim, g *capacity.Group) capacity.Bytes {
	if claim.TakesNothing() {
		return 0
	}
	return g.Cost(claim.Layout, claim.Size)
}

// fits reports whether the claim, which takes something or nothing, fits into what is
// left of the group.
func fits(claim *volume.Claim, g *capacity.Group, left capacity.Bytes) bool {
	return claim.TakesNothing() || g.Fits(claim.Layout, claim.Size, left)
}

// priced are claims on their way through many nodes.
type priced struct {
	claims  []volume.Claim
	counted []bool // of claims: whether some node counts it
	// last is the extent size that known was computed for, or below zero: thousands of
	// groups have one.
	last  []capacity.Bytes
	known []capacity.Bytes // of claims: their costs
}

func (l *Ledger) priced(claims []volume.Claim) *priced {
	sizes := make([]capacity.Bytes, 2*len(claims))
	its := &priced{claims, l.countedAnywhere(claims), sizes[:len(claims)], sizes[len(claims):]}
	for i := range its.last {
		its.last[i] = -1
	}
	return its
}

// cost returns what the claim at that position takes of the group of n at another.
func (p *priced) cost(i int, n *node, at capacity.Position) capacity.Bytes {
	if n.sums[at].extent == p.last[i] {
		return p.known[i]
	}
	return p.work(i, n, at)
}

// work is cost where it is not known yet.
func (p *priced) work(i int, n *node, at capacity.Position) capacity.Bytes {
	asks := cost(&p.claims[i], &n.shape.groups[at])
	// That of stripes depends on the disks as well, and what is given whole is its own size.
	if extent := n.sums[at].extent; extent > 0 && p.claims[i].Layout != capacity.Striped {
		p.last[i], p.known[i] = extent, asks
	}
	return asks
}

// weigh adds (sign 1) or takes off (-1) what the hold counts on n.
func (ref heldAt) weigh(n *node, its *priced, sign capacity.Bytes) {
	for i, id := range ref.spots() {
		if at := ref.place(n, its.counted, i, id); at >= 0 {
			n.sums[at].held += sign * its.cost(i, n, at)
		}
	}
}

// place returns where the hold counts the claim at that position on n, or Nowhere.
func (ref heldAt) place(n *node, counted []bool, claim int, id groupID) capacity.Position {
	if counted[claim] && n.keeps(ref.claims[claim].Volume) {
		return capacity.Nowhere
	}
	return n.index(id)
}

// giveBack adds what the hold counts on n to what is free there, and appends the places
// of its claims to into.
func (ref heldAt) giveBack(n *node, its *priced, free []capacity.Bytes, into []capacity.Position) []capacity.Position {
	for i, id := range ref.spots() {
		at := ref.place(n, its.counted, i, id)
		if at >= 0 {
			free[at] += its.cost(i, n, at)
		}
		into = append(into, at)
	}
	return into
}

// Release ends what the pod holds: it is gone, or will not land anywhere.
func (l *Ledger) Release(pod string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release(l.holds[pod])
}

// release ends the hold, which may be nil. l.mu is held.
func (l *Ledger) release(h *hold) {
	if h == nil {
		return
	}
	its := l.priced(h.claims)
	for _, n := range h.nodes {
		h.leave(n, its)
		l.drop(n)
	}
	delete(l.holds, h.pod)
	if l.spare == nil || cap(l.spare.groups) < cap(h.groups) {
		l.spare = h
	}
	l.ring()
}

// leave takes n out of the hold. The caller drops n, unless another hold takes its place.
func (h *hold) leave(n *node, its *priced) {
	for i, ref := range n.holds {
		if ref.hold == h {
			ref.weigh(n, its, -1)
			n.holds[i] = n.holds[len(n.holds)-1]
			n.holds[len(n.holds)-1] = heldAt{}
			n.holds = n.holds[:len(n.holds)-1]
			return
		}
	}
}

// on returns the hold as it is on n; h may be nil.
func (h *hold) on(n *node) (heldAt, bool) {
	if h == nil {
		return heldAt{}, false
	}
	for _, ref := range n.holds {
		if ref.hold == h {
			return ref, true
		}
	}
	return heldAt{}, false
}

// Narrow ends what the pod holds on all nodes but these: the scheduler has said where
// it can still land.
func (l *Ledger) Narrow(pod string, names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.holds[pod]
	if h == nil || len(h.nodes) <= len(names) {
		return
	}
	keep := make(map[*node]bool, len(names))
	for _, name := range names {
		keep[l.nodes[name]] = true
	}
	narrowed := &hold{pod: pod, claims: h.claims, until: h.until}
	its := l.priced(h.claims)
	for _, n := range h.nodes {
		ref, _ := h.on(n)
		spots := ref.spots()
		h.leave(n, its)
		if !keep[n] {
			l.drop(n)
			continue
		}
		narrowed.nodes = append(narrowed.nodes, n)
		narrowed.groups = append(narrowed.groups, spots...)
		moved := heldAt{hold: narrowed, at: len(narrowed.nodes) - 1}
		n.holds = append(n.holds, moved)
		moved.weigh(n, its, 1)
		n.stamp++
	}
	delete(l.holds, pod)
	if len(narrowed.nodes) > 0 {
		l.holds[pod] = narrowed
	}
	l.ring()
}
