package driver

import (
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// parseSource reads what a volume is to be made of. Every error is volume.ErrInvalid.
func parseSource(source *csi.VolumeContentSource) (provision.Source, error) {
	switch {
	case source == nil:
		return provision.Source{}, nil
	case source.GetSnapshot() != nil:
		id := source.GetSnapshot().GetSnapshotId()
		return provision.Source{Snapshot: id}, volume.ValidID(id)
	case source.GetVolume() != nil:
		id := source.GetVolume().GetVolumeId()
		return provision.Source{Volume: id}, volume.ValidID(id)
	}
	return provision.Source{}, fmt.Errorf("%w volume content source: neither a snapshot nor a volume", volume.ErrInvalid)
}

// origin is where a source lies and how large it is.
type origin struct {
	node, group string
	size        capacity.Bytes
	readOnly    bool // it is a snapshot that is shown and not copied
}

// locate finds the source of w, and makes w one that lies beside it.
func (c *Controller) locate(w wanted) (wanted, error) {
	from, err := c.originOf(&w)
	if err != nil {
		return w, fmt.Errorf("volume %s: %w", w.id, err)
	}
	w.source.Group = from.group
	if len(w.nodes) > 0 && !slices.Contains(w.nodes, from.node) {
		return w, fmt.Errorf("volume %s: its source lies on node %s, and it may lie on %q only: %w", w.id, from.node, w.nodes, ErrNoRoom)
	}
	w.nodes = []string{from.node}
	switch {
	case w.unsized && w.limit == 0:
		w.size = from.size
	case w.unsized:
		w.size = min(max(w.size, from.size), w.limit)
	}
	if !from.readOnly {
		return w, w.access.onOneNode()
	}
	w.shows = &from
	switch {
	case w.size > from.size || w.limit > 0 && w.limit < from.size:
		return w, fmt.Errorf("volume %s: %w: it shows snapshot %s itself and has %s, as that has", w.id, provision.ErrOutOfRange, w.source.Snapshot, from.size)
	case w.parameters.Group != "" && w.parameters.Group != from.group:
		return w, fmt.Errorf("%w volume %s: it shows snapshot %s itself, which lies in volume group %s and not in %s",
			volume.ErrInvalid, w.id, w.source.Snapshot, from.group, w.parameters.Group)
	case w.access.fsType == "btrfs":
		return w, fmt.Errorf("%w volume %s: btrfs cannot be mounted twice, and a snapshot looks like its origin; "+
			"make the snapshot by a class without csi.aliyun.com/readonly", volume.ErrInvalid, w.id)
	}
	return w, nil
}

// originOf finds the source of w. A volume that shows a snapshot stands for it.
func (c *Controller) originOf(w *wanted) (origin, error) {
	if w.source.Volume != "" {
		at, err := c.o.Directory.Find(w.source.Volume)
		if err != nil {
			return origin{}, err
		}
		if at.Kind != volume.LVM {
			return origin{}, fmt.Errorf("%w volume content source: volume %s is of type %s, of which there are no copies", volume.ErrInvalid, w.source.Volume, at.Kind)
		}
		if at.Snapshot == "" {
			return origin{node: at.Node, group: at.Group, size: at.Size}, nil
		}
		w.source = provision.Source{Snapshot: at.Snapshot}
		from, err := c.originOf(w)
		from.readOnly = false // a clone is a copy
		return from, err
	}
	at, err := c.o.Snapshots.FindSnapshot(w.source.Snapshot)
	switch {
	case err != nil:
		return origin{}, err
	case at.Lost:
		return origin{}, fmt.Errorf("snapshot %s: %w", w.source.Snapshot, errLost)
	}
	return origin{node: at.Node, group: at.Group, size: at.Size, readOnly: at.ReadOnly}, nil
}

// show returns the place of a volume that shows a snapshot. Nothing is made.
func (w wanted) show() Place {
	return Place{Node: w.shows.node, Kind: w.parameters.Kind, Group: w.shows.group, Size: w.shows.size, Snapshot: w.source.Snapshot}
}
