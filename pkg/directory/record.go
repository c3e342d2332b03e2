package directory

import (
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/volume"
)

// A record is what is kept of a PersistentVolume, of which there may be hundreds of
// thousands: a fifth of what the object itself takes. Of those of other drivers it is
// nothing but the name.
type record struct {
	metav1.ObjectMeta
	handle string // empty: not ours
	place  driver.Place
}

// recordOf is the transform of PersistentVolumes.
func (o Options) recordOf(obj any) (any, error) {
	pv, ok := obj.(*corev1.PersistentVolume)
	if !ok {
		return obj, nil
	}
	r := &record{}
	r.Name, r.ResourceVersion, r.UID = pv.Name, pv.ResourceVersion, pv.UID
	if csi := pv.Spec.CSI; csi != nil && csi.Driver == o.Driver {
		r.handle, r.place = csi.VolumeHandle, placeOf(pv)
		if r.handle == r.Name {
			r.handle = r.Name // in the same memory
		}
	}
	return r, nil
}

// placeOf reads a PersistentVolume. What it does not say stays empty.
func placeOf(pv *corev1.PersistentVolume) driver.Place {
	place := driver.Place{Node: once(nodeOf(pv)), Proven: true}
	if size, ok := pv.Spec.Capacity[corev1.ResourceStorage]; ok {
		place.Size = capacity.Bytes(size.Value())
	}
	if context, err := volume.ParseContext(pv.Spec.CSI.VolumeAttributes); err == nil {
		place.Kind, place.Group, place.Snapshot = once(context.Kind), once(context.Group), context.Snapshot
	}
	return place
}

// once returns s in memory that all who say the same share.
func once[S ~string](s S) S { return S(unique.Make(string(s)).Value()) }

// nodeOf returns the node to which a PersistentVolume is bound, or "".
func nodeOf(pv *corev1.PersistentVolume) string {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, match := range term.MatchExpressions {
			if match.Key == volume.TopologyKey && match.Operator == corev1.NodeSelectorOpIn && len(match.Values) == 1 {
				return match.Values[0]
			}
		}
	}
	return ""
}

// handleOf indexes records.
func handleOf(obj any) ([]string, error) {
	r, ok := obj.(*record)
	if !ok || r.handle == "" {
		return nil, nil
	}
	return []string{r.handle}, nil
}

// shownBy indexes records by the snapshot that they show.
func shownBy(obj any) ([]string, error) {
	r, ok := obj.(*record)
	if !ok || r.place.Snapshot == "" {
		return nil, nil
	}
	return []string{r.place.Snapshot}, nil
}

// trimReport keeps of a report what is looked at here.
func trimReport(obj any) (any, error) {
	nls, ok := obj.(*v1alpha1.NodeLocalStorage)
	if !ok {
		return obj, nil
	}
	nls.ManagedFields, nls.Annotations, nls.Spec = nil, nil, v1alpha1.NodeLocalStorageSpec{}
	nls.Status.Conditions, nls.Status.NodeStorageInfo.MountPoints = nil, nil
	for _, group := range nls.Status.NodeStorageInfo.VolumeGroups {
		for i := range group.LogicalVolumes {
			v := &group.LogicalVolumes[i]
			v.Name, v.VGName, v.Condition = "", "", once(v.Condition)
		}
	}
	return nls, nil
}
