package main

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/devmapper"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
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

// former finds what a former process of this node held to limits, so that this one can go
// on with it.
type former struct {
	kubelet  string // its directory, where volumes are shown to pods
	book     *exclusive.Book
	blocks   lister
	mounts   mountTable
	devices  deviceFiles
	standing *provision.Standing
}

// lister lists block devices: *blockdev.Host.
type lister interface {
	Devices(ctx context.Context) ([]blockdev.Device, error)
}

// mountTable tells what is mounted: *mounts.Host.
type mountTable interface {
	Below(dir string) ([]mounts.Mount, error)
	IsMounted(target string) (mounts.Mount, bool, error)
}

// deviceFiles tells which device is which: devfile.Root.
type deviceFiles interface {
	Look(path string) (devfile.File, error)
	MappedName(number uint64) (string, error)
}

// handOver tries until the keeper has taken over, or ctx ends.
func (f former) handOver(ctx context.Context, keeper *iolimit.Keeper) {
	for {
		err := f.tryHandOver(ctx, keeper)
		if err == nil {
			return
		}
		klog.FromContext(ctx).Error(err, "The limits of volumes that are in use already are not looked after yet")
		select {
		case <-ctx.Done():
			return
		case <-time.After(recallEvery):
		}
	}
}

// tryHandOver asks programs first and then the kernel, which answers at once: what is
// shown to pods must not change until the keeper knows of it.
func (f former) tryHandOver(ctx context.Context, keeper *iolimit.Keeper) error {
	records, err := f.book.List()
	if err != nil {
		return err
	}
	var disks []blockdev.Device
	if len(records) > 0 {
		if disks, err = f.blocks.Devices(ctx); err != nil {
			return err
		}
	}
	return keeper.TakeOver(func(held map[uint64]iolimit.Line) (iolimit.Found, error) {
		shown, err := f.shown()
		if err != nil {
			return iolimit.Found{}, err
		}
		found := iolimit.Found{Used: map[string]string{}, Idle: map[string]string{}}
		add := func(id, path string, number uint64) {
			if shown[number] {
				found.Used[id] = path
			} else {
				found.Idle[id] = path
			}
		}
		for _, r := range records {
			if d, ok := f.diskOf(r, disks); ok {
				add(r.Volume, d.Path, unix.Mkdev(d.Major, d.Minor))
			}
		}
		for _, numbers := range []iter.Seq[uint64]{maps.Keys(shown), maps.Keys(held)} {
			for number := range numbers {
				if id, path, ok := f.logical(number); ok {
					add(id, path, number)
				}
			}
		}
		return found, nil
	})
}

// shown returns the numbers of the devices that pods, or the kubelet for them, are shown:
// as file systems or as they are.
func (f former) shown() (map[uint64]bool, error) {
	all, err := f.mounts.Below(f.kubelet)
	if err != nil {
		return nil, err
	}
	shown := map[uint64]bool{}
	for _, m := range all {
		if number := f.number(m); number != 0 {
			shown[number] = true
		}
	}
	return shown, nil
}

// number returns the number of the device that is mounted, or 0. It touches no file
// system: there may be one that hangs.
func (f former) number(m mounts.Mount) uint64 {
	path := m.Source
	switch {
	case m.FSType == "devtmpfs" || m.FSType == "tmpfs" && m.Root != "/":
		path = m.Target // the file of a device, from where all devices are
	case m.Major != 0:
		return unix.Mkdev(m.Major, m.Minor)
	case !strings.HasPrefix(m.Source, "/dev/"):
		return 0
	}
	file, err := f.devices.Look(path) // btrfs has a number of its own
	if err != nil {
		return 0
	}
	return file.Device
}

// diskOf returns the device that a volume has, if it is there: by who it is, or by which
// file system is mounted where the volume has it.
func (f former) diskOf(r exclusive.Record, disks []blockdev.Device) (blockdev.Device, bool) {
	is := func(d blockdev.Device) bool { return d.ID == r.ID }
	if r.Kind == volume.MountPoint {
		m, mounted, err := f.mounts.IsMounted(r.Path)
		if err != nil || !mounted {
			return blockdev.Device{}, false
		}
		number := f.number(m)
		is = func(d blockdev.Device) bool {
			return unix.Mkdev(d.Major, d.Minor) == number && exclusive.FileSystemID(d.UUID) == r.ID
		}
	}
	i := slices.IndexFunc(disks, is)
	if i < 0 {
		return blockdev.Device{}, false
	}
	return disks[i], true
}

// logical returns the logical volume that has a device, and its path.
func (f former) logical(number uint64) (id, path string, ok bool) {
	mapped, err := f.devices.MappedName(number)
	if err != nil {
		return "", "", false
	}
	// A hyphen is between group and volume, and those in them are doubled.
	const hyphen = "\x00"
	_, name, _ := strings.Cut(strings.ReplaceAll(mapped, "--", hyphen), "-")
	id, ok = f.standing.Handle(strings.ReplaceAll(name, hyphen, "-"))
	if !ok {
		return "", "", false
	}
	v, ok := f.standing.Volume(id)
	return id, lvm.DevicePath(v.Group, v.Name), ok && devmapper.Name(v.Group, v.Name) == mapped
}
