package directory

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
)

// Indexes by snapshot handle: of reports, and of the PersistentVolumes that show a
// snapshot itself.
const (
	bySnapshot = "snapshot"
	byShown    = "shown"
)

// FindSnapshot returns where a snapshot is: what reports show, else what was just made
// here. One that neither names is driver.ErrNoSnapshot. ShownBy is told in any case.
func (d *Directory) FindSnapshot(id string) (driver.SnapshotPlace, error) {
	var place driver.SnapshotPlace
	reports := d.reports.By(bySnapshot, id)
	reported := len(reports) > 0
	for _, r := range reports {
		place, _ = r.snapshot(id)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	made, isMade := d.snapshots.all[id]
	switch {
	case reported:
		d.snapshots.drop(id)
	case isMade:
		place = made
	}
	place.ShownBy = d.shown(id)
	if !reported && !isMade {
		return place, fmt.Errorf("snapshot %s: %w", id, driver.ErrNoSnapshot)
	}
	return place, nil
}

// shown names the PersistentVolumes that show the snapshot, ordered.
func (d *Directory) shown(id string) []string {
	var names []string
	for _, r := range d.volumes.By(byShown, id) {
		names = append(names, r.Key())
	}
	slices.Sort(names)
	return names
}

// RememberSnapshot says that the snapshot was made.
func (d *Directory) RememberSnapshot(id string, place driver.SnapshotPlace) {
	d.mu.Lock()
	d.snapshots.put(id, place)
	d.mu.Unlock()
	d.changed(place.Node)
}

// ForgetSnapshot says that the snapshot was removed.
func (d *Directory) ForgetSnapshot(id string) {
	d.mu.Lock()
	node := d.snapshots.removed(id, true)
	d.mu.Unlock()
	if node != "" {
		d.changed(node)
	}
}

// Snapshots returns all snapshots, by their handles.
func (d *Directory) Snapshots() map[string]driver.SnapshotPlace {
	reported := map[string]driver.SnapshotPlace{}
	for _, r := range d.reports.List() {
		for i := range r.groups {
			maps.Copy(reported, r.groups[i].snapshots)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snapshots.and(reported)
}

// lessSnapshots takes from what the node has to give the snapshots that were made since
// it reported. d.mu is held.
func (d *Directory) lessSnapshots(node *capacity.Node, r *report) {
	for id, place := range d.snapshots.on[r.Key()] {
		if _, reported := r.snapshot(id); reported {
			d.snapshots.drop(id)
		} else if group := node.Group(place.Group); group != nil {
			group.Free = max(0, group.Free-place.Space.Extents(group.Extent))
		}
	}
}
