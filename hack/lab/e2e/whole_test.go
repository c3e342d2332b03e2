//go:build e2e

package e2e

import (
	"context"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// addWholeClass adds a class of whole devices, or of mount points.
func (b *bench) addWholeClass(name, kind string, more ...func(*storagev1.StorageClass)) string {
	b.Helper()
	fixed := func(c *storagev1.StorageClass) { c.AllowVolumeExpansion = ptr.To(false) }
	return b.addClass(name, map[string]string{"volumeType": kind}, append(more, fixed)...)
}

// wantHolder waits until a device is reported as that of a claim's volume, and the
// volume has it by its name and its identity.
func (b *bench) wantHolder(node, path, id, claim string) {
	b.Helper()
	pv := b.volumeOf(claim)
	if has := pv.Spec.CSI.VolumeAttributes["Device"]; has != path {
		b.Errorf("the volume of claim %s has %s, want %s", claim, has, path)
	}
	if d := b.wantDevice(node, path, id, "Taken"); d.VolumeID != pv.Name {
		b.Errorf("%s belongs to volume %q, want %s", path, d.VolumeID, pv.Name)
	}
}

// tenant leaves its name all over a raw device of 128 MiB.
const tenant = `for at in 0 1 63 127; do printf former-tenant | dd of=/dev/data bs=1M seek=$at conv=fsync,notrunc; done; ` + forever

func wholeDisks(b *bench) {
	node := b.nodes[0]
	b.cleanSCSI(node)
	spec := groups()
	spec.ListConfig.Devices.Include = []string{"/dev/sd[a-z]+", spareDisk}
	b.configure(node, spec)
	for _, disk := range []string{oneDisk, otherDisk} {
		b.wantDevice(node, disk, "wwn-", "")
	}
	b.wantDevice(node, spareDisk, "serial-N1-d", "")
	class := b.addWholeClass("disk", "Device")

	// The smallest that fits; and what only the large one can hold goes there.
	b.addClaims(blockClaim("raw", class, "64Mi"))
	b.addPods(pod("raw", tenant, onNode(node), device("raw")))
	b.wantRunning("raw")
	b.wantHolder(node, oneDisk, oneID, "raw")
	b.addClaims(claim("large", class, "1Gi"), claim("lvm", "open-local-lvm", "64Mi"), claim("small", class, "100Mi"))
	b.addPods(pod("mixed", busy, onNode(node), mounting("large", "lvm")), pod("small", busy, onNode(node), mounting("small")))
	b.wantRunning("mixed", "small")
	b.wantHolder(node, spareDisk, "serial-N1-d", "large")
	b.wantHolder(node, otherDisk, otherID, "small")
	b.addClaims(blockClaim("next", class, "64Mi"))
	b.addPods(pod("next", "if grep -q former-tenant /dev/data; then exit 1; fi", onNode(node), once, device("next")))
	b.wantEvent("next", "NoRoomForVolumes", "device", "wants 64Mi")

	// What one leaves is wiped, and the next finds none of it.
	b.removePod("raw")
	b.removeClaim("raw")
	b.wantDone("next")
	b.wantHolder(node, oneDisk, oneID, "next")
	b.removePod("next")

	b.diskGoesAndComesBack(node, otherDisk, otherID)

	// Under whatever name it is found the volume has its own disk.
	b.removePod("small")
	b.letGo(node, otherDisk)
	b.must(b.disks.SwapDisks(b.Context(), node, oneID, otherID), "swapping the disks of %s", node)
	b.addPods(pod("again", "grep before /data/mark", onNode(node), once, mounting("small")))
	b.wantDone("again")
	b.wantDevice(node, oneDisk, otherID, "Taken")
}

// diskGoesAndComesBack pulls out the disk of the claim small, which its pod uses.
func (b *bench) diskGoesAndComesBack(node, disk, id string) {
	b.Helper()
	b.must(b.disks.RemoveDisk(b.Context(), node, disk), "pulling out %s", disk)
	volume := b.volumeOf("small").Name
	b.wantCondition(node, "DevicesReady", volume, id, "is not on this node")
	b.wantNodeEvent(node, "DeviceGone", volume, id)
	b.removePod("small")
	b.letGo(node, disk)
	b.addPods(pod("small", busy, onNode(node), mounting("small")))
	b.wantEvent("small", "FailedMount", id, "it is not on this node")
	back, err := b.disks.ReturnDisk(b.Context(), node, id)
	b.must(err, "returning %s", id)
	b.wantRunning("small")
	b.inPod("small", "grep before /data/mark")
	b.wantHolder(node, back, id, "small")
}

// letGo waits until nothing of a disk is mounted on a node, a moment after its last pod.
func (b *bench) letGo(node, disk string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		mounts, err := b.lab.Exec(ctx, node, "cat", "/proc/1/mounts")
		if err != nil || !strings.Contains(mounts, disk+" ") {
			return "", err
		}
		return disk + " is still mounted", nil
	})
}

func wholeMountPoints(b *bench) {
	node := b.nodes[0]
	const at, outside = "/mnt/open-local/whole", "/mnt/outside"
	run := func(argv ...string) string { b.Helper(); return b.exec(b.Context(), node, argv...) }
	spec := groups()
	spec.ListConfig.MountPoints.Include = []string{"/mnt/open-local/.*"}
	spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{{Path: at, Device: spareDisk, Options: []string{"noatime"}}}
	b.afterwards(func(ctx context.Context) {
		b.exec(ctx, node, "umount", at)
		b.exec(ctx, node, "rm", "-r", "/mnt/open-local", outside)
		b.blank(ctx, node, spareDisk)
	})
	run("sh", "-c", "mkdir "+outside+" && echo safe >"+outside+"/file")
	b.configure(node, spec)
	b.wantMountPoint(node, at, spareDisk, "")

	class := b.addWholeClass("mounted", "MountPoint")
	b.addClaims(blockClaim("block", class, "64Mi"), claim("data", class, "1Gi"))
	b.addPods(pod("block", forever, onNode(node), device("block")))
	b.wantEvent("block", "block")
	b.removePod("block")
	b.removeClaim("block")
	b.addPods(pod("user", "ln -s "+outside+" /data/link; mkdir /data/dir; "+busy, onNode(node), mounting("data")))
	b.wantRunning("user")
	if has := b.volumeOf("data").Spec.CSI.VolumeAttributes["MountPoint"]; has != at {
		b.Errorf("the volume has %q, want %s", has, at)
	}
	b.wantMountPoint(node, at, spareDisk, "Taken")
	b.wantBusy("user")
	if said := run("cat", at+"/mark"); said != "before\n" {
		b.Errorf("in %s there is %q", at, said)
	}

	// Another pod finds what the first left, and when the claim goes all of it goes.
	b.removePod("user")
	b.addPods(pod("heir", "grep before /data/mark", onNode(node), once, mounting("data")))
	b.wantDone("heir")
	b.removePod("heir")
	b.removeClaim("data")
	b.wantMountPoint(node, at, spareDisk, "")
	if left := run("ls", "-A", at); strings.TrimSpace(left) != "lost+found" && strings.TrimSpace(left) != "" {
		b.Errorf("in the mount point is left: %s", left)
	}
	if said := run("cat", outside+"/file"); said != "safe\n" {
		b.Errorf("beyond a link there is %q", said)
	}
}
