package ledger

import (
	"iter"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
)

// A View is a node as a decision should see it. What one pod holds is not taken off
// it: the decision is about that pod.
type View struct {
	Name     string
	Reported bool             // false when no agent has reported; nothing can be placed
	Groups   []capacity.Group // ordered by name; shared, and without what is free
	Free     []capacity.Bytes // what is free in each of the groups
	// Others is what SeeWithoutHolds has given back in each of the groups; nil of See.
	Others []capacity.Bytes
	// Held is where the pod holds room there, in the order of the claims of its Hold;
	// Nowhere for those that are counted already and those whose group is gone. It is nil
	// when the pod holds nothing on the node.
	Held []capacity.Position

	seen *seen
}

// Offer says that the pod may land on the node, and where its volumes would go.
func (v *View) Offer(places []capacity.Position) Offer { return Offer{seen: v.seen, places: places} }

// Node copies what is seen.
func (v *View) Node() capacity.Node {
	node := capacity.Node{Name: v.Name, Groups: make([]capacity.Group, len(v.Groups))}
	for i := range v.Groups {
		node.Groups[i] = v.Groups[i]
		node.Groups[i].Free = v.Free[i]
	}
	return node
}

// seen is what a node was when it was looked at. It is small, because thousands are
// looked at for one pod.
type seen struct {
	name  string
	node  *node // nil when it has not reported
	shape *shape
	stamp uint64
	free  int32 // where its part of Views.free begins
	held  int32 // where its part of Views.held begins, or below zero
}

// Views is the working space of See. The zero value is ready, and using one again saves
// memory.
type Views struct {
	seen   []seen
	before []seen // the last time; questions about one pod, or one after another, are alike
	free   []capacity.Bytes
	others []capacity.Bytes // as long as free, or empty
	held   []capacity.Position
	claims int // of the hold
}

// Len returns how many nodes were looked at.
func (v *Views) Len() int { return len(v.seen) }

// At returns the node that was looked at as the i-th.
func (v *Views) At(i int) View {
	var view View
	v.show(i, &view)
	return view
}

// All goes through the nodes in their order. One View serves for all of them: it is good
// until the next, since copying thousands takes as long as deciding about them.
func (v *Views) All() iter.Seq2[int, *View] {
	return func(yield func(int, *View) bool) {
		var view View
		for i := range v.seen {
			v.show(i, &view)
			if !yield(i, &view) {
				return
			}
		}
	}
}

// show makes view that of the i-th node.
func (v *Views) show(i int, view *View) {
	s := &v.seen[i]
	view.Name, view.seen = s.name, s
	view.Reported, view.Groups, view.Free, view.Others, view.Held = false, nil, nil, nil, nil
	if s.node == nil {
		return
	}
	end := int(s.free) + len(s.shape.groups)
	view.Reported, view.Groups, view.Free = true, s.shape.groups, v.free[s.free:end:end]
	if len(v.others) > 0 {
		view.Others = v.others[s.free:end:end]
	}
	if s.held >= 0 {
		end := int(s.held) + v.claims
		view.Held = v.held[s.held:end:end]
	}
}

// See looks at the nodes of these names, in their order, as the pod with that UID
// should see them.
func (l *Ledger) See(pod string, names []string, into *Views) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.see(l.holds[pod], names, into)
	into.bound()
}

// SeeWithoutHolds is See as it would be if no pod held anything: a decision that fits
// only here must wait for others, not for room.
func (l *Ledger) SeeWithoutHolds(names []string, into *Views) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.see(nil, names, into)
	for i := range into.seen {
		s := &into.seen[i]
		if s.node == nil {
			continue
		}
		for g := range s.node.sums {
			held := s.node.sums[g].held
			into.free[int(s.free)+g] += held
			into.others = append(into.others, held)
		}
	}
	into.bound()
}

// guess returns the node of that name if it stood at the same place the last time: to
// look for thousands of names takes longer than anything else that is done here.
func (v *Views) guess(i int, name string) *node {
	if i < len(v.before) {
		if before := &v.before[i]; before.node != nil && before.name == name && !before.node.dropped {
			return before.node
		}
	}
	return nil
}

// bound makes what is below zero nothing.
func (v *Views) bound() {
	for i := range v.free {
		v.free[i] = max(0, v.free[i])
	}
}

// see may find less than nothing free.
func (l *Ledger) see(own *hold, names []string, into *Views) {
	into.seen, into.before = into.before[:0], into.seen
	into.free, into.others, into.held = into.free[:0], into.others[:0], into.held[:0]
	var its *priced
	if own != nil {
		its, into.claims = l.priced(own.claims), len(own.claims)
	}
	into.seen = slices.Grow(into.seen, len(names))[:len(names)]
	for i, name := range names {
		s := &into.seen[i]
		n := into.guess(i, name)
		if n == nil {
			n = l.nodes[name]
		}
		if n == nil || !n.reported {
			*s = seen{name: name}
			continue
		}
		s.name, s.node, s.shape, s.stamp, s.free, s.held = name, n, n.shape, n.stamp, int32(len(into.free)), -1
		for i := range n.sums {
			into.free = append(into.free, n.sums[i].raw())
		}
		if ref, held := own.on(n); held {
			s.held = int32(len(into.held))
			into.held = ref.giveBack(n, its, into.free[s.free:], into.held)
		}
	}
}
