package directory

import (
	"slices"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

// A whole is a device, or a mounted file system, in a report.
type whole struct {
	kind    volume.Kind
	path    string
	id      string // who it is
	owner   string // the handle of the volume that has it; or empty
	size    capacity.Bytes
	media   volume.Media
	offered bool // the agent offers it
	trouble string
	// partition says that it is a part of a disk, or lies on one.
	partition bool
}

// wholesOf returns the devices and mount points of a report that are offered or that
// volumes have. The agent offers what is safe to give.
func wholesOf(nls *v1alpha1.NodeLocalStorage, media map[string]capacity.Media) []whole {
	info, offered := &nls.Status.NodeStorageInfo, &nls.Status.FilteredStorageInfo
	var wholes []whole
	for i := range info.DeviceInfos {
		d := &info.DeviceInfos[i]
		w := whole{kind: volume.Device, path: slim.Once(d.Name), id: d.ID, owner: d.VolumeID, size: capacity.Bytes(d.Total), media: media[d.Name]}
		w.offered, w.trouble = slices.Contains(offered.Devices, d.Name), faultOf(d.Condition)
		w.partition = d.IsPartition()
		wholes = append(wholes, w)
	}
	for i := range info.MountPoints {
		m := &info.MountPoints[i]
		w := whole{kind: volume.MountPoint, path: slim.Once(m.Name), id: m.ID, owner: m.VolumeID, size: capacity.Bytes(m.Total), media: media[m.Device]}
		w.offered, w.trouble = slices.Contains(offered.MountPoints, m.Name), faultOf(m.Condition)
		w.partition = info.OnPartition(m)
		wholes = append(wholes, w)
	}
	return slices.DeleteFunc(wholes, func(w whole) bool { return !w.offered && w.owner == "" })
}

func faultOf(condition v1alpha1.StorageStateType) string {
	if condition == v1alpha1.StorageFault {
		return string(condition)
	}
	return ""
}

// group is w as it is placed.
func (w whole) group() capacity.Group {
	g := capacity.Group{Name: w.path, Kind: w.kind.Lies(), Size: w.size, Free: w.size, Media: w.media, Trouble: w.trouble, Partition: w.partition}
	if w.owner != "" {
		g.Free = 0
	}
	return g
}
