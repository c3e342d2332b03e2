package extender

import (
	"errors"
	"fmt"
	"slices"

	storagev1 "k8s.io/api/storage/v1"

	"github.com/open-local/open-local/pkg/volume"
)

// errLagging means that the caches do not show yet what the scheduler must have seen:
// it checks itself that claims and classes exist.
var errLagging = errors.New("not seen yet")

// asks returns what the pod wants that is not bound yet, in the order of its volumes.
// An error wraps volume.ErrInvalid when no node will do, or errLagging.
//
// A claim that is bound has its volume, and the scheduler keeps to the volume's node. A
// claim of a class with immediate binding is provisioned whatever the pod does. What is
// made of a snapshot or another claim lies where that does.
func (s *Scheduler) asks(pod *podRecord) ([]volume.Claim, error) {
	var wanted []volume.Claim
	for i := range pod.volumes {
		claim, wants, err := s.ask(pod, &pod.volumes[i])
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
func (s *Scheduler) ask(pod *podRecord, v *podVolume) (volume.Claim, bool, error) {
	if v.inline != nil {
		claim, err := inlineClaim(pod, v.inline)
		return claim, err == nil, err
	}
	claim, known := s.caches.claims.Get(v.claim)
	if !known {
		return volume.Claim{}, false, fmt.Errorf("claim %s: %w", v.claim, errLagging)
	}
	if v.ephemeral && claim.more().owner != pod.uid {
		return volume.Claim{}, false, fmt.Errorf("claim %s was not created for pod %s (pod is not owner)", v.claim, pod.Key())
	}
	class, err := s.classOf(claim)
	if err != nil || class == nil || claim.volume != "" || !waitsForConsumer(class) {
		return volume.Claim{}, false, err
	}
	id := s.o.volumeOf(claim.uid())
	if place, counted := s.ledger.Where(id); counted && place.Exists {
		// Its PersistentVolume is there, and binding it under way: only one node will do.
		return volume.Claim{Volume: id, Name: claim.Key(), Node: place.Node}, true, nil
	}
	wanted, err := s.claimFrom(claim, class)
	return wanted, err == nil, err
}

// inlineClaim returns what an inline volume of ours wants.
func inlineClaim(pod *podRecord, v *inline) (volume.Claim, error) {
	inline, err := volume.ParseInline(v.attributes)
	if err != nil {
		return volume.Claim{}, fmt.Errorf("volume %q of the pod: %w", v.name, err)
	}
	return volume.Claim{
		Volume: volume.NameOf(volume.ForInline(pod.uid, v.name)),
		Name:   pod.Key() + ":" + v.name,
		Size:   inline.Size,
		Group:  inline.Group,
		Layout: inline.Layout,
	}, nil
}

// classOf returns the claim's class when it is one of ours, and nil when it is not.
func (s *Scheduler) classOf(claim *claimRecord) (*storagev1.StorageClass, error) {
	name := claim.class()
	if name == "" || claim.volume != "" {
		return nil, nil
	}
	class, known := s.caches.class(name)
	if !known {
		return nil, fmt.Errorf("storage class %q of claim %s: %w", name, claim.Key(), errLagging)
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
func (s *Scheduler) claimFrom(claim *claimRecord, class *storagev1.StorageClass) (volume.Claim, error) {
	params, err := volume.ParseParameters(class.Parameters)
	if err != nil {
		return volume.Claim{}, fmt.Errorf("storage class %q: %w", class.Name, err)
	}
	from, err := s.sourceOf(claim)
	if err != nil {
		return volume.Claim{}, err
	}
	if err := servable(claim, params, from); err != nil {
		return volume.Claim{}, fmt.Errorf("%w storage class %q: %w", volume.ErrInvalid, class.Name, err)
	}
	wanted := params.Like()
	wanted.Volume, wanted.Name, wanted.Size = s.o.volumeOf(claim.uid()), claim.Key(), claim.asked
	wanted.WholeDisk = wanted.WholeDisk || params.Kind != volume.LVM && claim.more().limited
	return from.beside(wanted), nil
}

// servable says what of a claim no volume of its type can be, or returns nil.
func servable(claim *claimRecord, params volume.Parameters, from source) error {
	switch {
	case params.Kind == volume.MountPoint && claim.more().block:
		return fmt.Errorf("claim %s wants a block device, and a volume of type MountPoint is a file system", claim.Key())
	case params.Kind != volume.LVM && from != source{}:
		return fmt.Errorf("claim %s is made of %s, and a volume of type %s cannot begin as a copy", claim.Key(), from.what, params.Kind)
	}
	return nil
}
