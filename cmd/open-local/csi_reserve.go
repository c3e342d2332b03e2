package main

import (
	"context"
	"crypto/rand"
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
	attempt := rand.Text()
	place, err := r.client.Reserve(ctx, theirRequest(want, attempt))
	return driver.Decision{Group: place.Group, Identity: place.Identity, Path: place.Path, Attempt: attempt}, inOurWords(err)
}

// GiveUp ends that.
func (r *reserver) GiveUp(ctx context.Context, was driver.Reservation, d driver.Decision) error {
	return inOurWords(r.client.GiveUp(ctx, theirRequest(was, d.Attempt)))
}

func theirRequest(r driver.Reservation, attempt string) reserve.Request {
	return reserve.Request{
		Namespace: r.Namespace, Claim: r.Claim, Volume: r.Volume, Node: r.Node, VolumeType: string(r.Kind), Group: r.Group, Attempt: attempt,
	}
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
