package agent

import (
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
)

// A sighting is all that one look at the node saw.
type sighting struct {
	lvm    lvm.Report
	disks  []disk
	mounts []fileSystem
	// listed holds what the device paths of the spec lead to.
	listed map[string]initplan.Device
}

// A disk is a block device worth reporting.
type disk struct {
	blockdev.Device
	// inUse is true when something is known to lie on it. Such a disk is never
	// offered. What is on it unknown to the kernel, its file system, is looked
	// for when somebody wants the disk, not at every look.
	inUse bool
}

// disksOf returns the devices that could be storage of their own: disks and what
// is made of them, but no logical volumes and nothing that comes and goes.
func disksOf(all []blockdev.Device, isMember func(path string) bool) []disk {
	var disks []disk
	for _, d := range all {
		switch d.Type {
		case "lvm", "loop", "rom", "ram":
			continue
		}
		inUse := d.IsRoot || d.Swap || len(d.Mountpoints) > 0 || len(d.Children) > 0 ||
			d.FSType != "" || d.PartitionTable != "" || isMember(d.Path)
		disks = append(disks, disk{Device: d, inUse: inUse})
	}
	slices.SortFunc(disks, func(a, b disk) int { return strings.Compare(a.Path, b.Path) })
	return disks
}

// node returns what planning needs; identity tells one device from another.
func (s sighting) node(known []string, identity func(path string) string) initplan.Node {
	node := initplan.Node{Devices: s.listed, Known: known}
	for _, g := range s.lvm.Groups {
		group := initplan.Group{Name: g.Name, Partial: g.Partial, Exported: g.Exported}
		for _, pv := range g.PhysicalVolumes {
			if pv.Device != "" {
				group.Devices = append(group.Devices, identity(pv.Device))
			}
		}
		node.Groups = append(node.Groups, group)
	}
	return node
}

// groupNames returns the names of the groups, each once and in order.
func (s sighting) groupNames() []string {
	var names []string
	for _, g := range s.lvm.Groups {
		names = append(names, g.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ambiguous reports whether two groups have that name.
func (s sighting) ambiguous(group string) bool {
	count := 0
	for _, g := range s.lvm.Groups {
		if g.Name == group {
			count++
		}
	}
	return count > 1
}

func byName[T any](name func(T) string) func(a, b T) int {
	return func(a, b T) int { return strings.Compare(name(a), name(b)) }
}
