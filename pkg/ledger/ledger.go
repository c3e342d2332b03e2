// Package ledger knows what every node has and what has been promised of it. It
// is a lock around arithmetic: it decides nothing, watches nothing and does not
// know what time it is; the times in it are those its callers pass.
package ledger

import (
	"slices"
	"sync"
	"time"

	"github.com/open-local/open-local/pkg/capacity"
)

// Ledger knows, for every node, what its agent last reported and what is there or
// promised beside that. A promise lives like this:
//
//	       Hold               Choose              Exists: its PersistentVolume is there
//	(none) ------>  held  --------------> promised ---------------------> existing
//	        on every node  one node shows     |   on one node                 |
//	        it may land on     |              |                               |
//	                |          |       Forget |                               |
//	                |          +-- Promise    +-- Gone, then lingering -------+-- Gone
//	                |              (no hold)  |                               |
//	     Release or expired                expired                     no report names it
//	                |                         |                               |
//	                +----> (none)             +----> (none)                   +----> (none)
//
// A volume is counted once on a node, whoever speaks of it: the report, its
// existence, the promise, what is kept for it, and a hold only where none of these counts
// it. It counts with the largest size of all. So no order of events and no repetition changes
// what is free, and a report that was written before a promise cannot free it:
// only what happens to the claim or the volume itself ends a promise.
//
// What was promised and whose claim or pod is gone may be in the making at this
// moment. It lingers for a while, or until a report names it: from then on the
// reports are believed.
//
// A promise keeps its place, but where nothing may be put any more it is void: it goes on
// to count there, and its volume is placed as one that has none.
//
// All names of volumes are those of logical volumes.
type Ledger struct {
	mu        sync.RWMutex // guards all below, and all nodes and holds
	nodes     map[string]*node
	reported  int                       // how many of them have a report
	where     map[string]*node          // the node that last began to count the volume
	doubles   map[string]int            // how many more nodes count a volume of that name
	promises  map[string]*node          // the node where the volume is promised
	deadlines map[string]time.Time      // when the promise of the volume ends by itself
	lingers   map[string]bool           // whether the promise of the volume waits only to end
	holds     map[string]*hold          // by the UID of the pod
	spare     *hold                     // one that has ended, whose memory is used again; or nil
	wishes    map[string]capacity.Bytes // how large a volume is asked to be; see Grow
	grows     map[grower]growth         // what is counted of that
	rooms     map[grower]kept           // what is kept beside claims; see Room
	making    map[string]attempt        // to make the volume, the last there was; see Making
	next      time.Time                 // no hold or promise ends by itself before
	names     interned                  // of volume groups
	shapes    map[string]*shape         // by key
	changed   chan struct{}             // closed at the next change, when somebody asked
	expired   Expired
}

// New returns a Ledger that knows of no node.
func New() *Ledger {
	return &Ledger{
		nodes:     map[string]*node{},
		where:     map[string]*node{},
		doubles:   map[string]int{},
		promises:  map[string]*node{},
		deadlines: map[string]time.Time{},
		lingers:   map[string]bool{},
		holds:     map[string]*hold{},
		wishes:    map[string]capacity.Bytes{},
		grows:     map[grower]growth{},
		rooms:     map[grower]kept{},
		making:    map[string]attempt{},
		shapes:    map[string]*shape{},
		names:     interned{ids: map[string]groupID{}, names: []string{""}},
	}
}

// A Report is what an agent saw on its node.
type Report struct {
	// Version orders the reports of one node. One older than the last is ignored;
	// zero is never old.
	Version uint64
	Groups  []Group
}

// A Group is a volume group in a report.
type Group struct {
	Name        string
	Kind        capacity.Kind
	Managed     bool           // volumes may be put there; others only keep theirs
	Allocatable capacity.Bytes // what volumes of ours may ever fill
	Available   capacity.Bytes // what no logical volume has taken, whoever's
	Extent      capacity.Bytes
	Media       capacity.Media
	Trouble     string // why nothing new may be put there; empty when all is well
	Partition   bool   // it is a part of a disk, or lies on one
	Volumes     []Volume
	// Disks is what each of its physical volumes has free, in no order; nil when the
	// report does not say.
	Disks []capacity.Bytes
}

// A Volume is a logical volume in a report.
type Volume struct {
	Name string
	Size capacity.Bytes
	// Ours says that the group's Allocatable includes the volume. What others have
	// taken is not in Allocatable.
	Ours bool
}

// Report replaces what was reported of the node. Promises and holds stay. It returns
// true when the node had no report before.
func (l *Ledger) Report(name string, report Report) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(name)
	if report.Version != 0 && report.Version < n.version {
		return false
	}
	if first = !n.reported; first {
		l.reported++
	}
	n.version = report.Version
	l.replace(n, report.Groups)
	n.reported = true
	l.recount(n)
	l.shown(n)
	l.review(n)
	l.ring()
	return first
}

// Leave forgets what was reported of the node: it, or its report, is gone. Volumes
// that are known to exist there, and promises, are remembered for its return.
func (l *Ledger) Leave(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, known := l.nodes[name]
	if !known {
		return
	}
	if n.reported {
		l.reported--
	}
	n.version, n.reported = 0, false
	l.replace(n, nil)
	l.recount(n)
	l.drop(n)
	l.ring()
}

// A Place is where a volume lies or is promised.
type Place struct {
	Node   string
	Group  string
	Kind   capacity.Kind // of the group, while its node reports it
	Exists bool          // its PersistentVolume, or for an inline volume its pod, says so
	// Void says that it is only promised, where nothing may be put any more: the node does
	// not offer the group, or the group is in trouble. It wants another place.
	Void     bool
	Reported bool // the node's agent says so
	// Size is what the agent says, or else the PersistentVolume; zero of what is only promised.
	Size capacity.Bytes
}

// On reports whether that is a place on the node which the volume may still go to.
func (p Place) On(node string) bool { return p.Node == node && !p.Void }

// Where returns the place of the volume, if it is counted anywhere. Holds do not
// count: they are in many places.
func (l *Ledger) Where(name string) (Place, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n, counted := l.where[name]
	if !counted {
		return Place{}, false
	}
	e := n.volumes[name]
	place := Place{Node: n.name, Group: l.names.names[e.group()], Exists: e.existing > 0, Void: n.void(e), Reported: e.reported > 0, Size: e.reported}
	if !place.Reported {
		place.Size = e.existing
	}
	if at := n.index(e.group()); at >= 0 {
		place.Kind = n.shape.groups[at].Kind
	}
	return place, true
}

// Changed returns a channel that is closed when something has changed since that
// may have made room. Ask before deciding, wait after.
func (l *Ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// ring wakes those who wait. l.mu is held.
func (l *Ledger) ring() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Reported returns the names of the nodes that have reported, in no order.
func (l *Ledger) Reported() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	names := make([]string, 0, len(l.nodes))
	for name, n := range l.nodes {
		if n.reported {
			names = append(names, name)
		}
	}
	return names
}

// A Use is what one node has, and how many volumes of ours it counts.
type Use struct {
	capacity.Node
	Volumes int // reported as ours, existing or promised
}

// Stats are what the ledger holds, for whoever watches over it.
type Stats struct {
	Nodes    int // that have reported
	Holds    int // pods that hold room
	Promises int // volumes that are promised
	Making   int // volumes that somebody makes
	Rooms    int // volumes and snapshots for which room is kept while they grow or are made
	Expired  Expired
}

// Expired counts what came to its end by itself, because nobody said in time what became
// of it.
type Expired struct {
	Holds    int // no choice of the scheduler was seen
	Promises int // no claim showed the node
	Lingered int // the claim or the pod was gone, and no report named the volume meanwhile
	Rooms    int // no report showed what the room was kept for
}

// Stats counts.
func (l *Ledger) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return Stats{Nodes: l.reported, Holds: len(l.holds), Promises: len(l.promises), Making: len(l.making), Rooms: len(l.rooms), Expired: l.expired}
}

// Uses copies what every node that has reported has, in no order.
func (l *Ledger) Uses() []Use {
	l.mu.RLock()
	defer l.mu.RUnlock()
	uses := make([]Use, 0, len(l.nodes))
	for _, n := range l.nodes {
		if !n.reported {
			continue
		}
		use := Use{Node: capacity.Node{Name: n.name, Groups: slices.Clone(n.shape.groups)}}
		for i := range use.Groups {
			use.Groups[i].Free = max(0, n.sums[i].raw())
		}
		for _, e := range n.volumes {
			if e.ours || e.existing > 0 || e.promised > 0 {
				use.Volumes++
			}
		}
		uses = append(uses, use)
	}
	return uses
}
