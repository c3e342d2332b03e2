package directory_test

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/driver"
)

// TestCapacityForLimitsIsThatOfWholeDisks asks what there is for volumes with and without
// limits, on a node with a disk, a partition and a file system on each.
func TestCapacityForLimitsIsThatOfWholeDisks(t *testing.T) {
	nls := report("n1", nil)
	info, offered := &nls.Status.NodeStorageInfo, &nls.Status.FilteredStorageInfo
	info.DeviceInfos = []v1alpha1.DeviceInfo{
		{Name: "/dev/sdb1", ID: "wwn-1-partuuid-1", Total: int64(40 * gib)}, {Name: "/dev/sdb2", ID: "wwn-1-partuuid-2", Total: int64(30 * gib)},
		{Name: "/dev/sdc", ID: "wwn-2", Total: int64(20 * gib)}, {Name: "/dev/sdd", ID: "wwn-3", Total: int64(10 * gib)},
	}
	info.MountPoints = []v1alpha1.MountPoint{
		{Name: "/mnt/a", ID: "fsuuid-a", Device: "/dev/sdb2", Total: int64(29 * gib)}, {Name: "/mnt/b", ID: "fsuuid-b", Device: "/dev/sdd", Total: int64(9 * gib)},
	}
	offered.Devices, offered.MountPoints = []string{"/dev/sdb1", "/dev/sdc"}, []string{"/mnt/a", "/mnt/b"}
	c := driver.NewController(driver.ControllerOptions{Nodes: open(t, newClock(), node("n1", corev1.ConditionTrue), nls)})
	for name, test := range map[string]struct {
		params       map[string]string
		all, largest int64
	}{
		"devices":                      {map[string]string{"volumeType": "Device"}, int64(60 * gib), int64(40 * gib)},
		"devices for limited IO":       {map[string]string{"volumeType": "Device", "iops": "100"}, int64(20 * gib), int64(20 * gib)},
		"file systems":                 {map[string]string{"volumeType": "MountPoint"}, int64(38 * gib), int64(29 * gib)},
		"file systems for limited IO":  {map[string]string{"volumeType": "MountPoint", "bps": "1Mi"}, int64(9 * gib), int64(9 * gib)},
		"groups, of which there is no": {map[string]string{"volumeType": "LVM", "bps": "1Mi"}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: test.params})
			if err != nil {
				t.Fatal(err)
			}
			if got.GetAvailableCapacity() != test.all || got.GetMaximumVolumeSize().GetValue() != test.largest {
				t.Errorf("got %d in all and %d at most, want %d and %d", got.GetAvailableCapacity(), got.GetMaximumVolumeSize().GetValue(), test.all, test.largest)
			}
		})
	}
}
