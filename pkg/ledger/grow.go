package ledger

import (
	"maps"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
)

// A growth is a volume on a node that is counted larger than what made it exist says.
// Until the report names the new size, or the PersistentVolume does, this is all that
// keeps its room:
//
//	        Grow, and it fits             Exists says as much, or Grow says less
//	(none) -------------------> counted ------------------------------------------> (none)
//	   |                           |
//	   +-- Grow, no room: wished --+-- a report leaves no room for it: wished
//
// A wish is not counted, so one that can never come true keeps nobody out. Each report
// of the node, and each word about the volume, tries it again.
type growth struct {
	was, to capacity.Bytes
}

type grower struct {
	node *node
	name string
}

// Grow says how large the volume is asked to be, whatever is known to exist; zero is no
// larger than that. What is counted of it follows at once.
func (l *Ledger) Grow(name string, size capacity.Bytes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size <= 0 && l.wishes[name] == 0 {
		return
	}
	l.wishes[name] = max(0, size)
	for _, n := range l.having(name) {
		l.regrow(n, name)
	}
	l.fulfil(name)
	l.ring()
}

// having returns the nodes where the volume exists.
func (l *Ledger) having(name string) []*node {
	var having []*node
	if n := l.where[name]; n != nil && l.doubles[name] == 0 {
		having = append(having, n)
	}
	if l.doubles[name] > 0 { // so rare that looking at all of them will do
		having = slices.Collect(maps.Values(l.nodes))
	}
	return slices.DeleteFunc(having, func(n *node) bool { return n.volumes[name].existing == 0 })
}

// fulfil forgets a wish that has come true, or was taken back.
func (l *Ledger) fulfil(name string) {
	wish, open := l.wishes[name], false
	having := l.having(name)
	for _, n := range having {
		open = open || wish > l.was(n, name)
	}
	if wish == 0 || len(having) > 0 && !open {
		delete(l.wishes, name)
	}
}

// was returns how large the volume exists on n.
func (l *Ledger) was(n *node, name string) capacity.Bytes {
	if g, grows := l.grows[grower{n, name}]; grows {
		return g.was
	}
	return n.volumes[name].existing
}

// regrow counts the volume on n as large as it is wished to be, if that fits.
func (l *Ledger) regrow(n *node, name string) {
	key, was, wish := grower{n, name}, l.was(n, name), l.wishes[name]
	counted := l.grows[key].to == wish
	if counted && wish > was {
		return
	}
	l.shrink(n, name)
	if wish <= was {
		return
	}
	l.resize(n, name, wish)
	l.grows[key] = growth{was: was, to: wish}
	if l.lacks(n, name) {
		l.shrink(n, name)
	}
}

// shrink counts the volume as large as it exists.
func (l *Ledger) shrink(n *node, name string) {
	key := grower{n, name}
	if g, grows := l.grows[key]; grows {
		delete(l.grows, key)
		l.resize(n, name, g.was)
	}
}

func (l *Ledger) resize(n *node, name string, size capacity.Bytes) {
	e := n.volumes[name]
	e.existing = size
	l.set(n, name, e)
	l.recount(n)
}

// lacks reports whether more is counted in the volume's group than it has.
func (l *Ledger) lacks(n *node, name string) bool {
	at := n.index(n.volumes[name].group())
	return at >= 0 && n.sums[at].raw() < 0
}

// review looks at all wishes on n after a report: what it leaves no room for is counted
// no more, and then what it has room for is. They go by name.
func (l *Ledger) review(n *node) {
	if len(l.wishes) == 0 {
		return
	}
	var names []string
	for name := range l.wishes {
		if n.volumes[name].existing > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if _, grows := l.grows[grower{n, name}]; grows && l.lacks(n, name) {
			l.shrink(n, name)
		}
	}
	for _, name := range names {
		l.regrow(n, name)
	}
}
