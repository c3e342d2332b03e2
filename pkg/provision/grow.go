package provision

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// errShowsSnapshot says that a volume is a snapshot, which is as large as what it is of.
var errShowsSnapshot = fmt.Errorf("%w growth: a snapshot cannot grow; restore it into a volume of its own, which can", volume.ErrInvalid)

// resizer is the part of *lvm.Host that makes volumes larger.
type resizer interface {
	ExtendVolume(ctx context.Context, group, name string, size capacity.Bytes) error
	DeactivateVolume(ctx context.Context, group, name string) error
}

// grow takes one process, and none where the volume is as large already. LVM is asked
// before about a volume that this process has not seen, one that is not active, and
// where rounding up might go over the limit.
func (l *Logical) grow(ctx context.Context, g Growth) (capacity.Bytes, error) {
	if err := g.validate(); err != nil {
		return 0, err
	}
	have, err := l.presentSize(ctx, g)
	if err != nil {
		return 0, err
	}
	switch {
	case g.Limit > 0 && have > g.Limit:
		return 0, fmt.Errorf("volume %s: %w: it has %s, at most %s are allowed, and volumes never shrink", g.ID, ErrOutOfRange, have, g.Limit)
	case have >= g.Size:
		return have, nil
	}
	if err := l.extend(ctx, g, have); err != nil {
		return 0, err
	}
	size, err := l.sizeOf(ctx, g.Group, volume.NameOf(g.ID))
	if err != nil {
		return 0, fmt.Errorf("looking at volume %s, which grew: %w", g.ID, err)
	}
	if seen, is := l.Standing.Volume(g.ID); is {
		seen.Size = size
		l.Standing.remember(seen)
	}
	klog.FromContext(ctx).Info("Grew logical volume", "volume", g.ID, "group", g.Group, "from", int64(have), "bytes", int64(size))
	return size, nil
}

func (g Growth) validate() error {
	if err := volume.ValidGroup(g.Group); err != nil {
		return fmt.Errorf("%w growth of volume %s: %w", volume.ErrInvalid, g.ID, err)
	}
	if g.Size <= 0 || g.Limit < 0 || g.Limit > 0 && g.Size > g.Limit {
		return fmt.Errorf("%w growth of volume %s: to at least %s and at most %s", volume.ErrInvalid, g.ID, g.Size, limitString(g.Limit))
	}
	return nil
}

// presentSize returns the size of the volume, after making sure that it is the one
// meant and that it may be grown.
func (l *Logical) presentSize(ctx context.Context, g Growth) (capacity.Bytes, error) {
	name := volume.NameOf(g.ID)
	if seen, is := l.Standing.Volume(g.ID); is && g.Limit == 0 && seen.Group == g.Group && seen.HasTag(volume.IDTag(g.ID)) && growable(seen) == nil {
		if size, err := l.Devices.Size(lvm.DevicePath(g.Group, name)); err == nil {
			return size, nil
		}
	}
	have, err := l.Host.Volume(ctx, g.Group, name)
	if err != nil {
		return 0, err
	}
	id, tagged := volume.IDFromTags(have.Tags)
	if err := growable(have); err != nil {
		return 0, fmt.Errorf("volume %s: %w", g.ID, err)
	}
	if id != g.ID && (tagged || marked(have.Tags) || !g.Proven) {
		return 0, fmt.Errorf("volume %s: logical volume %s/%s is not tagged as this volume (%q): %w", g.ID, g.Group, name, id, lvm.ErrNotOurs)
	}
	l.Standing.remember(have)
	if g.Limit > 0 && have.Size < g.Size {
		return have.Size, l.withinLimit(ctx, g, have)
	}
	return have.Size, nil
}

// growable returns why a logical volume of ours is none that a claim has and that may
// become larger.
func growable(v lvm.Volume) error {
	_, snapshot := volume.SnapshotFromTags(v.Tags)
	switch {
	case v.HasTag(volume.DeletedTag):
		return lvm.ErrVolumeNotFound
	case snapshot || v.Origin != "":
		return errShowsSnapshot
	}
	return nil
}

// withinLimit makes sure that in whole extents and stripes the volume would not be
// larger than allowed.
func (l *Logical) withinLimit(ctx context.Context, g Growth, have lvm.Volume) error {
	report, err := l.Host.Report(ctx)
	if err != nil {
		return err
	}
	group, _ := report.Group(g.Group)
	unit := group.Extent * capacity.Bytes(max(1, have.Stripes))
	if rounded := g.Size.Extents(unit); rounded > g.Limit {
		return fmt.Errorf("volume %s: %w: in steps of %s it would have %s, at most %s are allowed", g.ID, ErrOutOfRange, unit, rounded, g.Limit)
	}
	return nil
}

func (l *Logical) extend(ctx context.Context, g Growth, have capacity.Bytes) error {
	name := volume.NameOf(g.ID)
	err := l.Host.ExtendVolume(ctx, g.Group, name, g.Size)
	if errors.Is(err, lvm.ErrHasSnapshots) {
		err = l.extendInactive(ctx, g, name)
	}
	if errors.Is(err, lvm.ErrNoSpace) {
		return l.noSpace(ctx, g, have, err)
	}
	return err
}

// extendInactive grows a volume that has snapshots, which LVM does only while nobody
// has it or them open. If the process ends within, staging makes the device appear.
func (l *Logical) extendInactive(ctx context.Context, g Growth, name string) (err error) {
	if err := l.Host.DeactivateVolume(ctx, g.Group, name); err != nil {
		return fmt.Errorf("volume %s has snapshots and can grow only while no pod uses it or them; stop its pods, or delete the snapshots: %w: %w",
			g.ID, lvm.ErrHasSnapshots, err)
	}
	defer func() {
		err = errors.Join(err, l.Host.ActivateVolume(context.WithoutCancel(ctx), g.Group, name))
	}()
	return l.Host.ExtendVolume(ctx, g.Group, name, g.Size)
}

// noSpace says how much was wanted and how much is there.
func (l *Logical) noSpace(ctx context.Context, g Growth, have capacity.Bytes, cause error) error {
	report, err := l.Host.Report(ctx)
	if err != nil {
		return cause
	}
	group, _ := report.Group(g.Group)
	return fmt.Errorf("volume %s wants %s more, %s free in volume group %s: %w", g.ID, g.Size-have, group.Free, g.Group, cause)
}
