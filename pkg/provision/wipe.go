package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// What becomes of the data of a logical volume that is removed is kept with it, as a tag.
// Discarding is done by LVM in the process that removes, or, where it takes the disk
// long, before that, as overwriting is: nobody else can change the group while LVM
// does it. A volume with snapshots is overwritten when it is removed after the last of
// them: what they show is on it.

// manyDiscards is into how many requests discarding may be divided for LVM to do it. A
// SATA disk takes about 2 GiB with each, and some milliseconds.
const manyDiscards = 64

// wayOf returns what becomes of the data of the volume.
func (l *Logical) wayOf(id string) volume.Wipe {
	v, _ := l.Standing.Volume(id)
	return volume.WipeFromTags(v.Tags)
}

// slow reports whether LVM would keep others from the group for long while it discards
// the volume. One that cannot be reached is not asked about.
func (l *Logical) slow(group, name string) bool {
	requests, err := l.Devices.Discards(lvm.DevicePath(group, name))
	return err == nil && requests > manyDiscards
}

// erases reports whether something is done to a volume with such data before it is removed.
func (l *Logical) erases(way volume.Wipe, group, name string) bool {
	return way == volume.WipeZero || way == volume.WipeDiscard && l.slow(group, name)
}

// remover removes a volume that has all the tags.
type remover func(ctx context.Context, group, name string, tags ...string) error

// discardOrNot returns what removes a volume with such data. What was overwritten is
// discarded as well: the disk need not keep zeros.
func (l *Logical) discardOrNot(way volume.Wipe) remover {
	if way == volume.WipeNone {
		return l.Host.RemoveVolume
	}
	return l.Host.DiscardVolume
}

// removeErased erases the volume and removes it. If that ends halfway, the next
// removal begins again from the start.
func (l *Logical) removeErased(r Removal, way volume.Wipe) finish {
	return func(ctx context.Context, say say) error {
		if err := volume.ValidGroup(r.Group); err != nil {
			return fmt.Errorf("%w removal of volume %s: %w", volume.ErrInvalid, r.ID, err)
		}
		if err := l.endCopy(ctx, r.ID); err != nil {
			return err
		}
		at := lvm.Volume{Group: r.Group, Name: volume.NameOf(r.ID)}
		if v, known := l.Standing.Volume(r.ID); known {
			at.Group = v.Group // where it really lies
		}
		remove, err := l.erase(ctx, at, volume.IDTag(r.ID), way, say)
		if errors.Is(err, lvm.ErrNotFound) {
			var elsewhere lvm.Volume
			var found bool
			if elsewhere, found, err = l.elsewhere(ctx, at.Group, r.ID); err != nil {
				return fmt.Errorf("erasing volume %s before it is removed: %w", r.ID, err)
			} else if !found {
				return l.removeNow(ctx, r, l.Host.RemoveVolume) // which knows what it means that it is missing
			}
			r.Group = elsewhere.Group
			remove, err = l.erase(ctx, elsewhere, volume.IDTag(r.ID), way, say)
		}
		switch {
		case err == nil:
		case errors.Is(err, lvm.ErrHasSnapshots) && way == volume.WipeZero:
			remove = kept // until it is overwritten, whenever its last snapshot goes
		case errors.Is(err, lvm.ErrHasSnapshots), errors.Is(err, lvm.ErrNotOurs):
			remove = l.discardOrNot(way) // which knows what to wait for, and whose else it may be
		default:
			return fmt.Errorf("erasing volume %s before it is removed: %w", r.ID, err)
		}
		return l.removeNow(ctx, r, remove)
	}
}

// elsewhere looks for a volume in the other groups that are managed, because a group may
// have been renamed.
func (l *Logical) elsewhere(ctx context.Context, group, id string) (lvm.Volume, bool, error) {
	managed, err := l.Managed.Managed()
	if err != nil {
		return lvm.Volume{}, false, err
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(managed)), func(other string) bool { return other == group })
	have, found, err := l.find(ctx, others, volume.NameOf(id))
	return have, found && have.HasTag(volume.IDTag(id)), err
}

// kept removes nothing of a volume that has, or had a moment ago, snapshots.
func kept(context.Context, string, string, ...string) error { return lvm.ErrHasSnapshots }

// erase overwrites or discards a volume that may be erased. It returns what removes the
// volume then.
func (l *Logical) erase(ctx context.Context, at lvm.Volume, tag string, way volume.Wipe, say say) (remover, error) {
	have, err := l.erasable(ctx, at, tag)
	if err != nil {
		return nil, err
	}
	if err := l.reach(ctx, have.Group, have.Name); err != nil {
		return nil, err
	}
	device := lvm.DevicePath(have.Group, have.Name)
	if way == volume.WipeZero {
		err = l.Devices.Zero(ctx, device, l.progress(ctx, have, "overwriting", say))
	}
	remove := l.discardOrNot(way)
	if err == nil && way != volume.WipeNone && l.slow(have.Group, have.Name) {
		remove = l.Host.RemoveVolume
		err = l.Devices.Discard(ctx, device, l.progress(ctx, have, "discarding", say))
		if err != nil && ctx.Err() == nil && !errors.Is(err, unix.EBUSY) {
			klog.FromContext(ctx).Error(err, "A disk did not forget all of a removed volume", "group", have.Group, "name", have.Name)
			err = nil // as LVM takes it
		}
	}
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("logical volume %s/%s: %w: %w", have.Group, have.Name, lvm.ErrInUse, err)
	}
	return remove, err
}

// erasable returns what LVM knows of a volume, if it carries the tag, is not protected
// and is nothing that a snapshot needs.
func (l *Logical) erasable(ctx context.Context, at lvm.Volume, tag string) (lvm.Volume, error) {
	report, err := l.Host.Report(ctx)
	if err != nil {
		return lvm.Volume{}, err
	}
	group, _ := report.Group(at.Group)
	have, there := group.Volume(at.Name)
	switch {
	case !there:
		err = lvm.ErrVolumeNotFound
	case !have.HasTag(tag):
		err = fmt.Errorf("%w: it has no tag %q", lvm.ErrNotOurs, tag)
	case have.Protected() || group.Protected():
		err = lvm.ErrProtected
	case have.HasSnapshots():
		err = lvm.ErrHasSnapshots
	case have.Open: // LVM would refuse to remove it only after it was erased
		err = lvm.ErrInUse
	case have.IsSnapshot():
		err = fmt.Errorf("%w: it is a snapshot", lvm.ErrNotOurs)
	}
	if err != nil {
		err = fmt.Errorf("logical volume %s/%s: %w", at.Group, at.Name, err)
	}
	return have, err
}

// progress returns what tells how far it is with a volume that is to be removed.
func (l *Logical) progress(ctx context.Context, v lvm.Volume, doing string, say say) func(done, size capacity.Bytes) {
	log := klog.FromContext(ctx).WithValues("group", v.Group, "name", v.Name)
	said := l.Clock.Now()
	say(func() string { return doing + " it before it is removed" })
	return func(done, size capacity.Bytes) {
		say(func() string { return fmt.Sprintf("%s it before it is removed, %s of %s done", doing, done, size) })
		if l.Clock.Since(said) >= progressEvery {
			said = l.Clock.Now()
			log.Info("Erasing removed volume", "by", doing, "done", done.String(), "size", size.String())
		}
	}
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
			for pause := firstPause; ; pause = min(2*pause, longestPause) {
				gone := l.tombstones.snapshotsGone()
				if l.eraseDeleted(ctx, group, name) {
					if l.tombstones.erased(path, gone) {
						return
					}
					continue // what it saw may be of before
				}
				select {
				case <-l.Clock.After(pause):
				case <-ctx.Done():
					return
				}
			}
		}
		l.later(work)
	}
}

// How long eraseLater waits before it tries again what failed: nobody else asks for it.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Minute
)

// eraseDeleted overwrites and removes a volume that is deleted, and reports whether it need
// not be called again: the volume is gone, or has snapshots, the last of which calls for it.
func (l *Logical) eraseDeleted(ctx context.Context, group, name string) bool {
	remove, err := l.erase(ctx, lvm.Volume{Group: group, Name: name}, volume.DeletedTag, volume.WipeZero, func(func() string) {})
	if err == nil {
		err = remove(ctx, group, name, volume.DeletedTag)
	}
	switch {
	case err == nil, errors.Is(err, lvm.ErrVolumeNotFound):
		l.tombstones.drop(group, name)
		klog.FromContext(ctx).Info("Removed deleted volume after its last snapshot", "group", group, "name", name)
		return true
	case errors.Is(err, lvm.ErrHasSnapshots):
		return true
	}
	klog.FromContext(ctx).Error(err, "A deleted volume stays for now", "group", group, "name", name)
	return false
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

// erased notes that nobody is erasing the volume any more, and reports whether no snapshot
// was removed since so many were: whoever removed one left the volume to who was erasing.
func (t *tombstones) erased(path string, gone int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.removed != gone {
		return false
	}
	delete(t.erasing, path)
	return true
}
