package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

func (l *Logical) remove(ctx context.Context, r Removal) (finish, error) {
	if err := l.Recall(ctx); err != nil { // what becomes of its data is known then
		return nil, err
	}
	way := l.wayOf(r.ID)
	if l.erases(way, r.Group, volume.NameOf(r.ID)) {
		return l.removeErased(r, way), nil
	}
	return nil, l.removeNow(ctx, r, l.discardOrNot(way))
}

// removeNow takes one process where the volume is where it is said to be: LVM
// selects by name and tag while it holds its lock.
func (l *Logical) removeNow(ctx context.Context, r Removal, remove remover) error {
	if err := volume.ValidGroup(r.Group); err != nil {
		return fmt.Errorf("%w removal of volume %s: %w", volume.ErrInvalid, r.ID, err)
	}
	if err := l.endCopy(ctx, r.ID); err != nil {
		return err
	}
	err := l.removeOrBury(ctx, remove, r.Group, r.ID, volume.IDTag(r.ID))
	switch {
	case errors.Is(err, lvm.ErrNotOurs) && r.Proven:
		err = l.removeUntagged(ctx, remove, r.Group, r.ID)
	case errors.Is(err, lvm.ErrNotFound):
		err = l.removeElsewhere(ctx, remove, r, err)
	}
	if err != nil {
		return err
	}
	l.Standing.forget(volume.NameOf(r.ID))
	return l.Making.End(volume.NameOf(r.ID))
}

// removeElsewhere looks for the volume in the other groups, because a group may
// have been renamed. Else it returns what missing means: nothing is left to do if the
// group that the volume was in is there.
func (l *Logical) removeElsewhere(ctx context.Context, remove remover, r Removal, missing error) error {
	managed, err := l.Managed.Managed()
	if err != nil {
		return err
	}
	stood, err := l.recall(ctx)
	if err != nil {
		return err
	}
	name := volume.NameOf(r.ID)
	for _, group := range slices.Sorted(maps.Keys(managed)) {
		stands, err := l.Devices.Exists(lvm.DevicePath(group, name))
		if err != nil {
			return fmt.Errorf("looking for volume %s/%s: %w", group, name, err)
		}
		if !stands && !slices.Contains(stood[name], group) || group == r.Group {
			continue
		}
		err = l.removeOrBury(ctx, remove, group, r.ID, volume.IDTag(r.ID))
		if err == nil || !errors.Is(err, lvm.ErrNotFound) && !errors.Is(err, lvm.ErrNotOurs) {
			return err
		}
	}
	if errors.Is(missing, lvm.ErrVolumeNotFound) {
		return nil
	}
	return missing
}

// removeUntagged removes a volume that carries no mark of its owner at all. One
// that carries somebody's mark is not it, whatever its name.
func (l *Logical) removeUntagged(ctx context.Context, remove remover, group, id string) error {
	name := volume.NameOf(id)
	have, err := l.Host.Volume(ctx, group, name)
	switch {
	case errors.Is(err, lvm.ErrVolumeNotFound):
		return nil
	case err != nil:
		return err
	}
	for _, tag := range have.Tags {
		if strings.HasPrefix(tag, volume.TagPrefix) {
			return fmt.Errorf("removing volume %s/%s: it carries the tag %q: %w", group, name, tag, lvm.ErrNotOurs)
		}
	}
	err = l.removeOrBury(ctx, remove, group, id)
	if errors.Is(err, lvm.ErrVolumeNotFound) {
		return nil
	}
	return err
}
