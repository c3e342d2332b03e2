package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// choose returns the group for a new volume. LVM is asked where the group was not
// decided on, or where rounding up might go over the limit.
func (l *Logical) choose(ctx context.Context, spec Spec, managed map[string]capacity.Bytes) (string, error) {
	if spec.Group != "" && spec.Limit == 0 {
		return spec.Group, nil
	}
	report, err := l.Host.Report(ctx)
	if err != nil {
		return "", err
	}
	node := nodeOf(report, managed)
	group := spec.Group
	if group == "" {
		claim := volume.Claim{Volume: volume.NameOf(spec.ID), Name: spec.ID, Size: spec.Size, Group: spec.OnlyGroup, Layout: spec.Layout}
		spots, err := allocator.Place(node, []volume.Claim{claim}, l.Prefer)
		if err != nil {
			return "", fmt.Errorf("choosing a volume group for volume %s: %w: %w", spec.ID, lvm.ErrNoSpace, err)
		}
		group = spots[0].Group
	}
	g := node.Group(group)
	if g == nil {
		return "", fmt.Errorf("volume %s in volume group %s: %w", spec.ID, group, lvm.ErrGroupNotFound)
	}
	if rounded := spec.Size.Extents(g.Extent); spec.Limit > 0 && rounded > spec.Limit {
		return "", fmt.Errorf("volume %s: %w: in whole extents of %s it has %s, at most %s are allowed",
			spec.ID, ErrOutOfRange, g.Extent, rounded, spec.Limit)
	}
	return group, nil
}

// nodeOf reduces LVM's report to the managed groups that can be used, and what our
// volumes may still take of each.
func nodeOf(report lvm.Report, managed map[string]capacity.Bytes) capacity.Node {
	var node capacity.Node
	for _, group := range report.Groups {
		allocatable, ok := managed[group.Name]
		if !ok || group.Partial || group.Exported {
			continue
		}
		left := allocatable
		for _, v := range group.Volumes {
			if volume.Counted(v.Name, v.Tags) {
				left -= v.Size
			}
		}
		free := min(left, group.Free).Floor(group.Extent)
		node.Groups = append(node.Groups, capacity.Group{
			Name: group.Name, Size: allocatable, Free: free, Extent: group.Extent, Disks: disksOf(group, free),
		})
	}
	slices.SortFunc(node.Groups, func(a, b capacity.Group) int { return strings.Compare(a.Name, b.Name) })
	return node
}
