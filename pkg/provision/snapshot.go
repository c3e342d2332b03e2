package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// snapshotVerbs is the part of *lvm.Host that makes and removes snapshots.
type snapshotVerbs interface {
	CreateSnapshot(ctx context.Context, c lvm.CreateSnapshot) error
	RemoveSnapshot(ctx context.Context, group, name string, tags ...string) error
	RemoveUnused(ctx context.Context, group, but string, tags ...string) ([]string, error)
}

func (s SnapshotSpec) validate() error {
	if err := volume.ValidID(s.Volume); err != nil {
		return err
	}
	if err := volume.ValidGroup(s.Group); err != nil {
		return fmt.Errorf("%w snapshot %s of volume %s: %w", volume.ErrInvalid, s.ID, s.Volume, err)
	}
	if s.Space <= 0 || s.Step <= 0 || s.Threshold < 1 || s.Threshold > 99 {
		return fmt.Errorf("%w snapshot %s of volume %s: a space of %s that grows by %s when it is full to %d %%",
			volume.ErrInvalid, s.ID, s.Volume, s.Space, s.Step, s.Threshold)
	}
	for _, tag := range s.Tags {
		if !volume.ValidTag(tag) {
			return fmt.Errorf("%w snapshot %s: %q cannot be a tag", volume.ErrInvalid, s.ID, tag)
		}
	}
	return nil
}

// snapshot takes one process where nothing is in the way. The caller keeps others from
// the volume meanwhile.
func (l *Logical) snapshot(ctx context.Context, spec SnapshotSpec) (Snapshot, error) {
	if err := spec.validate(); err != nil {
		return Snapshot{}, err
	}
	managed, err := l.Managed.Managed()
	if err != nil {
		return Snapshot{}, err
	}
	if _, ok := managed[spec.Group]; !ok {
		return Snapshot{}, fmt.Errorf("snapshot %s in volume group %q: %w", spec.ID, spec.Group, ErrUnmanaged)
	}
	name, origin := volume.NameOf(spec.ID), volume.NameOf(spec.Volume)
	have, found, err := l.findSnapshot(ctx, slices.Sorted(maps.Keys(managed)), name, volume.SnapshotTag(spec.ID))
	if err != nil {
		return Snapshot{}, fmt.Errorf("making snapshot %s of volume %s: %w", spec.ID, spec.Volume, err)
	}
	if found {
		return l.acceptSnapshot(spec, have)
	}
	if l.tombstones.has(spec.Group, origin) {
		return Snapshot{}, fmt.Errorf("snapshot %s: volume %s is deleted and only kept for its other snapshots: %w", spec.ID, spec.Volume, lvm.ErrVolumeNotFound)
	}
	size, err := l.sizeOf(ctx, spec.Group, origin)
	if err != nil {
		return Snapshot{}, fmt.Errorf("looking at volume %s, of which snapshot %s is to be made: %w", spec.Volume, spec.ID, err)
	}
	// Tags keep microseconds, as reports do.
	made := Snapshot{ID: spec.ID, Volume: spec.Volume, Group: spec.Group, Size: size, Created: l.Clock.Now().Truncate(time.Microsecond)}
	create := lvm.CreateSnapshot{
		Group: spec.Group, Origin: origin, Name: name, Size: min(spec.Space, capacity.SnapshotSpace(size)),
		ReadOnly: spec.ReadOnly, Tags: spec.allTags(made),
	}
	err = l.takeSnapshot(ctx, create)
	if errors.Is(err, lvm.ErrExists) {
		// It is not active, so its device file did not show it.
		have, lookErr := l.Host.Volume(ctx, spec.Group, name)
		if lookErr != nil {
			return Snapshot{}, lookErr
		}
		if !partial(have, volume.SnapshotTag(spec.ID)) {
			return l.acceptSnapshot(spec, have)
		}
		if err = l.dropPartial(ctx, have, volume.SnapshotTag(spec.ID)); err == nil {
			err = l.takeSnapshot(ctx, create)
		}
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("making snapshot %s of volume %s: %w", spec.ID, spec.Volume, err)
	}
	klog.FromContext(ctx).Info("Made snapshot", "snapshot", spec.ID, "volume", spec.Volume, "group", spec.Group, "name", name)
	return made, nil
}

func (s SnapshotSpec) allTags(made Snapshot) []string {
	policy := volume.SnapshotPolicy{ReadOnly: s.ReadOnly, Step: s.Step, Threshold: s.Threshold}
	tags := []string{
		volume.SnapshotTag(s.ID), volume.SourceTag(s.Volume), volume.CreatedTag(made.Created), volume.SourceSizeTag(made.Size),
	}
	return slices.Concat(tags, policy.Tags(), s.Tags)
}

// acceptSnapshot answers with a snapshot that stands already, if it is the one wanted. Its
// space is watched from now on at the latest: what made it may have ended with an error.
func (l *Logical) acceptSnapshot(spec SnapshotSpec, have lvm.Volume) (Snapshot, error) {
	id, _ := volume.SnapshotFromTags(have.Tags)
	of, _ := volume.SourceFromTags(have.Tags)
	if id != spec.ID || of != spec.Volume || !have.IsSnapshot() {
		return Snapshot{}, fmt.Errorf("snapshot %s of volume %s: logical volume %s/%s is there and is snapshot %q of volume %q: %w",
			spec.ID, spec.Volume, have.Group, have.Name, id, of, ErrConflict)
	}
	created, dated := volume.CreatedFromTags(have.Tags)
	size, sized := volume.SourceSizeFromTags(have.Tags)
	if !dated || !sized {
		return Snapshot{}, fmt.Errorf("snapshot %s: logical volume %s/%s lost the tags that say when and of how much it was made: %w",
			spec.ID, have.Group, have.Name, ErrConflict)
	}
	l.watched.add(watchedOf(have.Group, have.Name, have.Origin, have.Tags))
	return Snapshot{ID: spec.ID, Volume: of, Group: have.Group, Size: size, Created: created}, nil
}

// takeSnapshot makes a snapshot whose space is watched from now on.
func (l *Logical) takeSnapshot(ctx context.Context, c lvm.CreateSnapshot) error {
	if err := l.FileSystems.Flush(lvm.DevicePath(c.Group, c.Origin)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	watched := watchedOf(c.Group, c.Name, c.Origin, c.Tags)
	l.watched.add(watched)
	err := l.Host.CreateSnapshot(ctx, c)
	if err == nil {
		l.watched.add(watched) // now there is something to look at
		return nil
	}
	l.watched.drop(c.Group, c.Name)
	if errors.Is(err, lvm.ErrNoSpace) {
		return l.withRoom(ctx, c, err)
	}
	return err
}

// withRoom adds to a refusal what was wanted and what is there.
func (l *Logical) withRoom(ctx context.Context, c lvm.CreateSnapshot, refusal error) error {
	report, err := l.Host.Report(ctx)
	if err != nil {
		return refusal
	}
	group, ok := report.Group(c.Group)
	if !ok {
		return refusal
	}
	return fmt.Errorf("%s are wanted for what will be overwritten, volume group %s has %s free: %w",
		c.Size.Extents(max(group.Extent, 1)), c.Group, group.Free, refusal)
}

// removeSnapshot takes one process, and one more where deleted volumes stay in the
// group: the snapshot may have been the last of one.
func (l *Logical) removeSnapshot(ctx context.Context, r SnapshotRemoval) error {
	if err := volume.ValidGroup(r.Group); err != nil {
		return fmt.Errorf("%w removal of snapshot %s: %w", volume.ErrInvalid, r.ID, err)
	}
	if err := l.Recall(ctx); err != nil { // deleted volumes of before are not forgotten
		return err
	}
	name := volume.NameOf(r.ID)
	err := l.dropSnapshot(ctx, r.Group, name, volume.SnapshotTag(r.ID))
	group := r.Group
	switch {
	case errors.Is(err, lvm.ErrNotOurs):
		err = l.removeUntaggedSnapshot(ctx, r.Group, name)
	case errors.Is(err, lvm.ErrNotFound):
		group, err = l.removeSnapshotElsewhere(ctx, r, err)
	}
	if err != nil {
		return err
	}
	if group != "" {
		klog.FromContext(ctx).Info("Removed snapshot", "snapshot", r.ID, "group", group, "name", name)
	}
	return nil
}

// dropSnapshot removes a snapshot that carries the tags, and its origin if that is
// deleted and this was its last snapshot. If the process ends between the two, the next
// call finishes, for the same snapshot or any other of the group, or Recall does.
func (l *Logical) dropSnapshot(ctx context.Context, group, name string, tags ...string) error {
	removal := l.Host.RemoveSnapshot(ctx, group, name, tags...)
	if errors.Is(removal, lvm.ErrNotOurs) && len(tags) > 0 { // it may be a part of it
		have, err := l.Host.Volume(ctx, group, name)
		if err == nil && partial(have, tags[0]) {
			removal = l.dropPartial(ctx, have, tags[0])
		}
	}
	if removal != nil && !errors.Is(removal, lvm.ErrVolumeNotFound) {
		return removal
	}
	l.watched.drop(group, name)
	l.tombstones.snapshotGone()
	if err := l.collect(ctx, group); err != nil {
		return err
	}
	return removal
}

// findSnapshot is find for a snapshot with that tag. A part of it is removed, and is none.
func (l *Logical) findSnapshot(ctx context.Context, groups []string, name, tag string) (lvm.Volume, bool, error) {
	have, found, err := l.find(ctx, groups, name)
	if err != nil || !found || !partial(have, tag) {
		return have, found, err
	}
	return lvm.Volume{}, false, l.dropPartial(ctx, have, tag)
}

// partial reports whether v is what an lvcreate leaves that dies before it has made a
// snapshot: first it makes a volume of the snapshot's space, with the snapshot's name and
// tags, and clears it. Only snapshots have tags of that kind, and on their space alone is
// nobody's data.
func partial(v lvm.Volume, tag string) bool {
	return v.HasTag(tag) && !v.IsSnapshot() && !v.HasSnapshots()
}

// dropPartial removes what is a part of a snapshot.
func (l *Logical) dropPartial(ctx context.Context, v lvm.Volume, tag string) error {
	klog.FromContext(ctx).Info("Removing what is left of a snapshot whose making was cut short", "group", v.Group, "name", v.Name)
	err := l.Host.RemoveVolume(ctx, v.Group, v.Name, tag)
	if err != nil && !errors.Is(err, lvm.ErrVolumeNotFound) {
		return fmt.Errorf("removing what is left of a snapshot whose making was cut short: %w", err)
	}
	return nil
}

// removeSnapshotElsewhere looks for the snapshot in the other groups, as
// removeElsewhere does.
func (l *Logical) removeSnapshotElsewhere(ctx context.Context, r SnapshotRemoval, missing error) (string, error) {
	managed, err := l.Managed.Managed()
	if err != nil {
		return "", err
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(managed)), func(group string) bool { return group == r.Group })
	have, found, err := l.find(ctx, others, volume.NameOf(r.ID))
	if err != nil {
		return "", err
	}
	if id, _ := volume.SnapshotFromTags(have.Tags); found && id == r.ID {
		return have.Group, l.dropSnapshot(ctx, have.Group, have.Name, volume.SnapshotTag(r.ID))
	}
	if errors.Is(missing, lvm.ErrVolumeNotFound) {
		return "", nil
	}
	return "", missing
}

// removeUntaggedSnapshot removes a snapshot of the first open-local, which set no tags:
// the name and that it is a snapshot are the proof.
func (l *Logical) removeUntaggedSnapshot(ctx context.Context, group, name string) error {
	have, err := l.Host.Volume(ctx, group, name)
	switch {
	case errors.Is(err, lvm.ErrVolumeNotFound):
		return nil
	case err != nil:
		return err
	case !have.IsSnapshot() || marked(have.Tags) || !volume.LooksOurs(name):
		return fmt.Errorf("removing snapshot %s/%s: it is %q with the tags %q: %w", group, name, have.Role, have.Tags, lvm.ErrNotOurs)
	}
	err = l.dropSnapshot(ctx, group, name)
	if errors.Is(err, lvm.ErrVolumeNotFound) {
		return nil
	}
	return err
}

// watchedOf returns how the space of a snapshot is to be watched, by its tags.
func watchedOf(group, name, origin string, tags []string) Watched {
	policy := volume.SnapshotPolicyFromTags(tags)
	id, _ := volume.SnapshotFromTags(tags)
	namespace, of, _ := volume.VolumeSnapshotFromTags(tags)
	return Watched{
		Group: group, Name: name, Origin: origin, ID: id, Namespace: namespace, VolumeSnapshot: of,
		Step: max(policy.Step, capacity.MiB), Threshold: policy.Threshold,
	}
}
