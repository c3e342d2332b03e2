package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
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

// devices is what the agent asks of the block layer.
type devices interface {
	// Disks lists the block devices worth reporting, with one process at most.
	Disks(ctx context.Context) ([]disk, error)
	// Objections says why the device is not provably blank.
	Objections(ctx context.Context, path string) ([]initplan.Objection, error)
}

// look sees everything once: one LVM process, one to list the devices, and more
// only for devices that the spec lists and that are in no group yet.
func (a *Agent) look(ctx context.Context, spec v1alpha1.StorageSpec) (sighting, error) {
	var (
		seen sighting
		err  error
	)
	a.metrics.looks.Inc()
	if seen.lvm, err = a.groups.Report(ctx); err != nil {
		return sighting{}, err
	}
	if seen.disks, err = a.devices.Disks(ctx); err != nil {
		return sighting{}, err
	}
	if seen.mounts, err = a.lookAtMounts(); err != nil {
		return sighting{}, err
	}
	members, orphans := map[string]bool{}, map[string]bool{}
	for _, g := range seen.lvm.Groups {
		for _, pv := range g.PhysicalVolumes {
			members[a.identity(pv.Device)] = true
		}
	}
	for _, pv := range seen.lvm.Orphans {
		orphans[a.identity(pv.Device)] = true
	}
	seen.listed = map[string]initplan.Device{}
	for _, path := range initplan.DevicesToInspect(spec) {
		if seen.listed[path], err = a.inspect(ctx, path, members, orphans); err != nil {
			return sighting{}, err
		}
	}
	return seen, nil
}

// inspect finds out about one device of the spec.
func (a *Agent) inspect(ctx context.Context, path string, members, orphans map[string]bool) (initplan.Device, error) {
	at, err := devfile.Root(a.options.HostRoot).Resolve(path)
	if err != nil {
		return initplan.Device{}, nil // links in a circle lead to no device
	}
	switch _, err := os.Stat(at); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return initplan.Device{}, nil
	case err != nil:
		return initplan.Device{}, fmt.Errorf("looking for device %s: %w", path, err)
	}
	device := initplan.Device{Resolved: a.identity(path)}
	if members[device.Resolved] {
		return device, nil // in a group: what is on it is no news
	}
	device.Orphan = orphans[device.Resolved]
	device.Objections, err = a.devices.Objections(ctx, path)
	if ctx.Err() != nil {
		return initplan.Device{}, fmt.Errorf("inspecting device %s: %w", path, ctx.Err())
	}
	if err != nil { // what cannot be inspected is not provably blank
		device.Objections = []initplan.Objection{{Reason: "NotInspected", Message: fmt.Sprintf("could not be inspected: %v", err)}}
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

// lookAtMounts reads the mounts of the host's first process. It starts no program.
func (a *Agent) lookAtMounts() ([]fileSystem, error) {
	content, err := os.ReadFile(filepath.Join(a.options.HostRoot, "proc/1/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("reading the host's mounts: %w", err)
	}
	mounts, err := parseMountinfo(content)
	if err != nil {
		return nil, err
	}
	var systems []fileSystem
	for _, m := range storageMounts(mounts) {
		var stat unix.Statfs_t
		if err := unix.Statfs(filepath.Join(a.options.HostRoot, m.path), &stat); err != nil {
			continue // unmounted since, or hidden by another mount
		}
		block := capacity.Bytes(stat.Frsize)
		systems = append(systems, fileSystem{
			mount: m, total: block * capacity.Bytes(stat.Blocks), available: block * capacity.Bytes(stat.Bavail),
		})
	}
	return systems, nil
}
