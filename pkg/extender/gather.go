package extender

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/storage/ephemeral"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// errLagging means that the caches do not show yet what the scheduler must have seen:
// it checks itself that claims and classes exist.
var errLagging = errors.New("not seen yet")

// concerns reports whether any volume of the pod may be ours. Most pods are done here.
func (s *Scheduler) concerns(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil || v.Ephemeral != nil || (v.CSI != nil && v.CSI.Driver == s.o.Driver)
	})
}

// asks returns what the pod wants that is not bound yet, in the order of its volumes.
// An error wraps volume.ErrInvalid when no node will do, or errLagging.
//
// A claim that is bound has its volume, and the scheduler keeps to the volume's node. A
// claim of a class with immediate binding is provisioned whatever the pod does. What is
// made of a snapshot or another claim lies where that does.
func (s *Scheduler) asks(pod *corev1.Pod) ([]volume.Claim, error) {
	var wanted []volume.Claim
	for i := range pod.Spec.Volumes {
		claim, wants, err := s.ask(pod, &pod.Spec.Volumes[i])
		if err != nil {
			return nil, err
		}
		twice := func(c volume.Claim) bool { return c.Volume == claim.Volume }
		if wants && !slices.ContainsFunc(wanted, twice) {
			wanted = append(wanted, claim)
		}
	}
	return wanted, nil
}

// ask returns what one volume of the pod wants, and false when that is nothing.
func (s *Scheduler) ask(pod *corev1.Pod, v *corev1.Volume) (volume.Claim, bool, error) {
	if v.CSI != nil {
		if v.CSI.Driver != s.o.Driver {
			return volume.Claim{}, false, nil
		}
		claim, err := inlineClaim(pod, v)
		return claim, err == nil, err
	}
	name := claimOf(pod, v)
	if name == "" {
		return volume.Claim{}, false, nil
	}
	pvc, err := s.caches.claims.PersistentVolumeClaims(pod.Namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return volume.Claim{}, false, fmt.Errorf("claim %s/%s: %w", pod.Namespace, name, errLagging)
	}
	if err != nil {
		return volume.Claim{}, false, fmt.Errorf("claim %s/%s: %w", pod.Namespace, name, err)
	}
	if v.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(pod, pvc); err != nil {
			return volume.Claim{}, false, err
		}
	}
	class, err := s.classOf(pvc)
	if err != nil || class == nil || pvc.Spec.VolumeName != "" || !waitsForConsumer(class) {
		return volume.Claim{}, false, err
	}
	id := s.o.volumeOf(string(pvc.UID))
	if place, counted := s.ledger.Where(id); counted && place.Exists {
		// Its PersistentVolume is there, and binding it under way: only one node will do.
		return volume.Claim{Volume: id, Name: pvc.Namespace + "/" + pvc.Name, Node: place.Node}, true, nil
	}
	claim, err := s.claimFrom(pvc, class)
	return claim, err == nil, err
}

// inlineClaim returns what an inline volume of ours wants.
func inlineClaim(pod *corev1.Pod, v *corev1.Volume) (volume.Claim, error) {
	inline, err := volume.ParseInline(v.CSI.VolumeAttributes)
	if err != nil {
		return volume.Claim{}, fmt.Errorf("volume %q of the pod: %w", v.Name, err)
	}
	return volume.Claim{
		Volume: volume.NameOf(volume.ForInline(string(pod.UID), v.Name)),
		Name:   pod.Namespace + "/" + pod.Name + ":" + v.Name,
		Size:   inline.Size,
		Group:  inline.Group,
		Layout: inline.Layout,
	}, nil
}

// classOf returns the claim's class when it is one of ours, and nil when it is not.
func (s *Scheduler) classOf(pvc *corev1.PersistentVolumeClaim) (*storagev1.StorageClass, error) {
	name := storagehelpers.GetPersistentVolumeClaimClass(pvc)
	if name == "" || pvc.Spec.VolumeName != "" {
		return nil, nil
	}
	class, err := s.caches.classes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("storage class %q of claim %s/%s: %w", name, pvc.Namespace, pvc.Name, errLagging)
	}
	if err != nil {
		return nil, fmt.Errorf("storage class %q: %w", name, err)
	}
	if class.Provisioner != s.o.Driver {
		return nil, nil
	}
	return class, nil
}

func waitsForConsumer(class *storagev1.StorageClass) bool {
	return class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// claimFrom returns what a claim of one of our classes wants.
func (s *Scheduler) claimFrom(pvc *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) (volume.Claim, error) {
	params, err := volume.ParseParameters(class.Parameters)
	if err != nil {
		return volume.Claim{}, fmt.Errorf("storage class %q: %w", class.Name, err)
	}
	if params.Kind != volume.LVM {
		return volume.Claim{}, fmt.Errorf("%w storage class %q: volumes of type %s are not served yet", volume.ErrInvalid, class.Name, params.Kind)
	}
	from, err := s.sourceOf(pvc)
	if err != nil {
		return volume.Claim{}, err
	}
	size := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	return from.beside(volume.Claim{
		Volume: s.o.volumeOf(string(pvc.UID)),
		Name:   pvc.Namespace + "/" + pvc.Name,
		Kind:   kindFor(params.Kind),
		Size:   capacity.Bytes(size.Value()),
		Group:  params.Group,
		Media:  params.Media,
		Layout: params.Layout,
	}), nil
}

// ended reports whether the pod will not run any more.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
