package initplan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

// spec asks for volume groups only.
func spec(groups ...v1alpha1.VGToBeInited) v1alpha1.StorageSpec {
	return v1alpha1.StorageSpec{ResourceToBeInited: v1alpha1.ResourceToBeInited{VGs: groups}}
}

func wanted(name string, devices ...string) v1alpha1.VGToBeInited {
	return v1alpha1.VGToBeInited{Name: name, Devices: devices}
}

// node has the groups given and the devices that edits make of nothing.
func node(groups []initplan.Group, edits ...func(*initplan.Node)) initplan.Node {
	n := initplan.Node{Groups: groups, Devices: map[string]initplan.Device{}}
	for _, edit := range edits {
		edit(&n)
	}
	return n
}

func blank(paths ...string) func(*initplan.Node) {
	return func(n *initplan.Node) {
		for _, path := range paths {
			n.Devices[path] = initplan.Device{Resolved: path}
		}
	}
}

func link(path, resolved string) func(*initplan.Node) {
	return func(n *initplan.Node) { n.Devices[path] = initplan.Device{Resolved: resolved} }
}

func objected(path, reason, message string) func(*initplan.Node) {
	return func(n *initplan.Node) {
		n.Devices[path] = initplan.Device{Resolved: path, Objections: []initplan.Objection{
			{Reason: reason, Message: message}, {Reason: "Second", Message: "is not said"},
		}}
	}
}

func orphan(path string) func(*initplan.Node) {
	return func(n *initplan.Node) {
		n.Devices[path] = initplan.Device{
			Resolved: path, Orphan: true,
			Objections: []initplan.Objection{{Reason: "HasSignature", Message: "has a signature"}},
		}
	}
}

func known(groups ...string) func(*initplan.Node) {
	return func(n *initplan.Node) { n.Known = groups }
}

func groups(g ...initplan.Group) []initplan.Group { return g }

func group(name string, devices ...string) initplan.Group {
	return initplan.Group{Name: name, Devices: devices}
}

func TestMake(t *testing.T) {
	partial := group("pool", "/dev/vdc")
	partial.Partial = true
	exported := group("pool", "/dev/vdc")
	exported.Exported = true

	for name, test := range map[string]struct {
		spec  v1alpha1.StorageSpec
		seen  initplan.Node
		steps []initplan.Step
		want  []string // problems as "Area Reason Object"
	}{
		"nothing asked, nothing done": {seen: node(groups(group("root", "/dev/vda3")))},
		"a group is made from a blank device": {
			spec:  spec(wanted("pool", "/dev/vdc")),
			seen:  node(nil, blank("/dev/vdc")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/vdc"}}},
		},
		"a group is made from all its devices at once, in the order of the spec": {
			spec:  spec(wanted("pool", "/dev/vdd", "/dev/vdc")),
			seen:  node(nil, blank("/dev/vdc", "/dev/vdd")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/vdd", "/dev/vdc"}}},
		},
		"a group that is there is left as it is": {
			spec: spec(wanted("pool", "/dev/vdc")),
			seen: node(groups(group("pool", "/dev/vdc")), objected("/dev/vdc", "HasSignature", "is LVM2_member")),
		},
		"a device added to the list extends the group": {
			spec:  spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen:  node(groups(group("pool", "/dev/vdc")), objected("/dev/vdc", "HasSignature", "is LVM2_member"), blank("/dev/vdd")),
			steps: []initplan.Step{initplan.ExtendGroup{Group: "pool", Devices: []string{"/dev/vdd"}}},
		},
		"a device taken off the list stays in the group": {
			spec: spec(wanted("pool", "/dev/vdc")),
			seen: node(groups(group("pool", "/dev/vdc", "/dev/vdd")), blank("/dev/vdc")),
		},
		"a group somebody else made is extended by what is listed and blank": {
			spec:  spec(wanted("theirs", "/dev/vdc")),
			seen:  node(groups(group("theirs", "/dev/sda3")), blank("/dev/vdc")),
			steps: []initplan.Step{initplan.ExtendGroup{Group: "theirs", Devices: []string{"/dev/vdc"}}},
		},
		"a device with data is a problem that names it, the blank one is used": {
			spec:  spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen:  node(nil, objected("/dev/vdc", "HasSignature", "holds ext4"), blank("/dev/vdd")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/vdd"}}},
			want:  []string{"GroupsReady HasSignature /dev/vdc"},
		},
		"with no blank device nothing is made": {
			spec: spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen: node(nil, objected("/dev/vdc", "Mounted", "is mounted"), objected("/dev/vdd", "HasPartitions", "has partitions")),
			want: []string{"GroupsReady Mounted /dev/vdc", "GroupsReady HasPartitions /dev/vdd"},
		},
		"a device that is not there is a problem": {
			spec: spec(wanted("pool", "/dev/vdx")),
			seen: node(nil),
			want: []string{"GroupsReady DeviceMissing /dev/vdx"},
		},
		"a missing device does not keep a new group from being made": {
			spec:  spec(wanted("pool", "/dev/vdc", "/dev/vdx")),
			seen:  node(nil, blank("/dev/vdc")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/vdc"}}},
			want:  []string{"GroupsReady DeviceMissing /dev/vdx"},
		},
		"a group that was here is not made anew while a device of it is missing": {
			spec: spec(wanted("pool", "/dev/vdc", "/dev/vdx")),
			seen: node(nil, blank("/dev/vdc"), known("pool")),
			want: []string{"GroupsReady DeviceMissing /dev/vdx", "GroupsReady GroupMissing pool"},
		},
		"a group that was here is missed though none of its devices is there": {
			spec: spec(wanted("pool", "/dev/vdc", "/dev/vdx")),
			seen: node(nil, known("pool")),
			want: []string{"GroupsReady DeviceMissing /dev/vdc", "GroupsReady DeviceMissing /dev/vdx", "GroupsReady GroupMissing pool"},
		},
		"a lone orphan is one problem, not two": {
			spec: spec(wanted("pool", "/dev/vdc")),
			seen: node(nil, orphan("/dev/vdc")),
			want: []string{"GroupsReady OrphanPhysicalVolume /dev/vdc"},
		},
		"a group that was here is made anew when every device is there and blank": {
			spec:  spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen:  node(nil, blank("/dev/vdc", "/dev/vdd"), known("pool")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/vdc", "/dev/vdd"}}},
		},
		"a group is not made while a listed device belongs to a group nobody can find": {
			spec: spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen: node(nil, blank("/dev/vdc"), orphan("/dev/vdd")),
			want: []string{"GroupsReady OrphanPhysicalVolume /dev/vdd", "GroupsReady GroupMissing pool"},
		},
		"a device in another group is never taken": {
			spec: spec(wanted("pool", "/dev/vdc")),
			seen: node(groups(group("root", "/dev/vdc")), objected("/dev/vdc", "HasSignature", "is LVM2_member")),
			want: []string{"GroupsReady InOtherGroup /dev/vdc"},
		},
		"a device in another group is never taken, even when it looks blank": {
			spec: spec(wanted("pool", "/dev/disk/by-id/x")),
			seen: node(groups(group("root", "/dev/vdc")), link("/dev/disk/by-id/x", "/dev/vdc")),
			want: []string{"GroupsReady InOtherGroup /dev/disk/by-id/x"},
		},
		"a device listed for two groups goes to neither": {
			spec: spec(wanted("a", "/dev/vdc"), wanted("b", "/dev/vdc")),
			seen: node(nil, blank("/dev/vdc")),
			want: []string{"GroupsReady DeviceListedTwice /dev/vdc", "GroupsReady DeviceListedTwice /dev/vdc"},
		},
		"a device listed for two groups by two names goes to neither": {
			spec: spec(wanted("a", "/dev/vdc"), wanted("b", "/dev/disk/by-id/x", "/dev/vdd")),
			seen: node(nil, blank("/dev/vdc", "/dev/vdd"), link("/dev/disk/by-id/x", "/dev/vdc")),
			steps: []initplan.Step{
				initplan.CreateGroup{Group: "b", Devices: []string{"/dev/vdd"}},
			},
			want: []string{"GroupsReady DeviceListedTwice /dev/vdc", "GroupsReady DeviceListedTwice /dev/disk/by-id/x"},
		},
		"a device listed for two groups that is in one already stays there": {
			spec: spec(wanted("a", "/dev/vdc"), wanted("b", "/dev/vdc")),
			seen: node(groups(group("a", "/dev/vdc")), blank("/dev/vdc")),
			want: []string{"GroupsReady InOtherGroup /dev/vdc"},
		},
		"one device by two names is taken once": {
			spec:  spec(wanted("pool", "/dev/disk/by-id/x", "/dev/vdc", "/dev/vdc")),
			seen:  node(nil, blank("/dev/vdc"), link("/dev/disk/by-id/x", "/dev/vdc")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/disk/by-id/x"}}},
		},
		"two entries for one group are one group": {
			spec:  spec(wanted("pool", "/dev/vdc"), wanted("other", "/dev/vde"), wanted("pool", "/dev/vdd")),
			seen:  node(nil, blank("/dev/vdc", "/dev/vdd", "/dev/vde")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/vdc", "/dev/vdd"}}, initplan.CreateGroup{Group: "other", Devices: []string{"/dev/vde"}}},
		},
		"a partial group is left alone": {
			spec: spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen: node(groups(partial), blank("/dev/vdd")),
			want: []string{"GroupsReady GroupPartial pool"},
		},
		"an exported group is left alone": {
			spec: spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen: node(groups(exported), blank("/dev/vdd")),
			want: []string{"GroupsReady GroupExported pool"},
		},
		"two groups of one name are left alone": {
			spec: spec(wanted("pool", "/dev/vdd")),
			seen: node(groups(group("pool", "/dev/vdc"), group("pool", "/dev/vde")), blank("/dev/vdd")),
			want: []string{"GroupsReady GroupAmbiguous pool"},
		},
		"a trouble with one group does not keep another from being made": {
			spec:  spec(wanted("pool", "/dev/vdd"), wanted("next", "/dev/vde")),
			seen:  node(groups(partial), blank("/dev/vdd", "/dev/vde")),
			steps: []initplan.Step{initplan.CreateGroup{Group: "next", Devices: []string{"/dev/vde"}}},
			want:  []string{"GroupsReady GroupPartial pool"},
		},
		"a name LVM does not accept is a problem": {
			spec: spec(wanted("-f", "/dev/vdc"), wanted("a b", "/dev/vdc"), wanted("", "/dev/vdc"), wanted("..", "/dev/vdc")),
			seen: node(nil, blank("/dev/vdc")),
			want: []string{"GroupsReady InvalidGroupName -f", "GroupsReady InvalidGroupName a b", "GroupsReady InvalidGroupName ", "GroupsReady InvalidGroupName .."},
		},
		"no device is a problem": {
			spec: spec(wanted("pool")),
			seen: node(nil),
			want: []string{"GroupsReady NoDevices pool"},
		},
		"no device is none when the group is there": {
			spec: spec(wanted("pool")),
			seen: node(groups(group("pool", "/dev/vdc"))),
		},
		"paths that are not plain paths below /dev are problems, even if something is there": {
			spec: spec(wanted("pool", "vdc", "/dev/../etc/passwd", "/etc/passwd", "/dev/", "/dev", "--force", "", "/dev/vd c", "/dev//vdc", "/dev/vdc\n")),
			seen: node(nil, blank("vdc", "/dev/../etc/passwd", "/etc/passwd", "/dev/", "/dev", "--force", "", "/dev/vd c", "/dev//vdc", "/dev/vdc\n")),
			want: []string{
				"GroupsReady InvalidDevicePath vdc", "GroupsReady InvalidDevicePath /dev/../etc/passwd", "GroupsReady InvalidDevicePath /etc/passwd",
				"GroupsReady InvalidDevicePath /dev/", "GroupsReady InvalidDevicePath /dev", "GroupsReady InvalidDevicePath --force", "GroupsReady InvalidDevicePath ",
				"GroupsReady InvalidDevicePath /dev/vd c", "GroupsReady InvalidDevicePath /dev//vdc", "GroupsReady InvalidDevicePath /dev/vdc\n",
			},
		},
		"an adopted group that lacks a disk is told of, and one that nobody manages is not": {
			spec: v1alpha1.StorageSpec{ListConfig: v1alpha1.ListConfig{VGs: v1alpha1.Selection{Include: []string{"poo."}}}},
			seen: node(groups(partial, initplan.Group{Name: "other", Partial: true})),
			want: []string{"GroupsReady GroupPartial pool"},
		},
		"a disk that has grown grows its group, once it is extended by what is new": {
			spec: spec(wanted("pool", "/dev/vdc", "/dev/vdd")),
			seen: node(groups(initplan.Group{Name: "pool", Devices: []string{"/dev/vdc"}, Grown: []string{"/dev/vdc"}}), blank("/dev/vdc", "/dev/vdd")),
			steps: []initplan.Step{
				initplan.ExtendGroup{Group: "pool", Devices: []string{"/dev/vdd"}}, initplan.GrowDevice{Group: "pool", Device: "/dev/vdc"},
			},
		},
		"a disk that has grown does not grow a group of others": {
			spec: v1alpha1.StorageSpec{ListConfig: v1alpha1.ListConfig{VGs: v1alpha1.Selection{Include: []string{".*"}}}},
			seen: node(groups(initplan.Group{Name: "theirs", Devices: []string{"/dev/vdc"}, Grown: []string{"/dev/vdc"}})),
		},
		"a disk that has grown does not grow a group that lacks another": {
			spec: spec(wanted("pool", "/dev/vdc")),
			seen: node(groups(initplan.Group{Name: "pool", Devices: []string{"/dev/vdc"}, Grown: []string{"/dev/vdc"}, Partial: true})),
			want: []string{"GroupsReady GroupPartial pool"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps, problems := initplan.Make(test.spec, test.seen)
			if diff := cmp.Diff(test.steps, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			var got []string
			for _, p := range problems {
				got = append(got, string(p.Area)+" "+p.Reason+" "+p.Object)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMakeSaysWhy(t *testing.T) {
	_, problems := initplan.Make(
		spec(wanted("pool", "/dev/vdc")),
		node(nil, objected("/dev/vdc", "HasSignature", "holds an ext4 file system")),
	)
	want := []initplan.Problem{{
		Area: initplan.OfGroups, Reason: "HasSignature", Object: "/dev/vdc",
		Message: "device /dev/vdc was not added to volume group pool: it holds an ext4 file system",
	}}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestStepsCanBeRead(t *testing.T) {
	for want, step := range map[string]initplan.Step{
		"create volume group pool from /dev/vdc, /dev/vdd":                                     initplan.CreateGroup{Group: "pool", Devices: []string{"/dev/vdc", "/dev/vdd"}},
		"grow volume group pool into what /dev/vdc has become larger by":                       initplan.GrowDevice{Group: "pool", Device: "/dev/vdc"},
		"destroy all that is on /dev/vdc (wwn-0x1, contents 3f2a), as the spec asks":           initplan.WipeDevice{ID: "wwn-0x1", Device: "/dev/vdc", Contents: "3f2a", Agreed: "3f2a"},
		"go on destroying all that was on /dev/vdc (wwn-0x1, contents 3f2a), as the spec asks": initplan.WipeDevice{ID: "wwn-0x1", Device: "/dev/vdc", Contents: "77c0", Agreed: "3f2a"},
		"make an xfs file system on /dev/vdd for mount point /mnt/a":                           initplan.MakeFileSystem{Path: "/mnt/a", Device: "/dev/vdd", FSType: "xfs"},
		"mount the xfs file system on /dev/vdd at /mnt/a":                                      initplan.MountFileSystem{Path: "/mnt/a", Device: "/dev/vdd", FSType: "xfs"},
		"extend volume group pool by /dev/vdc":                                                 initplan.ExtendGroup{Group: "pool", Devices: []string{"/dev/vdc"}},
	} {
		if got := step.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDevicesToInspect(t *testing.T) {
	got := initplan.DevicesToInspect(spec(wanted("a", "/dev/vdc", "-f", "/dev/../x"), wanted("b", "/dev/vdc", "/dev/vdd")))
	if diff := cmp.Diff([]string{"/dev/vdc", "/dev/vdd"}, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

// TestMakeNeverTouchesWhatItMustNot draws nodes and specs at random and holds the
// plan to what must be true of every plan.
func TestMakeNeverTouchesWhatItMustNot(t *testing.T) {
	paths := []string{"/dev/a", "/dev/b", "/dev/c", "/dev/d", "/dev/link", "relative", "/dev/../x"}
	names := []string{"one", "two", "three", "-bad"}
	rapid.Check(t, func(t *rapid.T) {
		seen := initplan.Node{Devices: map[string]initplan.Device{}}
		for _, path := range paths {
			switch rapid.IntRange(0, 4).Draw(t, path) {
			case 0: // missing
			case 1, 2:
				seen.Devices[path] = initplan.Device{Resolved: path}
			case 3:
				seen.Devices[path] = initplan.Device{Resolved: path, Objections: []initplan.Objection{{Reason: "HasSignature"}}}
			case 4:
				seen.Devices[path] = initplan.Device{Resolved: rapid.SampledFrom(paths[:4]).Draw(t, "target")}
			}
		}
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 3).Draw(t, "groups") {
			seen.Groups = append(seen.Groups, initplan.Group{
				Name: name, Devices: rapid.SliceOfN(rapid.SampledFrom(paths[:4]), 1, 2).Draw(t, "pvs"),
				Partial: rapid.Bool().Draw(t, "partial"),
			})
		}
		var wants []v1alpha1.VGToBeInited
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(t, "wants") {
			wants = append(wants, wanted(name, rapid.SliceOfN(rapid.SampledFrom(paths), 0, 4).Draw(t, "devices")...))
		}

		steps, problems := initplan.Make(spec(wants...), seen)
		used := map[string]bool{}
		inGroup := map[string]bool{}
		exists := map[string]bool{}
		for _, g := range seen.Groups {
			exists[g.Name] = true
			for _, d := range g.Devices {
				inGroup[d] = true
			}
		}
		for _, step := range steps {
			var devices []string
			switch s := step.(type) {
			case initplan.CreateGroup:
				if exists[s.Group] {
					t.Fatalf("%s, which exists", s)
				}
				devices = s.Devices
			case initplan.ExtendGroup:
				if !exists[s.Group] {
					t.Fatalf("%s, which does not exist", s)
				}
				devices = s.Devices
			}
			if len(devices) == 0 {
				t.Fatalf("%s: no device", step)
			}
			for _, path := range devices {
				device := seen.Devices[path]
				switch {
				case device.Resolved == "", len(device.Objections) > 0:
					t.Fatalf("%s: %s is not blank", step, path)
				case used[device.Resolved]:
					t.Fatalf("%s: %s is used twice", step, path)
				case inGroup[device.Resolved]:
					t.Fatalf("%s: %s is in a group", step, path)
				}
				used[device.Resolved] = true
			}
		}
		for _, p := range problems {
			if p.Reason == "" || p.Message == "" || p.Area == "" {
				t.Fatalf("a problem without reason, area or message: %+v", p)
			}
		}
	})
}
