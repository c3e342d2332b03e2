//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kinds of volumes that everything is tried on.
var kinds = []string{"ext4", "xfs", "btrfs", "block"}

// addKinds adds a claim of each kind, all in one group, and returns how a pod
// uses the claim of a name.
func (b *bench) addKinds(prefix, size, group string) {
	b.Helper()
	for _, kind := range kinds {
		class := b.addClass(prefix+kind, map[string]string{"vgName": group, "csi.storage.k8s.io/fstype": fsOf(kind)})
		c := claim(prefix+kind, class, size)
		if kind == "block" {
			c = blockClaim(prefix+kind, class, size)
		}
		b.addClaims(c)
	}
}

func fsOf(kind string) string {
	if kind == "block" {
		return "ext4"
	}
	return kind
}

// using gives a pod a claim in the way of its kind, which its name ends with.
func using(name string) podOption {
	if strings.HasSuffix(name, "block") {
		return device(name)
	}
	return mounting(name)
}

// busy writes a mark and then goes on writing, whatever /data is.
const busy = `if [ -b /dev/data ]; then
	printf before | dd of=/dev/data conv=fsync,notrunc 2>/dev/null
	while :; do dd if=/dev/zero of=/dev/data bs=1M seek=8 count=2 conv=fsync,notrunc 2>/dev/null; touch /tmp/busy; sleep 1; done
else
	grep -q ' /data ' /proc/mounts
	echo before > /data/mark; sync
	while :; do dd if=/dev/zero of=/data/fill bs=1M count=2 conv=fsync,notrunc 2>/dev/null; touch /tmp/busy; sleep 1; done
fi`

// remark writes another mark, and showMark shows the one that is there.
const (
	remark   = `if [ -b /dev/data ]; then printf after! | dd of=/dev/data conv=fsync,notrunc; else echo after! > /data/mark; sync; fi`
	showMark = `if [ -b /dev/data ]; then head -c 6 /dev/data; else cat /data/mark; fi`
)

func volumesGrow(b *bench) {
	node := b.nodes[0]
	b.addKinds("", "320Mi", "open-local-pool-0")
	for _, kind := range kinds {
		b.addPods(pod(kind, busy, onNode(node), using(kind)))
	}
	b.wantRunning(kinds...)

	// While pods write.
	for _, kind := range kinds {
		b.must(b.request(kind, "640Mi"), "asking for more of %s", kind)
	}
	for _, kind := range kinds {
		b.wantSize(kind, "640Mi")
		b.wantSeen(kind, 640)
		if mark := b.inPod(kind, showMark); !strings.HasPrefix(mark, "before") {
			b.Errorf("the grown %s volume has the mark %q", kind, mark)
		}
	}

	// While nobody uses them: the rest follows with the next pod.
	for _, kind := range kinds {
		b.removePod(kind)
		b.must(b.request(kind, "960Mi"), "asking for more of %s", kind)
	}
	for _, kind := range kinds {
		b.wantVolumeSize(kind, "960Mi")
		b.addPods(pod(kind+"-again", forever, using(kind)))
	}
	for _, kind := range kinds {
		b.wantRunning(kind + "-again")
		b.wantSize(kind, "960Mi")
		b.wantSeen(kind+"-again", 960)
		if mark := b.inPod(kind+"-again", showMark); !strings.HasPrefix(mark, "before") {
			b.Errorf("the %s volume that grew alone has the mark %q", kind, mark)
		}
	}
}

// wantSeen checks the size that a pod sees: a device whole, a file system with
// what it keeps for itself.
func (b *bench) wantSeen(name string, size int) {
	b.Helper()
	least := size * 82 / 100 // the journal of xfs alone has 64 MiB
	if strings.Contains(name, "block") {
		least = size
	}
	b.soon(func(context.Context) (string, error) {
		if have := b.sizeInPod(name); have < least || have > size {
			return fmt.Sprintf("pod %s sees %d MiB, want %d or a little less", name, have, size), nil
		}
		return "", nil
	})
}

// wantVolumeSize waits until the volume of a claim has a size, whatever the claim
// says yet.
func (b *bench) wantVolumeSize(name, size string) {
	b.Helper()
	want := resource.MustParse(size)
	b.soon(func(context.Context) (string, error) {
		if have := b.volumeOf(name).Spec.Capacity[corev1.ResourceStorage]; have.Cmp(want) != 0 {
			return fmt.Sprintf("the volume of claim %s has %s, want %s", name, have.String(), size), nil
		}
		return "", nil
	})
}

func growthBeyondTheGroup(b *bench) {
	pool := b.addClass("pool", map[string]string{"vgName": "open-local-pool-0"})
	b.addClaims(claim("data", pool, "256Mi"))
	b.addPods(pod("user", busy, onNode(b.nodes[0]), mounting("data")))
	b.wantRunning("user")
	b.must(b.request("data", "50Gi"), "asking for too much")
	// What it wants, and what there is.
	b.wantEvent("data", "VolumeResizeFailed", "wants 49.7Gi more", "3836Mi free")
	b.inPod("user", "echo alive > /data/file; sync; grep alive /data/file")

	if err := b.request("data", "128Mi"); err == nil {
		b.Error("a volume may be asked to shrink")
	}
	// Kubernetes lets a request that failed be taken back as far as what is there.
	b.must(b.request("data", "512Mi"), "asking for less")
	b.wantSize("data", "512Mi")
	b.inPod("user", "grep before /data/mark")

	// The growth is counted like any claim: what it left is what others find.
	b.must(b.request("data", "3Gi"), "asking for more")
	b.addClaims(claim("late", pool, "2Gi"))
	b.addPods(pod("late", forever, onNode(b.nodes[0]), mounting("late")))
	b.wantSize("data", "3Gi")
	b.wantEvent("late", "vg open-local-pool-0", "wants 2Gi", "1020Mi free")
}

func stripedVolumes(b *bench) {
	node := b.nodes[1]
	striped := b.addClass("striped", map[string]string{"vgName": "open-local-pool-0", "lvmType": "striping"})
	b.addClaims(claim("striped", striped, "1Gi"))
	b.addPods(pod("striped", busy, mounting("striped")))
	// One disk is not enough, however much room it has.
	b.wantEvent("striped", "vg open-local-pool-0", "in equal parts on two or more disks")
	b.growPool(node)
	b.wantRunning("striped")
	if got := b.nodeOf("striped"); got != node {
		b.Errorf("the pod runs on %s, but only %s has two disks", got, node)
	}
	b.wantStripes(node, "striped")
	b.must(b.request("striped", "1536Mi"), "asking for more")
	b.wantSize("striped", "1536Mi")
	b.wantStripes(node, "striped")

	// The smaller disk decides how much can be striped, not what is free in all.
	b.addClaims(claim("large", striped, "3Gi"))
	b.addPods(pod("large", forever, mounting("large")))
	b.wantEvent("large", "vg open-local-pool-0", "wants 3Gi")
}

// wantStripes checks that every part of a claim's volume lies on two disks.
func (b *bench) wantStripes(node, name string) {
	b.Helper()
	volume := b.volumeOf(name).Name
	said := b.exec(b.Context(), node, "lvs", "--noheadings", "--segments", "-o", "stripes", "open-local-pool-0/"+volume)
	for stripes := range strings.FieldsSeq(said) {
		if stripes != "2" {
			b.Errorf("volume %s has segments with %v stripes, want 2", volume, strings.Fields(said))
		}
	}
}

// wantPhase waits until a volume is in a phase.
func (b *bench) wantPhase(volume string, phase corev1.PersistentVolumePhase) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		pv, err := b.kube.CoreV1().PersistentVolumes().Get(ctx, volume, metav1.GetOptions{})
		if err != nil || pv.Status.Phase == phase {
			return "", err
		}
		return fmt.Sprintf("volume %s is %s, want %s", volume, pv.Status.Phase, phase), nil
	})
}
