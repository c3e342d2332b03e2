package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/mounts"
)

// found is a block layer that found this, and takes the rest for blank.
type found map[string]blockdev.Finding // by path

func (found) Devices(context.Context) ([]blockdev.Device, error) { return nil, nil }

func (found) Inspect(context.Context, string) (blockdev.Evidence, error) {
	return blockdev.Evidence{}, errors.New("not asked for")
}

func (f found) Survey(_ context.Context, devices []blockdev.Device, _ func(blockdev.Device) bool) (map[string]blockdev.Finding, error) {
	all := map[string]blockdev.Finding{}
	for _, d := range devices {
		finding, special := f[d.Path]
		if !special {
			finding.Evidence = blockdev.Evidence{Type: d.Type, Size: 8 * mib}
		}
		finding.Exists, finding.IsBlock = true, true
		all[d.KernelName] = finding
	}
	return all, nil
}

func defaultPattern(t *testing.T) *regexp.Regexp {
	t.Helper()
	compiled, err := compilePattern(DefaultPattern)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestWhatKeepsADeviceFromBeingOffered(t *testing.T) {
	evidence := func(edit func(*blockdev.Evidence)) blockdev.Finding {
		e := blockdev.Evidence{Type: "disk", Size: 8 * mib}
		edit(&e)
		return blockdev.Finding{Evidence: e}
	}
	lvmMember := evidence(func(e *blockdev.Evidence) {
		e.Holders, e.Signatures = []string{"dm-0"}, []blockdev.Signature{{Type: "LVM2_member"}}
	})
	device := func(name, kind, id string) blockdev.Device {
		return blockdev.Device{Path: "/dev/" + name, KernelName: name, Type: kind, Size: 8 * mib, ID: id}
	}
	multipath := device("dm-7", "mpath", "dm-uuid-mpath-1")
	multipath.Path = "/dev/mapper/mpatha"
	a := &Agent{options: Options{HostRoot: t.TempDir()}, host: Host{Devices: found{
		"/dev/vda": evidence(func(e *blockdev.Evidence) { e.IsRoot, e.Partitions = true, []string{"vda1"} }),
		"/dev/vdc": lvmMember, "/dev/vdd": lvmMember,
		"/dev/vde": evidence(func(e *blockdev.Evidence) { e.Failing, e.Holders = "offline", []string{"dm-0"} }),
		"/dev/vdf": {Err: errors.New("no answer")},
		"/dev/sdb": evidence(func(e *blockdev.Evidence) { e.Holders = []string{"dm-7"} }),
	}}}
	a.pattern = defaultPattern(t)
	disks, _, err := a.survey(t.Context(), []blockdev.Device{
		device("vda", "disk", "a"), device("nvme0n1", "disk", "n"), device("vdc", "disk", "c"), device("vdd", "disk", "d"), device("vde", "disk", "e"),
		device("vdf", "disk", "f"), device("vdg", "disk", ""), device("sda", "disk", "same"), device("sdb", "disk", "same"), device("ubdb1", "part", "p"), multipath,
		device("loop0", "loop", ""), device("sr0", "rom", ""), device("zram0", "ram", ""), device("dm-0", "lvm", ""),
	}, map[string]string{"/dev/vdc": "pool", "/dev/vdd": "", "/dev/vde": "pool"}, sighting{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range disks {
		got[d.Path] = d.refused.Reason
	}
	want := map[string]string{
		"/dev/vda": blockdev.IsRoot, "/dev/nvme0n1": "", "/dev/vdc": inGroup, "/dev/vdd": initplan.OrphanPV, "/dev/vde": blockdev.IsFailing,
		"/dev/vdf": notInspected, "/dev/vdg": noIdentity, "/dev/sda": initplan.SameIdentity, "/dev/sdb": blockdev.HasHolder, "/dev/ubdb1": "", "/dev/mapper/mpatha": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("first objections (-want +got):\n%s", diff)
	}
}

func TestThePatternSaysWhichDevicesThereAre(t *testing.T) {
	for pattern, names := range map[string]map[string]bool{
		DefaultPattern: {
			"sda": true, "sdaa1": true, "vdb": true, "xvdc": true, "hda": true, "nvme0n1": true, "nvme10n2p3": true, "mmcblk0": true, "mmcblk0p1": true,
			"ubda": true, "ubdb1": true, "dasda": true, "md127": true, "md127p1": true, "md_d0": true, "dm-3": true, "pmem0": true, "pmem0.1s": true,
			"loop0": false, "sr0": false, "ram0": false, "zram0": false, "nbd0": false, "rbd0": false, "fd0": false, "mmcblk0boot0": false, "xsda": false, "sda-": false,
		},
		"^(s|v|xv)d[a-z]+$": {"sda": true, "sda1": false, "nvme0n1": false}, // as the first open-local had it
		"loop[0-9]+":        {"loop0": true, "sda": false},
	} {
		compiled, err := compilePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		a := &Agent{pattern: compiled}
		for name, want := range names {
			if got := a.worthReporting(blockdev.Device{KernelName: name, Type: "disk"}); got != want {
				t.Errorf("%s under %s: %t", name, pattern, got)
			}
		}
		if a.worthReporting(blockdev.Device{KernelName: "dm-3", Type: "lvm"}) {
			t.Errorf("a logical volume under %s", pattern)
		}
	}
}

func TestALoopDeviceThatIsAskedForIsOffered(t *testing.T) {
	e := blockdev.Evidence{Exists: true, IsBlock: true, Type: "loop", Size: mib, KernelName: "loop0"}
	for pattern, want := range map[string]int{"loop[0-9]+": 0, DefaultPattern: 1} {
		compiled, err := compilePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Agent{pattern: compiled}).objections(blockdev.Finding{Evidence: e}); len(got) != want {
			t.Errorf("under %s: objections %+v", pattern, got)
		}
	}
}

func TestADiskListedForSomethingIsNotOffered(t *testing.T) {
	a := &Agent{options: Options{HostRoot: t.TempDir()}}
	seen := sighting{listedFor: map[string]initplan.Objection{}}
	for _, name := range []string{"vdb", "vdc", "vdd", "vde"} {
		seen.disks = append(seen.disks, disk{Device: blockdev.Device{Path: "/dev/" + name, KernelName: name}})
	}
	a.noteWants(v1alpha1.StorageSpec{ResourceToBeInited: v1alpha1.ResourceToBeInited{
		VGs:         []v1alpha1.VGToBeInited{{Name: "pool", Devices: []string{"/dev/vdb"}}},
		MountPoints: []v1alpha1.MountPointToBeInited{{Path: "/mnt/open-local/c", Device: "/dev/vdc"}},
	}}, &seen)
	selector, problems := initplan.NewSelector("devices", v1alpha1.Selection{Include: []string{"/dev/vd[b-d]"}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got := map[string]string{}
	for _, d := range seen.disks {
		got[d.Path] = seen.unoffered(d, selector).Reason
	}
	want := map[string]string{"/dev/vdb": listedForGroup, "/dev/vdc": listedForMount, "/dev/vdd": "", "/dev/vde": notSelected}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

func TestWhatKeepsAMountPointFromBeingOffered(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"mnt/empty/lost+found", "mnt/full/data"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(target string, minor uint32) mounts.Mount {
		return mounts.Mount{Target: target, Root: "/", Options: []string{"rw"}, Major: 8, Minor: minor}
	}
	bind, readOnly := mount("/mnt/empty", 1), mount("/mnt/empty", 1)
	bind.Root, readOnly.Options = "/sub", []string{"ro"}
	all := []mounts.Mount{mount("/", 0), mount("/mnt/empty", 1), mount("/mnt/full", 2), mount("/mnt/twice", 3), mount("/var/lib/x", 3), mount("/mnt/deep", 4), mount("/mnt/deep/er", 5)}
	for name, tc := range map[string]struct {
		mount mounts.Mount
		id    string
		want  string
	}{
		"an empty file system":                        {all[1], "fsuuid-1", ""},
		"the root file system":                        {all[0], "fsuuid-1", blockdev.IsRoot},
		"one that holds something":                    {all[2], "fsuuid-1", notEmpty},
		"one that is mounted elsewhere, too":          {all[3], "fsuuid-1", mountedTwice},
		"one with another mounted below":              {all[5], "fsuuid-1", hasMountsBelow},
		"one that cannot be listed":                   {mount("/mnt/none", 9), "fsuuid-1", notListable},
		"one that nothing tells from another":         {all[1], "", noIdentity},
		"a part of a file system":                     {bind, "fsuuid-1", isBind},
		"one that is read-only":                       {readOnly, "fsuuid-1", blockdev.IsReadOnly},
		"a name that only begins like a mount's name": {mount("/mnt/dee", 8), "fsuuid-1", notListable},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unfit(fileSystem{Mount: tc.mount, id: tc.id}, all, root); got.Reason != tc.want {
				t.Errorf("got %+v, want %q", got, tc.want)
			}
		})
	}
}
