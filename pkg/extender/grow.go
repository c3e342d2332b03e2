package extender

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// A bound claim may ask for more than its volume has. csi-resizer will grow the volume,
// and no report shows it yet; so the ledger is told at once.

// wishOf returns how large the claim's volume is asked to be: what it asks for now, and
// what csi-resizer began to give it, until that has come to an end.
func wishOf(pvc *corev1.PersistentVolumeClaim) capacity.Bytes {
	asked := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	begun := pvc.Status.AllocatedResources[corev1.ResourceStorage]
	return capacity.Bytes(max(asked.Value(), begun.Value()))
}

// growthSeen works in news of a bound claim.
func (s *Scheduler) growthSeen(pvc *corev1.PersistentVolumeClaim) {
	pv, err := s.caches.volumes.Get(pvc.Spec.VolumeName)
	if err != nil {
		return // when it is seen, its claim is looked for
	}
	s.wished(pv, pvc, wishOf(pvc))
}

// wishedFor works in news of a volume: its claim may have been seen before.
func (s *Scheduler) wishedFor(pv *corev1.PersistentVolume) {
	if ref := pv.Spec.ClaimRef; ref != nil {
		if pvc, err := s.caches.claims.PersistentVolumeClaims(ref.Namespace).Get(ref.Name); err == nil {
			s.wished(pv, pvc, wishOf(pvc))
		}
	}
}

// growing keeps room for a volume that csi-resizer has begun to grow: this extender may
// not be the one that was asked for it. It comes before anything is promised anew.
func (s *Scheduler) growing(pvc *corev1.PersistentVolumeClaim) {
	begun := pvc.Status.AllocatedResources[corev1.ResourceStorage]
	if begun.IsZero() || pvc.Spec.VolumeName == "" {
		return
	}
	pv, err := s.caches.volumes.Get(pvc.Spec.VolumeName)
	if err != nil {
		return
	}
	p, ours := placedBy(s.o.Driver, pv)
	if ours && p.kind == volume.LVM && !p.shows && p.spot.Size < capacity.Bytes(begun.Value()) {
		s.ledger.Keep(ledger.Room{Volume: p.name, Node: p.node, Group: p.spot.Group, Size: capacity.Bytes(begun.Value())}, s.late())
	}
}

// unwished works in that a claim is gone; its volume may be retained.
func (s *Scheduler) unwished(pvc *corev1.PersistentVolumeClaim) {
	if pv, err := s.caches.volumes.Get(pvc.Spec.VolumeName); err == nil {
		s.wished(pv, pvc, 0)
	}
}

// wished tells the ledger what the claim wishes of the volume, if they belong together.
func (s *Scheduler) wished(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim, size capacity.Bytes) {
	ref := pv.Spec.ClaimRef
	if ref == nil || ref.UID != pvc.UID || pvc.Spec.VolumeName != pv.Name {
		return
	}
	if p, ours := placedBy(s.o.Driver, pv); ours && p.kind == volume.LVM && !p.shows {
		s.ledger.Grow(p.name, size)
	}
}
