package ledger

import (
	"cmp"
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

// A node is what the ledger knows of one node.
type node struct {
	name     string
	reported bool
	dropped  bool             // it is no longer among the ledger's nodes
	version  uint64           // of the report
	groups   []group          // those managed, by name
	volumes  map[string]entry // every volume counted here but for holds
	holds    []heldAt
}

// A group is a managed volume group of a node.
type group struct {
	id    groupID
	view  capacity.Group // Free is max(0, raw)
	base  capacity.Bytes // what would be free but for the next two; whole extents
	extra capacity.Bytes // of volumes, what the report does not name
	held  capacity.Bytes // of holds
}

// raw returns what is free. Below zero is what was promised and has since been
// lost, because the group shrank or others took of it.
func (g *group) raw() capacity.Bytes { return g.base - g.extra - g.held }

func (g *group) settle() { g.view.Free = max(0, g.raw()) }

// An entry is what is known of one volume on one node. A size of zero means that
// nobody says so.
type entry struct {
	reported, existing, promised       capacity.Bytes
	reportedIn, existingIn, promisedIn groupID
	seen                               bool // some report has named it
	ours                               bool // the report says so
}

func (e entry) empty() bool { return e.reported == 0 && e.existing == 0 && e.promised == 0 }

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
	wants := max(e.existing, e.promised)
	if wants <= e.reported {
		return 0
	}
	return (wants - e.reported).Extents(extent)
}

// node returns the node of that name, known from now on.
func (l *Ledger) node(name string) *node {
	n, known := l.nodes[name]
	if !known {
		n = &node{name: name, volumes: map[string]entry{}}
		l.nodes[name] = n
	}
	return n
}

// drop forgets the node when there is nothing left to remember.
func (l *Ledger) drop(n *node) {
	if !n.reported && len(n.volumes) == 0 && len(n.holds) == 0 {
		delete(l.nodes, n.name)
		n.dropped = true
	}
}

// byID returns the group, or nil when n has no such managed group.
func (n *node) byID(id groupID) *group {
	if i := n.index(id); i >= 0 {
		return &n.groups[i]
	}
	return nil
}

// counts reports whether the volume is counted on n other than by holds.
func (n *node) counts(name string) bool {
	_, counted := n.volumes[name]
	return counted
}

// byName returns the group, or nil when n has no such managed group.
func (n *node) byName(name string) *group {
	for i := range n.groups {
		if n.groups[i].view.Name == name {
			return &n.groups[i]
		}
	}
	return nil
}

// index returns the position of the group, or -1.
func (n *node) index(id groupID) int {
	for i := range n.groups {
		if n.groups[i].id == id {
			return i
		}
	}
	return -1
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
	n.groups = make([]group, 0, len(groups))
	for i := range groups {
		l.list(n, &groups[i])
		if groups[i].Managed {
			n.groups = append(n.groups, l.group(&groups[i]))
		}
	}
	slices.SortFunc(n.groups, func(a, b group) int { return cmp.Compare(a.view.Name, b.view.Name) })
	for name, e := range n.volumes {
		switch {
		case e.reported == 0:
			// A promise that was seen and is no longer may be in the making again.
			e.seen = e.seen && e.promised == 0
			l.set(n, name, e)
		case l.lingers[name] && e.promised > 0:
			e.promised = 0 // it was made, and from now on the reports tell
			l.set(n, name, e)
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

// group returns a reported group as decisions see it, before anything is taken off.
// What is left of Allocatable may be more than what is left at all, when a volume of
// somebody else has come in between.
func (l *Ledger) group(reported *Group) group {
	left := reported.Allocatable
	for i := range reported.Volumes {
		if reported.Volumes[i].Ours {
			left -= reported.Volumes[i].Size.Extents(reported.Extent)
		}
	}
	base := min(left, reported.Available).Floor(reported.Extent)
	return group{
		id: l.names.id(reported.Name),
		view: capacity.Group{
			Name:    l.names.names[l.names.id(reported.Name)],
			Size:    reported.Allocatable,
			Extent:  reported.Extent,
			Media:   reported.Media,
			Trouble: reported.Trouble,
			Disks:   capacity.NewDisks(base, reported.Disks),
		},
		base: base,
	}
}

// recount computes anew what is free on n. Only Hold and its undoing do without.
func (l *Ledger) recount(n *node) {
	for i := range n.groups {
		n.groups[i].extra, n.groups[i].held = 0, 0
	}
	for _, e := range n.volumes {
		if g := n.byID(e.group()); g != nil {
			g.extra += e.excess(g.view.Extent)
		}
	}
	for _, ref := range n.holds {
		ref.weigh(n, l.countedAnywhere(ref.claims), 1)
	}
	for i := range n.groups {
		n.groups[i].settle()
	}
}
