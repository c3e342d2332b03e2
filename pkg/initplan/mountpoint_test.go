package initplan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

func TestMountPoints(t *testing.T) {
	const at = "/mnt/open-local/a"
	ours := initplan.FileSystemUUID("n1", at)
	entry := v1alpha1.MountPointToBeInited{Path: at, Device: "/dev/vdd", Options: []string{"noatime"}}
	edited := func(edit func(*v1alpha1.MountPointToBeInited)) []v1alpha1.MountPointToBeInited {
		e := entry
		edit(&e)
		return []v1alpha1.MountPointToBeInited{e}
	}
	found := func(device, uuid string) func(*initplan.Node) {
		return func(n *initplan.Node) {
			n.FileSystems = append(n.FileSystems, initplan.FileSystem{Device: device, Resolved: device, Type: "ext4", UUID: uuid})
		}
	}
	mounted := func(path, resolved, uuid string) func(*initplan.Node) {
		return func(n *initplan.Node) {
			n.Mounts = append(n.Mounts, initplan.Mount{Path: path, Resolved: resolved, UUID: uuid})
		}
	}
	knownMount := func(n *initplan.Node) { n.KnownMounts = []string{at} }
	holdsExt4 := objected("/dev/vdd", "HasSignature", "carries ext4")
	create := []initplan.Step{initplan.MakeFileSystem{Path: at, Device: "/dev/vdd", FSType: "ext4", UUID: ours}}
	mount := func(device string) []initplan.Step {
		return []initplan.Step{initplan.MountFileSystem{Path: at, Device: device, FSType: "ext4", Options: []string{"noatime"}, UUID: ours}}
	}
	for name, tc := range map[string]struct {
		mounts []v1alpha1.MountPointToBeInited // one entry when nil
		groups []v1alpha1.VGToBeInited
		seen   initplan.Node
		steps  []initplan.Step
		want   string // the reason of the first problem
	}{
		"a blank device gets a file system":        {seen: node(nil, blank("/dev/vdd")), steps: create},
		"the file system that was made is mounted": {seen: node(nil, holdsExt4, found("/dev/vdd", ours)), steps: mount("/dev/vdd")},
		"it is mounted also when its device is called otherwise, and the other is left alone": {
			seen: node(nil, blank("/dev/vdd"), found("/dev/vde", ours)), steps: mount("/dev/vde"),
		},
		"it is mounted also when the named device is gone":  {seen: node(nil, found("/dev/vde", ours)), steps: mount("/dev/vde")},
		"what is mounted is as it should be":                {seen: node(nil, holdsExt4, mounted(at, "/dev/vdd", ours))},
		"so is what somebody else made and mounted there":   {seen: node(nil, holdsExt4, mounted(at, "/dev/vdd", "foreign"))},
		"so is what was made and is called otherwise":       {seen: node(nil, blank("/dev/vdd"), mounted(at, "/dev/vde", ours))},
		"another device is mounted there":                   {seen: node(nil, blank("/dev/vdd"), mounted(at, "/dev/vde", "foreign")), want: initplan.MountedOtherwise},
		"a foreign file system is reported and not touched": {seen: node(nil, holdsExt4, found("/dev/vdd", "foreign")), want: "HasSignature"},
		"a file system that was made and is gone is not made anew": {
			seen: node(nil, blank("/dev/vdd"), knownMount), want: initplan.MountPointMissing,
		},
		"nor when the device is gone with it": {seen: node(nil, knownMount), want: initplan.MountPointMissing},
		"two copies of it": {
			seen: node(nil, holdsExt4, found("/dev/vdd", ours), found("/dev/vde", ours)), want: initplan.SameIdentity,
		},
		"there is no such device": {seen: node(nil), want: initplan.DeviceMissing},
		"the device is listed for a group, too": {
			groups: []v1alpha1.VGToBeInited{wanted("pool", "/dev/vdd")}, seen: node(nil, blank("/dev/vdd")), want: initplan.DeviceListedTwice,
		},
		"the device is in a group":          {seen: node(groups(group("pool", "/dev/vdd")), blank("/dev/vdd")), want: initplan.InOtherGroup},
		"the device is an orphan":           {seen: node(nil, orphan("/dev/vdd")), want: initplan.OrphanPV},
		"the device is listed twice":        {mounts: []v1alpha1.MountPointToBeInited{entry, {Path: "/mnt/b", Device: "/dev/vdd"}}, seen: node(nil, blank("/dev/vdd")), want: initplan.DeviceListedTwice},
		"the mount point is listed twice":   {mounts: []v1alpha1.MountPointToBeInited{entry, entry}, seen: node(nil, blank("/dev/vdd")), want: initplan.MountListedTwice},
		"something would be hidden there":   {seen: node(nil, blank("/dev/vdd"), func(n *initplan.Node) { n.Occupied = map[string]string{at: "is not empty"} }), want: initplan.NotEmpty},
		"a file system that we do not make": {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.FsType = "vfat" }), seen: node(nil, blank("/dev/vdd")), want: initplan.UnsupportedFileSystem},
		"a device that is no device":        {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Device = "/etc/passwd" }), seen: node(nil), want: initplan.InvalidDevicePath},
		"an option that is another command": {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Options = []string{"remount"} }), seen: node(nil, blank("/dev/vdd")), want: initplan.InvalidMountOption},
		"an option that is two":             {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Options = []string{"ro,bind"} }), seen: node(nil, blank("/dev/vdd")), want: initplan.InvalidMountOption},
		"an option that is a flag":          {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Options = []string{"-f"} }), seen: node(nil, blank("/dev/vdd")), want: initplan.InvalidMountOption},
		"the root":                          {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Path = "/" }), seen: node(nil, blank("/dev/vdd")), want: initplan.InvalidMountPath},
		"a path of the kernel's":            {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Path = "/proc/x" }), seen: node(nil, blank("/dev/vdd")), want: initplan.InvalidMountPath},
		"a path that climbs":                {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Path = "/mnt/../etc" }), seen: node(nil, blank("/dev/vdd")), want: initplan.InvalidMountPath},
		"a path that is relative":           {mounts: edited(func(e *v1alpha1.MountPointToBeInited) { e.Path = "mnt" }), seen: node(nil, blank("/dev/vdd")), want: initplan.InvalidMountPath},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.mounts == nil {
				tc.mounts = []v1alpha1.MountPointToBeInited{entry}
			}
			tc.seen.Name = "n1"
			steps, problems := initplan.Make(v1alpha1.StorageSpec{ResourceToBeInited: v1alpha1.ResourceToBeInited{VGs: tc.groups, MountPoints: tc.mounts}}, tc.seen)
			if diff := cmp.Diff(tc.steps, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			var got string
			for _, p := range problems {
				if p.Area == initplan.OfMountPoints && got == "" {
					got = p.Reason
				}
			}
			if got != tc.want {
				t.Errorf("problems %v, want %q", problems, tc.want)
			}
		})
	}
}

func TestFileSystemsAreRecognisedByNodeAndPath(t *testing.T) {
	seen := map[string]bool{}
	for _, of := range [][2]string{{"n1", "/a"}, {"n1", "/b"}, {"n2", "/a"}, {"n", "1/a"}} {
		uuid := initplan.FileSystemUUID(of[0], of[1])
		if len(uuid) != 36 || uuid[14] != '5' || seen[uuid] || uuid != initplan.FileSystemUUID(of[0], of[1]) {
			t.Errorf("%q: UUID %s", of, uuid)
		}
		seen[uuid] = true
	}
}
