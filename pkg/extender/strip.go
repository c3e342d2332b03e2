package extender

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// Annotations of claims.
const (
	annSelectedNode = "volume.kubernetes.io/selected-node"
	annBetaClass    = corev1.BetaStorageClassAnnotation
)

// The caches hold every pod and claim of the cluster, so they keep of each only what
// is read here. The functions below are the list of it.

// stripped returns a transform that applies strip to objects of its type and leaves
// others, such as tombstones, as they are.
func stripped[T any](strip func(T) T) cache.TransformFunc {
	return func(obj any) (any, error) {
		if typed, ok := obj.(T); ok {
			return strip(typed), nil
		}
		return obj, nil
	}
}

// identity returns what tells an object from others.
func identity(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

func stripPod(driver string) func(*corev1.Pod) *corev1.Pod {
	return func(pod *corev1.Pod) *corev1.Pod {
		small := &corev1.Pod{ObjectMeta: identity(&pod.ObjectMeta)}
		small.Spec.NodeName = pod.Spec.NodeName
		small.Status.Phase = pod.Status.Phase
		if said := unschedulable(pod); said != "" {
			small.Status.Conditions = []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: said,
			}}
		}
		for i := range pod.Spec.Volumes {
			v := &pod.Spec.Volumes[i]
			keep := corev1.Volume{Name: v.Name}
			switch {
			case v.PersistentVolumeClaim != nil:
				keep.PersistentVolumeClaim = v.PersistentVolumeClaim
			case v.Ephemeral != nil:
				keep.Ephemeral = &corev1.EphemeralVolumeSource{}
			case v.CSI != nil && v.CSI.Driver == driver:
				keep.CSI = v.CSI
			default:
				continue
			}
			small.Spec.Volumes = append(small.Spec.Volumes, keep)
		}
		return small
	}
}

func stripClaim(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	small := &corev1.PersistentVolumeClaim{ObjectMeta: identity(&claim.ObjectMeta)}
	small.OwnerReferences = claim.OwnerReferences
	for _, key := range []string{annSelectedNode, annBetaClass} {
		if value, set := claim.Annotations[key]; set {
			metav1.SetMetaDataAnnotation(&small.ObjectMeta, key, value)
		}
	}
	small.Spec.StorageClassName = claim.Spec.StorageClassName
	small.Spec.VolumeName = claim.Spec.VolumeName
	small.Spec.Resources = claim.Spec.Resources
	// What csi-resizer was told that there is no room for, it has not begun.
	refused := claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage] == corev1.PersistentVolumeClaimControllerResizeInfeasible
	if begun, is := claim.Status.AllocatedResources[corev1.ResourceStorage]; is && !refused {
		small.Status.AllocatedResources = corev1.ResourceList{corev1.ResourceStorage: begun}
	}
	if claim.Spec.DataSourceRef != nil { // set by the API server wherever dataSource is
		small.Spec.DataSourceRef = claim.Spec.DataSourceRef
	} else if from := claim.Spec.DataSource; from != nil {
		small.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: from.APIGroup, Kind: from.Kind, Name: from.Name}
	}
	return small
}

func stripVolume(driver string) func(*corev1.PersistentVolume) *corev1.PersistentVolume {
	return func(pv *corev1.PersistentVolume) *corev1.PersistentVolume {
		small := &corev1.PersistentVolume{ObjectMeta: identity(&pv.ObjectMeta)}
		if pv.Spec.CSI == nil || pv.Spec.CSI.Driver != driver {
			return small
		}
		small.Spec.CSI = pv.Spec.CSI
		small.Spec.Capacity = pv.Spec.Capacity
		small.Spec.NodeAffinity = pv.Spec.NodeAffinity
		small.Spec.ClaimRef = pv.Spec.ClaimRef
		small.Spec.StorageClassName = pv.Spec.StorageClassName
		small.Status.Phase = pv.Status.Phase
		return small
	}
}

func stripClass(class *storagev1.StorageClass) *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:        identity(&class.ObjectMeta),
		Provisioner:       class.Provisioner,
		Parameters:        class.Parameters,
		VolumeBindingMode: class.VolumeBindingMode,
	}
}

func stripNode(node *corev1.Node) *corev1.Node {
	return &corev1.Node{ObjectMeta: identity(&node.ObjectMeta)}
}

// stripStorage keeps the status but for what is read by persons. Names that repeat what
// stands beside them share its memory: there may be half a million logical volumes.
func stripStorage(nls *v1alpha1.NodeLocalStorage) *v1alpha1.NodeLocalStorage {
	small := &v1alpha1.NodeLocalStorage{ObjectMeta: identity(&nls.ObjectMeta)}
	small.Status.FilteredStorageInfo = nls.Status.FilteredStorageInfo
	from, to := &nls.Status.NodeStorageInfo, &small.Status.NodeStorageInfo
	to.Phase, to.DeviceInfos, to.MountPoints = from.Phase, from.DeviceInfos, from.MountPoints
	for _, group := range from.VolumeGroups {
		volumes := make([]v1alpha1.LogicalVolume, len(group.LogicalVolumes))
		for i := range group.LogicalVolumes {
			lv := &group.LogicalVolumes[i]
			volumes[i] = v1alpha1.LogicalVolume{
				Name: lv.Name, VGName: group.Name, Total: lv.Total, VolumeID: sharing(lv.VolumeID, lv.Name), Deleted: lv.Deleted,
				SnapshotID: sharing(lv.SnapshotID, lv.Name), SourceVolumeID: lv.SourceVolumeID, RestoreReadOnly: lv.RestoreReadOnly,
			}
		}
		group.LogicalVolumes = volumes
		to.VolumeGroups = append(to.VolumeGroups, group)
	}
	return small
}

// sharing returns s, in the memory of another string if it is the same.
func sharing(s, other string) string {
	if s == other {
		return other
	}
	return s
}
