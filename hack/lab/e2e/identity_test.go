//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// wantReport waits until the report of a node is as it should be.
func (b *bench) wantReport(ctx context.Context, node string, complain func(v1alpha1.NodeLocalStorageStatus) string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b.eventually(ctx, func(ctx context.Context) (string, error) {
		nls, err := b.local.CsiV1alpha1().NodeLocalStorages().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return complain(nls.Status), nil
	})
}

func reportedDevice(s v1alpha1.NodeLocalStorageStatus, path string) (v1alpha1.DeviceInfo, bool) {
	i := slices.IndexFunc(s.NodeStorageInfo.DeviceInfos, func(d v1alpha1.DeviceInfo) bool { return d.Name == path })
	if i < 0 {
		return v1alpha1.DeviceInfo{}, false
	}
	return s.NodeStorageInfo.DeviceInfos[i], true
}

// wantDevice waits until a device is reported with an identity that begins so, and is
// not offered for that reason; the empty reason is that it is offered.
func (b *bench) wantDevice(node, path, id, reason string) (found v1alpha1.DeviceInfo) {
	b.Helper()
	b.wantReport(b.Context(), node, func(s v1alpha1.NodeLocalStorageStatus) string {
		d, is := reportedDevice(s, path)
		offered := slices.Contains(s.FilteredStorageInfo.Devices, path)
		if found = d; !is || !strings.HasPrefix(d.ID, id) || d.Reason != reason || offered != (reason == "") {
			return fmt.Sprintf("%s is reported as %+v and offered are %v; want it to be %s, and not offered because of %q",
				path, d, s.FilteredStorageInfo.Devices, id, reason)
		}
		return ""
	})
	return found
}

// wantCondition waits until a condition of a node that is not met says all the words.
func (b *bench) wantCondition(node, kind string, words ...string) {
	b.Helper()
	b.wantReport(b.Context(), node, func(s v1alpha1.NodeLocalStorageStatus) string {
		for _, c := range s.Conditions {
			if c.Type == kind && c.Status == metav1.ConditionFalse && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(c.Message, word) }) {
				return ""
			}
		}
		return fmt.Sprintf("no condition %s says %q: %+v", kind, words, s.Conditions)
	})
}

// wantNodeEvent waits for an event of a node's storage that says all the words.
func (b *bench) wantNodeEvent(node, reason string, words ...string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		events, err := b.kube.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + node})
		if err != nil {
			return "", err
		}
		var said []string
		for _, e := range events.Items {
			if e.Reason == reason && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(e.Message, word) }) {
				return "", nil
			}
			said = append(said, e.Reason+": "+e.Message)
		}
		return fmt.Sprintf("no event %s of %s says %q; they say:\n%s", reason, node, words, strings.Join(said, "\n")), nil
	})
}

// speak has the kernel of a node speak of a disk, as udev does when a program that wrote
// to one closes it.
func (b *bench) speak(ctx context.Context, node, disk string) {
	b.Helper()
	b.exec(ctx, node, "sh", "-c", "echo change >/sys/class/block/"+strings.TrimPrefix(disk, "/dev/")+"/uevent")
}

// cleanSCSI makes the SCSI disks of a node as they are before every case, when it ends.
func (b *bench) cleanSCSI(node string) {
	b.Helper()
	b.afterwards(func(ctx context.Context) {
		b.must(b.disks.ShrinkDisks(ctx, node), "making the disks of %s as small as they were", node)
		for _, id := range []string{oneID, otherID} {
			disk := b.plugged(ctx, node, id)
			b.must(b.disks.HealDisk(ctx, node, disk), "healing %s", disk)
			b.must(b.disks.ProtectDisk(ctx, node, disk, false), "making %s writable", disk)
			b.blank(ctx, node, disk)
			b.exec(ctx, node, "blockdev", "--rereadpt", disk)
		}
		if b.plugged(ctx, node, oneID) == oneDisk && b.plugged(ctx, node, otherID) == otherDisk {
			return
		}
		for _, id := range []string{oneID, otherID} {
			b.must(b.disks.RemoveDisk(ctx, node, id), "pulling out %s", id)
		}
		for _, id := range []string{oneID, otherID} { // the first that is found gets the first name
			b.plugged(ctx, node, id)
		}
	})
}

// plugged returns the device of a SCSI disk, which is plugged in if it is not.
func (b *bench) plugged(ctx context.Context, node, id string) string {
	b.Helper()
	disks, err := b.disks.ListDisks(ctx, node)
	b.must(err, "listing the disks of %s", node)
	for _, d := range disks {
		if d.ID == id {
			return d.Device
		}
	}
	device, err := b.disks.ReturnDisk(ctx, node, id)
	b.must(err, "returning %s to %s", id, node)
	return device
}

// partition makes one partition on a disk, from its second MiB on and of 19 MiB, with a table of the old
// kind: its number, and the partition as it stands in the table.
func (b *bench) partition(node, disk string) {
	b.Helper()
	const script = `printf '\112\075\054\033\0\0\0\0\0\0\203\0\0\0\0\010\0\0\0\230\0\0' | dd of=$0 bs=1 seek=440 conv=notrunc,fsync status=none &&
		printf '\125\252' | dd of=$0 bs=1 seek=510 conv=notrunc,fsync status=none && blockdev --rereadpt $0`
	b.exec(b.Context(), node, "sh", "-c", script, disk)
}

func disksSayWhoTheyAre(b *bench) {
	node := b.nodes[0]
	b.cleanSCSI(node)
	spec := groups()
	spec.ListConfig.Devices.Include = []string{"/dev/sd[a-z]+[0-9]*", spareDisk}
	b.configure(node, spec)
	b.wantDevice(node, oneDisk, oneID, "")
	b.wantDevice(node, otherDisk, otherID, "")
	b.wantDevice(node, spareDisk, "serial-N1-d", "")
	b.wantDevice(node, firstDisk, "serial-N1-b", "InVolumeGroup")

	b.exec(b.Context(), node, "mkfs.ext4", "-q", "-F", oneDisk)
	b.speak(b.Context(), node, oneDisk)
	if d := b.wantDevice(node, oneDisk, oneID, "HasSignature"); !strings.Contains(d.Message, "ext4") || d.Contents == "" {
		b.Errorf("what is on %s is not told: %+v", oneDisk, d)
	}
	b.must(b.disks.SwapDisks(b.Context(), node, oneDisk, otherDisk), "swapping the disks of %s", node)
	b.wantDevice(node, oneDisk, otherID, "")
	b.wantDevice(node, otherDisk, oneID, "HasSignature")

	b.must(b.disks.ProtectDisk(b.Context(), node, otherDisk, true), "making %s read-only", otherDisk)
	b.wantDevice(node, otherDisk, oneID, "ReadOnly")
	b.wantCondition(node, "DevicesReady", otherDisk, "read-only")
	b.must(b.disks.ProtectDisk(b.Context(), node, otherDisk, false), "making %s writable", otherDisk)
	b.wantDevice(node, otherDisk, oneID, "HasSignature")

	b.partition(node, oneDisk)
	b.blank(b.Context(), node, oneDisk+"1") // there may be what former cases left
	b.speak(b.Context(), node, oneDisk)
	b.wantDevice(node, oneDisk, otherID, "HasPartitions")
	b.wantDevice(node, oneDisk+"1", otherID+"-partuuid-", "")
	b.must(b.disks.FailDisk(b.Context(), node, oneDisk), "making %s fail", oneDisk)
	b.wantDevice(node, oneDisk, otherID, "Failing")
	b.wantNodeEvent(node, "Failing", oneDisk, "offline")
	b.must(b.disks.RemoveDisk(b.Context(), node, oneDisk), "pulling out %s", oneDisk)
	b.wantReport(b.Context(), node, func(s v1alpha1.NodeLocalStorageStatus) string {
		if d, is := reportedDevice(s, oneDisk); is {
			return fmt.Sprintf("a disk that was pulled out is reported: %+v", d)
		}
		return ""
	})
}
