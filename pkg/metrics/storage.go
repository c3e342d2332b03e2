package metrics

import (
	"iter"
	"slices"
	"strings"
)

// A Snapshot is what all nodes have at one moment. Sizes are bytes.
type Snapshot struct {
	Groups      []Group
	MountPoints []Whole
	Devices     []Whole
	Volumes     iter.Seq[Volume]
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

// A Volume is a PersistentVolume of ours.
type Volume struct {
	Node, Name, Type, Claim, Namespace, Status, Storage string
}

// An Inline is an inline volume of a pod that has landed.
type Inline struct {
	Pod, Namespace, Node, Group, Name string
}

// A sample is the value of a gauge, with the values of its labels.
type sample func(value float64, labels ...string)

// gauges are those of a Snapshot as dashboards know them, ordered by name.
var gauges = []struct {
	name, help, labels string // the labels apart by blanks
	of                 func(Snapshot, sample)
}{
	{"local_allocated_num", "Volumes on the node, those promised included.", "nodename", func(now Snapshot, is sample) {
		for node, volumes := range now.Allocated {
			is(float64(volumes), node)
		}
	}},
	{"local_device_available", "Bytes of the managed device that can be handed out.", "name nodename type", func(now Snapshot, is sample) {
		for _, w := range now.Devices {
			is(w.Available, w.Name, w.Node, w.Type)
		}
	}},
	{"local_device_bind", "1 when the managed device is a volume.", "name nodename", func(now Snapshot, is sample) {
		for _, w := range now.Devices {
			is(number(w.Bound), w.Name, w.Node)
		}
	}},
	{"local_device_total", "Size of the managed device in bytes.", "name nodename type", func(now Snapshot, is sample) {
		for _, w := range now.Devices {
			is(w.Total, w.Name, w.Node, w.Type)
		}
	}},
	{"local_inline_volume", "1 for every inline volume of a pod on a node.", "nodename pod_name pod_namespace vgname volume_name", func(now Snapshot, is sample) {
		for _, i := range now.Inline {
			is(1, i.Node, i.Pod, i.Namespace, i.Group, i.Name)
		}
	}},
	{"local_local_pv", "1 for every PersistentVolume of the driver.", "nodename pv_name pv_type pvc_name pvc_ns status storage_name", func(now Snapshot, is sample) {
		for v := range now.Volumes {
			is(1, v.Node, v.Name, v.Type, v.Claim, v.Namespace, v.Status, v.Storage)
		}
	}},
	{"local_mount_point_available", "Bytes of the managed mount point that can be handed out.", "name nodename type", func(now Snapshot, is sample) {
		for _, w := range now.MountPoints {
			is(w.Available, w.Name, w.Node, w.Type)
		}
	}},
	{"local_mount_point_bind", "1 when the managed mount point is a volume.", "name nodename", func(now Snapshot, is sample) {
		for _, w := range now.MountPoints {
			is(number(w.Bound), w.Name, w.Node)
		}
	}},
	{"local_mount_point_total", "Size of the managed mount point in bytes.", "name nodename type", func(now Snapshot, is sample) {
		for _, w := range now.MountPoints {
			is(w.Total, w.Name, w.Node, w.Type)
		}
	}},
	{"local_volume_group_total", "Size of the managed volume group in bytes.", "nodename vgname", func(now Snapshot, is sample) {
		for _, g := range now.Groups {
			is(g.Total, g.Node, g.Name)
		}
	}},
	{"local_volume_group_used", "Bytes of the managed volume group that are taken, promised, reserved or somebody else's.", "nodename vgname", func(now Snapshot, is sample) {
		for _, g := range now.Groups {
			is(g.Used, g.Node, g.Name)
		}
	}},
}

// write writes the gauges of a Snapshot.
func (now Snapshot) write(to *text) {
	if now.Volumes == nil {
		now.Volumes = slices.Values([]Volume(nil))
	}
	for _, g := range gauges {
		first, labels := true, strings.Fields(g.labels)
		g.of(now, func(value float64, values ...string) {
			if first {
				to.head(g.name, g.help)
				first = false
			}
			to.gauge(g.name, labels, values, value)
		})
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
