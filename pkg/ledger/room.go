package ledger

import (
	"time"

	"github.com/open-local/open-local/pkg/capacity"
)

// A Room is what somebody is about to take of a group for a logical volume that no claim
// waits for: one that grows, or a snapshot. It lives like this:
//
//	        Keep, and it fits            a report shows as much
//	(none) -------------------> kept ----------------------------> (none; the report has it)
//	                              |
//	                              +-- Unkeep, or its time has come --> (none)
//
// It is counted as a promise is: with the largest size that anybody speaks of.
type Room struct {
	Volume      string
	Node, Group string
	Size        capacity.Bytes // of all of the volume, not of what is added
	// New says that the volume is made. A report that names it shows as much, whatever
	// its size: of a snapshot LVM takes no more than that can ever need.
	New bool
}

// kept is what is remembered of a Room beside its size.
type kept struct {
	id    groupID
	new   bool
	until time.Time
}

// A Lack is why no room is kept.
type Lack struct {
	Unreported bool           // nobody has reported on the node
	Wants      capacity.Bytes // beyond what is counted of the volume already
	Free, Held capacity.Bytes // what is free in the group, and held by pods that have no node yet
}

// Keep keeps the room until then, and returns nil, or says what is lacking and keeps
// nothing. Asking again makes it last longer, and never smaller: the first who asked may
// still be at work. What a report shows already is not kept, and in a group where nothing
// is promised there is nothing to keep it from.
func (l *Ledger) Keep(want Room, until time.Time) *Lack {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[want.Node]
	if n == nil || !n.reported {
		return &Lack{Unreported: true}
	}
	before := n.volumes[want.Volume]
	if before.reported >= want.Size || want.New && before.reported > 0 {
		return nil
	}
	key, e := grower{n, want.Volume}, before
	room, again := l.rooms[key]
	if !again {
		room = kept{id: l.names.id(want.Group), new: want.New}
	}
	if e.promised == 0 {
		e.promisedIn = room.id
	}
	e.reserved = max(e.reserved, want.Size)
	if at := n.index(e.group()); at >= 0 {
		s := &n.sums[at]
		if more := e.excess(s.extent) - before.excess(s.extent); more > 0 && more > s.raw() {
			return &Lack{Wants: more, Free: max(0, s.raw()), Held: s.held}
		}
	}
	if until.After(room.until) {
		room.until = until
	}
	l.rooms[key] = room
	l.due(room.until)
	l.set(n, want.Volume, e)
	l.recount(n)
	return nil
}

// Unkeep ends what is kept on the node for the volume: it was not made, or is gone.
func (l *Ledger) Unkeep(name, nodeName string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, known := l.nodes[nodeName]; known {
		l.unkeep(grower{n, name})
	}
}

// unkeep ends the room. l.mu is held.
func (l *Ledger) unkeep(key grower) {
	if _, is := l.rooms[key]; !is {
		return
	}
	delete(l.rooms, key)
	n := key.node
	e := n.volumes[key.name]
	e.reserved = 0
	l.set(n, key.name, e)
	l.recount(n)
	l.drop(n)
	l.ring()
}

// shown ends what is kept on n for volumes that its report shows as large.
func (l *Ledger) shown(n *node) {
	for key, room := range l.rooms {
		if e := n.volumes[key.name]; key.node == n && (e.reported >= e.reserved || room.new && e.reported > 0) {
			l.unkeep(key)
		}
	}
}

// unpromised is e without its promise. What is kept of the volume is where it was.
func (l *Ledger) unpromised(n *node, name string, e entry) entry {
	e.promised = 0
	if room, is := l.rooms[grower{n, name}]; is {
		e.promisedIn = room.id
	}
	return e
}
