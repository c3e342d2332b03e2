//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func rebootKeepsData(b *bench) {
	b.restart(func(node string) {
		b.must(b.lab.Reboot(b.Context(), node), "rebooting %s", node)
	})
}

func powerCutKeepsData(b *bench) {
	b.restart(func(node string) {
		b.must(b.lab.Kill(b.Context(), node), "cutting the power of %s", node)
		b.must(b.lab.Start(b.Context(), node), "starting %s", node)
	})
}

// restart runs pods with an ext4, an xfs and a block volume over a restart of
// their node: mounts come back, and what was synced is there.
func (b *bench) restart(how func(node string)) {
	b.Helper()
	node := b.nodes[1]
	b.addClaims(claim("ext4", "open-local-lvm", "256Mi"), claim("xfs", "open-local-lvm-xfs", "512Mi"),
		blockClaim("block", "open-local-lvm", "64Mi"))
	// Each start of the container leaves a line: after the restart there are two.
	tally := "echo start >> /data/file; sync; cat /data/file; echo done; " + forever
	b.addPods(
		pod("ext4", tally, onNode(node), mounting("ext4")),
		pod("xfs", tally, onNode(node), mounting("xfs")),
		pod("block", `head -c 5 /dev/data; echo; printf start | dd of=/dev/data conv=fsync,notrunc 2>/dev/null; echo done; `+forever, onNode(node), device("block")),
	)
	names := []string{"ext4", "xfs", "block"}
	b.wantRunning(names...)
	for _, name := range names {
		b.finished(name)
	}
	how(node)
	b.wantStartedAgain(names...)
	for _, name := range names {
		if said := b.finished(name); !strings.Contains(said, "start") || (name != "block" && strings.Count(said, "start") != 2) {
			b.Errorf("after the restart pod %s sees %q, not what it had written before", name, said)
		}
	}
}

// finished waits until the pod has said that it is done, and returns all it said: its
// container counts as ready before it has said anything.
func (b *bench) finished(name string) (said string) {
	b.Helper()
	b.soon(func(context.Context) (string, error) {
		if said = b.logOf(name); !strings.Contains(said, "done") {
			return fmt.Sprintf("pod %s is not done, it said %q", name, said), nil
		}
		return "", nil
	})
	return said
}

// wantStartedAgain waits until the containers of the pods named were started a
// second time and are ready.
func (b *bench) wantStartedAgain(names ...string) {
	b.Helper()
	b.wantPods(names, func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount > 0 && p.Status.ContainerStatuses[0].Ready
	})
}

func (b *bench) logOf(name string) string {
	b.Helper()
	said, err := b.kube.CoreV1().Pods(b.ns).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(b.Context())
	b.must(err, "reading the log of pod %s", name)
	return string(said)
}

func killedAmidCreates(b *bench) {
	var names []string
	for i := range 20 {
		name := fmt.Sprintf("k%02d", i)
		names = append(names, name)
		b.addClaims(claim(name, "open-local-lvm", "128Mi"))
	}
	for _, name := range names {
		b.addPods(pod(name, forever, mounting(name)))
	}
	// Twice, amid it, everything of open-local dies at once. Whenever it does, kubelet
	// waits twice as long until it tries again to mount what it could not.
	for _, bound := range []int{4, 11} {
		b.soon(func(ctx context.Context) (string, error) {
			claims, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).List(ctx, metav1.ListOptions{})
			if err != nil {
				return "", err
			}
			n := 0
			for _, c := range claims.Items {
				if c.Status.Phase == corev1.ClaimBound {
					n++
				}
			}
			if n < bound {
				return fmt.Sprintf("%d claims are bound, waiting for %d", n, bound), nil
			}
			return "", nil
		})
		b.killOpenLocal()
	}
	b.wantRunning(names...)
}

// killOpenLocal kills every pod of open-local without warning.
func (b *bench) killOpenLocal() {
	b.Helper()
	err := b.kube.CoreV1().Pods(installedIn).DeleteCollection(b.Context(),
		metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)},
		metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=open-local"})
	b.must(err, "killing the pods of open-local")
}
