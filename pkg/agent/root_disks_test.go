//go:build root

package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/volume"
)

// These tests need two SCSI disks in LAB_SCSI_DISKS and one more in LAB_DISKS, separated
// by commas. They overwrite the disks.

func scsiDisks(t *testing.T) []string {
	t.Helper()
	all := strings.Split(os.Getenv("LAB_SCSI_DISKS"), ",")
	if len(all) < 2 {
		t.Fatal("LAB_SCSI_DISKS names fewer than two disks; run this with hack/test.sh lvm")
	}
	return all
}

// speak has the kernel speak of a disk, as udev does when a program that wrote to one
// closes it.
func (n *realNode) speak(disk string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join("/sys/class/block", filepath.Base(disk), "uevent"), []byte("change"), 0); err != nil {
		n.t.Fatal(err)
	}
}

func (n *realNode) edit(how func(*v1alpha1.NodeLocalStorage)) {
	n.t.Helper()
	ours := n.client.CsiV1alpha1().NodeLocalStorages()
	nls, err := ours.Get(n.t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	how(nls)
	if _, err := ours.Update(n.t.Context(), nls, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
	signal(n.agent.wake) // the made-up API server may have dropped the news while it was read
}

// reportedDevice returns what is reported of a device.
func reportedDevice(s v1alpha1.NodeLocalStorageStatus, path string) v1alpha1.DeviceInfo {
	for _, d := range s.NodeStorageInfo.DeviceInfos {
		if d.Name == path {
			return d
		}
	}
	return v1alpha1.DeviceInfo{}
}

// TestRealDisksAreOffered needs a SCSI disk in LAB_SCSI_DISKS. It overwrites the disk.
func TestRealDisksAreOffered(t *testing.T) {
	disk := scsiDisks(t)[0]
	n := newRealNode(t)
	speak := func() { n.speak(disk) }
	n.edit(func(nls *v1alpha1.NodeLocalStorage) { nls.Spec.ListConfig.Devices.Include = []string{"/dev/sd[a-z]+"} })
	wantReason := func(what, want string) {
		t.Helper()
		n.wantReport(what, func(s v1alpha1.NodeLocalStorageStatus) bool {
			d := reportedDevice(s, disk)
			return d.ID == "wwn-0x33333330000007d0" && d.Reason == want &&
				slices.Contains(s.FilteredStorageInfo.Devices, disk) == (want == "")
		})
	}
	wantReason("a blank disk is offered", "")
	book := exclusive.NewBook("/")
	if err := book.Put(exclusive.Record{Volume: "v", Kind: volume.Device, ID: "wwn-0x33333330000007d0", Path: disk, State: exclusive.Ready}); err != nil {
		t.Fatal(err)
	}
	wantReason("a disk that a volume has is not", isTaken)
	if err := book.Forget("v"); err != nil {
		t.Fatal(err)
	}
	wantReason("a disk that a volume gave back is", "")
	n.host("mkfs.ext4", "-q", disk)
	speak()
	wantReason("a disk with a file system is not", blockdev.HasSignature)
	n.host("wipefs", "--all", disk)
	speak()
	wantReason("what is left of a file system is not blank", blockdev.HasData)
	devtest.Blank(t, disk)
	n.host("blockdev", "--setro", disk)
	speak()
	wantReason("a read-only disk is not", blockdev.IsReadOnly)
	n.wantReport("a read-only disk is a condition", func(s v1alpha1.NodeLocalStorageStatus) bool { return hasCondition(s, blockdev.IsReadOnly, disk) })
	n.host("blockdev", "--setrw", disk)
	devtest.GPT(t, disk, devtest.Partition{From: 1, To: 20})
	n.host("blockdev", "--rereadpt", disk)
	devtest.Blank(t, disk+"1") // there is what the file system left
	speak()
	wantReason("a disk with partitions is not", blockdev.HasPartitions)
	n.wantReport("a partition of it is", func(s v1alpha1.NodeLocalStorageStatus) bool {
		return slices.ContainsFunc(s.NodeStorageInfo.DeviceInfos, func(d v1alpha1.DeviceInfo) bool {
			return d.Name == disk+"1" && d.Reason == notSelected && strings.HasPrefix(d.ID, "wwn-0x33333330000007d0-partuuid-")
		})
	})
	devtest.Blank(t, disk)
	n.host("blockdev", "--rereadpt", disk)
	speak()
	wantReason("a disk that is blank again is offered", "")
}

func TestARealDiskWithDataIsUsedAgainWhenTheSpecSaysSo(t *testing.T) {
	disk := scsiDisks(t)[1]
	runOnHost(t, "mkfs.ext4", "-q", disk)
	t.Cleanup(func() {
		runOnHost(t, "lvm", "vgremove", "--force", "--yes", realGroup)
		devtest.Blank(t, disk)
	})
	n := newRealNode(t, disk)
	var info v1alpha1.DeviceInfo
	n.wantReport("a disk with data is left alone", func(s v1alpha1.NodeLocalStorageStatus) bool {
		info = reportedDevice(s, disk)
		return info.Contents != "" && hasCondition(s, blockdev.HasSignature, disk)
	})
	ask := func(contents string) {
		n.edit(func(nls *v1alpha1.NodeLocalStorage) {
			nls.Spec.ResourceToBeInited.Wipe = []v1alpha1.DeviceToBeWiped{{ID: info.ID, Contents: contents}}
		})
	}
	ask("0123456789abcdef")
	n.wantReport("other contents than those on it are no leave", func(s v1alpha1.NodeLocalStorageStatus) bool {
		return hasCondition(s, initplan.ContentsChanged, disk)
	})
	if got := n.host("blkid", "-p", "-o", "value", "-s", "TYPE", disk); strings.TrimSpace(got) != "ext4" {
		t.Fatalf("%s carries %q now", disk, got)
	}
	ask(info.Contents)
	n.wantReport("a disk that was to be wiped is in the group", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, ok := reportedGroup(s)
		return ok && slices.Equal(g.PhysicalVolumes, []string{disk}) && len(s.Wiped) == 1 && s.Wiped[0].Contents == info.Contents
	})
}

// TestARealDiskThatGrows has the device-mapper play a disk whose platform enlarges it.
func TestARealDiskThatGrows(t *testing.T) {
	below, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	const name = "agenttest-disk"
	disk := "/dev/mapper/" + name
	runOnHost(t, "dmsetup", "create", name, "--uuid", "test-disk", "--table", "0 409600 linear "+below+" 2048") // of 200 MiB
	t.Cleanup(func() {
		runOnHost(t, "lvm", "vgremove", "--force", "--yes", realGroup)
		devtest.Blank(t, disk)
		runOnHost(t, "dmsetup", "remove", name)
	})
	n := newRealNode(t, disk)
	n.wantReport("a group", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, ok := reportedGroup(s)
		return ok && g.Total > 0 && g.Total < 200<<20
	})
	n.host("dmsetup", "reload", name, "--table", "0 819200 linear "+below+" 2048")
	n.host("dmsetup", "resume", name)
	n.wantReport("a group that fills its larger disk", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, _ := reportedGroup(s)
		return g.Total > 390<<20
	})
}

// TestARealGroupThatLosesADisk pulls a disk of a group out of the running machine.
func TestARealGroupThatLosesADisk(t *testing.T) {
	below, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	lost := scsiDisks(t)[1]
	host, err := filepath.EvalSymlinks(filepath.Join("/sys/class/block", filepath.Base(lost), "device"))
	if err != nil {
		t.Fatal(err)
	}
	scan := filepath.Join("/sys/class/scsi_host", filepath.Base(filepath.Dir(filepath.Dir(host))), "scan")
	back := func() {
		if err := os.WriteFile(scan, []byte("- - -"), 0); err != nil {
			t.Error(err)
		}
	}
	n := newRealNode(t, below, lost)
	t.Cleanup(func() {
		runOnHost(t, "lvm", "vgremove", "--force", "--yes", realGroup)
		devtest.Blank(t, below, lost)
	})
	var id string
	n.wantReport("a group of two disks", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, ok := reportedGroup(s)
		id = reportedDevice(s, lost).ID
		return ok && len(g.PhysicalVolumes) == 2
	})
	n.host("lvm", "lvcreate", "--yes", "--name", "safe", "--size", "8m", realGroup, below)
	n.host("mkfs.ext4", "-q", "/dev/"+realGroup+"/safe")
	if err := os.WriteFile(filepath.Join("/sys/class/block", filepath.Base(lost), "device/delete"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	want := lost + " (" + id + ")"
	n.wantReport("a group that lacks a disk says which", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, _ := reportedGroup(s)
		return g.Condition == v1alpha1.StorageFault && g.Allocatable == 0 && slices.Equal(g.MissingPhysicalVolumes, []string{want}) &&
			!slices.Contains(s.FilteredStorageInfo.VolumeGroups, realGroup) && hasCondition(s, initplan.GroupPartial, want)
	})
	// What lies on the other disk goes on, also after it was put aside.
	n.host("lvm", "lvchange", "--activate", "n", realGroup+"/safe")
	n.host("lvm", "lvchange", "--activate", "y", realGroup+"/safe")
	target := t.TempDir()
	n.host("mount", "/dev/"+realGroup+"/safe", target)
	n.host("umount", target)
	back()
	n.wantReport("a group whose disk is back", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, _ := reportedGroup(s)
		return g.Condition == v1alpha1.StorageReady && len(g.PhysicalVolumes) == 2 && g.MissingPhysicalVolumes == nil &&
			slices.Contains(s.FilteredStorageInfo.VolumeGroups, realGroup)
	})
}

func TestARealMountPointIsMadeOnceAndMountedAgain(t *testing.T) {
	disk := scsiDisks(t)[0]
	const at = "/mnt/open-local/a"
	t.Cleanup(func() {
		runOnHost(t, "umount", at)
		devtest.Blank(t, disk)
	})
	n := newRealNode(t)
	n.edit(func(nls *v1alpha1.NodeLocalStorage) {
		nls.Spec.ListConfig.MountPoints.Include = []string{"/mnt/.*"}
		nls.Spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{{Path: at, Device: disk, FsType: "ext4", Options: []string{"noatime"}}}
	})
	reported := func(s v1alpha1.NodeLocalStorageStatus) bool {
		return slices.ContainsFunc(s.NodeStorageInfo.MountPoints, func(m v1alpha1.MountPoint) bool {
			return m.Name == at && m.Device == disk && m.ID == "fsuuid-"+initplan.FileSystemUUID("n1", at) && m.Condition == v1alpha1.StorageReady &&
				slices.Contains(m.Options, "noatime")
		})
	}
	n.wantReport("a mount point that was made", func(s v1alpha1.NodeLocalStorageStatus) bool {
		return reported(s) && slices.Contains(s.FilteredStorageInfo.MountPoints, at)
	})
	if err := os.WriteFile(filepath.Join(at, "data"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.host("umount", at) // as after a reboot
	n.wantReport("a mount point that is mounted again", func(s v1alpha1.NodeLocalStorageStatus) bool {
		kept, err := os.ReadFile(filepath.Join(at, "data"))
		return err == nil && string(kept) == "kept" && reported(s)
	})
}
