package extender

import (
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A bound claim may ask for more than its volume has. csi-resizer will grow the volume,
// and no report shows it yet; so the ledger is told at once.

// growthSeen works in news of a bound claim.
func (s *Scheduler) growthSeen(claim *claimRecord) {
	if pv, known := s.caches.volumes.Get(claim.volume); known { // else its claim is looked for when it is seen
		s.wished(pv, claim, claim.wish())
	}
}

// wishedFor works in news of a volume: its claim may have been seen before.
func (s *Scheduler) wishedFor(pv *volumeRecord) {
	if claim, known := s.caches.claims.Get(pv.claim); known {
		s.wished(pv, claim, claim.wish())
	}
}

// unwished works in that a claim is gone; its volume may be retained.
func (s *Scheduler) unwished(claim *claimRecord) {
	if pv, known := s.caches.volumes.Get(claim.volume); known {
		s.wished(pv, claim, 0)
	}
}

// wished tells the ledger what the claim wishes of the volume, if they belong together.
func (s *Scheduler) wished(pv *volumeRecord, claim *claimRecord, size capacity.Bytes) {
	if pv.claim == "" || pv.claimUID() != claim.uid() || claim.volume != pv.Key() {
		return
	}
	if p, ours := pv.placed(); ours && p.kind == volume.LVM && !p.shows {
		s.ledger.Grow(p.name, size)
	}
}
