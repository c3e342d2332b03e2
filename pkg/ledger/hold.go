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
	groups []groupID // of nodes × claims; noGroup where the claim is counted already
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

// An Offer says that a pod may land on the node and where its volumes would go, in
// the order of the pod's claims. The spot of a claim that is counted on the node
// already is empty.
type Offer struct {
	Node  string
	Spots []capacity.Spot

	node *node // as it was seen, which saves looking for it
}

// offered returns the node of the offer if it has reported, or nil.
func (l *Ledger) offered(o *Offer) *node {
	n := o.node
	if n == nil || n.dropped {
		n = l.nodes[o.Node]
	}
	if n == nil || !n.reported {
		return nil
	}
	return n
}

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
	h := &hold{
		pod:    pod,
		claims: claims,
		nodes:  make([]*node, 0, len(offers)),
		groups: make([]groupID, 0, len(offers)*len(claims)),
		until:  until,
	}
	counted := l.countedAnywhere(claims)
	for i := range offers {
		n := l.offered(&offers[i])
		if n == nil || !h.enter(n, offers[i].Spots, counted) {
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

// countedAnywhere reports for each claim whether some node counts it. Mostly none
// does, which saves looking on every node.
func (l *Ledger) countedAnywhere(claims []volume.Claim) []bool {
	counted := make([]bool, len(claims))
	for i := range claims {
		_, counted[i] = l.where[claims[i].Volume]
	}
	return counted
}

// enter adds n to the hold, or returns false and changes nothing when the spots do
// not fit.
func (h *hold) enter(n *node, spots []capacity.Spot, counted []bool) bool {
	first, fits := len(h.groups), true
	for i := range h.claims {
		if counted[i] && n.counts(h.claims[i].Volume) {
			h.groups = append(h.groups, noGroup)
			continue
		}
		g := n.byName(spots[i].Group)
		if g == nil {
			fits = false
			break
		}
		claim := &h.claims[i]
		fits = fits && (claim.Layout != capacity.Striped || g.view.Fits(claim.Layout, claim.Size, g.raw()))
		g.held += cost(claim, g)
		fits = fits && g.raw() >= 0
		h.groups = append(h.groups, g.id)
	}
	h.nodes = append(h.nodes, n)
	n.holds = append(n.holds, heldAt{hold: h, at: len(h.nodes) - 1})
	if !fits {
		h.undo(n, first)
		return false
	}
	n.settle()
	return true
}

// undo takes back an enter that did not fit.
func (h *hold) undo(n *node, first int) {
	for i, id := range h.groups[first:] {
		if g := n.byID(id); g != nil {
			g.held -= cost(&h.claims[i], g)
		}
	}
	h.groups = h.groups[:first]
	h.nodes = h.nodes[:len(h.nodes)-1]
	n.holds = n.holds[:len(n.holds)-1]
}

func cost(claim *volume.Claim, g *group) capacity.Bytes {
	if claim.TakesNothing() {
		return 0
	}
	if claim.Layout != capacity.Striped {
		return claim.Size.Extents(g.view.Extent)
	}
	return g.view.Cost(claim.Layout, claim.Size)
}

// settle brings what decisions see up to date.
func (n *node) settle() {
	for i := range n.groups {
		n.groups[i].settle()
	}
}

// weigh adds (sign 1) or takes off (-1) what the hold counts on n. Counted tells which
// of its claims any node counts.
func (ref heldAt) weigh(n *node, counted []bool, sign capacity.Bytes) {
	for i, id := range ref.spots() {
		g := n.byID(id)
		if g == nil || (counted[i] && n.counts(ref.claims[i].Volume)) {
			continue
		}
		g.held += sign * cost(&ref.claims[i], g)
	}
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
	counted := l.countedAnywhere(h.claims)
	for _, n := range h.nodes {
		l.leave(h, n, counted)
	}
	delete(l.holds, h.pod)
	l.ring()
}

// leave takes n out of the hold.
func (l *Ledger) leave(h *hold, n *node, counted []bool) {
	for i, ref := range n.holds {
		if ref.hold == h {
			ref.weigh(n, counted, -1)
			n.holds[i] = n.holds[len(n.holds)-1]
			n.holds[len(n.holds)-1] = heldAt{}
			n.holds = n.holds[:len(n.holds)-1]
			n.settle()
			l.drop(n)
			return
		}
	}
}

// on returns the hold as it is on n.
func (h *hold) on(n *node) (heldAt, bool) {
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
	counted := l.countedAnywhere(h.claims)
	for _, n := range h.nodes {
		ref, _ := h.on(n)
		spots := ref.spots()
		l.leave(h, n, counted)
		if !keep[n] {
			continue
		}
		narrowed.nodes = append(narrowed.nodes, n)
		narrowed.groups = append(narrowed.groups, spots...)
		moved := heldAt{hold: narrowed, at: len(narrowed.nodes) - 1}
		n.holds = append(n.holds, moved)
		moved.weigh(n, counted, 1)
		n.settle()
	}
	delete(l.holds, pod)
	if len(narrowed.nodes) > 0 {
		l.holds[pod] = narrowed
	}
	l.ring()
}
