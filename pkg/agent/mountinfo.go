package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/mounts"
)

// A fileSystem is a mounted file system worth reporting.
type fileSystem struct {
	mounts.Mount
	total, available capacity.Bytes
}

// lookAtMounts reads what the host's first process sees mounted. It starts no
// program.
func lookAtMounts(root string) ([]fileSystem, error) {
	content, err := os.ReadFile(filepath.Join(root, "proc/1/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("reading the host's mounts: %w", err)
	}
	all, err := mounts.ParseMountinfo(content)
	if err != nil {
		return nil, fmt.Errorf("reading the host's mounts: %w", err)
	}
	var systems []fileSystem
	for _, m := range storageMounts(all) {
		usage, err := devfile.Root(root).Usage(m.Target)
		if err != nil {
			continue // unmounted since, or hidden by another mount
		}
		systems = append(systems, fileSystem{Mount: m, total: usage.Total, available: usage.Available})
	}
	return systems, nil
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
