package directory

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

// A report is what is kept of a NodeLocalStorage.
type report struct {
	slim.Meta
	running bool // the agent looks
	groups  []reportedGroup
	wholes  []whole // offered, or of ours
}

// A reportedGroup is a volume group in a report.
type reportedGroup struct {
	about     capacity.Group // but for what is free of it
	managed   bool           // volumes may be put there
	left      capacity.Bytes // of it
	disks     []capacity.Bytes
	volumes   []reportedVolume                // of ours
	snapshots map[string]driver.SnapshotPlace // of ours, by their handles; mostly nil
}

type reportedVolume struct {
	handle string
	size   capacity.Bytes
}

// reportOf returns what is kept of a report.
func reportOf(nls *v1alpha1.NodeLocalStorage) *report {
	r := &report{Meta: slim.MetaOf(nls), running: nls.Status.NodeStorageInfo.Phase == v1alpha1.NodeStorageRunning}
	media := map[string]capacity.Media{}
	for _, disk := range nls.Status.NodeStorageInfo.DeviceInfos {
		media[disk.Name] = slim.Once(capacity.Media(disk.MediaType))
	}
	for i := range nls.Status.NodeStorageInfo.VolumeGroups {
		vg := &nls.Status.NodeStorageInfo.VolumeGroups[i]
		g := groupOf(nls.Name, vg)
		g.managed = slices.Contains(nls.Status.FilteredStorageInfo.VolumeGroups, vg.Name)
		g.about.Media = mediaOf(vg.PhysicalVolumes, media)
		r.groups = append(r.groups, g)
	}
	r.wholes = wholesOf(nls, media)
	return r
}

func groupOf(node string, vg *v1alpha1.VolumeGroup) reportedGroup {
	extent := capacity.Bytes(vg.ExtentSize)
	if extent <= 0 {
		extent = capacity.DefaultExtent
	}
	g := reportedGroup{about: capacity.Group{Name: slim.Once(vg.Name), Size: capacity.Bytes(vg.Allocatable), Extent: extent}}
	if vg.Condition == v1alpha1.StorageFault {
		g.about.Trouble = string(v1alpha1.StorageFault)
	}
	for _, free := range vg.PhysicalVolumesAvailable {
		g.disks = append(g.disks, capacity.Bytes(free))
	}
	left := capacity.Bytes(vg.Allocatable)
	g.volumes = make([]reportedVolume, 0, len(vg.LogicalVolumes))
	for i := range vg.LogicalVolumes {
		v := &vg.LogicalVolumes[i]
		if v.Ours() {
			left -= capacity.Bytes(v.Total)
		}
		if v.VolumeID != "" && !v.Deleted {
			g.volumes = append(g.volumes, reportedVolume{v.VolumeID, capacity.Bytes(v.Total)})
		}
		if v.SnapshotID != "" {
			g.addSnapshot(node, v)
		}
	}
	g.left = min(left, capacity.Bytes(vg.Available)).Floor(extent)
	return g
}

func (g *reportedGroup) addSnapshot(node string, v *v1alpha1.LogicalVolume) {
	place := driver.SnapshotPlace{
		Node: slim.Once(node), Kind: volume.LVM, Group: g.about.Name, Volume: v.SourceVolumeID, Size: capacity.Bytes(v.SourceSize),
		Space: capacity.Bytes(v.Total), ReadOnly: v.RestoreReadOnly, Lost: v.Condition == v1alpha1.StorageFault,
	}
	if v.CreatedAt != nil {
		place.Created = v.CreatedAt.Time
	}
	if g.snapshots == nil {
		g.snapshots = map[string]driver.SnapshotPlace{}
	}
	g.snapshots[v.SnapshotID] = place
}

// mediaOf returns what all the devices are made of, or "" when they differ.
func mediaOf(devices []string, media map[string]capacity.Media) capacity.Media {
	var all capacity.Media
	for i, device := range devices {
		if i > 0 && media[device] != all {
			return ""
		}
		all = media[device]
	}
	return all
}

// capacity returns what the managed groups, and the devices and mount points that are
// offered, still have to give.
func (r *report) capacity() capacity.Node {
	node := capacity.Node{Name: r.Key()}
	for i := range r.groups {
		if g := r.groups[i].about; r.groups[i].managed {
			g.Free = r.groups[i].left
			g.Disks = capacity.NewDisks(g.Free, r.groups[i].disks)
			node.Groups = append(node.Groups, g)
		}
	}
	for _, w := range r.wholes {
		node.Groups = append(node.Groups, w.group())
	}
	slices.SortFunc(node.Groups, func(a, b capacity.Group) int { return strings.Compare(a.Name, b.Name) })
	return node
}

// places calls each with the volumes of ours, until it returns false.
func (r *report) places(each func(id string, place driver.Place) bool) {
	for i := range r.groups {
		g := &r.groups[i]
		for _, v := range g.volumes {
			if !each(v.handle, driver.Place{Node: r.Key(), Kind: volume.LVM, Group: g.about.Name, Size: v.size}) {
				return
			}
		}
	}
	for _, w := range r.wholes {
		if w.owner != "" && !each(w.owner, driver.Place{Node: r.Key(), Kind: w.kind, Identity: w.id, Path: w.path, Size: w.size}) {
			return
		}
	}
}

// place returns where the volume is; of two groups that have it, the last.
func (r *report) place(id string) (found driver.Place, has bool) {
	for place, at := range r.places {
		if place == id {
			found, has = at, true
		}
	}
	return found, has
}

// snapshot returns a snapshot; of two groups that have it, that of the last.
func (r *report) snapshot(id string) (found driver.SnapshotPlace, has bool) {
	for i := range r.groups {
		if place, there := r.groups[i].snapshots[id]; there {
			found, has = place, true
		}
	}
	return found, has
}

// handles returns the volumes in the report.
func (r *report) handles() []string {
	var all []string
	for id := range r.places {
		all = append(all, id)
	}
	return all
}

// snapshotHandles returns the snapshots in the report.
func (r *report) snapshotHandles() []string {
	var all []string
	for i := range r.groups {
		all = slices.AppendSeq(all, maps.Keys(r.groups[i].snapshots))
	}
	return all
}
