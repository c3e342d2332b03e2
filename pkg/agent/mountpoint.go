package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/initplan"
)

// mounter is the part of *mounts.Host that the agent needs.
type mounter interface {
	Signature(ctx context.Context, device string) (string, error)
	Format(ctx context.Context, device, fsType string, options ...string) error
	Mount(ctx context.Context, device, target, fsType string, options []string) error
}

// fsID is how a file system is called in reports.
var fsID = exclusive.FileSystemID("")

// fileSystemOn returns the file system that is all that was recognised on a device.
func fileSystemOn(device, identity string, signatures []blockdev.Signature) (initplan.FileSystem, bool) {
	if len(signatures) != 1 || signatures[0].UUID == "" {
		return initplan.FileSystem{}, false
	}
	return initplan.FileSystem{Device: device, Resolved: identity, Type: signatures[0].Type, UUID: signatures[0].UUID}, true
}

// occupied says what keeps something from being mounted at the paths of the spec where
// nothing is: it would hide what is there, or not be where the spec says.
func (a *Agent) occupied(spec v1alpha1.StorageSpec, seen sighting) map[string]string {
	occupied := map[string]string{}
	for _, want := range spec.ResourceToBeInited.MountPoints {
		path := want.Path
		switch {
		case slices.ContainsFunc(seen.mounts, func(m fileSystem) bool { return m.Target == path }):
		case noisy(path):
			occupied[path] = "is where the system and containers mount what is theirs"
		case seen.mounted[path]:
			occupied[path] = "has something mounted that is no file system of a disk"
		default:
			if why := a.unfitTarget(path); why != "" {
				occupied[path] = why
			}
		}
	}
	return occupied
}

// unfitTarget looks whether a directory is there, is empty, and is where its path says.
func (a *Agent) unfitTarget(path string) string {
	root := devfile.Root(a.options.HostRoot)
	at, err := root.Resolve(path)
	if err != nil {
		return fmt.Sprintf("cannot be looked at: %v", err)
	}
	if inRoot := "/" + strings.TrimPrefix(strings.TrimPrefix(at, strings.TrimSuffix(a.options.HostRoot, "/")), "/"); inRoot != path {
		return "leads over a symbolic link to " + inRoot
	}
	dir, err := os.OpenFile(at, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "" // it will be made
	}
	if err != nil {
		return fmt.Sprintf("cannot be looked at: %v", err)
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(1)
	if len(names) > 0 {
		return fmt.Sprintf("is not empty: it holds %q", names[0])
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Sprintf("cannot be looked at: %v", err)
	}
	return ""
}

// knownMounts returns the paths at which earlier reports had the file system made for
// them.
func knownMounts(node string, before []v1alpha1.MountPoint) []string {
	var paths []string
	for _, m := range before {
		if m.ID == fsID+initplan.FileSystemUUID(node, m.Name) {
			paths = append(paths, m.Name)
		}
	}
	return paths
}

// lostMounts returns what is still to be reported of mount points that the spec asks
// for, that were here and are not mounted now.
func (s sighting) lostMounts(nls *v1alpha1.NodeLocalStorage) []v1alpha1.MountPoint {
	known := knownMounts(nls.Name, nls.Status.NodeStorageInfo.MountPoints)
	var lost []v1alpha1.MountPoint
	for _, want := range nls.Spec.ResourceToBeInited.MountPoints {
		isHere := slices.ContainsFunc(s.mounts, func(m fileSystem) bool { return m.Target == want.Path })
		isListed := slices.ContainsFunc(lost, func(m v1alpha1.MountPoint) bool { return m.Name == want.Path })
		if !slices.Contains(known, want.Path) || isHere || isListed {
			continue
		}
		lost = append(lost, v1alpha1.MountPoint{
			Name: want.Path, ID: fsID + initplan.FileSystemUUID(nls.Name, want.Path), Condition: v1alpha1.StorageFault,
			Reason: initplan.MountPointMissing, Message: "was here and is not mounted",
		})
	}
	return lost
}

// uuidOption is how each mkfs is told which UUID the file system is to have.
var uuidOption = map[string]func(uuid string) []string{
	"ext3":  func(uuid string) []string { return []string{"-U", uuid} },
	"ext4":  func(uuid string) []string { return []string{"-U", uuid} },
	"btrfs": func(uuid string) []string { return []string{"-U", uuid} },
	"xfs":   func(uuid string) []string { return []string{"-m", "uuid=" + uuid} },
}

func (a *Agent) makeFileSystem(ctx context.Context, s initplan.MakeFileSystem) error {
	option, known := uuidOption[s.FSType]
	if !known {
		return fmt.Errorf("no way to make a file system of type %q", s.FSType)
	}
	return a.onBlank(ctx, toMount(s.Path), []string{s.Device}, func() error {
		return a.host.Mounts.Format(ctx, s.Device, s.FSType, option(s.UUID)...)
	})
}

// mountFileSystem mounts a device that holds the very file system, where the host's
// first process sees it.
func (a *Agent) mountFileSystem(ctx context.Context, s initplan.MountFileSystem) error {
	evidence, err := a.host.Devices.Inspect(ctx, s.Device)
	if err != nil {
		return err
	}
	if found, is := fileSystemOn(s.Device, "", evidence.Signatures); !is || found.UUID != s.UUID {
		return fmt.Errorf("device %s does not hold the file system %s that was made for %s", s.Device, s.UUID, s.Path)
	}
	if why := a.unfitTarget(s.Path); why != "" {
		return fmt.Errorf("directory %s %s", s.Path, why)
	}
	if err := a.host.Mounts.Mount(ctx, s.Device, s.Path, s.FSType, s.Options); err != nil {
		return err
	}
	all, err := a.hostMounts()
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.Target == s.Path {
			return nil
		}
	}
	return fmt.Errorf("%s was mounted at %s, and the host does not see it: the agent's mounts do not propagate to the host", s.Device, s.Path)
}
