package provision

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/volume"
)

// fileSystemsGiven is the part of *exclusive.MountPoints that gives and takes back.
type fileSystemsGiven interface {
	Take(ctx context.Context, want exclusive.WantedMount) (exclusive.Record, error)
	Release(ctx context.Context, ref exclusive.Ref) error
}

// MountPoints makes volumes of mounted file systems.
type MountPoints struct {
	chooser
	mounted fileSystemsGiven
}

// NewMountPoints returns what gives the mount points that are offered, as they stand in
// the book. prefer says which is better where nobody else decided.
func NewMountPoints(mounted fileSystemsGiven, book book, offers offers, prefer allocator.Preference) *MountPoints {
	return &MountPoints{chooser: chooser{kind: volume.MountPoint, offers: offers, book: book, prefer: prefer}, mounted: mounted}
}

// ensure gives a mount point to the volume.
func (m *MountPoints) ensure(ctx context.Context, spec Spec) (Volume, finish, error) {
	if err := m.check(spec); err != nil {
		return Volume{}, nil, err
	}
	if spec.Block {
		return Volume{}, nil, fmt.Errorf("%w volume %s: a mount point is a file system and cannot be a block device", volume.ErrInvalid, spec.ID)
	}
	record, stands, err := m.book.Get(spec.ID)
	if err != nil {
		return Volume{}, nil, err
	}
	if !stands {
		return m.give(ctx, spec)
	}
	if err := m.accept(spec, record); err != nil {
		return Volume{}, nil, err
	}
	if record.State != exclusive.Ready {
		return Volume{}, m.clearFirst(spec), nil
	}
	vol, err := m.take(ctx, spec, Offer{Identity: record.ID, Path: record.Path})
	return vol, nil, err
}

// give gives the first mount point to the volume that turns out to be what it is offered
// as.
func (m *MountPoints) give(ctx context.Context, spec Spec) (Volume, finish, error) {
	candidates, err := m.candidates(spec)
	if err != nil {
		return Volume{}, nil, err
	}
	var refusals []error
	for _, offer := range candidates {
		vol, err := m.take(ctx, spec, offer)
		switch {
		case err == nil:
			klog.FromContext(ctx).Info("Gave a mount point to a volume", "volume", spec.ID, "path", vol.Path, "identity", vol.Identity, "bytes", int64(vol.Size))
			return vol, nil, nil
		case !nothingGiven(err):
			return Volume{}, nil, err
		}
		refusals = append(refusals, err)
	}
	return Volume{}, nil, fmt.Errorf("volume %s: %w: %w", spec.ID, ErrNoDevice, errors.Join(refusals...))
}

func (m *MountPoints) take(ctx context.Context, spec Spec, offer Offer) (Volume, error) {
	limits := volume.LimitsFromTags(spec.Tags)
	record, err := m.mounted.Take(ctx, exclusive.WantedMount{
		Volume: spec.ID, Path: offer.Path, ID: offer.Identity, Size: spec.Size, Whole: limits != volume.Limits{}, Tags: spec.Tags,
	})
	return Volume{ID: spec.ID, Identity: record.ID, Path: record.Path, Size: record.Size}, err
}

// clearFirst ends a removal that was cut short and that nobody else will end.
func (m *MountPoints) clearFirst(spec Spec) finish {
	return func(ctx context.Context, say say) error {
		if err := m.release(ctx, Removal{ID: spec.ID}, say); err != nil {
			return err
		}
		return fmt.Errorf("volume %s: %w: what was left of it has just been removed", spec.ID, ErrBusy)
	}
}

// remove empties the mount point of the volume, and gives it back.
func (m *MountPoints) remove(_ context.Context, r Removal) (finish, error) { //nolint:unparam // as kind has it
	return func(ctx context.Context, say say) error { return m.release(ctx, r, say) }, nil
}

func (m *MountPoints) release(ctx context.Context, r Removal, say say) error {
	say(func() string { return "what is in it is being deleted" })
	record, stands, err := m.book.Get(r.ID)
	if err != nil {
		return err
	}
	if err := m.mounted.Release(ctx, exclusive.Ref{Volume: r.ID, ID: r.Identity, Path: r.Path}); err != nil {
		return err
	}
	if stands {
		klog.FromContext(ctx).Info("Took a mount point back from a volume", "volume", r.ID, "path", record.Path, "identity", record.ID)
	}
	return nil
}
