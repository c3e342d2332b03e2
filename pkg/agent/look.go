package agent

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/wipe"
)

// groups is the part of *lvm.Host that the agent needs.
type groups interface {
	Report(ctx context.Context) (lvm.Report, error)
	CreateGroup(ctx context.Context, name string, devices []string) error
	ExtendGroup(ctx context.Context, name string, devices []string) error
	ResizePhysicalVolume(ctx context.Context, device string) error
}

// devices is the part of *blockdev.Host that the agent needs.
type devices interface {
	Devices(ctx context.Context) ([]blockdev.Device, error)
	Survey(ctx context.Context, devices []blockdev.Device, kernelOnly func(blockdev.Device) bool) (map[string]blockdev.Finding, error)
	Inspect(ctx context.Context, path string) (blockdev.Evidence, error)
}

// wiper is the part of *wipe.Host that the agent needs.
type wiper interface {
	Wipe(ctx context.Context, order wipe.Order, progress func(done, of capacity.Bytes)) error
}

// A Host is what the agent knows the node by, and changes it with.
type Host struct {
	Groups  groups
	Devices devices
	Wiper   wiper
	Mounts  mounter
	Book    book
	// Begun remembers what the agent began to do to devices, in case it does not see the end.
	Begun journal
}

// book is the part of *exclusive.Book that the agent needs.
type book interface {
	List() ([]exclusive.Record, error)
	Dir() string
	Alone(ctx context.Context) (release func(), err error)
}

// journal is what *begun.Journal is.
type journal interface {
	List() ([]begun.Change, error)
	Put(changes ...begun.Change) error
	Forget(changes ...begun.Change) error
}

// look sees everything once: one LVM process, one to list the devices, and more
// only for devices that the spec lists and that are in no group yet, and for idle ones
// to which something was written since the last look.
func (a *Agent) look(ctx context.Context, spec v1alpha1.StorageSpec) (sighting, error) {
	a.metrics.looks.Inc()
	report, err := a.host.Groups.Report(ctx)
	if err != nil {
		return sighting{}, err
	}
	all, err := a.host.Devices.Devices(ctx)
	if err != nil {
		return sighting{}, err
	}
	owners := a.owners(report)
	seen := sighting{lvm: report, listed: map[string]initplan.Device{}, listedFor: map[string]initplan.Objection{}, unfinished: map[string]bool{}}
	if seen.holdings, err = a.host.Book.List(); err != nil {
		return sighting{}, err
	}
	if seen.begun, err = a.host.Begun.List(); err != nil {
		return sighting{}, err
	}
	mounted, err := a.hostMounts()
	if err != nil {
		return sighting{}, err
	}
	seen.mounts, seen.mounted = a.lookAtMounts(mounted, all, seen.holdings), map[string]bool{}
	for _, m := range mounted {
		seen.mounted[m.Target] = true
	}
	if seen.disks, seen.systems, err = a.survey(ctx, all, owners, seen); err != nil {
		return sighting{}, err
	}
	for _, d := range seen.disks {
		if d.ID != "" {
			a.ids[d.Path] = d.ID
		}
	}
	seen.ids = maps.Clone(a.ids)
	if err := a.lookAtListed(ctx, spec, all, owners, &seen); err != nil {
		return sighting{}, err
	}
	seen.occupied = a.occupied(spec, seen)
	a.noteWants(spec, &seen)
	return seen, nil
}

// lookAtListed inspects the devices that the spec lists and that are in no group yet.
func (a *Agent) lookAtListed(ctx context.Context, spec v1alpha1.StorageSpec, all []blockdev.Device, owners map[string]string, seen *sighting) error {
	taken := map[string]initplan.Objection{} // by identity
	against := seen.holdings.objections(all)
	for _, d := range all {
		if objection, is := against[d.KernelName]; is {
			taken[a.identity(d.Path)] = objection
		}
	}
	ids, wants := a.idsOf(all), wanted(spec)
	for _, path := range initplan.DevicesToInspect(spec) {
		found, err := a.inspect(ctx, path, owners)
		if err != nil {
			return err
		}
		if what := wants[path]; seen.begun.has(ids[found.Resolved], what) {
			a.goOn(ctx, &found, what)
		}
		isFound := func(other initplan.FileSystem) bool { return other.Resolved == found.Resolved }
		switch fs, is := found.fileSystem(); {
		case found.unfinished:
			seen.unfinished[found.Resolved] = true
			seen.systems = slices.DeleteFunc(seen.systems, isFound)
		case is && !slices.ContainsFunc(seen.systems, isFound):
			seen.systems = append(seen.systems, fs)
		}
		if objection, is := taken[found.Resolved]; is {
			found.Objections = slices.Insert(found.Objections, 0, objection)
		}
		seen.listed[path] = found.Device
	}
	return nil
}

// owners returns the name of the group that each physical volume is in, "" for none, by
// identity.
func (a *Agent) owners(report lvm.Report) map[string]string {
	owners := map[string]string{}
	for _, pv := range report.Orphans {
		owners[a.identity(pv.Device)] = ""
	}
	for _, g := range report.Groups {
		for _, pv := range g.PhysicalVolumes {
			if pv.Device != "" {
				owners[a.identity(pv.Device)] = g.Name
			}
		}
	}
	return owners
}

// noteWants notes for what the spec names disks.
func (a *Agent) noteWants(spec v1alpha1.StorageSpec, seen *sighting) {
	wants := map[string]initplan.Objection{}
	for _, mount := range spec.ResourceToBeInited.MountPoints {
		wants[a.identity(mount.Device)] = initplan.Objection{Reason: listedForMount, Message: "is listed for mount point " + mount.Path}
	}
	for _, vg := range spec.ResourceToBeInited.VGs {
		for _, path := range vg.Devices {
			wants[a.identity(path)] = initplan.Objection{Reason: listedForGroup, Message: "is listed for volume group " + vg.Name}
		}
	}
	for _, d := range seen.disks {
		if want, is := wants[a.identity(d.Path)]; is {
			seen.listedFor[d.KernelName] = want
		}
	}
}

// A listed is one device of the spec, with what was seen on it.
type listed struct {
	initplan.Device
	evidence blockdev.Evidence
	// unfinished says that what is on it is what was left when it was being made what the
	// spec asks for.
	unfinished bool
}

// fileSystem returns the file system on it, if any. On a device that is in use it is
// somebody's, mounted where the host does not see.
func (l listed) fileSystem() (initplan.FileSystem, bool) {
	fs, is := fileSystemOn(l.evidence.Path, l.Resolved, l.evidence.Signatures)
	return fs, is && !l.evidence.Busy
}

// inspect finds out about one device of the spec.
func (a *Agent) inspect(ctx context.Context, path string, owners map[string]string) (listed, error) {
	device := initplan.Device{Resolved: a.identity(path)}
	owner, isMember := owners[device.Resolved]
	if owner != "" {
		return listed{Device: device}, nil // in a group: what is on it is no news
	}
	evidence, err := a.host.Devices.Inspect(ctx, path)
	switch {
	case ctx.Err() != nil:
		return listed{}, fmt.Errorf("inspecting device %s: %w", path, context.Cause(ctx))
	case err == nil && !evidence.Exists:
		return listed{}, nil
	}
	device.Orphan = isMember
	// What cannot be inspected is not provably blank.
	device.Objections = a.objections(blockdev.Finding{Evidence: evidence, Err: err})
	return listed{Device: device, evidence: evidence}, nil
}

// identity tells one device from another whatever they are called: by number
// where there is a device, else by its path with links resolved. Without udev,
// /dev/mapper/a and /dev/dm-0 are two files for one device.
func (a *Agent) identity(path string) string {
	resolved, err := devfile.Root(a.options.HostRoot).Resolve(path)
	if err != nil {
		return path
	}
	var stat unix.Stat_t
	if err := unix.Stat(resolved, &stat); err == nil && stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		return fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	}
	return "/" + strings.TrimPrefix(strings.TrimPrefix(resolved, filepath.Clean(a.options.HostRoot)), "/")
}
