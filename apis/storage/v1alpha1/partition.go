package v1alpha1

import (
	"slices"
	"strings"
)

// partitionID is in who a partition is, and in who nothing else is.
const partitionID = "partuuid-"

// IsPartition reports whether the device is a part of another. One that does not say who it
// is may be one, and is not offered.
func (d *DeviceInfo) IsPartition() bool {
	return strings.HasPrefix(d.ID, partitionID) || strings.Contains(d.ID, "-"+partitionID)
}

// OnPartition reports whether a file system lies on a part of a disk. Of a device that does
// not say who it is, or is not reported, its name tells.
func (i *NodeStorageInfo) OnPartition(m *MountPoint) bool {
	for j := range i.DeviceInfos {
		if d := &i.DeviceInfos[j]; d.Name == m.Device && d.ID != "" {
			return d.IsPartition()
		}
	}
	return slices.ContainsFunc(i.DeviceInfos, func(d DeviceInfo) bool { return PartOf(m.Device, d.Name) })
}

// PartOf reports whether a path is that of a partition of the disk: /dev/sda1 is one of
// /dev/sda, and /dev/nvme0n1p1 of /dev/nvme0n1.
func PartOf(path, disk string) bool {
	suffix, begins := strings.CutPrefix(path, disk)
	if !begins || disk == "" {
		return false
	}
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		if suffix, begins = strings.CutPrefix(suffix, "p"); !begins {
			return false
		}
	}
	return suffix != "" && strings.Trim(suffix, "0123456789") == ""
}
