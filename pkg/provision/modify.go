package provision

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// modify keeps the limits in the tags of the volume, by one process where they change
// and by none where they are so already. Who holds devices to limits learns it from
// Standing.
func (l *Logical) modify(ctx context.Context, m Modification) error {
	if err := volume.ValidGroup(m.Group); err != nil {
		return fmt.Errorf("%w change of volume %s: %w", volume.ErrInvalid, m.ID, err)
	}
	for _, limit := range []*int64{m.IOPS, m.BPS} {
		if limit != nil && *limit < 0 {
			return fmt.Errorf("%w change of volume %s: a limit of %d is below zero", volume.ErrInvalid, m.ID, *limit)
		}
	}
	have, err := l.changeable(ctx, m)
	if err != nil {
		return err
	}
	change := volume.LimitChange{IOPS: m.IOPS, BPS: m.BPS}
	add, del := change.RetagLimits(have.Tags)
	if len(add)+len(del) == 0 {
		return nil
	}
	if _, tagged := volume.IDFromTags(have.Tags); !tagged {
		add = append(add, volume.IDTag(m.ID)) // a volume that carries some of our tags carries this one
	}
	if err := l.Host.ChangeTags(ctx, have.Group, have.Name, add, del); err != nil {
		if errors.Is(err, lvm.ErrNotFound) {
			l.Standing.forget(have.Name) // the next call looks
		}
		return err
	}
	l.Standing.retag(have, add, del)
	now := change.Of(volume.LimitsFromTags(have.Tags))
	klog.FromContext(ctx).Info("Changed the limits of a volume", "volume", m.ID, "group", have.Group, "bps", now.BPS, "iops", now.IOPS)
	return nil
}

// changeable returns the volume whose limits shall change, if it is the one meant.
// LVM is asked only about one that is not remembered.
func (l *Logical) changeable(ctx context.Context, m Modification) (lvm.Volume, error) {
	have, known := l.Standing.Volume(m.ID)
	if !known {
		var err error
		if have, err = l.Host.Volume(ctx, m.Group, volume.NameOf(m.ID)); err != nil {
			return lvm.Volume{}, err
		}
	}
	if id, _ := volume.IDFromTags(have.Tags); id == m.ID {
		return have, nil
	}
	if m.Proven && !marked(have.Tags) && have.Group == m.Group {
		return have, nil // as the first open-local made them
	}
	return lvm.Volume{}, fmt.Errorf("changing volume %s: logical volume %s/%s is not tagged as this volume: %w", m.ID, have.Group, have.Name, lvm.ErrNotOurs)
}
