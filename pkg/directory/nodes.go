package directory

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
)

// Names returns the nodes that have a report, ordered.
func (d *Directory) Names() []string {
	names := d.reports.GetStore().ListKeys()
	slices.Sort(names)
	return names
}

// Capacity returns what volumes may still take on the node: what its report says
// less what was made since. What was removed counts when it is reported: not before the
// extender knows as well, which would refuse the pods that kube-scheduler tries again. It is false for a node that has no report or cannot be
// reached.
func (d *Directory) Capacity(name string) (capacity.Node, bool) {
	obj, ok, _ := d.reports.GetStore().GetByKey(name)
	nls, isReport := obj.(*v1alpha1.NodeLocalStorage)
	if !ok || !isReport {
		return capacity.Node{}, false
	}
	if _, err := d.address(name); err != nil {
		return capacity.Node{}, false
	}
	node := capacityOf(nls)
	d.mu.Lock()
	defer d.mu.Unlock()
	if made := d.made.on[name]; len(made) > 0 {
		there := placesIn(nls)
		for id, place := range made {
			if _, reported := there[id]; reported {
				d.made.remove(id)
			} else if group := node.Group(place.Group); group != nil && place.Snapshot == "" {
				group.Free = max(0, group.Free-place.Size)
			}
		}
	}
	d.lessSnapshots(&node, nls)
	return node, true
}

// capacityOf returns what the managed groups of a report still have to give.
func capacityOf(nls *v1alpha1.NodeLocalStorage) capacity.Node {
	node := capacity.Node{Name: nls.Name}
	media := map[string]capacity.Media{}
	for _, disk := range nls.Status.NodeStorageInfo.DeviceInfos {
		media[disk.Name] = capacity.Media(disk.MediaType)
	}
	for _, group := range nls.Status.NodeStorageInfo.VolumeGroups {
		if !slices.Contains(nls.Status.FilteredStorageInfo.VolumeGroups, group.Name) {
			continue
		}
		left := capacity.Bytes(group.Allocatable)
		for _, v := range group.LogicalVolumes {
			if v.Ours() {
				left -= capacity.Bytes(v.Total)
			}
		}
		extent := capacity.Bytes(group.ExtentSize)
		if extent <= 0 {
			extent = capacity.DefaultExtent
		}
		g := capacity.Group{
			Name: group.Name, Size: capacity.Bytes(group.Allocatable), Extent: extent,
			Free: min(left, capacity.Bytes(group.Available)).Floor(extent), Media: mediaOf(group.PhysicalVolumes, media),
		}
		disks := make([]capacity.Bytes, len(group.PhysicalVolumesAvailable))
		for i, free := range group.PhysicalVolumesAvailable {
			disks[i] = capacity.Bytes(free)
		}
		g.Disks = capacity.NewDisks(g.Free, disks)
		if group.Condition == v1alpha1.StorageFault {
			g.Trouble = string(group.Condition)
		}
		node.Groups = append(node.Groups, g)
	}
	slices.SortFunc(node.Groups, func(a, b capacity.Group) int { return strings.Compare(a.Name, b.Name) })
	return node
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

// Connect returns the client of the node. It does not connect yet.
func (d *Directory) Connect(name string) (driver.RemoteNode, error) {
	address, err := d.address(name)
	if err != nil {
		return nil, err
	}
	return d.o.Dial(address)
}

// address returns where a node that is ready answers.
func (d *Directory) address(name string) (string, error) {
	obj, ok, _ := d.node.GetStore().GetByKey(name)
	node, isNode := obj.(*corev1.Node)
	switch {
	case !ok || !isNode:
		return "", fmt.Errorf("node %q is not in the cluster: %w", name, driver.ErrNodeUnavailable)
	case !ready(node):
		return "", fmt.Errorf("node %q is not ready: %w", name, driver.ErrNodeUnavailable)
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(address.Address, strconv.Itoa(d.o.NodePort)), nil
		}
	}
	return "", fmt.Errorf("node %q has no internal address: %w", name, driver.ErrNodeUnavailable)
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
