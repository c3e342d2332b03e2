package directory

import (
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

// A record is what is kept of a PersistentVolume, of which there may be hundreds of
// thousands. Of those of other drivers it is nothing but the name.
type record struct {
	slim.Meta
	at   unique.Handle[at]
	size capacity.Bytes
	has  *had // nil of most
}

// had is what a volume has for itself, as its PersistentVolume says.
type had struct {
	identity, path string
}

// at is where a volume lies, as a PersistentVolume says. Many have it in common.
type at struct {
	ours     bool
	node     string
	kind     volume.Kind
	group    string
	snapshot string // that it shows
	handle   string // where it is not the name of the PersistentVolume
}

// recordOf returns what is kept of a PersistentVolume. What it does not say stays empty.
func (o Options) recordOf(pv *corev1.PersistentVolume) *record {
	r := &record{Meta: slim.MetaOf(pv)}
	csi := pv.Spec.CSI
	if csi == nil || csi.Driver != o.Driver {
		r.at = unique.Make(at{})
		return r
	}
	where := at{ours: true, node: slim.NodeOf(pv)}
	if csi.VolumeHandle != pv.Name {
		where.handle = csi.VolumeHandle
	}
	if context, err := volume.ParseContext(csi.VolumeAttributes); err == nil {
		where.kind, where.group, where.snapshot = context.Kind, context.Group, context.Snapshot
		if context.Identity != "" || context.Path != "" {
			r.has = &had{identity: context.Identity, path: context.Path}
		}
	}
	r.at = unique.Make(where)
	if size, ok := pv.Spec.Capacity[corev1.ResourceStorage]; ok {
		r.size = capacity.Bytes(size.Value())
	}
	return r
}

// handle returns the volume's handle, or "" when the volume is not ours.
func (r *record) handle() string {
	where := r.at.Value()
	switch {
	case !where.ours:
		return ""
	case where.handle != "":
		return where.handle
	}
	return r.Key()
}

func (r *record) place() driver.Place {
	where := r.at.Value()
	place := driver.Place{Node: where.node, Kind: where.kind, Group: where.group, Size: r.size, Snapshot: where.snapshot, Proven: true}
	if r.has != nil {
		place.Identity, place.Path = r.has.identity, r.has.path
	}
	return place
}

// otherHandle returns the handle of a record that has another name. The others are found
// by name.
func (r *record) otherHandle() []string {
	if other := r.at.Value().handle; other != "" {
		return []string{other}
	}
	return nil
}

// shows returns the snapshot that the volume shows, if any.
func (r *record) shows() []string {
	if snapshot := r.at.Value().snapshot; snapshot != "" {
		return []string{snapshot}
	}
	return nil
}

// recordsOf returns what PersistentVolumes record of the volume.
func (d *Directory) recordsOf(id string) []*record {
	all := d.volumes.By(byHandle, id)
	if r, known := d.volumes.Get(id); known && r.handle() == id && !slices.Contains(all, r) {
		all = append(all, r)
	}
	return all
}
