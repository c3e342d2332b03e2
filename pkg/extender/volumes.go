package extender

import (
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

// shownSnapshot is the attribute of a volume that shows a snapshot.
const shownSnapshot = "csi.aliyun.com/snapshot"

// A volumeRecord is what is kept of a PersistentVolume; of another driver's, its name.
type volumeRecord struct {
	slim.Meta
	at       unique.Handle[at]
	size     capacity.Bytes
	claim    string  // namespace/name of the claim that it is bound to, or empty
	otherUID *string // of that claim; nil where it ends the name of the volume
}

// at is where a volume lies, and what else many volumes have in common.
type at struct {
	ours  bool
	node  string
	kind  volume.Kind
	group string // the volume group, if any
	path  string // of a mount point or a device
	// shows says that it shows a snapshot and takes no room of its own.
	shows bool
	phase corev1.PersistentVolumePhase
	// handle is that of a volume whose PersistentVolume has another name.
	handle string
}

// volumeOf returns what is kept of a PersistentVolume.
func volumeOf(driver string, pv *corev1.PersistentVolume) *volumeRecord {
	v := &volumeRecord{Meta: slim.MetaOf(pv)}
	if pv.Spec.CSI == nil || pv.Spec.CSI.Driver != driver {
		v.at = unique.Make(at{})
		return v
	}
	attributes := pv.Spec.CSI.VolumeAttributes
	where := at{
		ours: true, node: slim.NodeOf(pv), kind: volume.Kind(attributes["volumeType"]), group: attributes["vgName"],
		shows: attributes[shownSnapshot] != "", phase: pv.Status.Phase,
	}
	where.path = attributes[string(where.kind)] // "MountPoint" and "Device" are keys as well
	if pv.Spec.CSI.VolumeHandle != pv.Name {
		where.handle = pv.Spec.CSI.VolumeHandle
	}
	v.at = unique.Make(where)
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	v.size = capacity.Bytes(size.Value())
	if ref := pv.Spec.ClaimRef; ref != nil {
		v.claim, v.otherUID = ref.Namespace+"/"+ref.Name, unlessEnds(pv.Name, string(ref.UID))
	}
	return v
}

// claimUID returns the UID of the claim that the volume is bound to, or "".
func (v *volumeRecord) claimUID() string {
	if v.claim == "" {
		return ""
	}
	return endOr(v.Key(), v.otherUID)
}

// uidLength is that of every UID which an API server gives. Volumes that were made for a
// claim have its UID at the end of their name.
const uidLength = 36

// unlessEnds returns nil when the name ends with the UID, and else the UID.
func unlessEnds(name, uid string) *string {
	if len(uid) == uidLength && strings.HasSuffix(name, uid) {
		return nil
	}
	return &uid
}

// endOr returns what unlessEnds was told.
func endOr(name string, uid *string) string {
	if uid != nil {
		return *uid
	}
	return name[len(name)-uidLength:]
}

// A placed volume is a PersistentVolume of ours as the ledger counts it.
type placed struct {
	name  string // of the logical volume
	node  string
	kind  volume.Kind
	path  string // of a mount point or a device
	spot  capacity.Spot
	shows bool // it shows a snapshot and takes no room of its own
}

// placed returns where the volume lies, and false when it is not ours or lies nowhere in
// particular.
func (v *volumeRecord) placed() (placed, bool) {
	where := v.at.Value()
	if !where.ours {
		return placed{}, false
	}
	handle := v.Key()
	if where.handle != "" {
		handle = where.handle
	}
	p := placed{
		name: volume.NameOf(handle), node: where.node, kind: where.kind, path: where.path, shows: where.shows,
		spot: capacity.Spot{Group: where.group, Size: v.size},
	}
	if p.path != "" {
		p.spot.Group = p.path
	}
	return p, p.node != ""
}

// A counted is what the ledger counts of a PersistentVolume: a volume, and on which node. A
// PersistentVolume never changes that.
type counted struct{ name, node string }

// counts returns what the ledger counts of the volume; of another's, nothing.
func (v *volumeRecord) counts() counted {
	if p, ours := v.placed(); ours {
		return counted{p.name, p.node}
	}
	return counted{}
}
