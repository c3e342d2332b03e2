package v1alpha1

import "testing"

func TestAPartitionIsKnownByWhoItIs(t *testing.T) {
	for name, test := range map[string]struct {
		id   string
		want bool
	}{
		"a disk":                                   {"wwn-0x5000c500a1b2c3d4", false},
		"a partition of it":                        {"wwn-0x5000c500a1b2c3d4-partuuid-1b2c3d4a-01", true},
		"a partition of a disk without identity":   {"partuuid-1b2c3d4a-01", true},
		"a disk with a name much like a partition": {"serial-partuuid", false},
		"a device that does not say who it is":     {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (&DeviceInfo{ID: test.id}).IsPartition(); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestAFileSystemLiesOnAPartitionOrNot(t *testing.T) {
	info := &NodeStorageInfo{DeviceInfos: []DeviceInfo{
		{Name: "/dev/sda", ID: "wwn-1"}, {Name: "/dev/sda1", ID: "wwn-1-partuuid-2"}, {Name: "/dev/nvme0n1"}, {Name: "/dev/nvme0n1p1"},
		{Name: "/dev/mapper/mpatha", ID: "dm-uuid-mpath-1"}, {Name: "/dev/mapper/mpatha-part1", ID: "dm-uuid-mpath-1-partuuid-3"},
		{Name: "/dev/sda11", ID: "wwn-of-its-own"},
	}}
	for device, want := range map[string]bool{
		"/dev/sda": false, "/dev/sda1": true, "/dev/sda2": true, "/dev/sda11": false, "/dev/sdb1": false, "": false,
		"/dev/nvme0n1": false, "/dev/nvme0n1p1": true, "/dev/nvme0n11": false,
		"/dev/mapper/mpatha": false, "/dev/mapper/mpatha-part1": true,
	} {
		if got := info.OnPartition(&MountPoint{Device: device}); got != want {
			t.Errorf("a file system on %q lies on a partition: %t", device, got)
		}
	}
}
