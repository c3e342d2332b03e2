//go:build e2e

package e2e

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func immediately(c *storagev1.StorageClass) {
	c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
}

// whatClassesSay tries what else a class may say: options of mkfs, when to bind
// and what to keep.
func whatClassesSay(b *bench) {
	node := b.nodes[0]
	// More than pool-1 has and than n1 has left: without any pod, capacity decides.
	b.addClaims(claim("filler", b.addClass("pool", map[string]string{"vgName": pool0}), "2Gi"))
	b.addPods(pod("filler", forever, onNode(node), mounting("filler")))
	b.wantRunning("filler")
	b.addClaims(claim("large", b.addClass("at-once", nil, immediately), "3500Mi"))
	b.wantBound("large")
	b.addPods(pod("large", forever, mounting("large")))
	b.wantRunning("large")
	if got := b.nodeOf("large"); got == node {
		b.Errorf("a volume of 3500Mi was made on %s, which has no room for it", got)
	}

	options := b.addClass("options", map[string]string{"mkfsOptions": "-m 0 -N 1000"})
	b.addClaims(claim("options", options, "64Mi"))
	b.addPods(pod("options", forever, onNode(node), mounting("options")))
	b.wantRunning("options")
	pv := b.volumeOf("options")
	made := b.exec(b.Context(), node, "dumpe2fs", "-h", "/dev/"+pv.Spec.CSI.VolumeAttributes["vgName"]+"/"+pv.Name)
	for line := range strings.Lines(made) {
		if key, value, _ := strings.Cut(line, ":"); key == "Reserved block count" && strings.TrimSpace(value) != "0" {
			b.Errorf("mkfs was not told -m 0: %s", line)
		}
	}
	b.addClaims(claim("hostile", b.addClass("hostile", map[string]string{"mkfsOptions": "-d /etc"}), "64Mi"))
	b.addPods(pod("hostile", forever, mounting("hostile")))
	b.wantEvent("hostile", "mkfsOptions", "-d")

	b.retainedVolume(node)
}

// retainedVolume loses its claim and keeps its data, until somebody removes it.
func (b *bench) retainedVolume(node string) {
	b.Helper()
	kept := b.addClass("kept", nil, func(c *storagev1.StorageClass) { c.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimRetain) })
	b.addClaims(claim("kept", kept, "64Mi"))
	b.addPods(pod("kept", busy, onNode(node), mounting("kept")))
	b.wantRunning("kept")
	pv := b.volumeOf("kept")
	group := pv.Spec.CSI.VolumeAttributes["vgName"]
	b.removePod("kept")
	b.removeClaim("kept")
	b.wantPhase(pv.Name, corev1.VolumeReleased)
	b.exec(b.Context(), node, "lvs", group+"/"+pv.Name)
	// Set to Delete, the volume goes as it would have.
	pv, err := b.kube.CoreV1().PersistentVolumes().Get(b.Context(), pv.Name, metav1.GetOptions{})
	b.must(err, "reading volume %s", pv.Name)
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	_, err = b.kube.CoreV1().PersistentVolumes().Update(b.Context(), pv, metav1.UpdateOptions{})
	b.must(err, "changing the policy of volume %s", pv.Name)
	b.soon(func(ctx context.Context) (string, error) {
		volumes, err := b.kube.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pv.Name})
		if err == nil && len(volumes.Items) > 0 {
			return "volume " + pv.Name + " is still there", nil
		}
		return "", err
	})
}
