package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// A Snapshot is what all nodes have at one moment. Sizes are bytes.
type Snapshot struct {
	Groups      []Group
	MountPoints []Whole
	Devices     []Whole
	Inline      []Inline
	Allocated   map[string]int // volumes, by node
}

// A Group is a managed volume group.
type Group struct {
	Node, Name  string
	Total, Used float64
}

// A Whole is a mount point or a device, which is handed out whole.
type Whole struct {
	Node, Name, Type string
	Total, Available float64
	Bound            bool
}

// An Inline is an inline volume of a pod that has landed.
type Inline struct {
	Pod, Namespace, Node, Group, Name string
}

// storage collects a Snapshot at every scrape.
type storage struct{ snapshot func() Snapshot }

// NewStorage returns a collector that asks for a snapshot at every scrape.
func NewStorage(snapshot func() Snapshot) prometheus.Collector { return &storage{snapshot} }

// describe names a gauge as dashboards know it.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("local_"+name, help, labels, nil)
}

var (
	groupTotal = describe("volume_group_total", "Size of the managed volume group in bytes.", "nodename", "vgname")
	groupUsed  = describe("volume_group_used", "Bytes of the managed volume group that are taken, promised, reserved or somebody else's.", "nodename", "vgname")
	mountTotal = describe("mount_point_total", "Size of the managed mount point in bytes.", "nodename", "name", "type")
	mountAvail = describe("mount_point_available", "Bytes of the managed mount point that can be handed out.", "nodename", "name", "type")
	mountBound = describe("mount_point_bind", "1 when the managed mount point is a volume.", "nodename", "name")
	diskTotal  = describe("device_total", "Size of the managed device in bytes.", "nodename", "name", "type")
	diskAvail  = describe("device_available", "Bytes of the managed device that can be handed out.", "nodename", "name", "type")
	diskBound  = describe("device_bind", "1 when the managed device is a volume.", "nodename", "name")
	allocated  = describe("allocated_num", "Volumes on the node, those promised included.", "nodename")
	inlineInfo = describe("inline_volume", "1 for every inline volume of a pod on a node.",
		"pod_name", "pod_namespace", "nodename", "vgname", "volume_name")
)

// Describe implements prometheus.Collector.
func (s *storage) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		groupTotal, groupUsed, mountTotal, mountAvail, mountBound, diskTotal, diskAvail, diskBound,
		allocated, inlineInfo,
	} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (s *storage) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	now := s.snapshot()
	for _, g := range now.Groups {
		gauge(groupTotal, g.Total, g.Node, g.Name)
		gauge(groupUsed, g.Used, g.Node, g.Name)
	}
	for _, w := range now.MountPoints {
		gauge(mountTotal, w.Total, w.Node, w.Name, w.Type)
		gauge(mountAvail, w.Available, w.Node, w.Name, w.Type)
		gauge(mountBound, number(w.Bound), w.Node, w.Name)
	}
	for _, w := range now.Devices {
		gauge(diskTotal, w.Total, w.Node, w.Name, w.Type)
		gauge(diskAvail, w.Available, w.Node, w.Name, w.Type)
		gauge(diskBound, number(w.Bound), w.Node, w.Name)
	}
	for _, i := range now.Inline {
		gauge(inlineInfo, 1, i.Pod, i.Namespace, i.Node, i.Group, i.Name)
	}
	for node, volumes := range now.Allocated {
		gauge(allocated, float64(volumes), node)
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
