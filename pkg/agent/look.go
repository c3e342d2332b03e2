package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
)

// groups is the part of *lvm.Host that the agent needs.
type groups interface {
	Report(ctx context.Context) (lvm.Report, error)
	CreateGroup(ctx context.Context, name string, devices []string) error
	ExtendGroup(ctx context.Context, name string, devices []string) error
}

// devices is the part of *blockdev.Host that the agent needs.
type devices interface {
	Devices(ctx context.Context) ([]blockdev.Device, error)
	Inspect(ctx context.Context, path string) (blockdev.Evidence, error)
}

// look sees everything once: one LVM process, one to list the devices, and more
// only for devices that the spec lists and that are in no group yet.
func (a *Agent) look(ctx context.Context, spec v1alpha1.StorageSpec) (sighting, error) {
	a.metrics.looks.Inc()
	report, err := a.groups.Report(ctx)
	if err != nil {
		return sighting{}, err
	}
	all, err := a.devices.Devices(ctx)
	if err != nil {
		return sighting{}, err
	}
	systems, err := lookAtMounts(a.options.HostRoot)
	if err != nil {
		return sighting{}, err
	}
	members, orphans := map[string]bool{}, map[string]bool{}
	for _, g := range report.Groups {
		for _, pv := range g.PhysicalVolumes {
			members[a.identity(pv.Device)] = true
		}
	}
	for _, pv := range report.Orphans {
		orphans[a.identity(pv.Device)] = true
	}
	seen := sighting{
		lvm: report, mounts: systems, listed: map[string]initplan.Device{},
		disks: disksOf(all, func(path string) bool { return members[a.identity(path)] || orphans[a.identity(path)] }),
	}
	for _, path := range initplan.DevicesToInspect(spec) {
		if seen.listed[path], err = a.inspect(ctx, path, members, orphans); err != nil {
			return sighting{}, err
		}
	}
	return seen, nil
}

// inspect finds out about one device of the spec.
func (a *Agent) inspect(ctx context.Context, path string, members, orphans map[string]bool) (initplan.Device, error) {
	device := initplan.Device{Resolved: a.identity(path)}
	if members[device.Resolved] {
		return device, nil // in a group: what is on it is no news
	}
	evidence, err := a.devices.Inspect(ctx, path)
	switch {
	case ctx.Err() != nil:
		return initplan.Device{}, fmt.Errorf("inspecting device %s: %w", path, context.Cause(ctx))
	case err != nil: // what cannot be inspected is not provably blank
		device.Objections = []initplan.Objection{{Reason: "NotInspected", Message: fmt.Sprintf("could not be inspected: %v", err)}}
		return device, nil
	case !evidence.Exists:
		return initplan.Device{}, nil
	}
	device.Orphan = orphans[device.Resolved]
	for _, o := range blockdev.Objections(evidence) {
		device.Objections = append(device.Objections, initplan.Objection(o))
	}
	return device, nil
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
