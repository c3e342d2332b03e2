package directory

// recent is what was made on nodes and no report shows yet, by handle. A question about
// one node costs what was made there, however much was made elsewhere.
type recent[P any] struct {
	nodeOf func(P) string
	all    map[string]P
	on     map[string]map[string]P // by node
}

func newRecent[P any](nodeOf func(P) string) recent[P] {
	return recent[P]{nodeOf: nodeOf, all: map[string]P{}, on: map[string]map[string]P{}}
}

func (r *recent[P]) put(id string, place P) {
	r.remove(id)
	r.all[id] = place
	node := r.nodeOf(place)
	if r.on[node] == nil {
		r.on[node] = map[string]P{}
	}
	r.on[node][id] = place
}

func (r *recent[P]) remove(id string) {
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

// reportChanged drops what was remembered of volumes and snapshots that are gone, now that
// a report that showed them does so no more. Without that every volume that ever was would
// be remembered.
func (d *Directory) reportChanged(r *report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range r.groups {
		for _, v := range r.groups[i].volumes {
			if d.gone[v.handle] && len(d.reported(v.handle)) == 0 && !d.isRecorded(v.handle) {
				delete(d.gone, v.handle)
			}
		}
		for id := range r.groups[i].snapshots {
			if d.goneSnapshots[id] && len(d.reports.By(bySnapshot, id)) == 0 {
				delete(d.goneSnapshots, id)
			}
		}
	}
}

// volumeDropped does the same when a PersistentVolume goes after its volume.
func (d *Directory) volumeDropped(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.reported(id)) == 0 && !d.isRecorded(id) {
		delete(d.gone, id)
	}
}

func (d *Directory) isRecorded(id string) bool {
	return len(d.recordsOf(id)) > 0
}
