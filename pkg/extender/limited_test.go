package extender

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// partitions is a node with two partitions of a disk, a whole disk, and file systems on a
// partition and on a disk. It offers only these.
func partitions(offered ...string) *v1alpha1.NodeLocalStorage {
	storage := nls("n1")
	storage.Status.NodeStorageInfo.DeviceInfos = []v1alpha1.DeviceInfo{
		{Name: "/dev/sdb", ID: "wwn-1", Total: int64(100 * gib)},
		{Name: "/dev/sdb1", ID: "wwn-1-partuuid-1", Total: int64(50 * gib)}, {Name: "/dev/sdb2", ID: "wwn-1-partuuid-2", Total: int64(50 * gib)},
		{Name: "/dev/sdc", ID: "wwn-2", Total: int64(60 * gib)}, {Name: "/dev/sdd", ID: "wwn-3", Total: int64(60 * gib)},
	}
	storage.Status.NodeStorageInfo.MountPoints = []v1alpha1.MountPoint{
		{Name: "/mnt/part", ID: "fsuuid-1", Device: "/dev/sdb2", Total: int64(50 * gib)}, {Name: "/mnt/disk", ID: "fsuuid-2", Device: "/dev/sdd", Total: int64(60 * gib)},
	}
	for _, name := range offered {
		if name[1] == 'd' {
			storage.Status.FilteredStorageInfo.Devices = append(storage.Status.FilteredStorageInfo.Devices, name)
		} else {
			storage.Status.FilteredStorageInfo.MountPoints = append(storage.Status.FilteredStorageInfo.MountPoints, name)
		}
	}
	return storage
}

// TestALimitedClaimIsPlacedOnAWholeDisk filters a pod and reserves a place for its claim. The
// partition would be the better place for each: it is smaller.
func TestALimitedClaimIsPlacedOnAWholeDisk(t *testing.T) {
	all := []string{"/dev/sdb1", "/dev/sdc", "/mnt/part", "/mnt/disk"}
	faster := "faster"
	for name, test := range map[string]struct {
		class   string
		offered []string
		change  func(c *corev1.PersistentVolumeClaim)
		place   string
		reason  string
	}{
		"a device without limits":    {class: "device", offered: all, place: "/dev/sdb1"},
		"a device with limits":       {class: "limited-device", offered: all, place: "/dev/sdc"},
		"a file system":              {class: "mounted", offered: all, place: "/mnt/part"},
		"a file system with limits":  {class: "limited-mounted", offered: all, place: "/mnt/disk"},
		"only partitions are left":   {class: "limited-device", offered: []string{"/dev/sdb1"}, reason: "never: no managed device that is a whole disk: wants 50Gi, 0 free"},
		"only partitions are needed": {class: "device", offered: []string{"/dev/sdb1"}, place: "/dev/sdb1"},
		"only a file system on a partition is left": {
			class: "limited-mounted", offered: []string{"/mnt/part"}, reason: "never: no managed mount point that is on a whole disk: wants 50Gi, 0 free",
		},
		"the claim has its limits from elsewhere": {
			class: "device", offered: all, place: "/dev/sdc",
			change: func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = &faster },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := claim("c", 50*gib, test.class)
			if test.change != nil {
				test.change(c)
			}
			w := newWorld(t, node("n1"), partitions(test.offered...), c, pod("p", "c"),
				class("device", "volumeType", "Device"), class("limited-device", "volumeType", "Device", "iops", "100"),
				class("mounted", "volumeType", "MountPoint"), class("limited-mounted", "volumeType", "MountPoint", "bps", "1Mi"))
			fit, reasons := w.filter(pod("p", "c"), "n1")
			if reasons["n1"] != test.reason || (fit == "") != (test.reason != "") {
				t.Errorf("it fits on %q, and of n1 it says %q, want %q", fit, reasons["n1"], test.reason)
			}
			if place, err := w.place("c"); place != test.place || (err == nil) != (test.place != "") {
				t.Errorf("its place is %q, %v, want %q", place, err, test.place)
			}
		})
	}
}
