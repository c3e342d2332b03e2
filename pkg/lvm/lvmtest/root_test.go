//go:build root

package lvmtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
)

// These tests want root, LVM with a device-mapper, and blank disks of at least
// 200 MiB in LAB_DISKS, separated by commas. They overwrite the disks.

const realGroup = "lvmtest-share"

func disks(t *testing.T, n int) []string {
	t.Helper()
	var all []string
	for disk := range strings.SplitSeq(os.Getenv("LAB_DISKS"), ",") {
		if disk != "" {
			all = append(all, disk)
		}
	}
	if len(all) < n {
		t.Fatalf("set LAB_DISKS to %d blank disks that may be overwritten, such as /dev/ubdb,/dev/ubdc", n)
	}
	return all[:n]
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := hostexec.OnHost("/").Run(t.Context(), program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// afterwards runs a command when the test is over.
func afterwards(t *testing.T, program string, args ...string) {
	t.Cleanup(func() {
		if _, err := hostexec.OnHost("/").Run(context.Background(), program, args...); err != nil {
			t.Error(err)
		}
	})
}

// realGroupOf makes a group of disks, each of which gives it so much.
func realGroupOf(t *testing.T, each capacity.Bytes, disks ...string) *lvm.Host {
	t.Helper()
	for _, disk := range disks {
		run(t, "lvm", "pvcreate", "--yes", "--setphysicalvolumesize", fmt.Sprintf("%db", each+metadata), disk)
		afterwards(t, "wipefs", "--all", "--quiet", disk)
	}
	host := lvm.New(hostexec.OnHost("/"))
	if err := host.CreateGroup(t.Context(), realGroup, disks); err != nil {
		t.Fatal(err)
	}
	afterwards(t, "lvm", "vgremove", "--yes", "--force", realGroup)
	return host
}

func TestRealLVMPassesTheExaminationOfGrowth(t *testing.T) {
	all := disks(t, 2)
	realGroupOf(t, 64*mib, all...)
	devices, err := os.Open(all[1])
	if err != nil {
		t.Fatal(err)
	}
	size, err := devices.Seek(0, 2)
	if err := errors.Join(err, devices.Close()); err != nil {
		t.Fatal(err)
	}
	more := (capacity.Bytes(size) - metadata).Floor(extent) - 64*mib
	ExamineGrowth(t, Subject{Runner: hostexec.OnHost("/"), Group: realGroup}, all[1], more)
}

func TestRealLVMPassesTheExamination(t *testing.T) {
	Examine(t, func(t *testing.T, size capacity.Bytes) Subject {
		realGroupOf(t, size/2, disks(t, 2)...)
		return Subject{Runner: hostexec.OnHost("/"), Group: realGroup, Open: openDevice, Overwrite: overwriteDevice, Write: writeDevice}
	})
}

func writeDevice(_ *testing.T, name string) error {
	file, err := os.OpenFile(lvm.DevicePath(realGroup, name), os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, 4096))
	return errors.Join(err, file.Close())
}

func overwriteDevice(t *testing.T, name string, size capacity.Bytes) {
	t.Helper()
	file, err := os.OpenFile(lvm.DevicePath(realGroup, name), os.O_WRONLY|os.O_SYNC, 0)
	noError(t, err)
	_, err = file.Write(bytes.Repeat([]byte{0xa5}, int(size)))
	noError(t, errors.Join(err, file.Close()))
}

func openDevice(t *testing.T, name string) func() {
	t.Helper()
	file, err := os.Open(lvm.DevicePath(realGroup, name))
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = file.Close() }
}

func TestANewVolumeShowsNoFileSystemOfAnOldOne(t *testing.T) {
	host := realGroupOf(t, 64*mib, disks(t, 1)...)
	ask := lvm.CreateVolume{Group: realGroup, Name: "data", Size: 32 * mib}
	noError(t, host.CreateVolume(t.Context(), ask))
	device := lvm.DevicePath(realGroup, "data")
	for _, format := range [][]string{{"mkfs.ext4", "-q", device}, {"mkswap", device}} {
		run(t, format[0], format[1:]...)
		noError(t, host.RemoveVolume(t.Context(), realGroup, "data"))
		noError(t, host.CreateVolume(t.Context(), ask))
		if found := run(t, "wipefs", "--noheadings", device); found != "" {
			t.Errorf("after %s and a new volume at its place: %s", format[0], found)
		}
	}
}

// partition writes a partition table of the oldest kind, with one partition of 20 MiB.
func partition(t *testing.T, disk string) {
	t.Helper()
	const sectors = 20 << 20 / 512
	table := make([]byte, 512)
	entry := table[446:]
	entry[4] = 0x83 // Linux
	binary.LittleEndian.PutUint32(entry[8:], sectors)
	binary.LittleEndian.PutUint32(entry[12:], sectors)
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

func TestADeviceThatIsNotBlankJoinsNoGroup(t *testing.T) {
	disk := disks(t, 2)
	host := lvm.New(hostexec.OnHost("/"))
	for name, spoil := range map[string]func(t *testing.T){
		"ext4":       func(t *testing.T) { run(t, "mkfs.ext4", "-q", "-F", disk[0]) },
		"swap":       func(t *testing.T) { run(t, "mkswap", disk[0]) },
		"partitions": func(t *testing.T) { partition(t, disk[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "wipefs", "--all", "--quiet", disk[0], disk[1])
			spoil(t)
			afterwards(t, "wipefs", "--all", "--force", "--quiet", disk[0], disk[1])
			before := run(t, "wipefs", "--noheadings", disk[0])
			wantError(t, host.CreateGroup(t.Context(), "never", []string{disk[1], disk[0]}), lvm.ErrNotBlank)
			if after := run(t, "wipefs", "--noheadings", disk[0]); after != before {
				t.Errorf("signatures were\n%s\nand are\n%s", before, after)
			}
			report, err := host.Report(t.Context())
			noError(t, err)
			if len(report.Groups) != 0 || len(report.Orphans) != 0 {
				t.Errorf("the refusal left %+v", report)
			}
		})
	}
}

func TestAMountedDiskJoinsNoGroup(t *testing.T) {
	disk := disks(t, 1)[0]
	host := lvm.New(hostexec.OnHost("/"))
	run(t, "mkfs.ext4", "-q", "-F", disk)
	afterwards(t, "wipefs", "--all", "--quiet", disk)
	dir := t.TempDir()
	noError(t, unix.Mount(disk, dir, "ext4", 0, ""))
	defer func() { noError(t, unix.Unmount(dir, 0)) }()
	wantError(t, host.CreateGroup(t.Context(), "never", []string{disk}), lvm.ErrInUse)
}

func TestRealLVMPassesTheExaminationOfLoss(t *testing.T) {
	disk := disks(t, 1)[0]
	file := "/dev/shm/lvmtest-lost.img"
	noError(t, os.WriteFile(file, nil, 0o600))
	noError(t, os.Truncate(file, 33<<20))
	t.Cleanup(func() { noError(t, os.Remove(file)) })
	loop := strings.TrimSpace(run(t, "losetup", "--find", "--show", file))

	run(t, "lvm", "pvcreate", "--yes", "--setphysicalvolumesize", "33m", disk)
	afterwards(t, "wipefs", "--all", "--force", "--quiet", disk)
	noError(t, lvm.New(hostexec.OnHost("/")).CreateGroup(t.Context(), realGroup, []string{disk, loop}))
	afterwards(t, "lvm", "vgremove", "--yes", "--force", realGroup)
	afterwards(t, "lvm", "vgreduce", "--removemissing", "--force", realGroup)
	ExamineLoss(t, Subject{Runner: hostexec.OnHost("/"), Group: realGroup, Open: openDevice}, loop,
		func() { run(t, "losetup", "--detach", loop) })
}

// A tenant has the second disk for himself, and knows what our group is called.
func TestAGroupOfTheSameNameOnATenantsDiskIsNotSeen(t *testing.T) {
	ours, tenants := disks(t, 2)[0], disks(t, 2)[1]
	seeing := realGroupOf(t, 64*mib, ours)
	host := lvm.New(hostexec.OnHost("/"))
	host.Hide(func(context.Context) []string { return []string{tenants} })
	for name, device := range map[string]string{"on the disk": tenants, "on a partition of it": tenants + "1"} {
		t.Run(name, func(t *testing.T) {
			if device != tenants {
				partition(t, tenants)
				run(t, "partx", "--add", tenants)
				afterwards(t, "wipefs", "--all", "--force", "--quiet", tenants)
				afterwards(t, "partx", "--delete", tenants)
			}
			run(t, "lvm", "vgcreate", "--config", `devices{filter=["r|^`+ours+`$|"]}`, realGroup, device)
			afterwards(t, "wipefs", "--all", "--force", "--quiet", device)
			ask := lvm.CreateVolume{Group: realGroup, Name: "data", Size: mib}
			if err := seeing.CreateVolume(t.Context(), ask); err == nil {
				t.Error("LVM knows which of two groups of one name is meant: nothing needs to be hidden")
			}
			noError(t, host.CreateVolume(t.Context(), ask))
			report, err := host.Report(t.Context())
			noError(t, err)
			if len(report.Groups) != 1 || len(report.Groups[0].PhysicalVolumes) != 1 || report.Groups[0].PhysicalVolumes[0].Device != ours {
				t.Errorf("LVM sees %+v", report.Groups)
			}
			noError(t, host.RemoveVolume(t.Context(), realGroup, "data"))
		})
	}
}

func TestAnExportedGroupIsLeftAlone(t *testing.T) {
	host := realGroupOf(t, 64*mib, disks(t, 1)...)
	ctx := t.Context()
	noError(t, host.CreateVolume(ctx, lvm.CreateVolume{Group: realGroup, Name: "data", Size: mib}))
	run(t, "lvm", "vgchange", "--activate", "n", realGroup)
	run(t, "lvm", "vgexport", realGroup)
	afterwards(t, "lvm", "vgimport", realGroup)
	g, err := host.Group(ctx, realGroup)
	noError(t, err)
	if !g.Exported {
		t.Errorf("group %+v is not reported as exported", g)
	}
	wantError(t, host.CreateVolume(ctx, lvm.CreateVolume{Group: realGroup, Name: "new", Size: mib}), lvm.ErrExported)
	wantError(t, host.RemoveVolume(ctx, realGroup, "data"), lvm.ErrExported)
	wantError(t, host.ActivateVolume(ctx, realGroup, "data"), lvm.ErrExported)
}

func TestAChangeOutlivesItsCaller(t *testing.T) {
	realGroupOf(t, 64*mib, disks(t, 1)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	host := lvm.New(hostexec.RunnerFunc(func(inner context.Context, name string, args ...string) ([]byte, error) {
		cancel() // the caller goes away while the command is on its way
		return hostexec.OnHost("/").Run(inner, name, args...)
	}))
	noError(t, host.CreateVolume(ctx, lvm.CreateVolume{Group: realGroup, Name: "data", Size: mib}))
	_, err := lvm.New(hostexec.OnHost("/")).Volume(t.Context(), realGroup, "data")
	noError(t, err)
}

func TestNamesLVMTakesAndRefusesAreThoseWeDo(t *testing.T) {
	host := realGroupOf(t, 64*mib, disks(t, 1)...)
	raw := hostexec.OnHost("/")
	for _, name := range []string{
		"a", "_x", "a+b", ".a", "a.", "a_imsb", "x_tdat", ".", "..", "a b", "a:b", "a@b", "ä", "snapshot1", "asnapshot", "pvmove0",
		"x_tdata", "x_cvol0", "a_rimage_0", "a_vorigin", "a_pmspare", "a_mlog", "a_cdata", "a_wcorig", "a_iorig", "a_imeta",
		strings.Repeat("n", 124-len(realGroup)), strings.Repeat("n", 125-len(realGroup)),
		strings.Repeat("n-", 54-len(realGroup)/2), strings.Repeat("n-", 30), strings.Repeat("-n", 3), strings.Repeat("n", 128),
		"n" + strings.Repeat("-", 54), "n" + strings.Repeat("-", 55), "n" + strings.Repeat("-", 56), "n" + strings.Repeat("-", 57),
	} {
		ours := lvm.ValidPair(realGroup, name)
		_, theirs := raw.Run(t.Context(), "lvm", "lvcreate", "--yes", "--size", "4m", "--name", name, realGroup)
		if (ours == nil) != (theirs == nil) {
			t.Errorf("name %q of %d: we say %v, LVM says %v", name, len(name), ours, theirs)
		}
		if ours == nil && theirs == nil {
			noError(t, host.RemoveVolume(t.Context(), realGroup, name))
		}
	}
}
