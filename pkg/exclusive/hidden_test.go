package exclusive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/volume"
)

// looks counts how often the devices of a host are listed.
type looks struct {
	*host
	count int
}

func (l *looks) Devices(ctx context.Context) ([]blockdev.Device, error) {
	l.count++
	return l.host.Devices(ctx)
}

func TestWhatVolumesHaveIsHiddenByItsPresentName(t *testing.T) {
	root := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		file = filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/partitions", "sdb sdc")
	write("sys/class/block/sdb/diskseq", "1")
	write("sys/class/block/sdc/diskseq", "2")
	host := &looks{host: &host{broken: map[string]error{}, disks: []blockdev.Device{{Path: "/dev/sdb", KernelName: "sdb", ID: "wwn-1"}, {Path: "/dev/sdc", KernelName: "sdc", ID: "wwn-2"}, {Path: "/dev/sdd", KernelName: "sdd"}}}}
	hidden := &Hidden{Book: NewBook(root), Host: host, Root: root}
	want := func(when string, looks int, names ...string) {
		t.Helper()
		got, err := hidden.Names(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Errorf("%s: hidden (-want +got):\n%s", when, diff)
		}
		if host.count != looks {
			t.Errorf("%s: the devices were listed %d times, want %d", when, host.count, looks)
		}
	}
	put := func(id string, kind volume.Kind) {
		t.Helper()
		if err := hidden.Book.Put(Record{Volume: "local-" + id, ID: id, Kind: kind, State: Ready}); err != nil {
			t.Fatal(err)
		}
	}

	want("no volume has anything", 0)
	put("uuid-of-a-file-system", volume.MountPoint)
	want("a mount point is the host's own", 0)
	put("wwn-1", volume.Device)
	want("a disk", 1, "/dev/sdb")
	want("again", 1, "/dev/sdb")

	for i, name := range []string{"sdc", "sdb"} {
		host.disks[i].Path, host.disks[i].KernelName = "/dev/"+name, name
	}
	write("sys/class/block/sdb/diskseq", "4")
	write("sys/class/block/sdc/diskseq", "3")
	want("two disks of one size have swapped their names", 2, "/dev/sdc")

	host.broken["devices"] = errors.New("lsblk crashed")
	write("proc/partitions", "sdb sdc sde")
	if got, err := hidden.Names(t.Context()); err == nil || !cmp.Equal(got, []string{"/dev/sdc"}) {
		t.Errorf("the devices cannot be listed: %q, %v, want what was known and an error", got, err)
	}
	want("they can again", 4, "/dev/sdc")

	if err := hidden.Book.Forget("local-wwn-1"); err != nil {
		t.Fatal(err)
	}
	want("it was given back", 4)
}

func TestWhatVolumesHaveIsHiddenUnderAllItsNames(t *testing.T) {
	root := t.TempDir()
	link := func(path, target string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "proc"), 0o755), os.WriteFile(filepath.Join(root, "proc/partitions"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	host := &looks{host: &host{broken: map[string]error{}, disks: []blockdev.Device{
		{Path: "/dev/sdb", KernelName: "sdb", ID: "wwn-1"},
		{Path: "/dev/sdb1", KernelName: "sdb1", Type: "part", Parents: []string{"sdb"}},
		{Path: "/dev/mapper/tenants", KernelName: "dm-0", Type: "lvm", Parents: []string{"sdb1"}},
		{Path: "/dev/sdc", KernelName: "sdc", ID: "wwn-2"},
		{Path: "/dev/mapper/mpatha", KernelName: "dm-1", Type: "mpath", ID: "dm-uuid-1"},
		{Path: "/dev/mapper/mpatha1", KernelName: "dm-2", Type: "part", Parents: []string{"dm-1"}},
	}}}
	hidden := &Hidden{Book: NewBook(root), Host: host, Root: root}
	want := func(when string, names ...string) {
		t.Helper()
		got, err := hidden.Names(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Errorf("%s: hidden (-want +got):\n%s", when, diff)
		}
	}
	for _, id := range []string{"wwn-1", "dm-uuid-1"} {
		if err := hidden.Book.Put(Record{Volume: "local-" + id, ID: id, Kind: volume.Device, State: Ready}); err != nil {
			t.Fatal(err)
		}
	}

	nodes := []string{"/dev/sdb", "/dev/mapper/mpatha", "@/dev/sdb1", "@/dev/dm-1", "@/dev/dm-2"}
	want("a host without udev, and nothing in /dev", nodes...)

	link("dev/disk/by-id/wwn-1", "../../sdb")
	link("dev/disk/by-id/wwn-1-part1", "../../sdb1")
	link("dev/disk/by-id/wwn-2", "../../sdc")
	link("dev/disk/by-label/a b", "/dev/mapper/mpatha1")
	link("dev/mapper/mpatha", "../dm-1")
	link("dev/mapper/mpatha1", "../dm-2")
	link("dev/mapper/tenants", "../dm-0")
	link("dev/circle", "circle")
	link("dev/nowhere", "sdz")
	want("udev is done", append(nodes, "@/dev/disk/by-id/wwn-1", "@/dev/disk/by-id/wwn-1-part1", "@/dev/disk/by-label/a b",
		"@/dev/mapper/mpatha", "@/dev/mapper/mpatha1")...)
	if host.count != 1 {
		t.Errorf("the devices were listed %d times: links start no process", host.count)
	}
}
