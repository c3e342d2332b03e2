package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
)

// wiped asks for the group "pool" on a device, and for what is on it to go.
func wiped(id, contents string, devices ...string) func(*v1alpha1.NodeLocalStorage) {
	return func(nls *v1alpha1.NodeLocalStorage) {
		pool(devices...)(nls)
		nls.Spec.ResourceToBeInited.Wipe = []v1alpha1.DeviceToBeWiped{{ID: id, Contents: contents}}
	}
}

func TestADeviceWithDataIsUsedAgainWhenTheSpecSaysSoAndOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		sign := func() {
			s.block.change(func() { s.block.signatures["/dev/vdc"] = "ext4" })
			s.agent.Changed()
			s.pass(time.Second)
		}
		s.block.change(func() { s.block.signatures["/dev/vdc"] = "ext4" })
		s.apply(pool("/dev/vdc"))
		s.start()
		s.wantCondition("GroupsReady", "False HasSignature")
		info := s.status().NodeStorageInfo.DeviceInfos[0]
		if info.Contents != "contents of ext4" || info.Reason != "HasSignature" {
			t.Fatalf("device %+v", info)
		}
		s.wantEvents("Warning HasSignature")

		s.apply(wiped(info.ID, "contents of xfs", "/dev/vdc"))
		s.pass(time.Second)
		s.wantCondition("DevicesReady", "False ContentsChanged")
		s.wantEvents("Warning ContentsChanged")

		s.apply(wiped(info.ID, info.Contents, "/dev/vdc"))
		s.pass(time.Second)
		s.wantCondition("GroupsReady", "True AsSpecified")
		s.wantCondition("DevicesReady", "")
		if got := len(s.block.wipes); got != 1 {
			t.Fatalf("wiped %d times", got)
		}
		// The plan is told before each round of changes: the group can be made only then.
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged", "Normal NodeStoragePlanned", "Normal NodeStorageChanged")
		want := []v1alpha1.WipedDevice{{ID: info.ID, Contents: info.Contents, Device: "/dev/vdc"}}
		status := s.status()
		for i := range status.Wiped {
			status.Wiped[i].Time = want[0].Time
		}
		if diff := cmp.Diff(want, status.Wiped); diff != "" {
			t.Errorf("wiped (-want +got):\n%s", diff)
		}

		// The same is on it again, and the entry still stands: it was used up.
		s.lvm("vgremove", "--yes", "pool")
		sign()
		s.stop()
		s.pass(time.Second)
		s.start()
		s.pass(time.Hour)
		if got := len(s.block.wipes); got != 1 {
			t.Errorf("wiped %d times", got)
		}
		if got := len(s.status().Wiped); got != 1 {
			t.Errorf("%d entries", got)
		}
	})
}

func TestADiskThatGrewGrowsItsGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
		s.fake.GrowDisk("/dev/vdc", 2*gib+capacity.MiB)
		s.block.change(func() { s.block.list[0].Size = 2*gib + capacity.MiB })
		s.agent.Changed()
		s.pass(time.Second)
		if got := s.group("pool"); got.Total != int64(2*gib) || got.Allocatable != int64(2*gib) {
			t.Errorf("group %+v", got)
		}
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
		s.pass(time.Hour)
		s.wantEvents()
		if left := s.agent.filled; len(left) > 0 {
			t.Errorf("it is remembered that %v was filled, and another disk may have that name next", left)
		}
	})
}

func TestADiskThatCannotBeGrownIntoIsTriedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.block.change(func() { s.block.list[0].Size = 2*gib + capacity.MiB }) // and LVM does not see it
		s.agent.Changed()
		s.pass(time.Hour)
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged", "Normal NodeStoragePlanned", "Normal NodeStorageChanged")
	})
}

func TestAGroupThatLostADiskSaysWhich(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc", "/dev/vdd")
		s.apply(pool("/dev/vdc", "/dev/vdd"))
		s.start()
		s.fake.Lose("/dev/vdd")
		s.block.change(func() { s.block.list = s.block.list[:1] })
		want := []string{"/dev/vdd (serial-vdd)"}
		for range 3 { // it is not forgotten
			s.agent.Changed()
			s.pass(time.Second)
			if diff := cmp.Diff(want, s.group("pool").MissingPhysicalVolumes); diff != "" {
				t.Fatalf("missing (-want +got):\n%s", diff)
			}
			s.stop()
			s.pass(time.Second)
			s.start()
		}
		for _, c := range s.status().Conditions {
			if c.Type == "GroupsReady" && !strings.Contains(c.Message, want[0]) {
				t.Errorf("the condition says %q", c.Message)
			}
		}
	})
}

func TestWhichDisksAreMissing(t *testing.T) {
	info := func(name, id string) v1alpha1.DeviceInfo { return v1alpha1.DeviceInfo{Name: name, ID: id} }
	pv := func(device, uuid string) lvm.PhysicalVolume { return lvm.PhysicalVolume{Device: device, UUID: uuid} }
	for name, tc := range map[string]struct {
		now    lvm.Group
		disks  map[string]string // id by path
		before v1alpha1.NodeStorageInfo
		want   []string
	}{
		"a whole group lacks none": {now: lvm.Group{Name: "g", PhysicalVolumes: []lvm.PhysicalVolume{pv("/dev/a", "A")}}},
		"names that moved do not confuse": {
			now:   lvm.Group{Name: "g", Partial: true, PhysicalVolumes: []lvm.PhysicalVolume{pv("/dev/a", "B"), pv("", "A")}},
			disks: map[string]string{"/dev/a": "two"},
			before: v1alpha1.NodeStorageInfo{
				DeviceInfos:  []v1alpha1.DeviceInfo{info("/dev/a", "one"), info("/dev/b", "two")},
				VolumeGroups: []v1alpha1.VolumeGroup{{Name: "g", PhysicalVolumes: []string{"/dev/a", "/dev/b"}}},
			},
			want: []string{"/dev/a (one)"},
		},
		"a disk that was never reported is its UUID": {
			now:  lvm.Group{Name: "g", Partial: true, PhysicalVolumes: []lvm.PhysicalVolume{pv("/dev/a", "A"), pv("", "B")}},
			want: []string{"the physical volume with the UUID B"},
		},
		"a second one that goes is added": {
			now:   lvm.Group{Name: "g", Partial: true, PhysicalVolumes: []lvm.PhysicalVolume{pv("/dev/a", "A"), pv("", "B"), pv("", "C")}},
			disks: map[string]string{"/dev/a": "one"},
			before: v1alpha1.NodeStorageInfo{
				DeviceInfos:  []v1alpha1.DeviceInfo{info("/dev/a", "one"), info("/dev/c", "three")},
				VolumeGroups: []v1alpha1.VolumeGroup{{Name: "g", PhysicalVolumes: []string{"/dev/a", "/dev/c"}, MissingPhysicalVolumes: []string{"/dev/b (two)"}}},
			},
			want: []string{"/dev/b (two)", "/dev/c (three)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var seen sighting
			for path, id := range tc.disks {
				d := disk{}
				d.Path, d.ID = path, id
				seen.disks = append(seen.disks, d)
			}
			if diff := cmp.Diff(tc.want, seen.missing(tc.now, tc.before)); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheDryRunSaysWhatWouldBeDoneAndDoesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc", "/dev/vdd")
		s.block.change(func() { s.block.signatures["/dev/vdd"] = "ext4" })
		s.apply(wiped("serial-vdd", "contents of ext4", "/dev/vdc"))
		s.start()
		s.stop()
		s.pass(time.Second)
		s.block.change(func() { s.block.signatures["/dev/vdd"] = "xfs" })
		s.apply(wiped("serial-vdd", "contents of xfs", "/dev/vdc", "/dev/vdd"))
		s.writes()
		before := len(s.block.wipes)
		steps, problems, err := s.agent.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, step := range steps {
			said = append(said, step.String())
		}
		for _, p := range problems {
			said = append(said, p.Reason)
		}
		want := []string{"destroy all that is on /dev/vdd (serial-vdd, contents contents of xfs), as the spec asks", "HasSignature"}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("plan (-want +got):\n%s", diff)
		}
		if len(s.block.wipes) != before || s.writes() != 0 {
			t.Error("the dry run did something")
		}
	})
}
