package provision

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// disks is the part of *exclusive.Devices that gives and takes back.
type disks interface {
	Promise(ctx context.Context, want exclusive.Want) (exclusive.Taken, error)
	Prepare(ctx context.Context, taken exclusive.Taken, progress func(done, of capacity.Bytes)) (exclusive.Taken, error)
	Release(ctx context.Context, ref exclusive.Ref, progress func(done, of capacity.Bytes)) error
}

// Devices makes volumes of whole disks and partitions.
type Devices struct {
	chooser
	disks disks
	clock clock.PassiveClock
}

// NewDevices returns what gives the devices that are offered, as they stand in the book.
// prefer says which is better where nobody else decided.
func NewDevices(disks disks, book book, offers offers, prefer allocator.Preference, clock clock.PassiveClock) *Devices {
	return &Devices{chooser: chooser{kind: volume.Device, offers: offers, book: book, prefer: prefer}, disks: disks, clock: clock}
}

// ensure gives a device to the volume, and has it prepared: a block volume is zeroed.
func (d *Devices) ensure(ctx context.Context, spec Spec) (Volume, finish, error) {
	if err := d.check(spec); err != nil {
		return Volume{}, nil, err
	}
	record, stands, err := d.book.Get(spec.ID)
	if err != nil {
		return Volume{}, nil, err
	}
	if !stands {
		return d.give(ctx, spec)
	}
	if err := d.accept(spec, record); err != nil {
		return Volume{}, nil, err
	}
	if record.State == exclusive.Clearing {
		return Volume{}, d.clearFirst(spec), nil
	}
	taken, err := d.disks.Promise(ctx, want(spec, record.ID))
	if err != nil {
		return Volume{}, nil, err
	}
	return d.given(taken)
}

// give gives the first device to the volume that turns out to be what it is offered as.
func (d *Devices) give(ctx context.Context, spec Spec) (Volume, finish, error) {
	candidates, err := d.candidates(spec)
	if err != nil {
		return Volume{}, nil, err
	}
	var refusals []error
	for _, offer := range candidates {
		taken, err := d.disks.Promise(ctx, want(spec, offer.Identity))
		switch {
		case err == nil:
			klog.FromContext(ctx).Info("Gave a device to a volume", "volume", spec.ID, "device", taken.Path, "identity", taken.ID, "bytes", int64(taken.Size))
			return d.given(taken)
		case !nothingGiven(err):
			return Volume{}, nil, err
		}
		refusals = append(refusals, err)
	}
	return Volume{}, nil, fmt.Errorf("volume %s: %w: %w", spec.ID, ErrNoDevice, errors.Join(refusals...))
}

// nothingGiven reports whether another device, or another node, may do.
func nothingGiven(err error) bool {
	for _, refusal := range []error{exclusive.ErrTaken, exclusive.ErrNotFit, exclusive.ErrTooSmall, exclusive.ErrGone, exclusive.ErrOther} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

func want(spec Spec, identity string) exclusive.Want {
	limits := volume.LimitsFromTags(spec.Tags)
	return exclusive.Want{
		Volume: spec.ID, ID: identity, Size: spec.Size, Block: spec.Block, Whole: limits != volume.Limits{},
		Wipe: wipe.Method(spec.Wipe), Tags: spec.Tags,
	}
}

// given describes a volume that has its device, and what is still to be done to that.
func (d *Devices) given(taken exclusive.Taken) (Volume, finish, error) {
	vol := Volume{ID: taken.Volume, Identity: taken.ID, Path: taken.Path, Size: taken.Size}
	if taken.State == exclusive.Ready {
		return vol, nil, nil
	}
	return vol, func(ctx context.Context, say say) error {
		_, err := d.disks.Prepare(ctx, taken, d.telling(ctx, say, taken.Path, "zeroed"))
		return err
	}, nil
}

// clearFirst ends a removal that was cut short and that nobody else will end.
func (d *Devices) clearFirst(spec Spec) finish {
	return func(ctx context.Context, say say) error {
		if err := d.release(ctx, Removal{ID: spec.ID}, say); err != nil {
			return err
		}
		return fmt.Errorf("volume %s: %w: what was left of it has just been removed", spec.ID, ErrBusy)
	}
}

// remove wipes the device of the volume, and gives it back.
func (d *Devices) remove(_ context.Context, r Removal) (finish, error) { //nolint:unparam // as kind has it
	return func(ctx context.Context, say say) error { return d.release(ctx, r, say) }, nil
}

func (d *Devices) release(ctx context.Context, r Removal, say say) error {
	record, stands, err := d.book.Get(r.ID)
	if err != nil {
		return err
	}
	ref := exclusive.Ref{Volume: r.ID, ID: r.Identity, Path: r.Path}
	if err := d.disks.Release(ctx, ref, d.telling(ctx, say, r.Path, "wiped")); err != nil {
		return err
	}
	if stands {
		klog.FromContext(ctx).Info("Took a device back from a volume", "volume", r.ID, "identity", record.ID, "wiped", string(record.Wipe))
	}
	return nil
}

// telling returns what is told how far long work on a device is, and tells who asks, and
// the log now and then.
func (d *Devices) telling(ctx context.Context, say say, path, done string) func(done, of capacity.Bytes) {
	pace := newPace(d.clock)
	say(func() string { return "device " + path + " is being " + done })
	return func(part, of capacity.Bytes) {
		if pace.step(part, of) {
			klog.FromContext(ctx).Info("Working on a device", "device", path, "what", done, "done", part.String(), "size", of.String())
		}
		say(func() string { return fmt.Sprintf("%s of %s of device %s are %s", about(part), about(of), path, done) })
	}
}
