package extender

import (
	"cmp"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/slim"
)

// annSelectedNode is the annotation of claims with the node that the scheduler chose.
const annSelectedNode = "volume.kubernetes.io/selected-node"

// A claimRecord is what is kept of a claim.
type claimRecord struct {
	slim.Meta
	otherUID *string // nil where it ends the name of the PersistentVolume
	volume   string  // the name of its PersistentVolume, or empty
	asked    capacity.Bytes
	created  int64 // in seconds
	choice   unique.Handle[choice]
	rest     *rest // nil of most claims
}

// A choice is what many claims have in common.
type choice struct {
	class string // its name, or empty
	node  string // selected by the scheduler, or empty
}

// rest is what few claims have.
type rest struct {
	begun  capacity.Bytes // what csi-resizer began to give it, until it has
	source *corev1.TypedObjectReference
	owner  string // the UID of what it was made for, such as a pod
	block  bool   // it wants a device and not a file system
	// limited says that it names a VolumeAttributesClass: these say nothing but limits.
	limited bool
}

// claimOf returns what is kept of a claim.
func claimOf(o *corev1.PersistentVolumeClaim) *claimRecord {
	asked, begun := o.Spec.Resources.Requests[corev1.ResourceStorage], o.Status.AllocatedResources[corev1.ResourceStorage]
	c := &claimRecord{
		Meta: slim.MetaOf(o), otherUID: unlessEnds(o.Spec.VolumeName, string(o.UID)), volume: o.Spec.VolumeName,
		asked: capacity.Bytes(asked.Value()), created: o.CreationTimestamp.Unix(),
		choice: unique.Make(choice{class: storagehelpers.GetPersistentVolumeClaimClass(o), node: o.Annotations[annSelectedNode]}),
	}
	var more rest
	// What csi-resizer was told that there is no room for, it has not begun.
	refused := o.Status.AllocatedResourceStatuses[corev1.ResourceStorage] == corev1.PersistentVolumeClaimControllerResizeInfeasible
	has := o.Status.Capacity[corev1.ResourceStorage]
	if size := capacity.Bytes(begun.Value()); !refused && size > min(c.asked, capacity.Bytes(has.Value())) {
		more.begun = size
	}
	more.source = o.Spec.DataSourceRef // set by the API server wherever dataSource is
	if from := o.Spec.DataSource; more.source == nil && from != nil {
		more.source = &corev1.TypedObjectReference{APIGroup: from.APIGroup, Kind: from.Kind, Name: from.Name}
	}
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil {
		more.owner = string(owner.UID)
	}
	more.block = o.Spec.VolumeMode != nil && *o.Spec.VolumeMode == corev1.PersistentVolumeBlock
	more.limited = o.Spec.VolumeAttributesClassName != nil && *o.Spec.VolumeAttributesClassName != ""
	if more != (rest{}) {
		c.rest = &more
	}
	return c
}

func (c *claimRecord) uid() string { return endOr(c.volume, c.otherUID) }

func (c *claimRecord) class() string { return c.choice.Value().class }

// selected returns the node that the scheduler chose, or "".
func (c *claimRecord) selected() string { return c.choice.Value().node }

// more returns what few claims have.
func (c *claimRecord) more() rest {
	if c.rest == nil {
		return rest{}
	}
	return *c.rest
}

// wish returns how large the claim's volume is asked to be: what it asks for now, and
// what csi-resizer began to give it, until that has come to an end.
func (c *claimRecord) wish() capacity.Bytes { return max(c.asked, c.more().begun) }

func older(a, b *claimRecord) int {
	return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.Namespace(), b.Namespace()), cmp.Compare(a.Name(), b.Name()))
}

// waitsFor returns the node that the claim waits for, if any, to have a volume there.
func (c *claimRecord) waitsFor() []string {
	if c.volume != "" || c.selected() == "" {
		return nil
	}
	return []string{c.selected()}
}
