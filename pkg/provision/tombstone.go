package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// A volume that is deleted while snapshots of it stand carries volume.DeletedTag and
// stays until the last of them goes.

// tombstones remembers the volumes that are deleted and stay, so that nobody has to ask
// LVM whether there are any.
type tombstones struct {
	mu      sync.Mutex             // guards what follows
	paths   map[string]volume.Wipe // by "group/name"; may hold more than stands, never less
	erasing map[string]bool        // of these
	removed int                    // how many snapshots were removed, ever
}

func (t *tombstones) has(group, name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, is := t.paths[group+"/"+name]
	return is
}

func (t *tombstones) add(group, name string, way volume.Wipe) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paths == nil {
		t.paths, t.erasing = map[string]volume.Wipe{}, map[string]bool{}
	}
	t.paths[group+"/"+name] = way
}

func (t *tombstones) drop(group, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.paths, group+"/"+name)
}

// any reports whether some volume of the group stays.
func (t *tombstones) any(group string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for path := range t.paths {
		if len(path) > len(group) && path[:len(group)+1] == group+"/" {
			return true
		}
	}
	return false
}

func (t *tombstones) snapshotGone() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removed++
}

func (t *tombstones) snapshotsGone() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.removed
}

// removeOrBury removes a volume with the tags or, while snapshots of it stand, marks it
// as deleted. Marking is tried anew when a snapshot went meanwhile: it may have been the
// last, and whoever removed it saw no mark.
func (l *Logical) removeOrBury(ctx context.Context, remove remover, group, id string, tags ...string) error {
	name, way := volume.NameOf(id), l.wayOf(id)
	for {
		gone := l.tombstones.snapshotsGone()
		err := remove(ctx, group, name, tags...)
		if !errors.Is(err, lvm.ErrHasSnapshots) {
			if err == nil {
				l.tombstones.drop(group, name)
				klog.FromContext(ctx).Info("Removed logical volume", "volume", id, "group", group, "name", name)
			}
			return err
		}
		l.tombstones.add(group, name, way) // before the mark: whoever removes the last snapshot looks here
		err = l.Host.ChangeTags(ctx, group, name, []string{volume.DeletedTag, volume.IDTag(id)}, nil)
		if err != nil {
			return fmt.Errorf("marking volume %s/%s as deleted while snapshots of it stand: %w", group, name, err)
		}
		if way == volume.WipeZero {
			klog.FromContext(ctx).Info("Marked volume as deleted until its last snapshot is, and it is overwritten", "volume", id, "group", group, "name", name)
			l.eraseLater() // the last snapshot may have gone meanwhile
			return nil
		}
		if gone == l.tombstones.snapshotsGone() {
			klog.FromContext(ctx).Info("Marked volume as deleted until its last snapshot is", "volume", id, "group", group, "name", name)
			return nil
		}
	}
}

// collect removes what is deleted in the group and has no snapshots any more. It
// starts no process where nothing is deleted.
func (l *Logical) collect(ctx context.Context, group string) error {
	if !l.tombstones.any(group) {
		return nil
	}
	l.eraseLater()
	removed, err := l.Host.RemoveUnused(ctx, group, volume.WipeTag(volume.WipeZero), volume.DeletedTag)
	if err != nil {
		return fmt.Errorf("removing deleted volumes whose last snapshot went: %w", err)
	}
	for _, name := range removed {
		l.tombstones.drop(group, name)
		klog.FromContext(ctx).Info("Removed deleted volume after its last snapshot", "group", group, "name", name)
	}
	return nil
}

// recallSnapshots remembers the snapshots and deleted volumes of a group, and ends what
// a process that died had begun to remove.
func (l *Logical) recallSnapshots(ctx context.Context, group lvm.Group) {
	unused := false
	for _, v := range group.Volumes {
		switch {
		case slices.Contains(v.Tags, volume.DeletedTag):
			l.tombstones.add(group.Name, v.Name, volume.WipeFromTags(v.Tags))
			unused = unused || !v.HasSnapshots()
		case v.IsSnapshot() && volume.Counted(v.Name, v.Tags):
			l.watched.add(watchedOf(group.Name, v.Name, v.Origin, v.Tags))
		default:
			l.recallPartial(ctx, v)
		}
	}
	if !unused {
		return
	}
	if err := l.collect(ctx, group.Name); err != nil { // the next removal of a snapshot tries again
		klog.FromContext(ctx).Error(err, "Deleted volumes stay for now", "group", group.Name)
	}
}

// recallPartial removes what is left of a snapshot that a process which died was making.
// Whoever makes or removes the snapshot does the same, but a copy may never be asked for
// again.
func (l *Logical) recallPartial(ctx context.Context, v lvm.Volume) {
	tag := ""
	if id, is := volume.SnapshotFromTags(v.Tags); is {
		tag = volume.SnapshotTag(id)
	} else if id, is := volume.CloneFromTags(v.Tags); is {
		tag = volume.CloneTag(id)
	}
	if tag == "" || !partial(v, tag) {
		return
	}
	if err := l.dropPartial(ctx, v, tag); err != nil {
		klog.FromContext(ctx).Error(err, "It stays for now", "group", v.Group, "name", v.Name)
	}
}
