package extender

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// reportOf returns what the node's agent reported, and false when it has not looked
// yet or has stopped.
func reportOf(nls *v1alpha1.NodeLocalStorage) (ledger.Report, bool) {
	info := &nls.Status.NodeStorageInfo
	looked := info.Phase == v1alpha1.NodeStorageRunning || (info.Phase == "" && len(info.VolumeGroups) > 0)
	if !looked {
		return ledger.Report{}, false
	}
	// Resource versions of one kind can be compared; one that is no number is never old.
	version, _ := strconv.ParseUint(nls.ResourceVersion, 10, 64)
	report := ledger.Report{Version: version, Groups: make([]ledger.Group, 0, len(info.VolumeGroups))}
	for i := range info.VolumeGroups {
		report.Groups = append(report.Groups, groupOf(&info.VolumeGroups[i], nls))
	}
	report.Groups = append(report.Groups, wholesOf(nls)...)
	return report, true
}

func groupOf(g *v1alpha1.VolumeGroup, nls *v1alpha1.NodeLocalStorage) ledger.Group {
	group := ledger.Group{
		Name:        g.Name,
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
	return capacity.Media(media)
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

// shownSnapshot is the attribute of a volume that shows a snapshot.
const shownSnapshot = "csi.aliyun.com/snapshot"

// A placed volume is a PersistentVolume of ours as the ledger counts it.
type placed struct {
	name string // of the logical volume
	node string
	kind volume.Kind
	path string // of a mount point or a device
	spot capacity.Spot
	// shows says that it shows a snapshot and takes no room of its own.
	shows bool
}

// placedBy returns what a PersistentVolume of our driver says, and false when it is not
// one or lies nowhere in particular.
func placedBy(driver string, pv *corev1.PersistentVolume) (placed, bool) {
	if pv.Spec.CSI == nil || pv.Spec.CSI.Driver != driver {
		return placed{}, false
	}
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	attributes := pv.Spec.CSI.VolumeAttributes
	p := placed{
		name: volume.NameOf(pv.Spec.CSI.VolumeHandle),
		node: nodeOf(pv),
		kind: volume.Kind(attributes["volumeType"]),
		spot: capacity.Spot{Group: attributes["vgName"], Size: capacity.Bytes(size.Value())},
	}
	p.shows = attributes[shownSnapshot] != ""
	p.path = attributes[string(p.kind)] // "MountPoint" and "Device" are keys as well
	if p.path != "" {
		p.spot.Group = p.path
	}
	return p, p.node != ""
}

// nodeOf returns the one node that the volume's affinity allows, or "".
func nodeOf(pv *corev1.PersistentVolume) string {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, want := range term.MatchExpressions {
			if want.Key == volume.TopologyKey && want.Operator == corev1.NodeSelectorOpIn && len(want.Values) == 1 {
				return want.Values[0]
			}
		}
	}
	return ""
}
