package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
)

// node returns what planning needs of what was seen, and of what was reported before.
func (a *Agent) node(seen sighting, before v1alpha1.NodeLocalStorageStatus) initplan.Node {
	node := initplan.Node{
		Name: a.options.Node, Devices: seen.listed, FileSystems: seen.systems, Occupied: seen.occupied,
		KnownMounts: knownMounts(a.options.Node, before.NodeStorageInfo.MountPoints),
	}
	for _, m := range seen.mounts {
		node.Mounts = append(node.Mounts, initplan.Mount{Path: m.Target, Resolved: a.identity(m.Source), UUID: strings.TrimPrefix(m.id, fsID)})
	}
	for _, g := range before.NodeStorageInfo.VolumeGroups {
		node.Known = append(node.Known, g.Name)
	}
	sizes := map[string]capacity.Bytes{}
	for _, d := range seen.disks {
		sizes[a.identity(d.Path)] = d.Size
		node.Disks = append(node.Disks, initplan.Disk{ID: d.ID, Path: d.Path, Contents: d.contents, Blank: d.blank, HalfWiped: d.halfWiped, Keep: d.keep})
	}
	for _, g := range seen.lvm.Groups {
		group := initplan.Group{Name: g.Name, Partial: g.Partial, Exported: g.Exported, Missing: seen.missing(g, before.NodeStorageInfo)}
		for _, pv := range g.PhysicalVolumes {
			if pv.Device == "" {
				continue
			}
			identity := a.identity(pv.Device)
			group.Devices = append(group.Devices, identity)
			switch size := sizes[identity]; {
			case !hasGrown(pv, size, g.Extent):
				delete(a.filled, pv.Device) // another disk may have that name next
			case a.filled[pv.Device] != size:
				group.Grown = append(group.Grown, pv.Device)
			}
		}
		node.Groups = append(node.Groups, group)
	}
	for _, w := range slices.Concat(before.Wiped, a.wiped) {
		node.Wiped = append(node.Wiped, v1alpha1.DeviceToBeWiped{ID: w.ID, Contents: w.Contents})
	}
	return node
}

// hasGrown reports whether a device of that size has room for another extent beside its
// physical volume and what LVM keeps for itself of a disk, at most: its metadata at
// either end.
func hasGrown(pv lvm.PhysicalVolume, size, extent capacity.Bytes) bool {
	return extent > 0 && size-pv.Size >= extent+2*capacity.MiB
}

// missing says which disks a partial group lacks: by what they were called when they
// were last reported, and who they were, or if that never was, by LVM's UUIDs.
func (s sighting) missing(g lvm.Group, before v1alpha1.NodeStorageInfo) []string {
	lacksOne := func(pv lvm.PhysicalVolume) bool { return pv.Device == "" } // LVM may see that before it calls the group partial
	if !g.Partial && !slices.ContainsFunc(g.PhysicalVolumes, lacksOne) {
		return nil
	}
	there := map[string]bool{} // by path and by identity
	var uuids []string
	for _, pv := range g.PhysicalVolumes {
		if pv.Device == "" {
			uuids = append(uuids, "the physical volume with the UUID "+pv.UUID)
			continue
		}
		there[pv.Device] = true
		for _, d := range s.disks {
			if d.Path == pv.Device && d.ID != "" {
				there[d.ID] = true
			}
		}
	}
	var names []string
	for _, old := range before.VolumeGroups {
		if old.Name == g.Name {
			names = append(slices.Clone(old.MissingPhysicalVolumes), named(old.PhysicalVolumes, s.idsSince(before))...)
		}
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		path, id, hasID := strings.Cut(strings.TrimSuffix(name, ")"), " (")
		return hasID && there[id] || !hasID && there[path] || !strings.HasPrefix(name, "/")
	})
	if len(names) < len(uuids) {
		names = append(names, uuids...)
	}
	return names
}

// idsSince returns who devices are, or were, by path; what was reported before comes
// first.
func (s sighting) idsSince(before v1alpha1.NodeStorageInfo) map[string]string {
	ids := map[string]string{}
	maps.Copy(ids, s.ids)
	for _, d := range before.DeviceInfos {
		if d.ID != "" { // a disk that is being pulled out says no more who it is
			ids[d.Name] = d.ID
		}
	}
	return ids
}

// named adds to paths who the devices are.
func named(paths []string, ids map[string]string) []string {
	all := make([]string, 0, len(paths))
	for _, path := range paths {
		if id := ids[path]; id != "" {
			path = fmt.Sprintf("%s (%s)", path, id)
		}
		all = append(all, path)
	}
	return all
}
