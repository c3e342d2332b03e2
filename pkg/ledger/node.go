package ledger

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
)

// A groupID stands for the name of a volume group. Clusters have few such names
// and very many volumes.
type groupID uint32

// noGroup is the place of a volume that has none.
const noGroup groupID = 0

// interned gives names their IDs.
type interned struct {
	ids   map[string]groupID
	names []string // by ID
}

func (t *interned) id(name string) groupID {
	if id, known := t.ids[name]; known {
		return id
	}
	id := groupID(len(t.names))
	t.ids[name] = id
	t.names = append(t.names, name)
	return id
}

// A node is what the ledger knows of one node. What comes first is looked at for every
// question about thousands of them.
type node struct {
	name     string
	reported bool
	dropped  bool   // it is no longer among the ledger's nodes
	shape    *shape // without groups while there is no report
	sums     []sum  // of the shape's groups
	stamp    uint64 // another one whenever less is free or the shape is another

	holds   []heldAt
	volumes map[string]entry // every volume counted here but for holds
	version uint64           // of the report
	bases   []capacity.Bytes // by group: what would be free if nothing were promised; whole extents
}

// A shape is what a report says of the managed groups, ordered by name. What is free in
// them is not in it, so most nodes of a cluster have one of few shapes. All but the
// count is never changed: views share it, and nodes too.
type shape struct {
	groups []capacity.Group
	ids    []groupID // of groups
	key    string    // of all that
	nodes  int       // that have it
}

// A sum is what one group has and what is taken of it. To look at thousands of nodes is
// mostly to wait for memory, so what Hold needs of the group stands here again.
type sum struct {
	left   capacity.Bytes // but for holds: what is free less what the report does not name
	held   capacity.Bytes // of holds
	extent capacity.Bytes // of the group
	id     groupID        // of the group
}

// raw returns what is free. Below zero is what was promised and has since been
// lost, because the group shrank or others took of it.
func (s *sum) raw() capacity.Bytes { return s.left - s.held }

// An entry is what is known of one volume on one node. A size of zero means that
// nobody says so.
type entry struct {
	reported, existing, promised capacity.Bytes
	reserved                     capacity.Bytes // see Room
	reportedIn, existingIn       groupID
	promisedIn                   groupID // and where room is kept for it
	seen                         bool    // some report has named it
	ours                         bool    // the report says so
}

func (e entry) empty() bool {
	return e.reported == 0 && e.existing == 0 && e.promised == 0 && e.reserved == 0
}

// group returns where the volume lies: the report has looked, a PersistentVolume
// knows what was told, and a promise is only that.
func (e entry) group() groupID {
	switch {
	case e.reported > 0:
		return e.reportedIn
	case e.existing > 0:
		return e.existingIn
	}
	return e.promisedIn
}

// excess returns what the volume takes beyond what the report lists of it, in a
// group of that extent size.
func (e entry) excess(extent capacity.Bytes) capacity.Bytes {
	wants := max(e.existing, e.promised, e.reserved)
	if wants <= e.reported {
		return 0
	}
	return (wants - e.reported).Extents(extent)
}

// node returns the node of that name, known from now on.
func (l *Ledger) node(name string) *node {
	n, known := l.nodes[name]
	if !known {
		n = &node{name: name, shape: &shape{nodes: 1}, volumes: map[string]entry{}}
		l.nodes[name] = n
	}
	return n
}

// drop forgets the node when there is nothing left to remember.
func (l *Ledger) drop(n *node) {
	if !n.reported && len(n.volumes) == 0 && len(n.holds) == 0 {
		delete(l.nodes, n.name)
		n.dropped = true
		l.unshape(n)
	}
}

// keeps reports whether the volume has its place on n: it is counted there, and not void.
func (n *node) keeps(name string) bool {
	e, counted := n.volumes[name]
	return counted && !n.void(e)
}

// void reports whether nothing but a promise speaks of the volume, and nothing may be put
// where it is promised: n does not offer the group any more, or the group is in trouble.
// While nobody reports on n nothing is known against it.
func (n *node) void(e entry) bool {
	if !n.reported || e.promised == 0 || e.reported > 0 || e.existing > 0 || e.reserved > 0 {
		return false
	}
	at := n.index(e.promisedIn)
	return at < 0 || n.shape.groups[at].Trouble != ""
}

// index returns the position of the group, or Nowhere when n has no such managed group.
func (n *node) index(id groupID) capacity.Position {
	for i := range n.sums {
		if n.sums[i].id == id {
			return capacity.Position(i)
		}
	}
	return capacity.Nowhere
}

// set changes what is known of a volume on n. The caller recounts n.
func (l *Ledger) set(n *node, name string, e entry) {
	_, before := n.volumes[name]
	switch {
	case e.empty() && before:
		delete(n.volumes, name)
		l.unplace(n, name)
	case e.empty():
	default:
		n.volumes[name] = e
		if !before {
			l.place(n, name)
		}
	}
}

// place makes n the node where the volume is.
func (l *Ledger) place(n *node, name string) {
	if _, elsewhere := l.where[name]; elsewhere {
		l.doubles[name]++
	}
	l.where[name] = n
}

// unplace is called when the volume has left n. That another node has a volume of
// the same name too is so rare that searching all of them will do.
func (l *Ledger) unplace(n *node, name string) {
	if l.doubles[name] == 0 {
		delete(l.where, name)
		return
	}
	if l.doubles[name]--; l.doubles[name] == 0 {
		delete(l.doubles, name)
	}
	if l.where[name] != n {
		return
	}
	for _, other := range l.nodes {
		if _, counted := other.volumes[name]; counted {
			l.where[name] = other
			return
		}
	}
}

// replace puts what a report says of the groups in place of what the last one did.
func (l *Ledger) replace(n *node, groups []Group) {
	for name, e := range n.volumes {
		e.reported, e.ours = 0, false
		n.volumes[name] = e
	}
	for i := range groups {
		l.list(n, &groups[i])
	}
	l.reshape(n, l.shapeOf(groups))
	for name, e := range n.volumes {
		switch {
		case e.reported == 0:
			// A promise that was seen and is no longer may be in the making again.
			e.seen = e.seen && e.promised == 0
			l.set(n, name, e)
		case l.lingers[name] && e.promised > 0:
			// It was made, and from now on the reports tell.
			l.set(n, name, l.unpromised(n, name, e))
			l.endPromise(name)
		}
	}
}

// list enters the volumes of a reported group. Two groups can have volumes of one
// name; then the one counts as the volume that others say lies in that group.
func (l *Ledger) list(n *node, reported *Group) {
	id := l.names.id(reported.Name)
	for i := range reported.Volumes {
		v := &reported.Volumes[i]
		e := n.volumes[v.Name]
		if e.reported > 0 && (entry{existing: e.existing, existingIn: e.existingIn, promisedIn: e.promisedIn}).group() != id {
			continue
		}
		e.reported, e.reportedIn, e.seen = max(1, v.Size), id, true
		e.ours = v.Ours
		l.set(n, v.Name, e)
	}
}

// shapeOf returns the managed groups of a report.
func (l *Ledger) shapeOf(groups []Group) *shape {
	managed := make([]capacity.Group, 0, len(groups))
	for i := range groups {
		if groups[i].Managed {
			managed = append(managed, l.group(&groups[i]))
		}
	}
	slices.SortFunc(managed, func(a, b capacity.Group) int { return cmp.Compare(a.Name, b.Name) })
	formed := &shape{groups: managed, ids: make([]groupID, len(managed))}
	for i := range managed {
		formed.ids[i] = l.names.id(managed[i].Name)
	}
	return formed
}

// group returns a reported group with what would be free if nothing were promised.
// What is left of Allocatable may be more than what is left at all, when a volume of
// somebody else has come in between.
func (l *Ledger) group(reported *Group) capacity.Group {
	left := reported.Allocatable
	for i := range reported.Volumes {
		if reported.Volumes[i].Ours {
			left -= reported.Volumes[i].Size.Extents(reported.Extent)
		}
	}
	base := min(left, reported.Available).Floor(reported.Extent)
	return capacity.Group{
		Name:    l.names.names[l.names.id(reported.Name)],
		Kind:    reported.Kind,
		Size:    reported.Allocatable,
		Free:    base,
		Extent:  reported.Extent,
		Media:   reported.Media,
		Trouble: reported.Trouble, Partition: reported.Partition,
		Disks: capacity.NewDisks(base, reported.Disks),
	}
}

// reshape gives n the shape of a report. The caller recounts n.
func (l *Ledger) reshape(n *node, to *shape) {
	n.sums, n.bases = make([]sum, len(to.groups)), make([]capacity.Bytes, len(to.groups))
	for i := range to.groups {
		g := &to.groups[i]
		n.sums[i] = sum{left: g.Free, extent: g.Extent, id: to.ids[i]}
		n.bases[i], g.Free = g.Free, 0 // it is in the shape no longer
	}
	to.key = keyOf(to.groups)
	if known := l.shapes[to.key]; known != nil {
		to = known
	} else {
		l.shapes[to.key] = to
	}
	to.nodes++
	l.unshape(n)
	n.shape = to
}

// keyOf returns the same for groups that are alike, and for no others.
func keyOf(groups []capacity.Group) string {
	var key []byte
	for i := range groups {
		g := &groups[i]
		key = fmt.Appendf(key, "%q %q %d %d %q %q %t %v\n", g.Name, string(g.Kind), g.Size, g.Extent, g.Media, g.Trouble, g.Partition, g.Disks)
	}
	return string(key)
}

// unshape takes n's shape from it; another one, or none, must follow.
func (l *Ledger) unshape(n *node) {
	if n.shape.nodes--; n.shape.nodes == 0 {
		delete(l.shapes, n.shape.key)
	}
}

// recount computes anew what is free on n. Only Hold and its undoing do without.
func (l *Ledger) recount(n *node) {
	n.stamp++
	for i := range n.sums {
		n.sums[i].left, n.sums[i].held = n.bases[i], 0
	}
	for _, e := range n.volumes {
		if at := n.index(e.group()); at >= 0 {
			n.sums[at].left -= e.excess(n.sums[at].extent)
		}
	}
	for _, ref := range n.holds {
		ref.weigh(n, l.priced(ref.claims), 1)
	}
}
