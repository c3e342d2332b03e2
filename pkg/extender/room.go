package extender

import (
	"context"
	"fmt"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/ledger"
)

// Room keeps room on a node for what the CSI controller is about to have made there and
// no claim waits for, until a report shows it. It ends by itself when none does for as
// long as a promise lasts that nobody confirms. When only what pods hold is in the way it
// waits a moment for them to choose their nodes. The errors are those of package reserve.
func (s *Scheduler) Room(ctx context.Context, r reserve.Room) error {
	switch {
	case !s.Ready():
		return fmt.Errorf("%w: %w", reserve.ErrNotReady, errNotReady)
	case r.Node == "" || r.Volume == "" || r.Group == "" || r.Bytes <= 0:
		return fmt.Errorf("%w: %d bytes for logical volume %q in vg %q of node %q", reserve.ErrInvalid, r.Bytes, r.Volume, r.Group, r.Node)
	}
	deadline := s.clock.Now().Add(s.o.HoldWait)
	for {
		changed := s.ledger.Changed()
		lack := s.keep(r)
		switch {
		case lack == nil:
			return nil
		case lack.Unreported:
			return fmt.Errorf("%w: nobody has reported on node %s", reserve.ErrNotReady, r.Node)
		}
		hindered := lack.Wants <= lack.Free+lack.Held && s.clock.Now().Before(deadline)
		if !hindered || !s.wait(ctx, changed, deadline) {
			return refusedRoom(r, lack)
		}
	}
}

// keep decides beside news and reservations, one at a time.
func (s *Scheduler) keep(r reserve.Room) *ledger.Lack {
	s.events.Lock()
	defer s.events.Unlock()
	s.ledger.Expire(s.clock.Now())
	return s.ledger.Keep(ledger.Room{
		Volume: r.Volume, Node: r.Node, Group: r.Group, Size: capacity.Bytes(r.Bytes), New: r.New,
	}, s.late())
}

func refusedRoom(r reserve.Room, lack *ledger.Lack) error {
	held := ""
	if lack.Held > 0 {
		held = fmt.Sprintf(", %s held for pods that are being placed", lack.Held)
	}
	return fmt.Errorf("%w: vg %s: wants %s more for logical volume %s, %s free%s", reserve.ErrNoRoom, r.Group, lack.Wants, r.Volume, lack.Free, held)
}

// GiveBack ends what Room did: nothing more is made.
func (s *Scheduler) GiveBack(r reserve.Room) error {
	if !s.Ready() {
		return fmt.Errorf("%w: %w", reserve.ErrNotReady, errNotReady)
	}
	s.ledger.Unkeep(r.Volume, r.Node)
	return nil
}
