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
	id       groupID
	new      bool
	until    time.Time
	recalled bool // see Recall
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
	counted := n.volumes[want.Volume]
	if counted.shows(want) {
		return nil
	}
	before, room := counted, l.rooms[grower{n, want.Volume}]
	if room.recalled {
		before.reserved = 0
	}
	if at := n.index(l.with(counted, want).group()); at >= 0 {
		s := &n.sums[at]
		free := s.raw() + counted.excess(s.extent) - before.excess(s.extent)
		if more := l.with(before, want).excess(s.extent) - before.excess(s.extent); more > 0 && more > free {
			return &Lack{Wants: more, Free: max(0, free), Held: s.held}
		}
	}
	room.recalled = false
	l.keep(n, want, room, until)
	return nil
}

// Recall keeps, whatever is free, room that a ledger which is lost may have kept: of what
// is under way nobody knows whether Keep was asked for it, or what it said. Call it for a
// ledger that was just filled, before anything is promised anew, and with the same size as
// Keep: then nothing is promised in its place. Who asks for it with Keep is answered as if
// it were not there.
func (l *Ledger) Recall(room Room, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[room.Node]
	if n == nil || !n.reported || n.volumes[room.Volume].shows(room) {
		return
	}
	if _, is := l.rooms[grower{n, room.Volume}]; !is {
		l.keep(n, room, kept{recalled: true}, until)
	}
}

// shows tells whether a report names what the room is for, as large as it shall be.
func (e entry) shows(r Room) bool { return e.reported >= r.Size || r.New && e.reported > 0 }

// with returns e with the room kept. l.mu is held.
func (l *Ledger) with(e entry, r Room) entry {
	if e.promised == 0 && e.reserved == 0 {
		e.promisedIn = l.names.id(r.Group)
	}
	e.reserved = max(e.reserved, r.Size)
	return e
}

// keep has the room kept, or for longer. l.mu is held.
func (l *Ledger) keep(n *node, r Room, room kept, until time.Time) {
	key := grower{n, r.Volume}
	if _, again := l.rooms[key]; !again {
		room.id, room.new = l.names.id(r.Group), r.New
	}
	if until.After(room.until) {
		room.until = until
	}
	l.rooms[key] = room
	l.due(room.until)
	l.set(n, r.Volume, l.with(n.volumes[r.Volume], r))
	l.recount(n)
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
		if e := n.volumes[key.name]; key.node == n && e.shows(Room{Size: e.reserved, New: room.new}) {
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
