package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// What becomes of the data of a logical volume that is removed is kept with it, as a tag.
// Discarding is done by LVM in the process that removes; overwriting comes before, and may
// take long. A volume with snapshots is overwritten when it is removed after the last of
// them: what they show is on it.

// wayOf returns what becomes of the data of the volume.
func (l *Logical) wayOf(id string) volume.Wipe {
	v, _ := l.Standing.Volume(id)
	return volume.WipeFromTags(v.Tags)
}

// discardOrNot returns what removes a volume with such data. What was overwritten is
// discarded as well: the disk need not keep zeros.
func (l *Logical) discardOrNot(way volume.Wipe) func(ctx context.Context, group, name string, tags ...string) error {
	if way == volume.WipeNone {
		return l.Host.RemoveVolume
	}
	return l.Host.DiscardVolume
}

// removeErased overwrites the volume and removes it. If that ends halfway, the next
// removal begins again from the start.
func (l *Logical) removeErased(r Removal) finish {
	return func(ctx context.Context, say say) error {
		if err := volume.ValidGroup(r.Group); err != nil {
			return fmt.Errorf("%w removal of volume %s: %w", volume.ErrInvalid, r.ID, err)
		}
		if err := l.endCopy(ctx, r.ID); err != nil {
			return err
		}
		v, _ := l.Standing.Volume(r.ID) // where it really lies
		err := l.erase(ctx, lvm.Volume{Group: v.Group, Name: v.Name}, volume.IDTag(r.ID), say)
		if err != nil && !errors.Is(err, lvm.ErrNotFound) && !errors.Is(err, lvm.ErrHasSnapshots) {
			return fmt.Errorf("overwriting volume %s before it is removed: %w", r.ID, err)
		}
		return l.removeNow(ctx, r)
	}
}

// erase overwrites a volume that carries the tag, is not protected, has no snapshots and
// is not in use.
func (l *Logical) erase(ctx context.Context, at lvm.Volume, tag string, say say) error {
	report, err := l.Host.Report(ctx)
	if err != nil {
		return err
	}
	group, _ := report.Group(at.Group)
	have, there := group.Volume(at.Name)
	switch {
	case !there:
		return fmt.Errorf("logical volume %s/%s: %w", at.Group, at.Name, lvm.ErrVolumeNotFound)
	case !have.HasTag(tag):
		return fmt.Errorf("logical volume %s/%s: %w: it has no tag %q", have.Group, have.Name, lvm.ErrNotOurs, tag)
	case have.Protected() || group.Protected():
		return fmt.Errorf("logical volume %s/%s: %w", have.Group, have.Name, lvm.ErrProtected)
	case have.HasSnapshots():
		return lvm.ErrHasSnapshots
	case have.IsSnapshot():
		return fmt.Errorf("logical volume %s/%s: %w: it is a snapshot", have.Group, have.Name, lvm.ErrNotOurs)
	}
	if err := l.reach(ctx, have.Group, have.Name); err != nil {
		return err
	}
	log := klog.FromContext(ctx).WithValues("group", have.Group, "name", have.Name)
	said := l.Clock.Now()
	say(func() string { return "overwriting it before it is removed" })
	err = l.Devices.Zero(ctx, lvm.DevicePath(have.Group, have.Name), func(done, size capacity.Bytes) {
		say(func() string { return fmt.Sprintf("overwriting it before it is removed, %s of %s done", done, size) })
		if l.Clock.Since(said) >= progressEvery {
			said = l.Clock.Now()
			log.Info("Overwriting removed volume", "done", done.String(), "size", size.String())
		}
	})
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("logical volume %s/%s: %w: %w", have.Group, have.Name, lvm.ErrInUse, err)
	}
	return err
}

// eraseLater overwrites and removes what is deleted, has no snapshots any more and is to
// be overwritten. If the process ends first, the next begins again.
func (l *Logical) eraseLater() {
	if l.later == nil {
		return // it is called again when there is somebody who does it
	}
	for _, path := range l.tombstones.toErase() {
		group, name, _ := strings.Cut(path, "/")
		work := func(ctx context.Context) {
			defer l.tombstones.erased(path)
			err := l.erase(ctx, lvm.Volume{Group: group, Name: name}, volume.DeletedTag, func(func() string) {})
			if err == nil {
				err = l.Host.DiscardVolume(ctx, group, name, volume.DeletedTag)
			}
			switch {
			case err == nil, errors.Is(err, lvm.ErrVolumeNotFound):
				l.tombstones.drop(group, name)
				klog.FromContext(ctx).Info("Removed deleted volume after its last snapshot", "group", group, "name", name)
			case !errors.Is(err, lvm.ErrHasSnapshots): // the next removal of a snapshot tries again
				klog.FromContext(ctx).Error(err, "A deleted volume stays for now", "group", group, "name", name)
			}
		}
		l.later(work)
	}
}

// toErase returns the volumes, as "group/name", that are to be overwritten and that nobody
// is overwriting, and notes that somebody will.
func (t *tombstones) toErase() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var paths []string
	for path, way := range t.paths {
		if way == volume.WipeZero && !t.erasing[path] {
			t.erasing[path] = true
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func (t *tombstones) erased(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.erasing, path)
}
