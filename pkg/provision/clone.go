package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// spaceFor returns what the snapshot from which a clone is copied gets for what is
// overwritten meanwhile, if that is left of the group after others have taken so much of it.
func (l *Logical) spaceFor(report lvm.Report, from source, taken capacity.Bytes) (capacity.Bytes, error) {
	managed, err := l.Managed.Managed()
	if err != nil {
		return 0, err
	}
	node := nodeOf(report, managed)
	group := node.Group(from.group)
	if group == nil {
		return 0, fmt.Errorf("source %s in volume group %s: %w", from.id, from.group, ErrUnmanaged)
	}
	space := volume.CloneSpace(from.size)
	if from.space > 0 {
		space = min(space, from.space)
	}
	space = space.Extents(group.Extent)
	if left := group.Free - taken; left < space {
		return 0, fmt.Errorf("copying %s wants at least %s for what is overwritten meanwhile, volume group %s has %s left: %w",
			from.id, space, from.group, max(left, 0), lvm.ErrNoSpace)
	}
	return space, nil
}

// checkRoom tells whether there will be room for the snapshot from which spec's volume
// is copied, beside the volume itself.
func (l *Logical) checkRoom(spec Spec, group string, from source, report lvm.Report) error {
	if !from.volume {
		return nil
	}
	taken := capacity.Bytes(0)
	if g, ok := report.Group(group); ok && group == from.group {
		taken = spec.Size.Extents(g.Extent)
	}
	_, err := l.spaceFor(report, from, taken)
	if err != nil {
		return fmt.Errorf("volume %s: %w", spec.ID, err)
	}
	return nil
}

// still returns a snapshot of a volume, from which that is copied while it changes. One
// of an earlier attempt is used again.
func (l *Logical) still(ctx context.Context, spec Spec, from source, report lvm.Report) (source, error) {
	snapshot := source{id: from.id, group: from.group, name: volume.CloneName(spec.ID), size: from.size}
	have, found, err := l.findSnapshot(ctx, []string{from.group}, snapshot.name, volume.CloneTag(spec.ID))
	if err != nil {
		return source{}, err
	}
	if found {
		usable, err := snapshot.usable(spec, from, have)
		if usable || err != nil {
			return snapshot, err
		}
		if err := l.dropSnapshot(ctx, snapshot.group, snapshot.name, volume.CloneTag(spec.ID)); err != nil {
			return source{}, err
		}
	}
	space, err := l.spaceFor(report, from, 0)
	if err != nil {
		return source{}, fmt.Errorf("volume %s: %w", spec.ID, err)
	}
	policy := volume.DefaultSnapshotPolicy
	create := lvm.CreateSnapshot{
		Group: from.group, Origin: from.name, Name: snapshot.name, Size: space,
		Tags: slices.Concat([]string{volume.CloneTag(spec.ID), volume.SourceTag(from.id), volume.SourceSizeTag(from.size)}, policy.Tags()),
	}
	if err := l.takeSnapshot(ctx, create); err != nil {
		// It may stand all the same; endCopy removes what is watched.
		l.watched.add(watchedOf(create.Group, create.Name, create.Origin, create.Tags))
		return source{}, fmt.Errorf("making a snapshot of volume %s, to copy volume %s from: %w", from.id, spec.ID, err)
	}
	return snapshot, nil
}

// usable reports whether a snapshot that stands is one of an earlier attempt that can
// still be read. What is not of any attempt for this volume is an error.
func (s source) usable(spec Spec, from source, have lvm.Volume) (bool, error) {
	if target, _ := volume.CloneFromTags(have.Tags); target != spec.ID || !have.IsSnapshot() {
		return false, fmt.Errorf("volume %s is copied from a snapshot %s, and that is there for volume %q: %w", spec.ID, s.path(), target, ErrConflict)
	}
	size, _ := volume.SourceSizeFromTags(have.Tags)
	return have.Origin == from.name && size == from.size && !have.Invalid(), nil
}

// endCopy removes what a copy needs only while it is made. It starts no process where
// nothing is there.
func (l *Logical) endCopy(ctx context.Context, id string) error {
	if err := l.Recall(ctx); err != nil {
		return err
	}
	err := l.FileSystems.Abandon(ctx, l.scratch(id))
	name := volume.CloneName(id)
	for _, w := range l.watched.all() {
		if w.Name != name {
			continue
		}
		drop := l.dropSnapshot(ctx, w.Group, w.Name, volume.CloneTag(id))
		if drop != nil && !errors.Is(drop, lvm.ErrVolumeNotFound) {
			err = errors.Join(err, drop)
		}
	}
	return err
}
