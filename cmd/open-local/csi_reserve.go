package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/volume"
)

// reserver asks the scheduler extender, in the words of package driver.
type reserver struct{ client *reserve.Client }

func (r *csiRun) reserver() (*reserver, error) {
	host, _, err := net.SplitHostPort(r.o.extender)
	if err != nil {
		return nil, err
	}
	config, err := tlsfiles.Client(r.tlsFile("tls.crt"), r.tlsFile("tls.key"), r.tlsFile("ca.crt"), host)
	if err != nil {
		return nil, err
	}
	return &reserver{reserve.New("https://"+r.o.extender, config)}, nil
}

// refusals say what an error of the extender means to the driver. A claim whose
// volume is promised to another node has no room on this one: the pod is scheduled
// anew. A claim that is not known yet will be.
var refusals = []struct{ theirs, ours error }{
	{reserve.ErrNoRoom, driver.ErrNoRoom},
	{reserve.ErrElsewhere, driver.ErrNoRoom},
	{reserve.ErrInvalid, volume.ErrInvalid},
	{reserve.ErrUnknown, driver.ErrUndecided},
	{reserve.ErrNotReady, driver.ErrUndecided},
}

// Reserve returns where the claim was placed.
func (r *reserver) Reserve(ctx context.Context, want driver.Reservation) (driver.Decision, error) {
	place, err := r.client.Reserve(ctx, reserve.Request{
		Namespace: want.Namespace, Claim: want.Claim, Volume: want.Volume, Node: want.Node, VolumeType: string(want.Kind), Group: want.Group,
	})
	return driver.Decision{Group: place.Group, Identity: place.Identity, Path: place.Path}, inOurWords(err)
}

// Keep has room kept on a node.
func (r *reserver) Keep(ctx context.Context, room driver.Room) error {
	return inOurWords(r.client.Keep(ctx, theirRoom(room)))
}

// GiveBack ends that.
func (r *reserver) GiveBack(ctx context.Context, room driver.Room) error {
	return inOurWords(r.client.GiveBack(ctx, theirRoom(room)))
}

func theirRoom(room driver.Room) reserve.Room {
	return reserve.Room{Node: room.Node, Group: room.Group, Volume: room.Name, Bytes: int64(room.Size), New: room.New}
}

func inOurWords(err error) error {
	if err == nil {
		return nil
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal.theirs) {
			return fmt.Errorf("%w: %w", refusal.ours, err)
		}
	}
	return fmt.Errorf("%w: %w", driver.ErrUndecided, err)
}
