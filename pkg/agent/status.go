package agent

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
)

// describe returns the status that says what was seen: of nls it uses the spec
// and the annotations. driver says which volumes are ours, and missing names groups
// that were here and are gone. Times are left out, for two descriptions of the same
// node to be equal. The second result is what is wrong with the spec and the
// annotation themselves.
func describe(seen sighting, nls *v1alpha1.NodeLocalStorage, driver string, missing []string) (v1alpha1.NodeLocalStorageStatus, []initplan.Problem) {
	selectors, badLists := initplan.NewSelectors(nls.Spec.ListConfig)
	reserved, badReservations := initplan.ParseReservations(nls.Annotations[v1alpha1.AnnotationStorageReserved], seen.groupNames())

	info := v1alpha1.NodeStorageInfo{Phase: v1alpha1.NodeStorageRunning}
	for _, d := range seen.disks {
		info.DeviceInfos = append(info.DeviceInfos, describeDisk(d, seen.unoffered(d, selectors.Devices)))
	}
	for _, g := range seen.lvm.Groups {
		group := describeGroup(g, driver, reserved[g.Name])
		group.MissingPhysicalVolumes = seen.missing(g, nls.Status.NodeStorageInfo)
		if seen.ambiguous(g.Name) {
			group.Condition, group.Allocatable = v1alpha1.StorageFault, 0
		}
		info.VolumeGroups = append(info.VolumeGroups, group)
	}
	for _, name := range missing { // remembered until it is back or made anew
		info.VolumeGroups = append(info.VolumeGroups, v1alpha1.VolumeGroup{
			Name: name, Condition: v1alpha1.StorageFault, LogicalVolumes: seen.lostVolumes(name, nls.Status.NodeStorageInfo),
		})
	}
	known := knownMounts(nls.Name, nls.Status.NodeStorageInfo.MountPoints)
	for _, m := range seen.mounts {
		described := describeMount(m, selectors.MountPoints)
		if described.ID == "" && slices.Contains(known, m.Target) { // not to be forgotten because it cannot be read
			described.ID = fsID + initplan.FileSystemUUID(nls.Name, m.Target)
		}
		info.MountPoints = append(info.MountPoints, described)
	}
	info.MountPoints = append(info.MountPoints, seen.lostMounts(nls)...)
	slices.SortStableFunc(info.MountPoints, byName(func(m v1alpha1.MountPoint) string { return m.Name }))
	slices.SortStableFunc(info.VolumeGroups, byName(func(g v1alpha1.VolumeGroup) string { return g.Name }))

	status := v1alpha1.NodeLocalStorageStatus{NodeStorageInfo: info, FilteredStorageInfo: filter(info, selectors)}
	status.FilteredStorageInfo.UpdateStatus = updateStatus(badLists)
	status.NodeStorageInfo.State = state(info, status.FilteredStorageInfo.VolumeGroups)
	return status, slices.Concat(badLists, badReservations, seen.ofDevices(selectors.Devices))
}

func describeDisk(d disk, unoffered initplan.Objection) v1alpha1.DeviceInfo {
	info := v1alpha1.DeviceInfo{
		Name: d.Path, MediaType: d.MediaType(), Total: int64(d.Size), ReadOnly: d.ReadOnly, Condition: v1alpha1.StorageReady,
		ID: d.ID, WWN: d.WWN, Serial: d.Serial, Model: d.Model, Reason: unoffered.Reason, Message: cut(unoffered.Message, maxEvent),
		Contents: d.contents, VolumeID: d.volume,
	}
	unwell := []string{blockdev.IsFailing, notInspected}
	if slices.Contains(unwell, unoffered.Reason) || d.volume != "" && slices.Contains(append(unwell, blockdev.IsReadOnly), d.sick.Reason) {
		info.Condition = v1alpha1.StorageFault
	}
	return info
}

// describeGroup counts what others have taken as all that is taken less what ours
// take, so what LVM hides (the metadata of mirrors and pools, the space of
// snapshots) is counted too.
func describeGroup(g lvm.Group, driver string, reserved initplan.Reservation) v1alpha1.VolumeGroup {
	group := v1alpha1.VolumeGroup{
		Name: g.Name, Total: int64(g.Size), Available: int64(g.Free), ExtentSize: int64(g.Extent),
		Condition: v1alpha1.StorageReady,
	}
	for _, pv := range slices.SortedFunc(slices.Values(g.PhysicalVolumes), byName(func(pv lvm.PhysicalVolume) string { return pv.Device })) {
		if pv.Device == "" {
			continue
		}
		group.PhysicalVolumes = append(group.PhysicalVolumes, pv.Device)
		if !pv.Allocatable {
			pv.Free = 0
		}
		group.PhysicalVolumesAvailable = append(group.PhysicalVolumesAvailable, int64(pv.Free))
	}

	var ours capacity.Bytes
	for _, v := range g.Volumes {
		described := describeVolume(v, g, driver)
		if described.Ours() {
			ours += v.Size
		}
		group.LogicalVolumes = append(group.LogicalVolumes, described)
	}
	slices.SortFunc(group.LogicalVolumes, byName(func(v v1alpha1.LogicalVolume) string { return v.Name }))

	if g.Partial || g.Exported {
		group.Condition = v1alpha1.StorageFault
		return group
	}
	others := max(0, g.Size-g.Free-ours)
	group.Allocatable = int64(max(0, g.Size-others-reserved.Of(g.Size)))
	return group
}

// lostVolumes returns what was last reported of the volumes in a group that is missing. They
// are not gone: whoever is to delete a snapshot of which nothing else tells must know that
// it may come back. Those that are in another group by now are not in this one.
func (s sighting) lostVolumes(group string, before v1alpha1.NodeStorageInfo) []v1alpha1.LogicalVolume {
	var lost []v1alpha1.LogicalVolume
	for _, g := range before.VolumeGroups {
		if g.Name == group {
			lost = append(lost, g.LogicalVolumes...)
		}
	}
	return slices.DeleteFunc(lost, func(v v1alpha1.LogicalVolume) bool {
		return slices.ContainsFunc(s.lvm.Groups, func(g lvm.Group) bool { _, is := g.Volume(v.Name); return is })
	})
}

func describeMount(m fileSystem, selector initplan.Selector) v1alpha1.MountPoint {
	unoffered := m.refused
	if unoffered.Reason == noReason && !selector.Matches(m.Target) {
		unoffered = initplan.Objection{Reason: notSelected, Message: selectedNowhere + "mountPoints"}
	}
	return v1alpha1.MountPoint{
		Name: m.Target, Total: int64(m.total), Available: int64(m.available), FsType: m.FSType,
		IsBind: m.Root != "/", Options: m.Options, Device: m.Source, ReadOnly: m.ReadOnly(), Condition: v1alpha1.StorageReady,
		ID: m.id, Reason: unoffered.Reason, Message: cut(unoffered.Message, maxEvent), VolumeID: m.volume,
	}
}

// filter names what may be handed out: what the lists select and is in order.
func filter(info v1alpha1.NodeStorageInfo, selectors initplan.Selectors) v1alpha1.FilteredStorageInfo {
	var groups, mounts, devices []string
	for _, g := range info.VolumeGroups {
		if g.Condition == v1alpha1.StorageReady {
			groups = append(groups, g.Name)
		}
	}
	for _, m := range info.MountPoints {
		if m.Reason == noReason {
			mounts = append(mounts, m.Name)
		}
	}
	for _, d := range info.DeviceInfos {
		if d.Reason == noReason {
			devices = append(devices, d.Name)
		}
	}
	return v1alpha1.FilteredStorageInfo{
		VolumeGroups: selectors.Groups.Select(groups),
		MountPoints:  mounts,
		Devices:      devices,
	}
}

func updateStatus(problems []initplan.Problem) v1alpha1.UpdateStatusInfo {
	if len(problems) == 0 {
		return v1alpha1.UpdateStatusInfo{Status: v1alpha1.UpdateAccepted}
	}
	return v1alpha1.UpdateStatusInfo{Status: v1alpha1.UpdateFailed, Reason: sentence(problems)}
}

// state sums up: a fault of any group comes before managed groups that are full.
func state(info v1alpha1.NodeStorageInfo, managed []string) v1alpha1.StorageState {
	var faulty []string
	full := len(managed) > 0
	for _, g := range info.VolumeGroups {
		if g.Condition == v1alpha1.StorageFault {
			faulty = append(faulty, g.Name)
		}
		if slices.Contains(managed, g.Name) && g.Available >= max(1, g.ExtentSize) {
			full = false
		}
	}
	faulty = slices.Compact(faulty) // they are ordered
	s := v1alpha1.StorageState{Type: v1alpha1.StorageReady, Status: metav1.ConditionTrue}
	switch {
	case len(faulty) > 0:
		s.Type, s.Reason = v1alpha1.StorageFault, "GroupFault"
		s.Message = fmt.Sprintf("missing, partial, exported or ambiguous volume groups: %q", faulty)
	case full:
		s.Type, s.Reason = v1alpha1.StorageFull, "GroupsFull"
		s.Message = "no managed volume group has an extent left"
	}
	return s
}
