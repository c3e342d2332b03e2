package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/mounts"
)

// A fileSystem is a mounted file system worth reporting.
type fileSystem struct {
	mounts.Mount
	total, available capacity.Bytes
	id               string // which file system it is; empty when nothing tells
	volume           string // which has it; empty when none does
	// refused says why it is not offered, whatever is selected.
	refused initplan.Objection
}

// lookAtMounts tells which of all mounts are worth reporting. It starts no program.
func (a *Agent) lookAtMounts(all []mounts.Mount, devices []blockdev.Device, held holdings) []fileSystem {
	root := a.options.HostRoot
	uuids := map[string]string{} // by identity
	for _, d := range devices {
		uuids[a.identity(d.Path)] = d.UUID
	}
	var systems []fileSystem
	for _, m := range storageMounts(all) {
		usage, err := devfile.Root(root).Usage(m.Target)
		if err != nil {
			continue // unmounted since, or hidden by another mount
		}
		system := fileSystem{Mount: m, total: usage.Total, available: usage.Available}
		if uuid := uuids[a.identity(m.Source)]; uuid != "" {
			system.id = exclusive.FileSystemID(uuid)
		}
		if record, is := held.of(system.id); is {
			system.volume, system.refused = record.Volume, takenBy(record.Volume)
		} else {
			system.refused = unfit(system, all, root)
		}
		systems = append(systems, system)
	}
	return systems
}

// hostMounts returns all that the host's first process sees mounted.
func (a *Agent) hostMounts() ([]mounts.Mount, error) {
	content, err := os.ReadFile(filepath.Join(a.options.HostRoot, "proc/1/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("reading the host's mounts: %w", err)
	}
	all, err := mounts.ParseMountinfo(content)
	if err != nil {
		return nil, fmt.Errorf("reading the host's mounts: %w", err)
	}
	return all, nil
}

// unfit says what keeps a mounted file system from being handed out whole.
func unfit(m fileSystem, all []mounts.Mount, root string) initplan.Objection {
	switch {
	case m.Target == "/":
		return initplan.Objection{Reason: blockdev.IsRoot, Message: "is the root file system"}
	case m.ReadOnly():
		return initplan.Objection{Reason: blockdev.IsReadOnly, Message: "is read-only"}
	case m.Root != "/":
		return initplan.Objection{Reason: isBind, Message: fmt.Sprintf("shows a part of a file system, %s, and not all of it", m.Root)}
	}
	for _, other := range all {
		switch {
		case strings.HasPrefix(other.Target, m.Target+"/"):
			return initplan.Objection{Reason: hasMountsBelow, Message: "has something mounted below it, at " + other.Target}
		case other.Target != m.Target && other.Major == m.Major && other.Minor == m.Minor:
			return initplan.Objection{Reason: mountedTwice, Message: "is mounted at " + other.Target + " as well"}
		}
	}
	if m.id == "" {
		return initplan.Objection{Reason: noIdentity, Message: "has no UUID: after the next boot nobody could tell which file system it is"}
	}
	return holdsSomething(root, m.Target)
}

// holdsSomething objects to a file system in which there is anything but what making it
// left there.
func holdsSomething(root, target string) initplan.Objection {
	at, err := devfile.Root(root).Resolve(target)
	if err != nil {
		return initplan.Objection{Reason: notListable, Message: fmt.Sprintf("cannot be listed: %v", err)}
	}
	dir, err := os.OpenFile(at, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME, 0)
	if err != nil {
		return initplan.Objection{Reason: notListable, Message: fmt.Sprintf("cannot be listed: %v", err)}
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return initplan.Objection{Reason: notListable, Message: fmt.Sprintf("cannot be listed: %v", err)}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "lost+found" })
	if len(names) > 0 {
		return initplan.Objection{Reason: notEmpty, Message: fmt.Sprintf("is not empty: it holds %q", names[0])}
	}
	return initplan.Objection{}
}

// Where containers, pods and the system itself mount things that are no storage
// of the node.
var (
	noisyRoots = []string{"/proc", "/sys", "/dev", "/run", "/snap", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers"}
	noisyParts = []string{"/kubelet/pods/", "/kubelet/plugins/"}
	// File systems that are images and never hold a volume.
	imageTypes = []string{"squashfs", "iso9660", "erofs", "udf", "cramfs"}
)

// storageMounts returns the mounts that are file systems on block devices of the
// node, the visible one of each path, ordered by path.
func storageMounts(all []mounts.Mount) []mounts.Mount {
	visible := map[string]mounts.Mount{} // a later mount hides an earlier one
	for _, m := range all {
		visible[m.Target] = m
	}
	var kept []mounts.Mount
	for _, m := range visible {
		if strings.HasPrefix(m.Source, "/dev/") && !slices.Contains(imageTypes, m.FSType) && !noisy(m.Target) {
			kept = append(kept, m)
		}
	}
	slices.SortFunc(kept, func(a, b mounts.Mount) int { return strings.Compare(a.Target, b.Target) })
	return kept
}

func noisy(path string) bool {
	return slices.ContainsFunc(noisyRoots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	}) || slices.ContainsFunc(noisyParts, func(part string) bool {
		return strings.Contains(path, part)
	})
}
