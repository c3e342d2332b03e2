package extender

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/metrics"
	"github.com/open-local/open-local/pkg/slim"
)

// A reportRecord is what is kept of a NodeLocalStorage.
type reportRecord struct {
	slim.Meta
	looked    bool          // the agent has looked, and has not stopped
	says      ledger.Report // what it saw
	snapshots []reportedSnapshot
	totals    []groupTotal // of the volume groups
	// mounts and devices are those that the agent manages, for dashboards; whether they
	// are bound is not in it.
	mounts, devices []metrics.Whole
	// identities says who the devices and file systems are, by path; nil where there are
	// none.
	identities map[string]string
}

// A reportedSnapshot is a snapshot of ours in a report.
type reportedSnapshot struct {
	handle   string
	readOnly bool // claims made of it show it itself
}

type groupTotal struct {
	name  string
	total int64 // bytes
}

// reportOf returns what is kept of a report.
func reportOf(nls *v1alpha1.NodeLocalStorage) *reportRecord {
	r := &reportRecord{Meta: slim.MetaOf(nls)}
	info := &nls.Status.NodeStorageInfo
	r.looked = info.Phase == v1alpha1.NodeStorageRunning || (info.Phase == "" && len(info.VolumeGroups) > 0)
	// Resource versions of one kind can be compared; one that is no number is never old.
	r.says.Version, _ = strconv.ParseUint(nls.ResourceVersion, 10, 64)
	r.says.Groups = make([]ledger.Group, 0, len(info.VolumeGroups))
	for i := range info.VolumeGroups {
		g := &info.VolumeGroups[i]
		r.says.Groups = append(r.says.Groups, groupOf(g, nls))
		r.totals = append(r.totals, groupTotal{slim.Once(g.Name), g.Total})
		for j := range g.LogicalVolumes {
			if lv := &g.LogicalVolumes[j]; lv.SnapshotID != "" {
				r.snapshots = append(r.snapshots, reportedSnapshot{lv.SnapshotID, lv.RestoreReadOnly})
			}
		}
	}
	r.says.Groups = append(r.says.Groups, wholesOf(nls)...)
	r.identities = identitiesOf(nls)
	r.mounts, r.devices = wholeMetrics(nls)
	return r
}

// snapshot returns a snapshot in the report.
func (r *reportRecord) snapshot(handle string) (reportedSnapshot, bool) {
	for _, s := range r.snapshots {
		if s.handle == handle {
			return s, true
		}
	}
	return reportedSnapshot{}, false
}

// snapshotHandles returns the handles of the snapshots in the report.
func (r *reportRecord) snapshotHandles() []string {
	var handles []string
	for _, s := range r.snapshots {
		handles = append(handles, s.handle)
	}
	return handles
}

func groupOf(g *v1alpha1.VolumeGroup, nls *v1alpha1.NodeLocalStorage) ledger.Group {
	group := ledger.Group{
		Name:        slim.Once(g.Name),
		Managed:     slices.Contains(nls.Status.FilteredStorageInfo.VolumeGroups, g.Name),
		Allocatable: capacity.Bytes(g.Allocatable),
		Available:   capacity.Bytes(g.Available),
		Extent:      capacity.Bytes(g.ExtentSize),
		Media:       mediaOf(g, nls.Status.NodeStorageInfo.DeviceInfos),
		Volumes:     make([]ledger.Volume, len(g.LogicalVolumes)),
		Disks:       make([]capacity.Bytes, len(g.PhysicalVolumesAvailable)),
	}
	for i, free := range g.PhysicalVolumesAvailable {
		group.Disks[i] = capacity.Bytes(free)
	}
	if group.Extent <= 0 {
		group.Extent = capacity.DefaultExtent
	}
	if g.Condition == v1alpha1.StorageFault {
		group.Trouble = string(g.Condition)
	}
	for i := range g.LogicalVolumes {
		lv := &g.LogicalVolumes[i]
		group.Volumes[i] = ledger.Volume{Name: lv.Name, Size: capacity.Bytes(lv.Total), Ours: lv.Ours()}
	}
	return group
}

// mediaOf returns what all devices of the group are made of, or "" when they differ or
// the report does not say.
func mediaOf(g *v1alpha1.VolumeGroup, devices []v1alpha1.DeviceInfo) capacity.Media {
	var media string
	for i, pv := range g.PhysicalVolumes {
		of := mediaOfDevice(pv, devices)
		if of == "" || (i > 0 && of != media) {
			return ""
		}
		media = of
	}
	return slim.Once(capacity.Media(media))
}

// mediaOfDevice looks for the device, or the disk that it is a partition of.
func mediaOfDevice(path string, devices []v1alpha1.DeviceInfo) string {
	var best *v1alpha1.DeviceInfo
	for i := range devices {
		d := &devices[i]
		if d.Name != "" && strings.HasPrefix(path, d.Name) && partition(path[len(d.Name):]) &&
			(best == nil || len(d.Name) > len(best.Name)) {
			best = d
		}
	}
	if best == nil {
		return ""
	}
	return best.MediaType
}

// partition reports whether suffix is what a partition's name has beyond its disk's:
// nothing, "1", or "p1".
func partition(suffix string) bool {
	return strings.Trim(strings.TrimPrefix(suffix, "p"), "0123456789") == ""
}
