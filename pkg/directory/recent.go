package directory

import "github.com/open-local/open-local/apis/storage/v1alpha1"

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
func (d *Directory) reportChanged(before any) {
	nls, ok := before.(*v1alpha1.NodeLocalStorage)
	if !ok {
		return
	}
	shown := func(index, id string) bool {
		reports, _ := d.reports.GetIndexer().ByIndex(index, id)
		return len(reports) > 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, group := range nls.Status.NodeStorageInfo.VolumeGroups {
		for i := range group.LogicalVolumes {
			v := &group.LogicalVolumes[i]
			if d.gone[v.VolumeID] && !shown(byHandle, v.VolumeID) && !d.isRecorded(v.VolumeID) {
				delete(d.gone, v.VolumeID)
			}
			if d.goneSnapshots[v.SnapshotID] && !shown(bySnapshot, v.SnapshotID) {
				delete(d.goneSnapshots, v.SnapshotID)
			}
		}
	}
}

// volumeDropped does the same when a PersistentVolume goes after its volume.
func (d *Directory) volumeDropped(id string) {
	reports, _ := d.reports.GetIndexer().ByIndex(byHandle, id)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(reports) == 0 && !d.isRecorded(id) {
		delete(d.gone, id)
	}
}

func (d *Directory) isRecorded(id string) bool {
	volumes, _ := d.volumes.GetIndexer().ByIndex(byHandle, id)
	return len(volumes) > 0
}
