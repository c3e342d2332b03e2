package health

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/mounts"
)

// node is what a node has mounted, and the devices that are behind it.
type node struct {
	disk
	mountinfo string
	names     map[uint64]string // of LVM's devices
	files     map[string]uint64 // device files
	ours      map[string]string // handles by the names of volumes
	told      []string
}

func (n *node) Below(dir string) ([]mounts.Mount, error) {
	all, err := mounts.ParseMountinfo([]byte(n.mountinfo))
	return slices.DeleteFunc(all, func(m mounts.Mount) bool { return !strings.HasPrefix(m.Target, dir+"/") }), err
}

func (n *node) MappedName(number uint64) (string, error) { return n.names[number], nil }

func (n *node) Look(path string) (devfile.File, error) {
	return devfile.File{Device: n.files[path]}, nil
}

func (n *node) Handle(volume string) (string, bool) { id, ok := n.ours[volume]; return id, ok }

func (n *node) Abnormal(volume, reason, _ string) { n.told = append(n.told, volume+" "+reason) }

func (n *node) Normal(volume, _ string) { n.told = append(n.told, volume+" is well") }

const (
	staging   = "/kubelet/plugins/kubernetes.io/csi/local.csi.aliyun.com/0/globalmount"
	pod       = "/kubelet/pods/1/volumes/kubernetes.io~csi/local-a/mount"
	published = "/kubelet/plugins/kubernetes.io/csi/volumeDevices/publish/local-a/1"
)

func mapped(minor uint32) uint64 { return unix.Mkdev(253, minor) }

func TestVolumesInUseAreFoundFromWhatIsMounted(t *testing.T) {
	for name, tc := range map[string]struct {
		mountinfo string
		want      map[string]Subject
	}{
		"a file system, staged and published": {
			"1 1 253:3 / " + staging + " rw - ext4 /dev/mapper/pool-local--a rw\n2 1 253:3 / " + pod + " ro - ext4 /dev/mapper/pool-local--a rw\n",
			map[string]Subject{"local-a": {Device: mapped(3), Mount: pod, Written: true}},
		},
		"one that turned read-only": {
			"1 1 253:3 / " + staging + " rw - ext4 /dev/mapper/pool-local--a ro\n",
			map[string]Subject{"local-a": {Device: mapped(3), Mount: staging, Written: true, FrozenFS: true}},
		},
		"one that was mounted read-only": {
			"1 1 253:3 / " + staging + " ro - ext4 /dev/mapper/pool-local--a ro\n",
			map[string]Subject{"local-a": {Device: mapped(3), Mount: staging}},
		},
		"btrfs has a number of its own": {
			"1 1 0:77 / " + staging + " rw - btrfs /dev/mapper/pool-local--a rw\n",
			map[string]Subject{"local-a": {Device: mapped(3), Mount: staging, Written: true}},
		},
		"a block device": {
			"1 1 0:5 /dm-3 " + published + " rw - devtmpfs devtmpfs rw\n",
			map[string]Subject{"local-a": {Device: mapped(3), Written: true}},
		},
		"one whose device is gone": {
			"1 1 253:9 / " + staging + " rw - ext4 /dev/mapper/pool-local--a rw\n",
			map[string]Subject{"local-a": {Device: mapped(9), Mount: staging, Written: true}},
		},
		"one whose group was gone when the process began": {
			"1 1 253:9 / " + staging + " rw - ext4 /dev/mapper/pool-local--lost rw\n",
			map[string]Subject{"local-lost": {Device: mapped(9), Mount: staging, Written: true}},
		},
		"a volume of another driver":         {"1 1 253:4 / /kubelet/plugins/kubernetes.io/csi/other/0/globalmount rw - ext4 /dev/mapper/pool-other rw\n", map[string]Subject{}},
		"a pod's secret":                     {"1 1 0:5 / /kubelet/pods/1/volumes/kubernetes.io~secret/x rw - tmpfs tmpfs rw\n", map[string]Subject{}},
		"a disk of the node's own":           {"1 1 8:1 / /kubelet/disk rw - ext4 /dev/sda1 rw\n", map[string]Subject{}},
		"a volume of ours mounted elsewhere": {"1 1 253:3 / /mnt rw - ext4 /dev/mapper/pool-local--a rw\n", map[string]Subject{}},
		"a file that is not a device":        {"1 1 0:5 /null " + published + "2 rw - devtmpfs devtmpfs rw\n", map[string]Subject{}},
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{
				mountinfo: tc.mountinfo,
				names:     map[uint64]string{mapped(3): "pool-local--a", mapped(4): "pool-other"},
				files:     map[string]uint64{published: mapped(3), "/dev/mapper/pool-local--a": mapped(3)},
				ours:      map[string]string{"local-a": "local-a"},
			}
			got, err := finder{mounts: n, devices: n, known: n, kubelet: "/kubelet", driver: "local.csi.aliyun.com"}.find()
			if err != nil {
				t.Fatal(err)
			}
			for id, s := range got { // which of several paths does not matter
				if want := tc.want[id]; want.Mount != "" && s.Mount == staging {
					want.Mount = staging
					tc.want[id] = want
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamesOfMappedDevices(t *testing.T) {
	for name, want := range map[string][2]string{
		"pool-data": {"pool", "data"}, "open--local--pool--0-local--1--2": {"open-local-pool-0", "local-1-2"}, "a---b": {"a-", "b"},
		"pool": {}, "pool-": {}, "-data": {}, "": {}, "pool-data-real": {}, "pool--data": {},
	} {
		group, volume, ok := splitName(name)
		if group != want[0] || volume != want[1] || ok != (want[0] != "") {
			t.Errorf("%q is %q and %q, %t; want %q", name, group, volume, ok, want)
		}
	}
}

func TestAVolumeIsToldOfOnce(t *testing.T) {
	n := &node{
		mountinfo: "1 1 253:3 / " + staging + " rw - ext4 /dev/mapper/pool-local--a rw\n",
		names:     map[uint64]string{mapped(3): "pool-local--a"}, ours: map[string]string{"local-a": "local-a"},
	}
	registry := prometheus.NewRegistry()
	w, err := NewWatcher(Options{
		Examiner: NewExaminer(n, testingclock.NewFakeClock(time.Unix(0, 0))), Mounts: n, Devices: n, Known: n, Teller: n,
		KubeletDir: "/kubelet", Driver: "local.csi.aliyun.com", Registry: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	mount := n.mountinfo
	for _, step := range []struct {
		what   string
		change func()
		told   []string
		sick   map[string]float64
	}{
		{"it is well", func() {}, nil, map[string]float64{}},
		{"errors are found", func() { n.extErrors = 1 }, []string{"local-a FileSystemErrors"}, map[string]float64{"local-a FileSystemErrors": 1}},
		{"more are found", func() { n.extErrors = 2 }, nil, map[string]float64{"local-a FileSystemErrors": 1}},
		{"it is worse", func() { n.readErr = unix.EIO }, []string{"local-a ReadError"}, map[string]float64{"local-a ReadError": 1}},
		{"it is well again", func() { n.extErrors, n.readErr = 0, nil }, []string{"local-a is well"}, map[string]float64{}},
		{"its device is gone", func() { n.gone = true }, []string{"local-a DeviceGone"}, map[string]float64{"local-a DeviceGone": 1}},
		{"nobody uses it any more", func() { n.mountinfo = "" }, nil, map[string]float64{}},
		{"it is used again", func() { n.mountinfo, n.gone = mount, false }, nil, map[string]float64{}},
	} {
		step.change()
		n.told = nil
		if err := w.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.told, n.told); diff != "" {
			t.Errorf("%s: told (-want +got):\n%s", step.what, diff)
		}
		if diff := cmp.Diff(step.sick, series(t, registry)); diff != "" {
			t.Errorf("%s: metrics (-want +got):\n%s", step.what, diff)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// series returns what the gauge shows, by volume and reason.
func series(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "open_local_volume_abnormal" {
			t.Errorf("there is a metric %s", family.GetName())
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if diff := cmp.Diff([]string{"reason", "volume"}, slices.Sorted(maps.Keys(labels))); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			all[labels["volume"]+" "+labels["reason"]] = m.GetGauge().GetValue()
		}
	}
	return all
}
