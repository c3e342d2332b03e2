//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func dataSurvivesThePod(b *bench) {
	b.addClaims(claim("data", "open-local-lvm", "1Gi"))
	b.addPods(pod("writer", "echo precious > /data/file; sync; df -k /data; mount | grep ' /data '", once, mounting("data")))
	b.wantDone("writer")
	b.removePod("writer")
	b.addPods(pod("reader", `grep precious /data/file; mount | grep ' /data type ext4'`, once, mounting("data")))
	b.wantDone("reader")

	pv := b.volumeOf("data")
	if pv.Spec.CSI == nil || pv.Spec.CSI.Driver != driverName || pv.Spec.CSI.VolumeHandle != pv.Name {
		b.Errorf("volume %s does not have its name as handle of driver %s: %+v", pv.Name, driverName, pv.Spec.CSI)
	}
	if attributes := pv.Spec.CSI.VolumeAttributes; attributes["volumeType"] != "LVM" || attributes["vgName"] == "" {
		b.Errorf("volume %s has attributes %v, want volumeType LVM and a vgName", pv.Name, attributes)
	}
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	if size.Cmp(resource.MustParse("1Gi")) != 0 {
		b.Errorf("volume %s has %s, want 1Gi", pv.Name, size.String())
	}
}

func xfsIsXFS(b *bench) {
	b.addClaims(claim("data", "open-local-lvm-xfs", "1Gi"))
	b.addPods(pod("writer", `mount | grep ' /data type xfs'; echo precious > /data/file; sync`, once, mounting("data")))
	b.wantDone("writer")
	b.removePod("writer")
	b.addPods(pod("reader", "grep precious /data/file", once, mounting("data")))
	b.wantDone("reader")
}

func blockIsRawAndEmpty(b *bench) {
	// The first tenant fills its volume; nothing of it may be in the second's.
	fill := "tr '\\000' S </dev/zero | dd of=/dev/data bs=1M count=128 conv=fsync 2>&1"
	check := "test $(blockdev --getsize64 /dev/data) = 134217728; cmp -n 134217728 /dev/data /dev/zero"
	one := b.addClass("one-group", map[string]string{"vgName": "open-local-pool-1"})
	for _, tenant := range []string{"first", "second"} {
		b.addClaims(blockClaim(tenant, one, "128Mi"))
		b.addPods(pod(tenant, check+"\n"+fill+"\nhead -c 1 /dev/data | grep S", once, onNode(b.nodes[0]), device(tenant)))
		b.wantDone(tenant)
		b.removePod(tenant)
		b.removeClaim(tenant)
		b.soon(func(ctx context.Context) (string, error) { return b.noVolumes(ctx) })
	}
}

func claimsThatFitOneWay(b *bench) {
	// pool-0 has room for either, pool-1 only for the smaller.
	b.addClaims(claim("small", "open-local-lvm", "2500Mi"), claim("large", "open-local-lvm", "3500Mi"))
	b.addPods(pod("both", forever, mounting("small", "large")))
	b.wantRunning("both")
	for name, want := range map[string]string{"small": "open-local-pool-1", "large": "open-local-pool-0"} {
		if got := b.volumeOf(name).Spec.CSI.VolumeAttributes["vgName"]; got != want {
			b.Errorf("claim %s lies in %s, want %s", name, got, want)
		}
	}
}

func tooLargeWaitsForSpace(b *bench) {
	const wish = "4500Mi" // more than pool-0 has until a disk is added to it
	b.addClaims(claim("large", "open-local-lvm", wish))
	b.addPods(pod("patient", forever, mounting("large")))
	b.wantEvent("patient", "vg open-local-pool-0", "wants 4500Mi", "has 4092Mi in all")
	b.wantExplained("patient", "large", "wants 4500Mi", "has 4092Mi in all", b.nodes[0], b.nodes[1])

	b.growPool(b.nodes[1])
	b.wantRunning("patient")
	if node := b.nodeOf("patient"); node != b.nodes[1] {
		b.Errorf("the pod runs on %s, but only %s has the space", node, b.nodes[1])
	}
}

// wantExplained asks open-local explain about a pod, and looks for the words in what it says.
func (b *bench) wantExplained(pod string, words ...string) {
	b.Helper()
	said, err := b.openLocal(b.Context(), "explain", "pod", b.ns+"/"+pod)
	b.must(err, "asking why %s waits: %s", pod, said)
	for _, word := range words {
		if !strings.Contains(said, word) {
			b.Errorf("open-local explain says of %s, without %q:\n%s", pod, word, said)
		}
	}
}

func burstFillsANode(b *bench) {
	node := b.nodes[0]
	pool := b.addClass("pool", map[string]string{"vgName": "open-local-pool-0"})
	var names []string
	extents := b.freeExtents(node, "open-local-pool-0")
	b.wantPublished(node, pool, extents)
	const pods = 20
	share := extents / pods
	for i := range pods {
		size := share
		if i == pods-1 {
			size = extents - share*(pods-1) // to the last extent
		}
		name := fmt.Sprintf("p%02d", i)
		names = append(names, name)
		b.addClaims(claim(name, pool, fmt.Sprintf("%dMi", 4*size)))
	}
	for _, name := range names {
		b.addPods(pod(name, forever, onNode(node), mounting(name)))
	}
	b.wantRunning(names...)
	if free := b.freeExtents(node, "open-local-pool-0"); free != 0 {
		b.Errorf("%d extents are free, want every one taken", free)
	}
	b.wantPublished(node, pool, 0)

	// One more does not fit, says so, and goes on when one leaves.
	b.addClaims(claim("late", pool, fmt.Sprintf("%dMi", 4*share)))
	b.addPods(pod("late", forever, onNode(node), mounting("late")))
	b.wantEvent("late", "vg open-local-pool-0", fmt.Sprintf("wants %dMi", 4*share), "0 free")
	b.removePod(names[0])
	b.removeClaim(names[0])
	b.wantRunning("late")
}

// wantPublished waits until Kubernetes is told that so many extents are left on a node for
// volumes of a class: nothing is published of none.
func (b *bench) wantPublished(node, class string, extents int) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		all, err := b.kube.StorageV1().CSIStorageCapacities(installedIn).List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		var said []string
		for _, c := range all.Items {
			if c.StorageClassName == class && c.NodeTopology.MatchLabels[corev1.LabelHostname] == node {
				said = append(said, fmt.Sprintf("%d, one %d", c.Capacity.Value()>>22, c.MaximumVolumeSize.Value()>>22))
			}
		}
		if got := strings.Join(said, "; "); extents == 0 && got != "" || extents > 0 && got != fmt.Sprintf("%[1]d, one %[1]d", extents) {
			return fmt.Sprintf("published of %s for class %s: %q, want %d extents", node, class, got, extents), nil
		}
		return "", nil
	})
}

func racersShareWhatFits(b *bench) {
	// Twelve pods race for room for eight over both nodes: three of 1 GiB fit in
	// each pool-0, and one in what a class bound to it leaves is never promised twice.
	pool := b.addClass("pool", map[string]string{"vgName": "open-local-pool-0"})
	var names []string
	for i := range 8 {
		name := fmt.Sprintf("r%d", i)
		names = append(names, name)
		b.addClaims(claim(name, pool, "1Gi"))
	}
	for _, name := range names {
		b.addPods(pod(name, forever, mounting(name)))
	}
	placed, waiting := b.wantPending(2, names)
	b.wantRunning(placed...)
	for _, name := range waiting {
		b.wantEvent(name, "vg open-local-pool-0", "wants 1Gi", "free")
	}
	// Two leave, the two that waited follow.
	for _, name := range placed[:2] {
		b.removePod(name)
		b.removeClaim(name)
	}
	b.wantRunning(waiting...)
}

func oddSizes(b *bench) {
	for name, size := range map[string]string{"one-byte": "1", "decimal": "100M", "odd": "33554433"} {
		b.addClaims(blockClaim(name, "open-local-lvm", size))
		b.addPods(pod(name, "blockdev --getsize64 /dev/data", once, device(name)))
	}
	b.wantDone("one-byte", "decimal", "odd")
	for name, want := range map[string]string{"one-byte": "4Mi", "decimal": "96Mi", "odd": "36Mi"} {
		got := b.volumeOf(name).Spec.Capacity[corev1.ResourceStorage]
		if got.Cmp(resource.MustParse(want)) != 0 {
			b.Errorf("claim %s got %s, want %s", name, got.String(), want)
		}
	}
}

func wrongClasses(b *bench) {
	stranger := b.addClass("stranger", map[string]string{"vgName": "other-vg"})
	cases := map[string]struct {
		class string
		words []string
	}{
		"unknown-key":   {b.addClass("unknown-key", map[string]string{"iosp": "10"}), []string{`"iosp"`, "not known"}},
		"unknown-type":  {b.addClass("unknown-type", map[string]string{"volumeType": "Floppy"}), []string{`"Floppy"`}},
		"unknown-fs":    {b.addClass("unknown-fs", map[string]string{"csi.storage.k8s.io/fstype": "ntfs"}), []string{`"ntfs"`}},
		"hostile-group": {b.addClass("hostile-group", map[string]string{"vgName": "$(reboot)"}), []string{"$(reboot)"}},
		"unmanaged":     {stranger, []string{"other-vg"}},
		"missing-class": {b.ns + "-no-such-class", []string{"unbound immediate PersistentVolumeClaims"}},
	}
	b.unmanagedGroup(b.nodes[0], "other-vg")
	for name, c := range cases {
		b.addClaims(claim(name, c.class, "64Mi"))
		b.addPods(pod(name, forever, mounting(name)))
	}
	for name, c := range cases {
		b.wantEvent(name, c.words...)
	}
	waiting, err := b.pending(b.Context())
	b.must(err, "listing pods")
	if len(waiting) != len(cases) {
		b.Errorf("only %v wait, want all %d", waiting, len(cases))
	}
}

// wrongClassesBoundAtOnce are judged by the driver, not by the scheduler.
func wrongClassesBoundAtOnce(b *bench) {
	immediate := func(c *storagev1.StorageClass) {
		mode := storagev1.VolumeBindingImmediate
		c.VolumeBindingMode = &mode
	}
	b.addClaims(claim("misspelt", b.addClass("misspelt", map[string]string{"iosp": "10"}, immediate), "64Mi"))
	b.wantEvent("misspelt", "ProvisioningFailed", "InvalidArgument", `"iosp"`)
}

func podsOfANodeShareAVolume(b *bench) {
	b.addClaims(claim("shared", "open-local-lvm", "64Mi"))
	b.addPods(pod("first", "echo hello > /data/file; sync; "+forever, mounting("shared")))
	b.wantRunning("first")
	b.addPods(pod("second", "grep hello /data/file; "+forever, mounting("shared")))
	b.wantRunning("second")
	if first, second := b.nodeOf("first"), b.nodeOf("second"); first != second {
		b.Errorf("one volume is used on %s and on %s", first, second)
	}
}

func sameNameAgain(b *bench) {
	// The scheduler must count every one of them once, though they have one name.
	for range 3 {
		b.addClaims(claim("data", "open-local-lvm", "3500Mi"))
		b.addPods(pod("user", "test ! -e /data/file; echo mine > /data/file; sync", once, onNode(b.nodes[0]), mounting("data")))
		b.wantDone("user")
		b.removePod("user")
		b.removeClaim("data")
		b.soon(func(ctx context.Context) (string, error) { return b.noVolumes(ctx) })
	}
}
