//go:build root

package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/hostexec"
)

// These tests want root, LVM with a device-mapper, and two blank disks in LAB_DISKS,
// separated by commas. They overwrite the disks.

type lab struct {
	*testing.T
	host *Host
	disk string
}

func newLab(t *testing.T) lab {
	t.Helper()
	disk, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	if disk == "" {
		t.Fatal("set LAB_DISKS to blank disks that may be overwritten, such as /dev/ubdb,/dev/ubdc")
	}
	l := lab{t, New(hostexec.OnHost("/"), "/"), disk}
	devtest.Blank(t, disk)
	l.Cleanup(func() { devtest.Blank(t, disk) })
	return l
}

func (l lab) run(program string, args ...string) string {
	l.Helper()
	out, err := hostexec.OnHost("/").Run(l.Context(), program, args...)
	if err != nil {
		l.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// wantReasons inspects a device and compares the reasons against it.
func (l lab) wantReasons(path string, want ...string) Evidence {
	l.Helper()
	e, err := l.host.Inspect(l.Context(), path)
	if err != nil {
		l.Fatal(err)
	}
	var got []string
	for _, o := range Objections(e) {
		got = append(got, o.Reason)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.Errorf("reasons against %s (-want +got):\n%s\nevidence %+v", path, diff, e)
	}
	return e
}

// wantDevice returns what the list says of a device.
func (l lab) wantDevice(kernelName string) Device {
	l.Helper()
	devices, err := l.host.Devices(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	for _, d := range devices {
		if d.KernelName == kernelName {
			return d
		}
	}
	l.Fatalf("%s is not among %+v", kernelName, devices)
	return Device{}
}

func TestABlankDiskIsProvablyBlank(t *testing.T) {
	l := newLab(t)
	e := l.wantReasons(l.disk)
	if e.Size == 0 || e.Type != "disk" || e.Resolved != l.disk || e.KernelName != filepath.Base(l.disk) || e.Major == 0 {
		t.Errorf("evidence %+v", e)
	}
	d := l.wantDevice(e.KernelName)
	want := Device{
		Path: l.disk, KernelName: e.KernelName, Type: "disk", Size: e.Size, Rotational: e.Rotational, Major: e.Major, Minor: e.Minor,
		WWN: d.WWN, Serial: d.Serial, Model: d.Model, ID: "serial-" + d.Serial,
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("device (-want +got):\n%s", diff)
	}
}

func TestALinkToABlankDiskIsThatDisk(t *testing.T) {
	l := newLab(t)
	if err := os.MkdirAll("/dev/disk/by-test", 0o700); err != nil {
		t.Fatal(err)
	}
	link := "/dev/disk/by-test/blank"
	if err := os.Symlink("../../"+filepath.Base(l.disk), link); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(link) }()
	if e := l.wantReasons(link); e.Resolved != l.disk {
		t.Errorf("the link leads to %s, want %s", e.Resolved, l.disk)
	}
}

func TestWhatIsNoDisk(t *testing.T) {
	l := newLab(t)
	l.wantReasons("/dev/no-such-disk", NotFound)
	l.wantReasons("/dev/null", NotABlock)
	l.wantReasons("/dev/shm", NotABlock)
	file := "/dev/shm/loop.img"
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(file) }()
	loop := l.run("losetup", "--find", "--show", file)
	defer l.run("losetup", "--detach", loop)
	l.wantReasons(loop, WrongType)
}

func TestAFileSystemIsSeenWhetherMountedOrNot(t *testing.T) {
	l := newLab(t)
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			l := lab{t, l.host, l.disk}
			l.run("mkfs."+fsType, "-q", l.disk)
			defer devtest.Blank(t, l.disk)
			e := l.wantReasons(l.disk, HasSignature)
			if e.Signatures[0].Type != fsType || e.Signatures[0].UUID == "" {
				t.Errorf("signatures %+v", e.Signatures)
			}
			dir := t.TempDir()
			if err := unix.Mount(l.disk, dir, fsType, 0, ""); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Unmount(dir, 0) }()
			e = l.wantReasons(l.disk, IsMounted, HasSignature, IsInUse)
			if diff := cmp.Diff([]string{dir}, e.Mountpoints); diff != "" {
				t.Errorf("mount points (-want +got):\n%s", diff)
			}
			if got := l.wantDevice(e.KernelName).UUID; got != e.Signatures[0].UUID {
				t.Errorf("UUID in the list %q, want %q", got, e.Signatures[0].UUID)
			}
			if diff := cmp.Diff([]string{dir}, l.wantDevice(e.KernelName).Mountpoints); diff != "" {
				t.Errorf("mount points in the list (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSwapIsSeen(t *testing.T) {
	l := newLab(t)
	l.run("mkswap", l.disk)
	l.wantReasons(l.disk, HasSignature)
	l.run("swapon", l.disk)
	defer l.run("swapoff", l.disk)
	e := l.wantReasons(l.disk, IsSwap, HasSignature, IsInUse)
	if !l.wantDevice(e.KernelName).Swap {
		t.Error("the list does not say that the disk is swapped to")
	}
}

// partition writes a partition table of the oldest kind, with partitions of 20 MiB.
func partition(t *testing.T, disk string, count int) {
	t.Helper()
	const sectors = 20 << 20 / 512
	table := make([]byte, 512)
	for i := range count {
		entry := table[446+16*i:]
		entry[4] = 0x83 // Linux
		binary.LittleEndian.PutUint32(entry[8:], uint32((i+1)*sectors))
		binary.LittleEndian.PutUint32(entry[12:], sectors)
	}
	copy(table[510:], "\x55\xaa")
	file, err := os.OpenFile(disk, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.Write(table)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestPartitionsAreSeen(t *testing.T) {
	l := newLab(t)
	partition(t, l.disk, 2)
	l.run("blockdev", "--rereadpt", l.disk)
	defer func() {
		l.run("wipefs", "--all", "--force", "--quiet", l.disk)
		l.wantReasons(l.disk, HasPartitions) // the kernel knows them until it looks again
		l.run("blockdev", "--rereadpt", l.disk)
		l.wantReasons(l.disk, HasData) // more than the signatures of a table is left of it
		devtest.Blank(t, l.disk)
		l.wantReasons(l.disk)
	}()
	e := l.wantReasons(l.disk, HasPartitions, HasSignature)
	if len(e.Partitions) != 2 {
		t.Fatalf("partitions %q", e.Partitions)
	}
	// A blank partition is as good as a disk.
	second := "/dev/" + e.Partitions[1]
	devtest.Blank(t, "/dev/"+e.Partitions[0], second)
	if p := l.wantReasons(second); p.Type != "part" || p.Size != 20<<20 {
		t.Errorf("evidence %+v", p)
	}
	if diff := cmp.Diff(e.Partitions, l.wantDevice(e.KernelName).Children); diff != "" {
		t.Errorf("partitions in the list (-want +got):\n%s", diff)
	}
	// What is on a partition is on the disk.
	l.run("mkfs.ext4", "-q", second)
	dir := t.TempDir()
	if err := unix.Mount(second, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, 0) }()
	l.wantReasons(second, IsMounted, HasSignature, IsInUse)
	l.wantReasons(l.disk, IsMounted, HasPartitions, HasSignature, IsInUse)
	l.wantReasons("/dev/" + e.Partitions[0])
}

// TestDataThatNothingRecognisesIsData has disks that look blank to all programs.
func TestDataThatNothingRecognisesIsData(t *testing.T) {
	l := newLab(t)
	size := int64(l.wantReasons(l.disk).Size)
	file, err := os.OpenFile(l.disk, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	filled := func(b byte) []byte { return bytes.Repeat([]byte{b}, 1<<20) }
	for _, tc := range []struct {
		name    string
		at      int64
		content []byte
		want    []string
	}{
		{"a page of a database at the start", 0, []byte("page 1 of a database"), []string{HasData}},
		{"one byte in the first MiB", 1<<20 - 1, []byte{1}, []string{HasData}},
		{"one byte in the last MiB", size - 1<<20, []byte{1}, []string{HasData}},
		{"the last byte", size - 1, []byte{1}, []string{HasData}},
		{"a byte between the ends, which a wiped disk may have", 1 << 20, []byte{1}, nil},
		{"what flash shows that was erased, at the start", 0, filled(0xff), nil},
		{"what flash shows that was erased, at the end", size - 1<<20, filled(0xff), nil},
		{"all but the last byte of that", size - 1<<20, filled(0xff)[1:], []string{HasData}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := lab{t, l.host, l.disk}
			devtest.Blank(t, l.disk)
			if _, err := file.WriteAt(tc.content, tc.at); err != nil {
				t.Fatal(err)
			}
			e := l.wantReasons(l.disk, tc.want...)
			counter := hostexec.NewCounter(hostexec.OnHost("/"))
			found, _ := l.survey(counter, New(counter, "/"), l.wantDevice(e.KernelName))
			if found.Data != e.Data || (found.Contents == "") != (tc.want == nil) {
				t.Errorf("a survey says %q, contents %q; a look says %q", found.Data, found.Contents, e.Data)
			}
		})
	}
}

func TestPhysicalVolumesAreSeen(t *testing.T) {
	l := newLab(t)
	l.run("lvm", "vgcreate", "blockdevtest", l.disk)
	defer l.run("lvm", "vgremove", "--yes", "--force", "blockdevtest")
	e := l.wantReasons(l.disk, HasSignature)
	if e.Signatures[0].Type != "LVM2_member" {
		t.Errorf("signatures %+v", e.Signatures)
	}
	l.run("lvm", "lvcreate", "--yes", "--size", "20m", "--name", "data", "blockdevtest")
	e = l.wantReasons(l.disk, HasHolder, HasSignature, IsInUse)
	lv := l.wantReasons("/dev/blockdevtest/data", WrongType)
	if diff := cmp.Diff([]string{lv.KernelName}, e.Holders); diff != "" {
		t.Errorf("holders (-want +got):\n%s", diff)
	}
	d := l.wantDevice(lv.KernelName)
	if diff := cmp.Diff([]string{e.KernelName}, d.Parents); diff != "" || d.Type != "lvm" || d.Path != "/dev/mapper/blockdevtest-data" {
		t.Errorf("volume %+v; parents (-want +got):\n%s", d, diff)
	}
	// A file system on the volume is on the disk below.
	l.run("mkfs.ext4", "-q", "/dev/blockdevtest/data")
	dir := t.TempDir()
	if err := unix.Mount("/dev/blockdevtest/data", dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, 0) }()
	l.wantReasons(l.disk, IsMounted, HasHolder, HasSignature, IsInUse)
	l.wantReasons("/dev/blockdevtest/data", WrongType, IsMounted, HasSignature, IsInUse)
}

func TestAMountThatOnlyAnotherNamespaceHasIsInUse(t *testing.T) {
	l := newLab(t)
	l.run("mkfs.ext4", "-q", l.disk)
	// Whoever holds a device alone looks like this, a mount elsewhere included.
	fd, err := unix.Open(l.disk, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.wantReasons(l.disk, HasSignature, IsInUse)
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	l.wantReasons(l.disk, HasSignature)
}

func TestAReadOnlyDiskIsSeen(t *testing.T) {
	l := newLab(t)
	l.run("blockdev", "--setro", l.disk)
	defer l.run("blockdev", "--setrw", l.disk)
	e := l.wantReasons(l.disk, IsReadOnly)
	if !l.wantDevice(e.KernelName).ReadOnly {
		t.Error("the list does not say that the disk is read-only")
	}
}

// scsi returns a disk that has an identity.
func (l lab) scsi() Device {
	l.Helper()
	disk, _, _ := strings.Cut(os.Getenv("LAB_SCSI_DISKS"), ",")
	if disk == "" {
		l.Fatal("set LAB_SCSI_DISKS to a SCSI disk that may be overwritten, such as /dev/sda")
	}
	return l.wantDevice(filepath.Base(disk))
}

func TestAPartitionOfAGPTIsWhoItIs(t *testing.T) {
	l := newLab(t)
	d := l.scsi()
	devtest.GPT(t, d.Path, devtest.Partition{From: 1, To: 20}, devtest.Partition{From: 20, To: 40})
	l.run("blockdev", "--rereadpt", d.Path)
	defer func() {
		devtest.Blank(t, d.Path)
		l.run("blockdev", "--rereadpt", d.Path)
	}()
	for _, name := range []string{"1", "2"} {
		want := l.run("blkid", "-p", "-o", "value", "-s", "PART_ENTRY_UUID", d.Path+name)
		if part := l.wantDevice(d.KernelName + name); want == "" || part.PartUUID != want || part.ID != d.ID+"-partuuid-"+want {
			t.Errorf("partition %+v, want UUID %q", part, want)
		}
	}
}

// survey surveys one device and says how many programs that took.
func (l lab) survey(counter *hostexec.Counter, host *Host, d Device) (Finding, int) {
	l.Helper()
	counter.Reset()
	found, err := host.Survey(l.Context(), []Device{d}, everything)
	if err != nil {
		l.Fatal(err)
	}
	if err := found[d.KernelName].Err; err != nil {
		l.Fatal(err)
	}
	return found[d.KernelName], counter.Total()
}

func TestASCSIDiskAndItsPartitionsAreWhoTheyAre(t *testing.T) {
	l := newLab(t)
	d := l.scsi()
	if d.ID != "wwn-0x33333330000007d0" || d.Serial != "2000" || d.Model != "scsi_debug" {
		t.Errorf("device %+v", d)
	}
	partition(t, d.Path, 1)
	file, err := os.OpenFile(d.Path, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt([]byte{0x4a, 0x3d, 0x2c, 0x1b}, 440) // the table's own number
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	l.run("blockdev", "--rereadpt", d.Path)
	defer func() {
		devtest.Blank(t, d.Path)
		l.run("blockdev", "--rereadpt", d.Path)
	}()
	if part := l.wantDevice(d.KernelName + "1"); part.PartUUID != "1b2c3d4a-01" || part.ID != d.ID+"-partuuid-1b2c3d4a-01" {
		t.Errorf("partition %+v", part)
	}
}

func TestASurveyAsksADeviceAgainOnlyWhenItWasWrittenTo(t *testing.T) {
	l := newLab(t)
	counter := hostexec.NewCounter(hostexec.OnHost("/"))
	host := New(counter, "/")
	for _, d := range []Device{l.wantDevice(filepath.Base(l.disk)), l.scsi()} {
		t.Run(d.KernelName, func(t *testing.T) {
			l := lab{t, host, d.Path}
			for _, want := range []int{1, 0, 0} {
				if found, ran := l.survey(counter, host, d); len(Objections(found.Evidence)) > 0 || ran != want {
					t.Errorf("%d programs, want %d, and objections %+v", ran, want, Objections(found.Evidence))
				}
			}
			l.run("mkfs.ext4", "-q", d.Path)
			defer devtest.Blank(t, d.Path)
			for _, want := range []int{1, 0} {
				found, ran := l.survey(counter, host, d)
				if got := Objections(found.Evidence); len(got) != 1 || got[0].Reason != HasSignature || ran != want {
					t.Errorf("%d programs, want %d, and objections %+v", ran, want, got)
				}
			}
			fd, err := unix.Open(d.Path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if found, ran := l.survey(counter, host, d); !found.Busy || ran != 0 {
				t.Errorf("a device that somebody holds: %d programs, %+v", ran, found)
			}
			if err := unix.Close(fd); err != nil {
				t.Fatal(err)
			}
			counter.Reset()
			l.run("mkfs.ext4", "-q", "-F", d.Path) // writes
			counter.Reset()
			left, err := host.Survey(t.Context(), []Device{d}, func(Device) bool { return true })
			if err != nil || counter.Total() != 0 || left[d.KernelName].Signatures != nil || left[d.KernelName].Size != d.Size {
				t.Errorf("a device that is not to be asked: %d programs, %+v, %v", counter.Total(), left, err)
			}
		})
	}
}

func TestADiskThatIsOfflineIsFailing(t *testing.T) {
	l := newLab(t)
	d := l.scsi()
	state := filepath.Join("/sys/block", d.KernelName, "device/state")
	if err := os.WriteFile(state, []byte("offline\n"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(state, []byte("running\n"), 0); err != nil {
			t.Error(err)
		}
	}()
	if e := l.wantReasons(d.Path, IsFailing); e.Failing != "offline" {
		t.Errorf("evidence %+v", e)
	}
}
