package extender

import (
	"slices"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

// wholesOf returns the disks and file systems of a report, each of which one volume may
// have. The agent offers what is safe to give; of what overlaps, such as a disk and its
// partitions, no two are given here even if a report should offer them.
func wholesOf(nls *v1alpha1.NodeLocalStorage) []ledger.Group {
	info, managed := &nls.Status.NodeStorageInfo, &nls.Status.FilteredStorageInfo
	wholes := make([]ledger.Group, 0, len(managed.Devices)+len(managed.MountPoints))
	for i := range info.DeviceInfos {
		d := &info.DeviceInfos[i]
		g := whole(capacity.Device, d.Name, d.Total, d.VolumeID)
		g.Managed = slices.Contains(managed.Devices, d.Name) && !overlapped(d, info)
		g.Media, g.Partition = slim.Once(capacity.Media(d.MediaType)), d.IsPartition()
		g.Trouble = troubleOf(d.VolumeID, d.Reason, d.ReadOnly, d.Condition)
		wholes = append(wholes, g)
	}
	for i := range info.MountPoints {
		m := &info.MountPoints[i]
		g := whole(capacity.MountPoint, m.Name, m.Total, m.VolumeID)
		g.Managed = slices.Contains(managed.MountPoints, m.Name)
		g.Media, g.Partition = slim.Once(capacity.Media(mediaOfDevice(m.Device, info.DeviceInfos))), info.OnPartition(m)
		g.Trouble = troubleOf(m.VolumeID, m.Reason, m.ReadOnly, m.Condition)
		wholes = append(wholes, g)
	}
	return slices.DeleteFunc(wholes, func(g ledger.Group) bool { return !g.Managed && len(g.Volumes) == 0 })
}

// identitiesOf returns who the devices and file systems are that are offered, by path.
func identitiesOf(nls *v1alpha1.NodeLocalStorage) map[string]string {
	info, managed := &nls.Status.NodeStorageInfo, &nls.Status.FilteredStorageInfo
	if len(managed.Devices)+len(managed.MountPoints) == 0 {
		return nil
	}
	identities := map[string]string{}
	for i := range info.DeviceInfos {
		if d := &info.DeviceInfos[i]; slices.Contains(managed.Devices, d.Name) {
			identities[slim.Once(d.Name)] = d.ID
		}
	}
	for i := range info.MountPoints {
		if m := &info.MountPoints[i]; slices.Contains(managed.MountPoints, m.Name) {
			identities[slim.Once(m.Name)] = m.ID
		}
	}
	return identities
}

func whole(kind capacity.Kind, name string, total int64, owner string) ledger.Group {
	g := ledger.Group{Name: slim.Once(name), Kind: kind, Allocatable: capacity.Bytes(total), Available: capacity.Bytes(total)}
	if owner != "" {
		g.Volumes = []ledger.Volume{{Name: volume.NameOf(owner), Size: g.Allocatable, Ours: true}}
	}
	return g
}

// troubleOf returns why nothing new may be put there. That a volume has it is no trouble.
func troubleOf(owner, reason string, readOnly bool, condition v1alpha1.StorageStateType) string {
	switch {
	case condition == v1alpha1.StorageFault:
		return string(condition)
	case owner != "":
		return ""
	case reason == "" && readOnly:
		return "ReadOnly"
	}
	return reason
}

// overlapped reports whether another device or file system of the node is on d, or d is
// part of one that a volume has.
func overlapped(d *v1alpha1.DeviceInfo, info *v1alpha1.NodeStorageInfo) bool {
	for i := range info.DeviceInfos {
		other := &info.DeviceInfos[i]
		if v1alpha1.PartOf(other.Name, d.Name) || (v1alpha1.PartOf(d.Name, other.Name) && other.VolumeID != "") {
			return true
		}
	}
	return slices.ContainsFunc(info.MountPoints, func(m v1alpha1.MountPoint) bool {
		return m.Device == d.Name || v1alpha1.PartOf(m.Device, d.Name)
	})
}
