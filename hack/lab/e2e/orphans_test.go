//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// program builds open-local as for the image, when it is first needed, and runs it as the
// administrator of a cluster.
func program(t *testing.T, root, kubeconfig string) func(ctx context.Context, args ...string) (string, error) {
	built := sync.OnceValues(func() (string, error) {
		path := filepath.Join(t.TempDir(), "open-local")
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "./cmd/open-local")
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building open-local: %w\n%s", err, said)
		}
		return path, nil
	})
	return func(ctx context.Context, args ...string) (string, error) {
		path, err := built()
		if err != nil {
			return "", err
		}
		said, err := exec.CommandContext(ctx, path, append(args, "--kubeconfig", kubeconfig)...).CombinedOutput()
		return string(said), err
	}
}

// orphansOfANodeThatCameBack takes a node out of the cluster while volumes stand on it,
// deletes their claims, and finds them again when the node is back.
func orphansOfANodeThatCameBack(b *bench) {
	node := b.nodes[1]
	b.addClaims(claim("keep", "open-local-lvm", "64Mi"), claim("drop", "open-local-lvm-xfs", "512Mi"))
	write := "echo precious > /data/file; echo precious > /data2/file; sync"
	b.addPods(pod("writer", write, once, onNode(node), mounting("keep", "drop")))
	b.wantDone("writer")
	keep, drop := b.volumeOf("keep"), b.volumeOf("drop")
	b.removePod("writer")

	b.leaveAndComeBack(node, func() {
		for _, name := range []string{"keep", "drop"} {
			b.removeClaim(name)
		}
		b.soon(b.noVolumes)
		b.wantClusterEvent(keep.Name, "VolumeLeftOnNode", node, keep.Name)
	})
	for _, pv := range []*corev1.PersistentVolume{keep, drop} {
		b.exec(b.Context(), node, "lvs", pv.Spec.CSI.VolumeAttributes["vgName"]+"/"+pv.Name)
	}
	b.wantOrphans(node, keep.Name+" ext4 "+b.ns+"/keep", drop.Name+" xfs "+b.ns+"/drop")
	b.wantClusterEvent(node, "OrphanVolumes", keep.Name, drop.Name)
	listed := b.orphans("list", node)
	for _, want := range []string{keep.Name, drop.Name, b.ns + "/keep", "64Mi", "512Mi", "xfs"} {
		if !strings.Contains(listed, want) {
			b.Errorf("the list does not say %q:\n%s", want, listed)
		}
	}

	if said, err := b.openLocal(b.Context(), "orphans", "remove", node, "no-such-volume", "--yes"); err == nil {
		b.Errorf("a volume that is no orphan was removed: %s", said)
	}
	b.orphans("remove", node, drop.Name, "--yes")
	if said, err := b.lab.Exec(b.Context(), node, "lvs", drop.Spec.CSI.VolumeAttributes["vgName"]+"/"+drop.Name); err == nil {
		b.Errorf("what was removed is still there: %s", said)
	}

	b.orphans("adopt", node, keep.Name, "--claim", b.ns+"/again", "--storage-class", "open-local-lvm")
	again := claim("again", "open-local-lvm", "64Mi")
	again.Spec.VolumeName = keep.Name // without it kube-scheduler may choose another node just before they are bound
	b.addClaims(again)
	b.addPods(pod("reader", "grep precious /data/file; rm /data/file", once, mounting("again")))
	b.wantDone("reader")
	if got := b.nodeOf("reader"); got != node {
		b.Errorf("the reader runs on %s, its volume lies on %s", got, node)
	}
	b.wantOrphans(node)
	// It is a volume like others, and goes like them when it is allowed to.
	patch := []byte(`{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)
	_, err := b.kube.CoreV1().PersistentVolumes().Patch(b.Context(), keep.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	b.must(err, "changing the policy of volume %s", keep.Name)
}

// leaveAndComeBack takes a node out of the cluster, and back once its report is gone and
// what is to happen meanwhile has happened.
func (b *bench) leaveAndComeBack(node string, meanwhile func()) {
	b.Helper()
	before := b.report(node)
	b.must(b.kube.CoreV1().Nodes().Delete(b.Context(), node, metav1.DeleteOptions{}), "deleting node %s", node)
	meanwhile()
	b.soon(func(ctx context.Context) (string, error) {
		all, err := b.local.CsiV1alpha1().NodeLocalStorages().List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		for _, nls := range all.Items {
			if nls.UID == before {
				return "the report of node " + node + " is still there", nil
			}
		}
		return "", nil
	})
	// A kubelet registers its node when it starts.
	b.exec(b.Context(), node, "sh", "-c", "kill -TERM $(grep -lx kubelet /proc/[0-9]*/comm | cut -d/ -f3)")
}

// wholeOrphans does to whole disks and a mount point what is done to logical volumes, beside a disk
// that is nobody's business.
func wholeOrphans(b *bench) {
	node := b.nodes[1]
	const at = "/mnt/open-local/left"
	run := func(argv ...string) string { b.Helper(); return b.exec(b.Context(), node, argv...) }
	disks, more := b.addDisks(node, "256M"), b.addDisks(node, "256M")
	mounted, bystander := more[0], more[1]
	b.afterwards(func(ctx context.Context) {
		b.exec(ctx, node, "umount", at)
		b.exec(ctx, node, "rm", "-r", "/mnt/open-local")
	})
	run("mkfs.ext4", "-q", bystander)
	sum := run("sha256sum", bystander)
	spec := groups()
	spec.ListConfig.Devices.Include = disks
	spec.ListConfig.MountPoints.Include = []string{"/mnt/open-local/.*"}
	spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{{Path: at, Device: mounted, Options: []string{"noatime"}}}
	b.configure(node, spec)
	b.wantMountPoint(node, at, mounted, "")

	disk := b.addWholeClass("disk", "Device", func(c *storagev1.StorageClass) { c.Parameters["wipe"] = "zero" })
	point := b.addWholeClass("mounted", "MountPoint")
	names := []string{"keep", "drop", "left"}
	b.addClaims(claim("keep", disk, "128Mi"), claim("drop", disk, "128Mi"), claim("left", point, "64Mi"))
	write := "for dir in /data /data2 /data3; do echo precious > $dir/file; done; sync"
	b.addPods(pod("writer", write, once, onNode(node), mounting(names...)))
	b.wantDone("writer")
	keep, drop, left := b.volumeOf("keep"), b.volumeOf("drop"), b.volumeOf("left")
	on := func(pv *corev1.PersistentVolume) string { return pv.Spec.CSI.VolumeAttributes["Device"] }
	ids := map[string]string{on(keep): b.idOf(node, on(keep)), on(drop): b.idOf(node, on(drop))}
	b.removePod("writer")
	b.letGo(node, on(keep))
	b.letGo(node, on(drop))

	b.leaveAndComeBack(node, func() {
		for _, name := range names {
			b.removeClaim(name)
		}
		b.soon(b.noVolumes)
		for _, pv := range []*corev1.PersistentVolume{keep, drop, left} {
			b.wantClusterEvent(pv.Name, "VolumeLeftOnNode", node, pv.Name)
		}
	})
	b.wantOrphans(node, keep.Name+" ext4 "+b.ns+"/keep", drop.Name+" ext4 "+b.ns+"/drop", left.Name+"  "+b.ns+"/left")
	b.wantClusterEvent(node, "OrphanVolumes", keep.Name, drop.Name, left.Name)
	b.wantMetric(node, "agent", fmt.Sprintf("open_local_orphan_volumes{node=%q} 3", node))
	listed := b.orphans("list", node)
	for _, want := range []string{keep.Name, drop.Name, left.Name, on(keep), on(drop), at, b.ns + "/left"} {
		if !strings.Contains(listed, want) {
			b.Errorf("the list does not say %q:\n%s", want, listed)
		}
	}
	for path, id := range ids { // nothing is offered, and all of it is there
		b.wantDevice(node, path, id, "Taken")
	}
	b.wantMountPoint(node, at, mounted, "Taken")
	if said := run("cat", at+"/file"); said != "precious\n" {
		b.Errorf("in %s there is %q", at, said)
	}

	b.orphans("remove", node, drop.Name, "--yes")
	b.wantDevice(node, on(drop), ids[on(drop)], "") // only what is blank is offered
	if said := run("sh", "-c", "grep -c precious "+on(drop)+" || true"); strings.TrimSpace(said) != "0" {
		b.Errorf("on %s there is still what was written there", on(drop))
	}
	b.orphans("remove", node, left.Name, "--yes")
	b.wantMountPoint(node, at, mounted, "")
	if said := strings.TrimSpace(run("ls", "-A", at)); said != "lost+found" {
		b.Errorf("in the mount point is left: %s", said)
	}
	b.wantDevice(node, on(keep), ids[on(keep)], "Taken")

	b.orphans("adopt", node, keep.Name, "--claim", b.ns+"/again", "--storage-class", disk)
	again := claim("again", disk, "128Mi")
	again.Spec.VolumeName = keep.Name
	b.addClaims(again)
	b.addPods(pod("reader", "grep precious /data/file", once, mounting("again")))
	b.wantDone("reader")
	b.wantOrphans(node)
	b.wantMetric(node, "agent", fmt.Sprintf("open_local_orphan_volumes{node=%q} 0", node))
	if now := run("sha256sum", bystander); now != sum {
		b.Errorf("a disk that was nobody's business was written to: %s before, %s after", sum, now)
	}
	patch := []byte(`{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)
	_, err := b.kube.CoreV1().PersistentVolumes().Patch(b.Context(), keep.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	b.must(err, "changing the policy of volume %s", keep.Name)
	b.removePod("reader")
	b.removeClaim("again")
	b.wantDevice(node, on(keep), ids[on(keep)], "")
}

// wantMetric waits until a part of open-local on a node says a line of its metrics.
func (b *bench) wantMetric(node, component, line string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		return b.lacksMetric(ctx, b.podOn(ctx, node, component)+":10736", line), nil
	})
}

// lacksMetric says so when the pod at that port does not measure what the line says.
func (b *bench) lacksMetric(ctx context.Context, at, line string) string {
	said, err := b.kube.CoreV1().RESTClient().Get().Namespace(installedIn).Resource("pods").Name(at).SubResource("proxy").Suffix("metrics").DoRaw(ctx)
	switch {
	case err != nil:
		return err.Error() // it may just be coming back
	case !strings.Contains(string(said), line+"\n"):
		return fmt.Sprintf("the metrics of %s do not say %s", at, line)
	}
	return ""
}

// podOn returns the pod of a component of open-local on the node, or an empty name when
// there is not one.
func (b *bench) podOn(ctx context.Context, node, component string) string {
	b.Helper()
	pods, err := b.kube.CoreV1().Pods(installedIn).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=open-local-" + component, FieldSelector: "spec.nodeName=" + node,
	})
	b.must(err, "listing the pods of %s on %s", component, node)
	if len(pods.Items) != 1 {
		return ""
	}
	return pods.Items[0].Name
}

// report returns which NodeLocalStorage a node has.
func (b *bench) report(node string) types.UID {
	b.Helper()
	nls, err := b.local.CsiV1alpha1().NodeLocalStorages().Get(b.Context(), node, metav1.GetOptions{})
	b.must(err, "reading the report of %s", node)
	return nls.UID
}

// orphans runs open-local orphans.
func (b *bench) orphans(args ...string) string {
	b.Helper()
	said, err := b.openLocal(b.Context(), append([]string{"orphans"}, args...)...)
	b.must(err, "running open-local orphans %s: %s", strings.Join(args, " "), said)
	return said
}

// wantOrphans waits until a node reports these orphans and no others, each as "handle
// filesystem claim".
func (b *bench) wantOrphans(node string, want ...string) {
	b.Helper()
	slices.Sort(want)
	b.soon(func(ctx context.Context) (string, error) {
		nls, err := b.local.CsiV1alpha1().NodeLocalStorages().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		var got []string
		for _, o := range nls.Status.Orphans {
			got = append(got, o.VolumeID+" "+o.FsType+" "+o.Claim)
			if (o.CreatedAt == nil) == (o.VGName != "") || o.CreatedAt != nil && o.Since.Before(o.CreatedAt) {
				return fmt.Sprintf("orphan %s was made at %s and is one since %s", o.VolumeID, o.CreatedAt, o.Since), nil
			}
		}
		return cmp.Diff(want, got), nil
	})
}

// wantClusterEvent waits for an event of an object that is in no namespace.
func (b *bench) wantClusterEvent(object string, words ...string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		events, err := b.kube.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + object})
		if err != nil {
			return "", err
		}
		for _, e := range events.Items {
			says := e.Reason + ": " + e.Message
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(says, word) }) {
				return "", nil
			}
		}
		return fmt.Sprintf("no event of %s says %q", object, words), nil
	})
}
