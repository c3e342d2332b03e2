package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/volume"
)

// device returns what is reported of a device, if it is.
func (s *station) device(path string) v1alpha1.DeviceInfo {
	s.t.Helper()
	for _, d := range s.status().NodeStorageInfo.DeviceInfos {
		if d.Name == path {
			return d
		}
	}
	return v1alpha1.DeviceInfo{}
}

func TestADeviceThatAVolumeHasIsNobodyElses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc", "/dev/vdd")
		s.apply(func(nls *v1alpha1.NodeLocalStorage) { nls.Spec.ListConfig.Devices.Include = []string{"/dev/vd."} })
		s.start()
		if diff := cmp.Diff([]string{"/dev/vdc", "/dev/vdd"}, s.status().FilteredStorageInfo.Devices); diff != "" {
			t.Fatalf("offered (-want +got):\n%s", diff)
		}
		book := exclusive.NewBook(s.root)
		record := exclusive.Record{Volume: "v", Kind: volume.Device, ID: "serial-vdc", Path: "/dev/vdc", State: exclusive.Ready}
		if err := book.Put(record); err != nil {
			t.Fatal(err)
		}
		s.agent.Changed()
		s.pass(time.Second)
		if got := s.device("/dev/vdc"); got.VolumeID != "v" || got.Reason != isTaken || got.Condition != v1alpha1.StorageReady {
			t.Errorf("device %+v", got)
		}
		if diff := cmp.Diff([]string{"/dev/vdd"}, s.status().FilteredStorageInfo.Devices); diff != "" {
			t.Errorf("offered (-want +got):\n%s", diff)
		}

		// It looks blank, and is no group's and not to be wiped.
		s.apply(wiped("serial-vdc", "contents of ext4", "/dev/vdc"))
		s.block.change(func() { s.block.signatures["/dev/vdc"] = "ext4" })
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("GroupsReady", "False Taken")
		s.wantCondition("DevicesReady", "False Taken")
		s.block.change(func() { delete(s.block.signatures, "/dev/vdc") })
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("GroupsReady", "False Taken")
		if len(s.block.wipes) != 0 {
			t.Error("it was wiped")
		}

		// The disk fails, and goes.
		s.apply(func(nls *v1alpha1.NodeLocalStorage) { nls.Spec.ResourceToBeInited = v1alpha1.ResourceToBeInited{} })
		s.block.change(func() { s.block.failing = "/dev/vdc" })
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("DevicesReady", "False Failing")
		if got := s.device("/dev/vdc"); got.VolumeID != "v" || got.Reason != isTaken || got.Condition != v1alpha1.StorageFault {
			t.Errorf("a device that fails: %+v", got)
		}
		s.block.change(func() { s.block.list = s.block.list[1:] })
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("DevicesReady", "False DeviceGone")
		if err := book.Forget("v"); err != nil {
			t.Fatal(err)
		}
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("DevicesReady", "")
	})
}

func TestADiskAndItsPartitionsAreNeverBothOffered(t *testing.T) {
	all := []blockdev.Device{
		{Path: "/dev/sda", KernelName: "sda", ID: "a", Children: []string{"sda1", "sda2"}},
		{Path: "/dev/sda1", KernelName: "sda1", ID: "a1", Parents: []string{"sda"}, Children: []string{"dm-0"}},
		{Path: "/dev/sda2", KernelName: "sda2", ID: "a2", Parents: []string{"sda"}},
		{Path: "/dev/mapper/x", KernelName: "dm-0", ID: "x", Parents: []string{"sda1"}},
		{Path: "/dev/sdb", KernelName: "sdb"},
	}
	for name, tc := range map[string]struct {
		held holdings
		want map[string]string
	}{
		"nothing is had":      {nil, map[string]string{}},
		"a disk is had":       {holdings{{Volume: "v", ID: "a"}}, map[string]string{"sda": isTaken, "sda1": partOfTaken, "sda2": partOfTaken, "dm-0": partOfTaken}},
		"a partition is had":  {holdings{{Volume: "v", ID: "a2"}}, map[string]string{"sda": partOfTaken, "sda2": isTaken}},
		"two are had":         {holdings{{Volume: "v", ID: "a1"}, {Volume: "w", ID: "a2"}}, map[string]string{"sda": partOfTaken, "sda1": isTaken, "sda2": isTaken, "dm-0": partOfTaken}},
		"no identity is none": {holdings{{Volume: "v"}}, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			for name, o := range tc.held.objections(all) {
				got[name] = o.Reason
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("objections (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMountPointThatAVolumeHas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdd")
		s.apply(mountOn("/dev/vdd"))
		s.start()
		id := exclusive.FileSystemID(initplan.FileSystemUUID("n1", mountPoint))
		if err := exclusive.NewBook(s.root).Put(exclusive.Record{Volume: "v", Kind: volume.MountPoint, ID: id, Path: mountPoint, State: exclusive.Ready}); err != nil {
			t.Fatal(err)
		}
		s.file(mountPoint+"/data", "of the volume")
		s.agent.Changed()
		s.pass(time.Second)
		if got := s.mountPoint(); got.VolumeID != "v" || got.Reason != isTaken {
			t.Errorf("mount point %+v", got)
		}
		if slices.Contains(s.status().FilteredStorageInfo.MountPoints, mountPoint) {
			t.Error("it is offered")
		}
		s.wantCondition("MountPointsReady", "")
	})
}

// The agent has seen a blank device and is about to make a group of it; the node's CSI
// plugin is about to give it to a volume, and is first.
func TestADeviceThatAVolumeGetsMeanwhileBecomesNoGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.start()
		book := exclusive.NewBook(s.root)
		release, err := book.Alone(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.apply(pool("/dev/vdc"))
		s.pass(time.Second) // it waits for whoever decides about devices
		if got := s.status().NodeStorageInfo.VolumeGroups; len(got) > 0 {
			t.Errorf("groups %+v, while another decides about the device", got)
		}
		if err := book.Put(exclusive.Record{Volume: "v", Kind: volume.Device, ID: "serial-vdc", Path: "/dev/vdc", State: exclusive.Taking}); err != nil {
			t.Fatal(err)
		}
		release()
		s.pass(10 * time.Minute)
		if got := s.status().NodeStorageInfo.VolumeGroups; len(got) > 0 {
			t.Errorf("groups %+v, of a device that a volume has", got)
		}
		s.wantCondition("GroupsReady", "False Taken")
		if err := book.Forget("v"); err != nil {
			t.Fatal(err)
		}
		s.agent.Changed()
		s.pass(10 * time.Minute)
		if got := s.status().NodeStorageInfo.VolumeGroups; len(got) != 1 {
			t.Errorf("groups %+v, once the device is given back", got)
		}
	})
}
