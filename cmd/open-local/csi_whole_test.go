package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

func TestWhatIsKnownOfADiskVolume(t *testing.T) {
	k := known{provision.NewStanding(), exclusive.NewBook(t.TempDir())}
	tags := append(volume.OwnerTags(volume.DefaultDriver, "", "shop", "data"), volume.LimitTags(volume.Limits{IOPS: 7})...)
	if err := k.book.Put(exclusive.Record{Volume: "v", Kind: volume.Device, ID: "wwn-1", State: exclusive.Ready, Tags: tags}); err != nil {
		t.Fatal(err)
	}
	if namespace, name, ok := k.Claim("v"); !ok || namespace != "shop" || name != "data" {
		t.Errorf("it is for %s/%s, %t", namespace, name, ok)
	}
	if diff := gocmp.Diff(volume.Limits{IOPS: 7}, k.Limits("v").Of(volume.Limits{})); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	if _, _, ok := k.Claim("other"); ok {
		t.Error("a volume that nobody knows is for somebody")
	}
	if diff := gocmp.Diff(volume.LimitChange{}, k.Limits("other")); diff != "" {
		t.Errorf("limits of a volume that nobody knows (-want +got):\n%s", diff)
	}
}

// pods are what the kubelet shows to pods, over devices that are always the same: a disk,
// one with a file system that is mounted at /mnt/data, and a logical volume.
type pods struct{ mountinfo string }

const (
	kubelet   = "/kubelet"
	published = kubelet + "/pods/1/volumes/kubernetes.io~csi/v/mount"
	raw       = kubelet + "/plugins/kubernetes.io/csi/volumeDevices/publish/v/1"
)

var numbers = map[string]uint64{
	"/dev/sdb": unix.Mkdev(8, 16), "/dev/sdc": unix.Mkdev(8, 32), "/dev/share/local-v": unix.Mkdev(253, 3), "/dev/mapper/share-local--v": unix.Mkdev(253, 3),
}

func (p pods) all() ([]mounts.Mount, error) {
	return mounts.ParseMountinfo([]byte("9 1 8:32 / /mnt/data rw - ext4 /dev/sdc rw\n" + p.mountinfo))
}

func (p pods) Below(dir string) ([]mounts.Mount, error) {
	all, err := p.all()
	return slices.DeleteFunc(all, func(m mounts.Mount) bool { return !strings.HasPrefix(m.Target, dir+"/") }), err
}

func (p pods) IsMounted(target string) (mounts.Mount, bool, error) {
	all, err := p.all()
	i := slices.IndexFunc(all, func(m mounts.Mount) bool { return m.Target == target })
	if i < 0 {
		return mounts.Mount{}, false, err
	}
	return all[i], true, err
}

func (p pods) Look(path string) (devfile.File, error) {
	if path == raw { // it is a device's file that is mounted there
		all, err := p.all()
		kernelName := strings.TrimPrefix(all[len(all)-1].Root, "/")
		return devfile.File{Device: map[string]uint64{"sdb": numbers["/dev/sdb"], "dm-3": numbers["/dev/share/local-v"]}[kernelName]}, err
	}
	number, there := numbers[path]
	if !there {
		return devfile.File{}, fs.ErrNotExist
	}
	return devfile.File{Device: number}, nil
}

func (pods) MappedName(number uint64) (string, error) {
	return map[uint64]string{numbers["/dev/share/local-v"]: "share-local--v"}[number], nil
}

func (pods) Devices(context.Context) ([]blockdev.Device, error) {
	return []blockdev.Device{
		{Path: "/dev/sdb", ID: "wwn-1", Major: 8, Minor: 16}, {Path: "/dev/sdc", ID: "wwn-2", UUID: "u", Major: 8, Minor: 32},
	}, nil
}

func TestLimitsAreLookedAfterAcrossARestart(t *testing.T) {
	const (
		id        = "local-v"
		none      = " rbps=max wbps=max riops=max wiops=max"
		asked     = " rbps=5 wbps=5 riops=max wiops=max"
		shownFS   = " / " + published + " rw - ext4 /dev/x rw\n"
		shownFile = "1 1 0:5 /sdb " + raw + " rw - devtmpfs udev rw\n"
	)
	limited := volume.LimitTags(volume.Limits{BPS: 5})
	disk := exclusive.Record{Volume: id, Kind: volume.Device, ID: "wwn-1", Path: "/dev/sdz", State: exclusive.Ready, Tags: limited}
	rawDisk, adopted, unlimited, clearing, lost := disk, disk, disk, disk, disk
	rawDisk.Block = true
	adopted.Adopted, adopted.Tags = true, nil
	unlimited.Tags = nil
	clearing.State = exclusive.Clearing
	lost.ID = "wwn-9"
	fileSystem := exclusive.Record{Volume: id, Kind: volume.MountPoint, ID: exclusive.FileSystemID("u"), Path: "/mnt/data", State: exclusive.Ready, Tags: limited}
	other, unmounted := fileSystem, fileSystem
	other.ID = exclusive.FileSystemID("u-of-another")
	unmounted.Path = "/mnt/other"
	for name, tc := range map[string]struct {
		record            exclusive.Record // or else a logical volume
		mountinfo, before string
		looked, ended     string // what was written when it was looked after, and when its use ended
	}{
		"a disk whose cgroup is made anew":                            {disk, "1 1 8:16" + shownFS, "", "8:16" + asked, "8:16" + none},
		"a disk that is held as it should be":                         {disk, "1 1 8:16" + shownFS, "8:16" + asked, "", "8:16" + none},
		"a raw disk whose cgroup is made anew":                        {rawDisk, shownFile, "", "8:16" + asked, "8:16" + none},
		"a raw disk that is held as it should be":                     {rawDisk, shownFile, "8:16" + asked, "", "8:16" + none},
		"a disk with btrfs, which has a number of its own":            {disk, "1 1 0:77 / " + published + " rw - btrfs /dev/sdb rw\n", "", "8:16" + asked, "8:16" + none},
		"a mount point whose cgroup is made anew":                     {fileSystem, "1 1 8:32" + shownFS, "", "8:32" + asked, "8:32" + none},
		"a mount point that is held as it should be":                  {fileSystem, "1 1 8:32" + shownFS, "8:32" + asked, "", "8:32" + none},
		"a raw logical volume that its pod has not opened":            {exclusive.Record{}, "1 1 0:5 /dm-3 " + raw + " rw - devtmpfs udev rw\n", "", "253:3" + asked, "253:3" + none},
		"a logical volume with a file system":                         {exclusive.Record{}, "1 1 253:3" + shownFS, "", "253:3" + asked, "253:3" + none},
		"only a PersistentVolume knew the limits":                     {adopted, shownFile, "8:16" + asked, "", "8:16" + none},
		"a disk that nobody was ever shown is not held":               {disk, "", "", "", ""},
		"a mount point that nobody was ever shown is not held":        {fileSystem, "", "", "", ""},
		"a logical volume that nobody was ever shown is not held":     {exclusive.Record{}, "", "", "", ""},
		"a disk that is mounted where no pod sees it is not held":     {disk, "1 1 8:16 / /srv rw - ext4 /dev/sdb rw\n", "", "", ""},
		"a disk that is shown and has no limits is not held":          {unlimited, shownFile, "", "", ""},
		"a disk that is being cleared is not held":                    {clearing, "", "8:16" + asked, "8:16" + none, ""},
		"a disk whose use ended while no process saw it is freed":     {rawDisk, "", "8:16" + asked, "8:16" + none, ""},
		"a mount point whose use ended while no process saw is freed": {fileSystem, "", "8:32" + asked, "8:32" + none, ""},
		"a logical volume whose use ended while no process saw it":    {exclusive.Record{}, "", "253:3" + asked, "253:3" + none, ""},
		"a disk that is gone":                                         {lost, shownFile, "", "", ""},
		"another file system is mounted where the volume has its":     {other, "1 1 8:32" + shownFS, "8:32" + asked, "", ""},
		"nothing is mounted where the volume has its file system":     {unmounted, "1 1 8:32" + shownFS, "8:32" + asked, "", ""},
		"a file system of the network, which is not even looked at":   {disk, "1 1 0:50 / " + published + " rw - nfs server:/x rw\n", "", "", ""},
		"somebody else's line on a disk that is no volume's is his":   {lost, "", "8:16" + asked, "", ""},
		"a limit that is another than the volume's, on a disk in use": {disk, shownFile, "8:16 rbps=7 wbps=7 riops=7 wiops=7", "8:16" + asked, "8:16" + none},
		"somebody else's line on a mapped device that is no volume's": {disk, shownFile + "2 1 253:9 / /kubelet/x rw - ext4 /dev/mapper/y rw\n", "253:9" + asked, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := provisiontest.New(t, map[string]capacity.Bytes{"share": 64 << 20})
			book := exclusive.NewBook(t.TempDir())
			if tc.record.Volume != "" {
				if err := book.Put(tc.record); err != nil {
					t.Fatal(err)
				}
			} else if _, err := n.Ensure(t.Context(), provision.Spec{ID: id, Kind: volume.LVM, Group: "share", Size: 4 << 20, Tags: limited}); err != nil {
				t.Fatal(err)
			}
			file := cgroup(t, tc.before)
			p := pods{tc.mountinfo}
			keeper := iolimit.NewKeeper(iolimit.Root(filepath.Dir(filepath.Dir(file))), p, known{n.Standing, book})
			former{kubelet: kubelet, book: book, blocks: p, mounts: p, devices: p, standing: n.Standing}.handOver(t.Context(), keeper)
			if err := keeper.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			is := cmp.Or(tc.looked, tc.before)
			wantLine(t, file, "it was looked after", is)
			if err := os.WriteFile(file, []byte(is), 0o600); err != nil { // as the kernel shows it
				t.Fatal(err)
			}
			if err := keeper.Release(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			wantLine(t, file, "its use ended", cmp.Or(tc.ended, is))
		})
	}
}

// cgroup makes a cgroup of all pods, and returns its file of limits.
func cgroup(t *testing.T, lines string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "kubepods/io.max")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("io\n"), 0o600),
		os.WriteFile(file, []byte(lines), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

func wantLine(t *testing.T, file, when, want string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if diff := gocmp.Diff(want, strings.TrimSpace(string(data))); diff != "" || err != nil {
		t.Errorf("%s: %v; limits (-want +got):\n%s", when, err, diff)
	}
}

// failing does not list devices the first time, as when a disk hangs.
type failing struct {
	pods
	calls *int
}

func (f failing) Devices(ctx context.Context) ([]blockdev.Device, error) {
	if *f.calls++; *f.calls == 1 {
		return nil, errors.New("a disk hangs")
	}
	return f.pods.Devices(ctx)
}

func TestNothingIsTakenOverWhileNobodyKnowsWhatIsThere(t *testing.T) {
	book := exclusive.NewBook(t.TempDir())
	if err := book.Put(exclusive.Record{Volume: "v", Kind: volume.Device, ID: "wwn-1", State: exclusive.Ready}); err != nil {
		t.Fatal(err)
	}
	const line = "8:16 rbps=5 wbps=5 riops=max wiops=max"
	file, standing, calls := cgroup(t, line), provision.NewStanding(), 0
	p := failing{calls: &calls}
	keeper := iolimit.NewKeeper(iolimit.Root(filepath.Dir(filepath.Dir(file))), p, known{standing, book})
	f := former{kubelet: kubelet, book: book, blocks: p, mounts: p, devices: p, standing: standing}
	for _, want := range []string{line, "8:16 rbps=max wbps=max riops=max wiops=max"} {
		if err := f.tryHandOver(t.Context(), keeper); (err != nil) != (want == line) {
			t.Fatal(err)
		}
		if err := keeper.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantLine(t, file, "it was looked after", want)
	}
}
