package directory

import "maps"

// recent is what was made and removed on nodes and others do not show yet, by handle. A
// question about one node costs what was made there, however much was made elsewhere.
type recent[P any] struct {
	nodeOf func(P) string
	all    map[string]P            // what was made
	on     map[string]map[string]P // the same by node
	gone   map[string]bool         // what was removed
}

func newRecent[P any](nodeOf func(P) string) recent[P] {
	return recent[P]{nodeOf: nodeOf, all: map[string]P{}, on: map[string]map[string]P{}, gone: map[string]bool{}}
}

// put remembers what was made.
func (r *recent[P]) put(id string, place P) {
	r.drop(id)
	delete(r.gone, id)
	r.all[id] = place
	node := r.nodeOf(place)
	if r.on[node] == nil {
		r.on[node] = map[string]P{}
	}
	r.on[node][id] = place
}

// removed forgets what was made, and remembers that it is gone if others may show it. It
// returns the node on which only this knew it to be, or "".
func (r *recent[P]) removed(id string, shown bool) (node string) {
	if place, known := r.all[id]; known {
		node = r.nodeOf(place)
	}
	r.drop(id)
	if shown {
		r.gone[id] = true
	}
	return node
}

// drop forgets what was made: others show it now.
func (r *recent[P]) drop(id string) {
	place, known := r.all[id]
	if !known {
		return
	}
	delete(r.all, id)
	node := r.nodeOf(place)
	if delete(r.on[node], id); len(r.on[node]) == 0 {
		delete(r.on, node)
	}
}

// and returns what was made, and what others show, the last the most believed, but for what
// is gone.
func (r *recent[P]) and(shown ...map[string]P) map[string]P {
	all := maps.Clone(r.all)
	for _, others := range shown {
		maps.Copy(all, others)
	}
	for id := range r.gone {
		if _, there := all[id]; !there {
			delete(r.gone, id) // everybody has seen it by now
		}
		delete(all, id)
	}
	return all
}

// reportChanged drops what was remembered of volumes and snapshots that are gone, now that
// a report that showed them does so no more. Without that every volume that ever was would
// be remembered.
func (d *Directory) reportChanged(r *report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range r.groups {
		for _, v := range r.groups[i].volumes {
			if d.made.gone[v.handle] && len(d.reported(v.handle)) == 0 && !d.isRecorded(v.handle) {
				delete(d.made.gone, v.handle)
			}
		}
		for id := range r.groups[i].snapshots {
			if d.snapshots.gone[id] && len(d.reports.By(bySnapshot, id)) == 0 {
				delete(d.snapshots.gone, id)
			}
		}
	}
}

// volumeDropped does the same when a PersistentVolume goes after its volume.
func (d *Directory) volumeDropped(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.reported(id)) == 0 && !d.isRecorded(id) {
		delete(d.made.gone, id)
	}
}

func (d *Directory) isRecorded(id string) bool {
	return len(d.recordsOf(id)) > 0
}
