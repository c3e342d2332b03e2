//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// thirdGroup is one that cases make and remove.
const thirdGroup = "open-local-pool-2"

// reconfigure gives a node that was configured another storage.
func (b *bench) reconfigure(node string, spec v1alpha1.StorageSpec) {
	b.Helper()
	b.updateConfig(b.Context(), []v1alpha1.NodeConfig{{
		Selector:    &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}},
		StorageSpec: spec,
	}})
}

// removeGroup removes a group, and what LVM wrote on its disks, when the case ends.
func (b *bench) removeGroup(node, group string) {
	b.Helper()
	b.afterwards(func(ctx context.Context) {
		said := b.exec(ctx, node, "pvs", "--noheadings", "-o", "pv_name", "--select", "vg_name="+group)
		b.exec(ctx, node, "vgremove", "--yes", group)
		b.blank(ctx, node, strings.Fields(said)...)
	})
}

// wantGroup waits until a group of a node is reported as it should be.
func (b *bench) wantGroup(node, name string, complain func(g v1alpha1.VolumeGroup, managed bool) string) {
	b.Helper()
	b.wantReport(b.Context(), node, func(s v1alpha1.NodeLocalStorageStatus) string {
		for _, g := range s.NodeStorageInfo.VolumeGroups {
			if g.Name == name {
				return complain(g, slices.Contains(s.FilteredStorageInfo.VolumeGroups, name))
			}
		}
		return fmt.Sprintf("group %s of %s is not reported; the conditions are %+v", name, node, s.Conditions)
	})
}

// wantDisks wants a group to be well and to lie on these disks.
func wantDisks(disks ...string) func(v1alpha1.VolumeGroup, bool) string {
	return func(g v1alpha1.VolumeGroup, managed bool) string {
		var on []string
		for _, pv := range g.PhysicalVolumes {
			on = append(on, strings.Replace(pv, "/dev/vd", "/dev/ubd", 1)) // LVM takes either name
		}
		slices.Sort(on)
		if !managed || g.Condition != v1alpha1.StorageReady || !slices.Equal(on, disks) {
			return fmt.Sprintf("group %s (managed: %t) is %+v, want it to be well and on %v", g.Name, managed, g, disks)
		}
		return ""
	}
}

func groupsFollowTheirDisks(b *bench) {
	node := b.nodes[0]
	b.cleanSCSI(node)
	b.removeGroup(node, thirdGroup)
	b.configure(node, groups(v1alpha1.VGToBeInited{Name: thirdGroup, Devices: []string{oneDisk}}))
	b.wantGroup(node, thirdGroup, wantDisks(oneDisk))
	b.reconfigure(node, groups(v1alpha1.VGToBeInited{Name: thirdGroup, Devices: []string{oneDisk, otherDisk}}))
	b.wantGroup(node, thirdGroup, wantDisks(oneDisk, otherDisk))
	b.wantNodeEvent(node, "NodeStoragePlanned", "extend volume group "+thirdGroup+" by "+otherDisk)

	class := b.addClass("third", map[string]string{"vgName": thirdGroup})
	b.addClaims(claim("data", class, "64Mi"))
	b.addPods(pod("user", busy, onNode(node), mounting("data")))
	b.wantRunning("user")
	lost, id := otherDisk, otherID
	if strings.Contains(b.exec(b.Context(), node, "lvs", "--noheadings", "-o", "devices", thirdGroup), otherDisk) {
		lost, id = oneDisk, oneID
	}

	// While the group is in use its other disk grows, and goes.
	b.must(b.disks.GrowDisk(b.Context(), node, lost, "1G"), "growing %s", lost)
	b.wantGroup(node, thirdGroup, func(g v1alpha1.VolumeGroup, _ bool) string {
		if g.Total < 1<<30 {
			return fmt.Sprintf("group %s has %d bytes, and a disk of it alone has 1 GiB", g.Name, g.Total)
		}
		return ""
	})
	b.must(b.disks.RemoveDisk(b.Context(), node, lost), "pulling out %s", lost)
	name := lost + " (" + id + ")"
	b.wantGroup(node, thirdGroup, func(g v1alpha1.VolumeGroup, managed bool) string {
		if managed || g.Condition != v1alpha1.StorageFault || g.Allocatable != 0 || !slices.Equal(g.MissingPhysicalVolumes, []string{name}) {
			return fmt.Sprintf("group %s (managed: %t) is %+v, and lacks %s", g.Name, managed, g, name)
		}
		return ""
	})
	b.wantCondition(node, "GroupsReady", thirdGroup, name)
	b.inPod("user", "echo alive > /data/file; sync; grep alive /data/file")
	b.addClaims(claim("late", class, "32Mi"))
	b.addPods(pod("late", forever, onNode(node), mounting("late")))
	b.wantEvent("late", thirdGroup)

	if _, err := b.disks.ReturnDisk(b.Context(), node, id); err != nil {
		b.Fatalf("returning %s: %v", id, err)
	}
	b.wantGroup(node, thirdGroup, wantDisks(oneDisk, otherDisk))
	b.wantRunning("late")
	b.inPod("user", "grep alive /data/file; grep before /data/mark")
}

func mistakesAreTold(b *bench) {
	node := b.nodes[0]
	b.cleanSCSI(node)
	const foreign = "/mnt/open-local/foreign"
	b.exec(b.Context(), node, "mkfs.ext4", "-q", "-F", otherDisk)
	sum := func() string { return b.exec(b.Context(), node, "sha256sum", oneDisk, otherDisk) }
	have := func() string {
		return b.exec(b.Context(), node, "vgs", "--noheadings", "-o", "vg_name,pv_name,vg_size", "--select", "vg_name!=open-local-pool-7")
	}
	sums, vgs := sum(), have()
	// A group that is there already is taken as it is.
	b.unmanagedGroup(node, "open-local-pool-7")

	spec := groups(
		v1alpha1.VGToBeInited{Name: thirdGroup, Devices: []string{oneDisk}},
		v1alpha1.VGToBeInited{Name: "open-local-pool-3", Devices: []string{oneDisk}},
		v1alpha1.VGToBeInited{Name: "open-local-pool-4", Devices: []string{}},
		v1alpha1.VGToBeInited{Name: "open-local-pool-5", Devices: []string{secondDisk}},
		v1alpha1.VGToBeInited{Name: "open-local-pool-6", Devices: []string{"/dev/../etc/passwd", "/dev/none"}},
		v1alpha1.VGToBeInited{Name: "bad name!", Devices: []string{otherDisk}},
	)
	spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{
		{Path: foreign, Device: otherDisk}, {Path: "/proc/x", Device: oneDisk}, {Path: foreign + "-2", Device: "/dev/none", FsType: "vfat"},
	}
	b.configure(node, spec)
	for _, words := range [][]string{
		{"GroupsReady", oneDisk, "is listed for", "volume group " + thirdGroup, "volume group open-local-pool-3"},
		{"GroupsReady", "open-local-pool-4", "lists no device"},
		{"GroupsReady", secondDisk, "open-local-pool-5", "is a physical volume of volume group open-local-pool-1"},
		{"GroupsReady", `"/dev/../etc/passwd"`, "no plain path"},
		{"GroupsReady", "/dev/none", "no such device"},
		{"GroupsReady", `"bad name!"`},
		{"MountPointsReady", foreign, otherDisk},
		{"MountPointsReady", "/proc/x", "no plain absolute path"},
		{"MountPointsReady", "vfat"},
	} {
		b.wantCondition(node, words[0], words[1:]...)
	}
	b.wantGroup(node, "open-local-pool-7", wantDisks(spareDisk))
	// Without the group that also wants the disk, it is the file system that counts.
	spec.ResourceToBeInited.VGs = groups().ResourceToBeInited.VGs
	b.reconfigure(node, spec)
	b.wantCondition(node, "MountPointsReady", foreign, otherDisk, "ext4")
	b.wantNodeEvent(node, "HasSignature", foreign, "ext4")
	if now := have(); now != vgs {
		b.Errorf("the groups were\n%sand are now\n%s", vgs, now)
	}
	if now := sum(); now != sums {
		b.Errorf("disks were written to: %s before, %s after", sums, now)
	}
}
