package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// remove takes one process where the volume is where it is said to be: LVM
// selects by name and tag while it holds its lock.
func (l *Logical) remove(ctx context.Context, r Removal) error {
	if err := volume.ValidGroup(r.Group); err != nil {
		return fmt.Errorf("%w removal of volume %s: %w", volume.ErrInvalid, r.ID, err)
	}
	name := volume.NameOf(r.ID)
	err := l.Host.RemoveVolume(ctx, r.Group, name, volume.IDTag(r.ID))
	group := r.Group
	switch {
	case errors.Is(err, lvm.ErrNotOurs) && r.Proven:
		err = l.removeUntagged(ctx, r.Group, name)
	case errors.Is(err, lvm.ErrNotFound):
		group, err = l.removeElsewhere(ctx, r, err)
	}
	if err != nil {
		return err
	}
	if group != "" {
		klog.FromContext(ctx).Info("Removed logical volume", "volume", r.ID, "group", group, "name", name)
	}
	return nil
}

// removeElsewhere looks for the volume in the other groups, because a group may
// have been renamed. It returns the group that the volume was in, or else what
// missing means: nothing is left to do if the group it was in is there.
func (l *Logical) removeElsewhere(ctx context.Context, r Removal, missing error) (string, error) {
	managed, err := l.Managed.Managed()
	if err != nil {
		return "", err
	}
	stood, err := l.recall(ctx)
	if err != nil {
		return "", err
	}
	name := volume.NameOf(r.ID)
	for _, group := range slices.Sorted(maps.Keys(managed)) {
		stands, err := l.Devices.Exists(lvm.DevicePath(group, name))
		if err != nil {
			return "", fmt.Errorf("looking for volume %s/%s: %w", group, name, err)
		}
		if !stands && !slices.Contains(stood[name], group) || group == r.Group {
			continue
		}
		err = l.Host.RemoveVolume(ctx, group, name, volume.IDTag(r.ID))
		if err == nil || !errors.Is(err, lvm.ErrNotFound) && !errors.Is(err, lvm.ErrNotOurs) {
			return group, err
		}
	}
	if errors.Is(missing, lvm.ErrVolumeNotFound) {
		return "", nil
	}
	return "", missing
}

// removeUntagged removes a volume that carries no mark of its owner at all. One
// that carries somebody's mark is not it, whatever its name.
func (l *Logical) removeUntagged(ctx context.Context, group, name string) error {
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
	err = l.Host.RemoveVolume(ctx, group, name)
	if errors.Is(err, lvm.ErrVolumeNotFound) {
		return nil
	}
	return err
}
