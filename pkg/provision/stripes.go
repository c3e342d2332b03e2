package provision

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// lie says in LVM's words how a new volume lies in its group, and on which of its
// physical volumes; nil is any of them. Only for stripes LVM is asked.
func (l *Logical) lie(ctx context.Context, spec Spec, group string) (lvm.Layout, []string, error) {
	switch spec.Layout {
	case "", capacity.Linear:
		return lvm.Layout{Type: lvm.TypeLinear}, nil, nil
	case capacity.Striped:
		return l.stripes(ctx, spec, group)
	}
	return lvm.Layout{}, nil, fmt.Errorf("%w layout %q: neither %s nor %s", volume.ErrInvalid, spec.Layout, capacity.Linear, capacity.Striped)
}

// stripes counts by the rule that the scheduler placed the volume by, on what is free
// now. LVM is given as many physical volumes as there are stripes, those with the most
// room.
func (l *Logical) stripes(ctx context.Context, spec Spec, group string) (lvm.Layout, []string, error) {
	report, err := l.Host.Report(ctx)
	if err != nil {
		return lvm.Layout{}, nil, err
	}
	in, there := report.Group(group)
	if !there {
		return lvm.Layout{}, nil, fmt.Errorf("volume %s in volume group %s: %w", spec.ID, group, lvm.ErrGroupNotFound)
	}
	usable := slices.DeleteFunc(slices.Clone(in.PhysicalVolumes), func(pv lvm.PhysicalVolume) bool { return !pv.Allocatable || pv.Missing })
	slices.SortStableFunc(usable, func(a, b lvm.PhysicalVolume) int { return cmp.Compare(b.Free, a.Free) })
	as := capacity.Group{Extent: in.Extent, Free: in.Free, Disks: disksOf(in, in.Free)}
	count := as.Stripes(spec.Size, as.Free)
	if count == 0 {
		return lvm.Layout{}, nil, fmt.Errorf("volume %s wants %s in equal parts on two or more physical volumes; volume group %s has %s free on %d: %w",
			spec.ID, spec.Size, group, in.Free, len(usable), lvm.ErrNoSpace)
	}
	if rounded := spec.Size.Extents(in.Extent * capacity.Bytes(count)); spec.Limit > 0 && rounded > spec.Limit {
		return lvm.Layout{}, nil, fmt.Errorf("volume %s: %w: in %d stripes of whole extents it has %s, at most %s are allowed",
			spec.ID, ErrOutOfRange, count, rounded, spec.Limit)
	}
	devices := make([]string, 0, count)
	for _, pv := range usable[:count] {
		devices = append(devices, pv.Device)
	}
	return lvm.Layout{Type: lvm.TypeStriped, Stripes: count}, devices, nil
}

// disksOf returns how what is free in a group lies on its physical volumes.
func disksOf(group lvm.Group, free capacity.Bytes) *capacity.Disks {
	var each []capacity.Bytes
	for _, pv := range group.PhysicalVolumes {
		if pv.Allocatable && !pv.Missing {
			each = append(each, pv.Free)
		}
	}
	return capacity.NewDisks(free, each)
}
