package main

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// known is what a node remembers of its volumes: of logical ones by their tags, of disks and
// mount points by its book.
type known struct {
	*provision.Standing
	book *exclusive.Book
}

// tags returns what is kept with a volume that has a disk or mount point.
func (k known) tags(id string) []string {
	record, _, err := k.book.Get(id)
	if err != nil {
		return nil // whoever changes the volume says so
	}
	return record.Tags
}

// Claim returns the claim that the volume is for.
func (k known) Claim(id string) (namespace, name string, ok bool) {
	if namespace, name, ok = k.Standing.Claim(id); ok {
		return namespace, name, ok
	}
	return volume.ClaimFromTags(k.tags(id))
}

// Limits returns what is kept with the volume of what its IO is held to.
func (k known) Limits(id string) volume.LimitChange {
	if _, logical := k.Volume(id); logical {
		return k.Standing.Limits(id)
	}
	return volume.KeptLimits(k.tags(id))
}

// disksInUse returns the disks that are mounted and that volumes with limits have, by
// volume: what this process has to see to that a former one did.
func disksInUse(ctx context.Context, book *exclusive.Book, blocks *blockdev.Host) map[string]string {
	records, err := book.List()
	if err != nil || len(records) == 0 {
		return nil // whoever gives or takes a disk says so
	}
	disks, err := blocks.Devices(ctx)
	if err != nil {
		klog.FromContext(ctx).Error(err, "The limits of disks in use are not looked after until they are published again")
		return nil
	}
	inUse := map[string]string{}
	for _, r := range records {
		limits := volume.LimitsFromTags(r.Tags)
		for _, d := range disks {
			if r.Kind == volume.Device && d.ID == r.ID && len(d.Mountpoints) > 0 && limits != (volume.Limits{}) {
				inUse[r.Volume] = d.Path
			}
		}
	}
	return inUse
}
