//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// swappedDisksMixNothing has a group and a mount point, each with data, come up under the
// name of the other's disk.
func swappedDisksMixNothing(b *bench) {
	node := b.nodes[1]
	const kept = "/mnt/open-local/kept"
	run := func(argv ...string) string { b.Helper(); return b.exec(b.Context(), node, argv...) }
	spec := groups()
	spec.ListConfig.MountPoints.Include = []string{"/mnt/open-local/.*"}
	spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{{Path: kept, Device: spareDisk, Options: []string{"noatime"}}}
	b.afterwards(func(ctx context.Context) {
		b.exec(ctx, node, "umount", kept)
		b.exec(ctx, node, "rm", "-r", "/mnt/open-local")
		b.swapBack(ctx, node)
		b.blank(ctx, node, spareDisk)
	})
	b.configure(node, spec)
	b.wantMountPoint(node, kept, spareDisk, "")
	b.wantNodeEvent(node, "NodeStoragePlanned", "make an ext4 file system on "+spareDisk)
	run("sh", "-c", "echo precious >"+kept+"/file; sync -f "+kept+"/file")
	uuid := run("blkid", "-p", "-o", "value", "-s", "UUID", spareDisk)

	b.addClaims(claim("data", b.addClass("pool", map[string]string{"vgName": pool0}), "256Mi"))
	b.addPods(pod("user", "echo start >> /data/file; sync; cat /data/file; echo done; "+forever, onNode(node), mounting("data")))
	b.wantRunning("user")
	b.finished("user")
	vgUUID := run("vgs", "--noheadings", "-o", "vg_uuid", pool0)

	b.must(b.disks.SwapDisks(b.Context(), node, firstDisk, spareDisk), "swapping the disks of %s", node)
	b.must(b.lab.Reboot(b.Context(), node), "rebooting %s", node)
	b.wantDevice(node, firstDisk, "serial-N2-d", "Mounted")
	b.wantDevice(node, spareDisk, "serial-N2-b", "InVolumeGroup")
	b.wantMountPoint(node, kept, firstDisk, "NotEmpty")
	if said := run("cat", kept+"/file"); said != "precious\n" {
		b.Errorf("in %s there is %q", kept, said)
	}
	if now := run("blkid", "-p", "-o", "value", "-s", "UUID", firstDisk); now != uuid {
		b.Errorf("the file system was %s and is %s", uuid, now)
	}
	b.wantGroup(node, pool0, wantDisks(spareDisk))
	if now := run("vgs", "--noheadings", "-o", "vg_uuid", pool0); now != vgUUID {
		b.Errorf("the group was %s and is %s", vgUUID, now)
	}
	// That the spec now names a disk with other data for the group is told, and nothing is done.
	b.wantCondition(node, "GroupsReady", firstDisk, "mounted at "+kept)
	b.wantStartedAgain("user")
	if said := b.finished("user"); strings.Count(said, "start") != 2 {
		b.Errorf("after the reboot the pod sees %q, not what it had written before", said)
	}
}

// swappedWholeDisksMixNothing has two disks that volumes have whole come up under each
// other's name, each with data.
func swappedWholeDisksMixNothing(b *bench) {
	node := b.nodes[1]
	disks := b.addDisks(node, "256M")
	spec := groups()
	spec.ListConfig.Devices.Include = disks
	b.configure(node, spec)
	names := []string{"one", "other"}
	class := b.addWholeClass("disk", "Device")
	for _, name := range names {
		b.addClaims(claim(name, class, "128Mi"))
		b.addPods(pod(name, tally(name), onNode(node), mounting(name)))
	}
	b.wantRunning(names...)
	ids := []string{b.idOf(node, disks[0]), b.idOf(node, disks[1])}
	for _, name := range names {
		b.finished(name)
	}
	b.must(b.disks.SwapDisks(b.Context(), node, disks[0], disks[1]), "swapping the disks of %s", node)
	b.must(b.lab.Reboot(b.Context(), node), "rebooting %s", node)
	b.wantDevice(node, disks[0], ids[1], "Taken")
	b.wantDevice(node, disks[1], ids[0], "Taken")
	b.wantStartedAgain(names...)
	for _, name := range names {
		if said := b.finished(name); strings.Count(said, "start of "+name) != 2 || strings.Count(said, "start of") != 2 {
			b.Errorf("after the reboot pod %s sees %q, not what it had written before", name, said)
		}
	}
}

// addDisks gives a node two disks of its own for the case.
func (b *bench) addDisks(node, size string) []string {
	b.Helper()
	var devices []string
	for range 2 {
		device, err := b.disks.AddDisk(b.Context(), node, size)
		b.must(err, "adding a disk to %s", node)
		devices = append(devices, device)
		b.afterwards(func(ctx context.Context) {
			b.eventually(ctx, func(ctx context.Context) (string, error) { // somebody may look at it at this moment
				return "", b.disks.DiscardDisk(ctx, node, device)
			})
		})
	}
	return devices
}

// idOf returns who a device of a node is.
func (b *bench) idOf(node, device string) string {
	b.Helper()
	disks, err := b.disks.ListDisks(b.Context(), node)
	b.must(err, "listing the disks of %s", node)
	for _, d := range disks {
		if d.Device == device {
			return d.ID
		}
	}
	b.Fatalf("node %s has no %s", node, device)
	return ""
}

// tally is a script that leaves a line at each start and says all of them.
func tally(name string) string {
	return fmt.Sprintf("echo start of %s >> /data/file; sync; cat /data/file; echo done; %s", name, forever)
}

// wantMountPoint waits until a mount point that open-local made is mounted from a device,
// and is not offered for that reason; the empty reason is that it is offered.
func (b *bench) wantMountPoint(node, path, device, reason string) {
	b.Helper()
	b.wantReport(b.Context(), node, func(s v1alpha1.NodeLocalStorageStatus) string {
		var found v1alpha1.MountPoint
		for _, m := range s.NodeStorageInfo.MountPoints {
			if m.Name == path {
				found = m
			}
		}
		offered := slices.Contains(s.FilteredStorageInfo.MountPoints, path)
		if found.Device != device || found.Condition != v1alpha1.StorageReady || found.Reason != reason || offered != (reason == "") || !slices.Contains(found.Options, "noatime") {
			return fmt.Sprintf("%s is reported as %+v, offered %t; want it on %s, not offered because of %q; the conditions are %+v",
				path, found, offered, device, reason, s.Conditions)
		}
		return ""
	})
}

// swapBack gives the disks of a node their names back, without a boot: nothing uses them.
func (b *bench) swapBack(ctx context.Context, node string) {
	b.Helper()
	for _, disk := range []string{firstDisk, spareDisk} {
		b.eventually(ctx, func(ctx context.Context) (string, error) { // somebody may look at it at this moment
			return "", b.disks.RemoveDisk(ctx, node, disk)
		})
	}
	b.must(b.disks.SwapDisks(ctx, node, firstDisk, spareDisk), "swapping the disks of %s", node)
	for _, disk := range []string{firstDisk, spareDisk} {
		_, err := b.disks.ReturnDisk(ctx, node, disk)
		b.must(err, "returning %s to %s", disk, node)
	}
	b.wantReport(ctx, node, func(s v1alpha1.NodeLocalStorageStatus) string {
		if !slices.Contains(s.FilteredStorageInfo.VolumeGroups, pool0) {
			return "group " + pool0 + " is not back"
		}
		return ""
	})
}
