package extender

import (
	"context"
	"errors"
	"fmt"
	"slices"

	storagev1 "k8s.io/api/storage/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// Reserve answers where on the node the claim's volume goes, and keeps the place. The
// place of a volume that is there or promised is where it is, unless it is only promised
// where nothing may be put any more; else what the pod held on the node is promised, or the claim is placed now, together with all that its pod wants
// there. The errors are those of package reserve.
func (s *Scheduler) Reserve(ctx context.Context, r reserve.Request) (reserve.Answer, error) {
	if !s.Ready() {
		return reserve.Answer{}, fmt.Errorf("%w: %w", reserve.ErrNotReady, errNotReady)
	}
	claim, err := s.claimOf(ctx, r)
	if err != nil {
		return reserve.Answer{}, err
	}
	s.events.Lock()
	defer s.events.Unlock()
	s.ledger.Expire(s.clock.Now())
	place, err := s.placeOf(claim, r.Node)
	if err != nil {
		return reserve.Answer{}, err
	}
	s.ledger.Making(s.o.volumeOf(claim.uid()), r.Node, r.Attempt)
	if r.Group != "" && r.Group != place.Group {
		return reserve.Answer{}, fmt.Errorf("%w: it lies in vg %s of node %s, not in vg %s", reserve.ErrElsewhere, place.Group, place.Node, r.Group)
	}
	kind := s.kindOf(claim, place)
	answer := reserve.Answer{
		Node:       place.Node,
		VolumeType: string(kindOf(kind)),
		Claim:      claim.Key(),
	}
	switch kind {
	case capacity.Device:
		answer.Device, answer.Identity = place.Group, s.identityOf(place)
	case capacity.MountPoint:
		answer.Disk, answer.Identity = place.Group, s.identityOf(place)
	default:
		answer.Group = place.Group
	}
	return answer, nil
}

// kindOf returns the kind of what is at the place. A node that does not report it now leaves
// that to the claim's class.
func (s *Scheduler) kindOf(claim *claimRecord, place ledger.Place) capacity.Kind {
	if class, err := s.classOf(claim); place.Kind == capacity.Cut && class != nil && err == nil {
		if params, err := volume.ParseParameters(class.Parameters); err == nil {
			return params.Kind.Lies()
		}
	}
	return place.Kind
}

// GiveUp gives back what Reserve has answered: the node refused to make the volume there, and
// is at it no more. A place that was asked for again since is kept. The errors are those of
// package reserve.
func (s *Scheduler) GiveUp(r reserve.Request) error {
	if !s.Ready() {
		return fmt.Errorf("%w: %w", reserve.ErrNotReady, errNotReady)
	}
	if r.Volume == "" || r.Node == "" || r.Attempt == "" {
		return fmt.Errorf("%w: attempt %q to make volume %q on node %q", reserve.ErrInvalid, r.Attempt, r.Volume, r.Node)
	}
	s.events.Lock()
	defer s.events.Unlock()
	s.ledger.Refused(volume.NameOf(r.Volume), r.Node, r.Attempt)
	return nil
}

// identityOf returns who the device or file system at a place is, as its node reported it
// last; or "", and then its node goes by the path.
func (s *Scheduler) identityOf(place ledger.Place) string {
	report, known := s.caches.reports.Get(place.Node)
	if !known {
		return ""
	}
	return report.identities[place.Group]
}

// claimOf returns the claim of the request as soon as the caches show it.
func (s *Scheduler) claimOf(ctx context.Context, r reserve.Request) (claim *claimRecord, err error) {
	err = s.patient(ctx, func() error {
		var known bool
		if claim, known = s.caches.claims.Get(r.Namespace + "/" + r.Claim); !known {
			return fmt.Errorf("%w: %w", reserve.ErrUnknown, errLagging)
		}
		if has := volume.ForClaim(s.o.VolumePrefix, claim.uid()); r.Volume != "" && r.Volume != has {
			return fmt.Errorf("%w: the one that is known has volume %s: %w", reserve.ErrUnknown, has, errLagging)
		}
		return nil
	})
	return claim, err
}

// placeOf returns the place of the claim's volume on the node, made if need be.
// s.events is held.
func (s *Scheduler) placeOf(claim *claimRecord, node string) (ledger.Place, error) {
	name, selected := s.o.volumeOf(claim.uid()), claim.selected()
	place, counted := s.ledger.Where(name)
	switch {
	case counted && place.On(node):
		return place, nil
	case counted && place.Exists:
		return place, fmt.Errorf("%w: it lies on node %s", reserve.ErrElsewhere, place.Node)
	case selected != "" && selected != node:
		return place, fmt.Errorf("%w: the claim has selected node %s", reserve.ErrElsewhere, selected)
	}
	s.ledger.Choose(name, node, s.late())
	if place, counted = s.ledger.Where(name); counted && place.On(node) {
		return place, nil
	}
	class, err := s.classOf(claim)
	switch {
	case errors.Is(err, errLagging):
		return place, fmt.Errorf("%w: %w", reserve.ErrNotReady, err)
	case err != nil:
		return place, err
	case class == nil:
		return place, fmt.Errorf("%w: its storage class is not served by %s, or it is bound", reserve.ErrInvalid, s.o.Driver)
	}
	if err := s.promise(claim, class, node); err != nil {
		return place, refusedReservation(err)
	}
	if selected == node {
		s.ledger.Confirm(name, node)
	}
	place, _ = s.ledger.Where(name)
	return place, nil
}

func refusedReservation(err error) error {
	switch {
	case errors.Is(err, volume.ErrInvalid):
		return fmt.Errorf("%w: %w", reserve.ErrInvalid, err)
	case errors.Is(err, errChanged):
		return fmt.Errorf("%w: %w", reserve.ErrNotReady, err)
	}
	return fmt.Errorf("%w: %w", reserve.ErrNoRoom, err) // a node without a report included
}

// promise places the claim on the node together with all that its pod wants there, and
// promises the places. A claim that no pod wants, or whose pod wants what cannot be
// read, is placed alone.
func (s *Scheduler) promise(claim *claimRecord, class *storagev1.StorageClass, node string) error {
	alone, err := s.claimFrom(claim, class)
	if err != nil {
		return err
	}
	pod, claims := "", []volume.Claim{alone}
	for _, user := range s.podsOf(claim.Key()) {
		asks, err := s.asks(user)
		mine := func(c volume.Claim) bool { return c.Volume == alone.Volume }
		if err == nil && slices.ContainsFunc(asks, mine) && (user.node == "" || user.node == node) {
			pod, claims = user.uid, asks
			break
		}
	}
	for try := 1; ; try++ {
		plan, views := s.plan(claims), ledger.Views{}
		s.ledger.See(pod, []string{node}, &views)
		view := views.At(0)
		places, err := plan.place(&view, nil)
		switch {
		case err != nil:
			return err
		case s.ledger.Promise(pod, claims, view.Offer(places), s.late()):
			return nil
		case try == tries:
			return whyChanged(plan, &view)
		}
	}
}
