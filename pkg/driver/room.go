package driver

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A Room is what a node is about to take of a group for what no claim waits for.
type Room struct {
	Node, Group string
	Name        string         // of the logical volume
	Size        capacity.Bytes // of all of it
	New         bool           // it is made, not made larger
}

// keep has the scheduler promise nobody the room that a node is about to take. Where no
// scheduler promises anything there is nothing to ask.
func (c *Controller) keep(ctx context.Context, r Room) error {
	if c.o.Reserver == nil {
		return nil
	}
	return c.o.Reserver.Keep(ctx, r)
}

// reservation is what the scheduler is asked about w.
func (w wanted) reservation(node string) Reservation {
	return Reservation{Namespace: w.namespace, Claim: w.claim, Volume: w.id, Node: node, Kind: w.parameters.Kind, Group: w.parameters.Group}
}

// giveUp has the scheduler forget where on its node it placed a volume: the node was asked
// for it, has nothing there to give and is not at it any more. A scheduler that does not
// hear of it answers the same the next time, and then is told again.
func (c *Controller) giveUp(ctx context.Context, r Reservation, d Decision) {
	if c.o.Reserver == nil || r.Claim == "" {
		return
	}
	if err := c.o.Reserver.GiveUp(context.WithoutCancel(ctx), r, d); err != nil {
		klog.FromContext(ctx).V(2).Info("A place that was refused stays promised", "volume", r.Volume, "node", r.Node, "err", err)
	}
}

// keepForSnapshot returns the space of a snapshot of that volume. With a scheduler it is
// kept, and is what package extender finds when it starts anew meanwhile.
func (c *Controller) keepForSnapshot(ctx context.Context, id string, of Place, policy volume.SnapshotPolicy) (capacity.Bytes, error) {
	if c.o.Reserver == nil {
		return policy.Space, nil
	}
	r := Room{Node: of.Node, Group: of.Group, Name: volume.NameOf(id), Size: policy.SpaceFor(of.Size), New: true}
	return r.Size, c.keep(ctx, r)
}

// keepForClone returns the space of the snapshot from which the volume is copied, and
// how to give it back. Zero leaves it to the node, which uses none for other sources. That
// there is none for a volume that stands is no refusal: a whole copy needs none, and from
// half a copy the node goes on if it has it, or else removes it.
func (c *Controller) keepForClone(ctx context.Context, w wanted, node string, stands bool) (space capacity.Bytes, end func(), err error) {
	if c.o.Reserver == nil || w.source.Volume == "" {
		return 0, func() {}, nil
	}
	from, err := c.o.Directory.Find(w.source.Volume)
	if errors.Is(err, ErrNoVolume) {
		return 0, func() {}, nil // it is copied already, or the node says what is wrong
	}
	if err != nil {
		return 0, nil, err
	}
	r := Room{Node: node, Group: from.Group, Name: volume.CloneName(w.id), Size: volume.CloneSpace(from.Size), New: true}
	end = func() {
		if err := c.o.Reserver.GiveBack(context.WithoutCancel(ctx), r); err != nil {
			klog.FromContext(ctx).V(2).Info("Room stays kept until its time has come", "node", node, "name", r.Name, "err", err)
		}
	}
	if err = c.keep(ctx, r); stands && errors.Is(err, ErrNoRoom) {
		err = nil
	}
	return r.Size, end, err
}
