package directory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/open-local/open-local/pkg/driver"
)

// Find returns where the volume is. A report has looked, so it is believed first;
// then what was just made here; then the PersistentVolume, which knows what was
// once told. A volume that none of them names is driver.ErrNoVolume.
//
// So is one whose node has left the cluster for good, with its disks; the place is then
// where it was. While that is not certain yet it is driver.ErrNodeUnavailable.
func (d *Directory) Find(id string) (driver.Place, error) {
	recorded, hasPV := d.recorded(id)
	reported := d.reported(id)
	slices.SortFunc(reported, func(a, b driver.Place) int {
		// Where the PersistentVolume says it is, if it was seen there.
		return cmp.Or(-compareBool(a.Node == recorded.Node, b.Node == recorded.Node), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Group, b.Group))
	})

	d.mu.Lock()
	defer d.mu.Unlock()
	made, isMade := d.made.all[id]
	switch {
	case len(reported) > 0:
		d.made.drop(id)
		place := reported[0]
		place.Proven = hasPV && place.Node == recorded.Node && place.Group == recorded.Group
		return place, nil
	case isMade:
		made.Proven = hasPV && made.Node == recorded.Node && made.Group == recorded.Group
		return made, d.present(made.Node)
	case hasPV:
		return recorded, d.present(recorded.Node)
	}
	return driver.Place{}, fmt.Errorf("volume %s: %w", id, driver.ErrNoVolume)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// present reports what it means for a volume that its node, which does not report
// it, is there or not. d.mu is held.
func (d *Directory) present(node string) error {
	_, isNode, _ := d.node.GetStore().GetByKey(node)
	_, isReport := d.reports.Get(node)
	if isNode || isReport {
		delete(d.missing, node)
		return nil
	}
	now := d.o.Clock.Now()
	since, known := d.missing[node]
	if !known {
		since = now
		d.missing[node] = now
	}
	if now.Sub(since) < d.o.NodeGrace {
		return fmt.Errorf("node %q has left the cluster, its volumes count as gone in %s: %w", node, d.o.NodeGrace-now.Sub(since), driver.ErrNodeUnavailable)
	}
	return fmt.Errorf("node %q left the cluster: %w", node, driver.ErrNoVolume)
}

// returned notes that a node, or its report, is there: when it leaves again, its volumes
// count as gone after a whole NodeGrace and not at once.
func (d *Directory) returned(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.missing, name)
}

// Naming returns the names of the PersistentVolumes that name the volume.
func (d *Directory) Naming(id string) []string {
	var names []string
	for _, r := range d.recordsOf(id) {
		names = append(names, r.Key())
	}
	return names
}

// Remember says that the volume was made.
func (d *Directory) Remember(id string, place driver.Place) {
	d.mu.Lock()
	d.made.put(id, place)
	d.mu.Unlock()
	d.changed(place.Node)
}

// Forget says that the volume was removed.
func (d *Directory) Forget(id string) {
	d.mu.Lock()
	node := d.made.removed(id, len(d.reported(id)) > 0 || d.isRecorded(id))
	d.mu.Unlock()
	if node != "" {
		d.changed(node)
	}
}

// Volumes returns all volumes, by their handles.
func (d *Directory) Volumes() map[string]driver.Place {
	recorded, reported := map[string]driver.Place{}, map[string]driver.Place{}
	for _, r := range d.volumes.List() {
		if handle := r.handle(); handle != "" {
			recorded[handle] = r.place()
		}
	}
	for _, r := range d.reports.List() {
		maps.Insert(reported, r.places)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made.and(recorded, reported)
}

// recorded returns the place that a PersistentVolume of ours records for id.
func (d *Directory) recorded(id string) (driver.Place, bool) {
	for _, r := range d.recordsOf(id) {
		return r.place(), true
	}
	return driver.Place{}, false
}

// reported returns the places at which reports show the volume.
func (d *Directory) reported(id string) []driver.Place {
	var places []driver.Place
	for _, r := range d.reports.By(byHandle, id) {
		if place, has := r.place(id); has {
			places = append(places, place)
		}
	}
	return places
}
