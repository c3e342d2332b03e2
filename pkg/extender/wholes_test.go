package extender

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/ledger"
)

func TestWhatOfANodeIsGivenWhole(t *testing.T) {
	const total = 100 << 30
	device := func(name string, change ...func(*v1alpha1.DeviceInfo)) v1alpha1.DeviceInfo {
		d := v1alpha1.DeviceInfo{Name: name, MediaType: "ssd", Total: total}
		for _, c := range change {
			c(&d)
		}
		return d
	}
	of := func(owner string) func(*v1alpha1.DeviceInfo) {
		return func(d *v1alpha1.DeviceInfo) { d.VolumeID = owner }
	}
	free := func(kind capacity.Kind, name string) ledger.Group {
		return ledger.Group{Name: name, Kind: kind, Managed: true, Allocatable: total, Available: total, Media: "ssd"}
	}
	taken := func(g ledger.Group, by string) ledger.Group {
		g.Volumes = []ledger.Volume{{Name: by, Size: total, Ours: true}}
		return g
	}
	sick := func(g ledger.Group, trouble string) ledger.Group { g.Trouble = trouble; return g }
	unmanaged := func(g ledger.Group) ledger.Group { g.Managed = false; return g }
	for name, test := range map[string]struct {
		devices []v1alpha1.DeviceInfo
		mounts  []v1alpha1.MountPoint
		managed []string
		want    []ledger.Group
	}{
		"a managed disk, and one that is not": {
			devices: []v1alpha1.DeviceInfo{device("/dev/vdb"), device("/dev/vdc")}, managed: []string{"/dev/vdb"},
			want: []ledger.Group{free(capacity.Device, "/dev/vdb")},
		},
		"a disk that a volume has, managed or not": {
			devices: []v1alpha1.DeviceInfo{device("/dev/vdb", of("local-1")), device("/dev/vdc", of("local-2"))}, managed: []string{"/dev/vdb"},
			want: []ledger.Group{taken(free(capacity.Device, "/dev/vdb"), "local-1"), unmanaged(taken(free(capacity.Device, "/dev/vdc"), "local-2"))},
		},
		"a disk in trouble": {
			devices: []v1alpha1.DeviceInfo{
				device("/dev/vdb", func(d *v1alpha1.DeviceInfo) { d.Reason = "Mounted" }),
				device("/dev/vdc", func(d *v1alpha1.DeviceInfo) { d.ReadOnly = true }),
				device("/dev/vdd", func(d *v1alpha1.DeviceInfo) { d.Condition = v1alpha1.StorageFault }),
			},
			managed: []string{"/dev/vdb", "/dev/vdc", "/dev/vdd"},
			want: []ledger.Group{
				sick(free(capacity.Device, "/dev/vdb"), "Mounted"), sick(free(capacity.Device, "/dev/vdc"), "ReadOnly"),
				sick(free(capacity.Device, "/dev/vdd"), "DiskFault"),
			},
		},
		"partitions, and not their disk": {
			devices: []v1alpha1.DeviceInfo{device("/dev/sda"), device("/dev/sda1"), device("/dev/sda2"), device("/dev/nvme0n1"), device("/dev/nvme0n1p1"), device("/dev/nvme0n11")},
			managed: []string{"/dev/sda", "/dev/sda1", "/dev/sda2", "/dev/nvme0n1", "/dev/nvme0n11"},
			want:    []ledger.Group{free(capacity.Device, "/dev/sda1"), free(capacity.Device, "/dev/sda2"), free(capacity.Device, "/dev/nvme0n11")},
		},
		"no partition of a disk that a volume has": {
			devices: []v1alpha1.DeviceInfo{device("/dev/sda", of("local-1")), device("/dev/sda1")}, managed: []string{"/dev/sda", "/dev/sda1"},
			want: []ledger.Group{unmanaged(taken(free(capacity.Device, "/dev/sda"), "local-1"))},
		},
		"a file system, and not the disk below": {
			devices: []v1alpha1.DeviceInfo{device("/dev/vdb")}, managed: []string{"/dev/vdb", "/mnt/a"},
			mounts: []v1alpha1.MountPoint{{Name: "/mnt/a", Device: "/dev/vdb", Total: total}, {Name: "/mnt/b", Total: total}},
			want:   []ledger.Group{free(capacity.MountPoint, "/mnt/a")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			storage := nls("n1")
			storage.Status.NodeStorageInfo.DeviceInfos, storage.Status.NodeStorageInfo.MountPoints = test.devices, test.mounts
			storage.Status.FilteredStorageInfo.Devices, storage.Status.FilteredStorageInfo.MountPoints = test.managed, test.managed
			if diff := cmp.Diff(test.want, reportOf(storage).says.Groups); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAReservationNamesTheDisk(t *testing.T) {
	storage := nls("n1", vg("pool", 100*gib))
	storage.Status.NodeStorageInfo.DeviceInfos = []v1alpha1.DeviceInfo{
		{Name: "/dev/vdb", ID: "wwn-1", Total: 60 << 30}, {Name: "/dev/vdc", ID: "wwn-2", Total: 60 << 30}, {Name: "/dev/vdd", ID: "wwn-3", Total: 70 << 30},
	}
	storage.Status.NodeStorageInfo.MountPoints = []v1alpha1.MountPoint{{Name: "/mnt/a", ID: "fsuuid-1", Total: 60 << 30}}
	storage.Status.FilteredStorageInfo.Devices = []string{"/dev/vdb", "/dev/vdc", "/dev/vdd"}
	storage.Status.FilteredStorageInfo.MountPoints = []string{"/mnt/a"}
	disk, files := pv("disk", "n1", "", 50*gib), pv("files", "n1", "", 50*gib)
	disk.Spec.CSI.VolumeAttributes = map[string]string{"volumeType": "Device", "Device": "/dev/vdb"}
	files.Spec.CSI.VolumeAttributes = map[string]string{"volumeType": "MountPoint", "MountPoint": "/mnt/a"}
	w := newWorld(t, node("n1"), storage, disk, files, claim("disk", 50*gib, "lvm"), claim("files", 50*gib, "lvm"), claim("cut", gib, "lvm"),
		class("device", "volumeType", "Device"), claim("new", 50*gib, "device"))
	for name, want := range map[string]reserve.Answer{
		"disk":  {Node: "n1", Device: "/dev/vdb", Identity: "wwn-1", VolumeType: "Device", Claim: "default/disk"},
		"files": {Node: "n1", Disk: "/mnt/a", Identity: "fsuuid-1", VolumeType: "MountPoint", Claim: "default/files"},
		"new":   {Node: "n1", Device: "/dev/vdc", Identity: "wwn-2", VolumeType: "Device", Claim: "default/new"},
		"cut":   {Node: "n1", Group: "pool", VolumeType: "LVM", Claim: "default/cut"},
	} {
		got, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: name, Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	w.wantFree("n1//dev/vdb=10Gi n1//dev/vdc=0 n1//dev/vdd=70Gi n1//mnt/a=10Gi n1/pool=99Gi") // and what is left of them is for nobody
}
