package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	legacyName = "local-2f1c6a8e-0d3c-4a53-8f3e-0a9d7f1b2c3d"
	mib        = capacity.MiB
)

func TestDescribeGroup(t *testing.T) {
	group := func(free capacity.Bytes, volumes ...lvm.Volume) lvm.Group {
		return lvm.Group{Name: "g", Size: 100 * mib, Free: free, Extent: 4 * mib, Volumes: volumes}
	}
	ours := func(size capacity.Bytes) lvm.Volume {
		return lvm.Volume{Name: "ours", Group: "g", Size: size, Tags: []string{volume.IDTag("ours")}}
	}
	theirs := func(size capacity.Bytes) lvm.Volume { return lvm.Volume{Name: "root", Group: "g", Size: size} }
	partial, exported := group(100*mib), group(100*mib)
	partial.Partial, exported.Exported = true, true

	for name, test := range map[string]struct {
		group     lvm.Group
		reserved  initplan.Reservation
		want      capacity.Bytes // allocatable
		condition v1alpha1.StorageStateType
	}{
		"an empty group is all ours":                    {group: group(100 * mib), want: 100 * mib},
		"volumes of ours stay allocatable":              {group: group(60*mib, ours(40*mib)), want: 100 * mib},
		"volumes of others do not":                      {group: group(60*mib, theirs(40*mib)), want: 60 * mib},
		"each is counted for what it is":                {group: group(40*mib, ours(20*mib), theirs(40*mib)), want: 60 * mib},
		"hidden space is somebody else's":               {group: group(20*mib, ours(20*mib), theirs(40*mib)), want: 40 * mib},
		"a reservation comes off":                       {group: group(100 * mib), reserved: initplan.Reservation{Share: 0.25}, want: 75 * mib},
		"a reservation and others may leave nothing":    {group: group(20*mib, theirs(80*mib)), reserved: initplan.Reservation{Size: 50 * mib}},
		"ours may be larger than what is taken (thin)":  {group: group(90*mib, ours(500*mib)), want: 100 * mib},
		"a partial group gives nothing":                 {group: partial, condition: v1alpha1.StorageFault},
		"an exported group gives nothing":               {group: exported, condition: v1alpha1.StorageFault},
		"a full group of ours is still all allocatable": {group: group(0, ours(100*mib)), want: 100 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			got := describeGroup(test.group, volume.DefaultDriver, test.reserved)
			if got.Allocatable != int64(test.want) {
				t.Errorf("allocatable %s, want %s", capacity.Bytes(got.Allocatable), test.want)
			}
			if test.condition == "" {
				test.condition = v1alpha1.StorageReady
			}
			if got.Condition != test.condition {
				t.Errorf("condition %s, want %s", got.Condition, test.condition)
			}
		})
	}
}

// TestAllocatableIsNeverMoreThanThereIs holds any group to the bounds that the
// scheduler relies on.
func TestAllocatableIsNeverMoreThanThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const extent = 4 * mib
		size := rapid.Int64Range(0, 1000).Draw(t, "size")
		free := rapid.Int64Range(0, size).Draw(t, "free")
		group := lvm.Group{Name: "g", Size: capacity.Bytes(size) * extent, Free: capacity.Bytes(free) * extent, Extent: extent}
		var ours int64
		for left := size - free; left > 0; {
			v := lvm.Volume{Name: "v", Size: capacity.Bytes(rapid.Int64Range(1, left).Draw(t, "volume")) * extent}
			left -= int64(v.Size / extent)
			if rapid.Bool().Draw(t, "is ours") {
				v.Tags = []string{volume.IDTag("v")}
				ours += int64(v.Size)
			}
			group.Volumes = append(group.Volumes, v)
		}
		reserved := initplan.Reservation{Share: rapid.Float64Range(0, 1).Draw(t, "reserved")}
		got := describeGroup(group, volume.DefaultDriver, reserved)
		if got.Allocatable < 0 || got.Allocatable > got.Total {
			t.Fatalf("allocatable %d of %d", got.Allocatable, got.Total)
		}
		if got.Allocatable-ours > got.Available {
			t.Fatalf("%d left to promise, but %d free", got.Allocatable-ours, got.Available)
		}
	})
}

func TestVolumeID(t *testing.T) {
	for name, test := range map[string]struct {
		volume lvm.Volume
		want   string
	}{
		"a tag names the handle":                         {lvm.Volume{Name: "vol-1", Tags: []string{"x", volume.IDTag("my volume")}}, "my volume"},
		"a volume of the first open-local is its name":   {lvm.Volume{Name: legacyName}, legacyName},
		"also when somebody tagged it":                   {lvm.Volume{Name: legacyName, Tags: []string{"protected"}}, legacyName},
		"a volume of nobody has none":                    {lvm.Volume{Name: "root"}, ""},
		"a name that only looks alike is nobody's":       {lvm.Volume{Name: "local-data"}, ""},
		"tags that contradict each other leave no doubt": {lvm.Volume{Name: legacyName, Tags: []string{volume.IDTag("a"), volume.IDTag("b")}}, ""},
		"our own driver is ours": {
			lvm.Volume{Name: "v", Tags: append(volume.OwnerTags(volume.DefaultDriver, "", "", ""), volume.IDTag("v"))}, "v",
		},
		"another installation's volume is not ours": {
			lvm.Volume{Name: "v", Tags: append(volume.OwnerTags("other.example.com", "", "", ""), volume.IDTag("v"))}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := describeVolume(test.volume, lvm.Group{}, volume.DefaultDriver)
			if got.VolumeID != test.want || got.Ours() != (test.want != "") {
				t.Errorf("got %q, want %q", got.VolumeID, test.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	seen := sighting{
		lvm: lvm.Report{Groups: []lvm.Group{
			{Name: "twice", Size: 8 * mib, Free: 8 * mib, Extent: 4 * mib},
			{Name: "b", Size: 8 * mib, Free: 0, Extent: 4 * mib, Volumes: []lvm.Volume{
				{Name: "z", Group: "b", Size: 4 * mib, Health: "partial"}, {Name: "a", Group: "b", Size: 4 * mib, ReadOnly: true},
			}},
			{Name: "twice", Size: 8 * mib, Free: 8 * mib, Extent: 4 * mib},
		}},
		listedFor: map[string]initplan.Objection{"vdd": {Reason: "ListedForVolumeGroup", Message: "is listed"}},
		disks: []disk{
			{Device: blockdev.Device{Path: "/dev/vdb", Size: 8 * mib}},
			{Device: blockdev.Device{Path: "/dev/vdc", Size: 8 * mib, Rotational: true}, refused: initplan.Objection{Reason: "Mounted", Message: "is mounted"}},
			{Device: blockdev.Device{Path: "/dev/vdd", KernelName: "vdd", Size: 8 * mib}},
			{
				Device:  blockdev.Device{Path: "/dev/vde", Size: 8 * mib, ReadOnly: true, ID: "wwn-0x1", WWN: "naa.1", Serial: "S", Model: "M"},
				refused: initplan.Objection{Reason: "Failing", Message: "is failing"},
			},
			{Device: blockdev.Device{Path: "/dev/other", Size: 8 * mib}},
		},
		mounts: []fileSystem{
			{Mount: mounts.Mount{Target: "/mnt/a", Source: "/dev/vde", Root: "/", FSType: "xfs", Options: []string{"rw"}}, total: 10, available: 5},
			{Mount: mounts.Mount{Target: "/mnt/b", Source: "/dev/vdf", Root: "/sub", FSType: "ext4", Options: []string{"ro"}}, total: 10, refused: initplan.Objection{Reason: "ReadOnly", Message: "is read-only"}},
			{Mount: mounts.Mount{Target: "/srv", Source: "/dev/vdf", Root: "/", FSType: "ext4"}, id: "fsuuid-1"},
		},
	}
	all := v1alpha1.Selection{Include: []string{".*"}}
	nls := &v1alpha1.NodeLocalStorage{Spec: v1alpha1.NodeLocalStorageSpec{StorageSpec: v1alpha1.StorageSpec{
		ListConfig: v1alpha1.ListConfig{
			VGs: all, MountPoints: v1alpha1.Selection{Include: []string{"/mnt/.*"}}, Devices: v1alpha1.Selection{Include: []string{"/dev/vd."}},
		},
	}}}
	got, problems := describe(seen, nls, volume.DefaultDriver, []string{"gone"})

	twice := v1alpha1.VolumeGroup{Name: "twice", Total: int64(8 * mib), Available: int64(8 * mib), ExtentSize: int64(4 * mib), Condition: v1alpha1.StorageFault}
	want := v1alpha1.NodeLocalStorageStatus{
		NodeStorageInfo: v1alpha1.NodeStorageInfo{
			Phase: v1alpha1.NodeStorageRunning,
			State: v1alpha1.StorageState{
				Type: v1alpha1.StorageFault, Status: metav1.ConditionTrue, Reason: "GroupFault",
				Message: `missing, partial, exported or ambiguous volume groups: ["gone" "twice"]`,
			},
			DeviceInfos: []v1alpha1.DeviceInfo{
				{Name: "/dev/vdb", MediaType: "ssd", Total: int64(8 * mib), Condition: v1alpha1.StorageReady},
				{Name: "/dev/vdc", MediaType: "hdd", Total: int64(8 * mib), Condition: v1alpha1.StorageReady, Reason: "Mounted", Message: "is mounted"},
				{Name: "/dev/vdd", MediaType: "ssd", Total: int64(8 * mib), Condition: v1alpha1.StorageReady, Reason: "ListedForVolumeGroup", Message: "is listed"},
				{
					Name: "/dev/vde", MediaType: "ssd", Total: int64(8 * mib), ReadOnly: true, Condition: v1alpha1.StorageFault,
					ID: "wwn-0x1", WWN: "naa.1", Serial: "S", Model: "M", Reason: "Failing", Message: "is failing",
				},
				{
					Name: "/dev/other", MediaType: "ssd", Total: int64(8 * mib), Condition: v1alpha1.StorageReady,
					Reason: "NotSelected", Message: "is not selected by listConfig.devices",
				},
			},
			VolumeGroups: []v1alpha1.VolumeGroup{
				{
					Name: "b", Total: int64(8 * mib), ExtentSize: int64(4 * mib), Condition: v1alpha1.StorageReady,
					LogicalVolumes: []v1alpha1.LogicalVolume{
						{Name: "a", VGName: "b", Total: int64(4 * mib), ReadOnly: true, Condition: v1alpha1.StorageReady},
						{Name: "z", VGName: "b", Total: int64(4 * mib), Condition: v1alpha1.StorageFault},
					},
				},
				{Name: "gone", Condition: v1alpha1.StorageFault},
				twice, twice,
			},
			MountPoints: []v1alpha1.MountPoint{
				{Name: "/mnt/a", Total: 10, Available: 5, FsType: "xfs", Options: []string{"rw"}, Device: "/dev/vde", Condition: v1alpha1.StorageReady},
				{Name: "/mnt/b", Total: 10, FsType: "ext4", IsBind: true, Options: []string{"ro"}, Device: "/dev/vdf", ReadOnly: true, Condition: v1alpha1.StorageReady, Reason: "ReadOnly", Message: "is read-only"},
				{
					Name: "/srv", FsType: "ext4", Device: "/dev/vdf", Condition: v1alpha1.StorageReady, ID: "fsuuid-1",
					Reason: "NotSelected", Message: "is not selected by listConfig.mountPoints",
				},
			},
		},
		FilteredStorageInfo: v1alpha1.FilteredStorageInfo{
			VolumeGroups: []string{"b"}, MountPoints: []string{"/mnt/a"}, Devices: []string{"/dev/vdb"},
			UpdateStatus: v1alpha1.UpdateStatusInfo{Status: v1alpha1.UpdateAccepted},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	wantProblems := []initplan.Problem{{
		Area: initplan.OfDevices, Reason: "Failing", Object: "/dev/vde", Message: "device /dev/vde is not offered: it is failing",
	}}
	if diff := cmp.Diff(wantProblems, problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestState(t *testing.T) {
	group := func(name string, available int64, condition v1alpha1.StorageStateType) v1alpha1.VolumeGroup {
		return v1alpha1.VolumeGroup{Name: name, Total: 100, Available: available, ExtentSize: 4, Condition: condition}
	}
	const ready, fault = v1alpha1.StorageReady, v1alpha1.StorageFault
	for name, test := range map[string]struct {
		groups  []v1alpha1.VolumeGroup
		managed []string
		want    v1alpha1.StorageStateType
	}{
		"nothing is ready":                          {want: v1alpha1.StorageReady},
		"room in one group is ready":                {groups: []v1alpha1.VolumeGroup{group("a", 0, ready), group("b", 4, ready)}, managed: []string{"a", "b"}, want: v1alpha1.StorageReady},
		"no room in any is full":                    {groups: []v1alpha1.VolumeGroup{group("a", 0, ready), group("b", 3, ready)}, managed: []string{"a", "b"}, want: v1alpha1.StorageFull},
		"room in a group of others does not count":  {groups: []v1alpha1.VolumeGroup{group("a", 0, ready), group("b", 50, ready)}, managed: []string{"a"}, want: v1alpha1.StorageFull},
		"a full group of others is no matter":       {groups: []v1alpha1.VolumeGroup{group("b", 0, ready)}, want: v1alpha1.StorageReady},
		"a fault counts wherever it is, before all": {groups: []v1alpha1.VolumeGroup{group("a", 0, ready), group("b", 0, fault)}, managed: []string{"a"}, want: v1alpha1.StorageFault},
	} {
		t.Run(name, func(t *testing.T) {
			got := state(v1alpha1.NodeStorageInfo{VolumeGroups: test.groups}, test.managed)
			if got.Type != test.want || got.Status != metav1.ConditionTrue {
				t.Errorf("state %+v, want %s", got, test.want)
			}
		})
	}
}

func TestConditionsStayAcceptable(t *testing.T) {
	var problems []initplan.Problem
	for range 1000 {
		problems = append(problems, initplan.Problem{Area: initplan.OfGroups, Reason: "no good!", Message: strings.Repeat("ü", 500) + "\xff"})
	}
	got := conditions(problems, 7, nil)
	i := slices.IndexFunc(got, func(c metav1.Condition) bool { return c.Type == "GroupsReady" })
	c := got[i]
	if len(c.Message) > maxMessage || strings.ToValidUTF8(c.Message, "") != c.Message || !wellFormed.MatchString(c.Reason) || c.ObservedGeneration != 7 {
		t.Errorf("%d bytes, reason %q, generation %d", len(c.Message), c.Reason, c.ObservedGeneration)
	}
	if few := sentence(problems[:1]); strings.Contains(few, "more") {
		t.Errorf("one problem says %q", few[len(few)-20:])
	}
	if short := sentence(make([]initplan.Problem, maxSaid+3)); !strings.HasSuffix(short, "and 3 more") {
		t.Errorf("many problems say %q", short)
	}
}

func TestVolumesOfAGroupThatIsMissingAreRemembered(t *testing.T) {
	in := func(group string, names ...string) v1alpha1.VolumeGroup {
		g := v1alpha1.VolumeGroup{Name: group, Total: int64(100 * mib), Condition: v1alpha1.StorageReady}
		for _, name := range names {
			g.LogicalVolumes = append(g.LogicalVolumes, v1alpha1.LogicalVolume{Name: name, VGName: group, Total: int64(4 * mib), SnapshotID: name, Condition: v1alpha1.StorageReady})
		}
		return g
	}
	for name, test := range map[string]struct {
		before []v1alpha1.VolumeGroup
		seen   []lvm.Group
		want   []v1alpha1.LogicalVolume
	}{
		"as they were last reported":                 {before: []v1alpha1.VolumeGroup{in("other", "c"), in("pool", "a", "b")}, want: in("pool", "a", "b").LogicalVolumes},
		"none where there was none":                  {before: []v1alpha1.VolumeGroup{in("other", "c"), in("pool")}},
		"none where nothing was reported":            {},
		"those of two groups that had the name":      {before: []v1alpha1.VolumeGroup{in("pool", "a"), in("pool", "b")}, want: in("pool", "a", "b").LogicalVolumes},
		"but not one that is in another group now":   {[]v1alpha1.VolumeGroup{in("pool", "a", "b")}, []lvm.Group{{Name: "renamed", Volumes: []lvm.Volume{{Name: "b"}}}}, in("pool", "a").LogicalVolumes},
		"nor any where the whole group is called so": {[]v1alpha1.VolumeGroup{in("pool", "b")}, []lvm.Group{{Name: "renamed", Volumes: []lvm.Volume{{Name: "b"}}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			nls := &v1alpha1.NodeLocalStorage{}
			nls.Status.NodeStorageInfo.VolumeGroups = test.before
			kept := nls.Status.DeepCopy()
			got, _ := describe(sighting{lvm: lvm.Report{Groups: test.seen}}, nls, volume.DefaultDriver, []string{"pool"})
			want := v1alpha1.VolumeGroup{Name: "pool", Condition: v1alpha1.StorageFault, LogicalVolumes: test.want}
			at := slices.IndexFunc(got.NodeStorageInfo.VolumeGroups, func(g v1alpha1.VolumeGroup) bool { return g.Name == "pool" })
			if diff := cmp.Diff(want, got.NodeStorageInfo.VolumeGroups[at], cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("group (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(kept, &nls.Status); diff != "" {
				t.Errorf("the last report was changed (-want +got):\n%s", diff)
			}
		})
	}
}
