//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// limitsFile is where the limits of volumes are in force: at all pods together.
const limitsFile = "/sys/fs/cgroup/kubepods/io.max"

// Ways of moving 48 MiB, in pieces so large that the tick of a clock is nothing beside
// their wait, and a number of small pieces. What is buffered is in memory when the time
// begins: nothing of it has waited yet.
const (
	moved        = 48 << 20
	pieces       = 600
	directWrite  = "time dd if=/dev/zero of=%s bs=4M count=12 oflag=direct"
	directRead   = "time dd if=%s of=/dev/null bs=4M count=12 iflag=direct"
	bufferedFile = "dd if=/dev/zero of=%[1]s bs=4M count=12 && time dd if=/dev/null of=%[1]s conv=notrunc,fsync"
	smallWrites  = "time dd if=/dev/zero of=%s bs=4k count=600 oflag=direct"
)

// took is what the shell says of a command that it timed: the start of the shell
// itself is not part of it.
var took = regexp.MustCompile(`real\s+([0-9]+)m ([0-9.]+)s`)

// seconds runs dd in a pod and returns how long that took which it times.
func (b *bench) seconds(name, dd string) float64 {
	b.Helper()
	said := b.inPod(name, "("+dd+") 2>&1")
	found := took.FindStringSubmatch(said)
	if found == nil {
		b.Fatalf("timing %q in pod %s: it said %q", dd, name, said)
	}
	minutes, err := strconv.ParseFloat(found[1], 64)
	b.must(err, "timing %q in pod %s", dd, name)
	seconds, err := strconv.ParseFloat(found[2], 64)
	b.must(err, "timing %q in pod %s", dd, name)
	return 60*minutes + seconds
}

// wantRate runs dd, which moves so much, and checks the rate within 5 %.
func (b *bench) wantRate(name, what, dd string, amount, limit float64) {
	b.Helper()
	seconds := b.seconds(name, dd)
	rate := amount / seconds
	b.Logf("%s: %.0f in %.2f s is %.4g per second, limit %.4g", what, amount, seconds, rate, limit)
	if math.Abs(rate/limit-1) > 0.05 {
		b.Errorf("%s: %.4g per second, want %.4g within 5 %%", what, rate, limit)
	}
}

func limitsHold(b *bench) {
	node := b.nodes[0]
	slow := b.addClass("slow", map[string]string{"vgName": pool0, "bps": "8Mi"})
	few := b.addClass("few", map[string]string{"vgName": pool0, "iops": "100"})
	b.addClaims(claim("file", slow, "256Mi"), blockClaim("block", slow, "256Mi"), blockClaim("few", few, "64Mi"))
	b.addPods(
		pod("file", forever, onNode(node), mounting("file")), pod("file2", forever, onNode(node), mounting("file")),
		pod("block", forever, onNode(node), device("block")), pod("few", forever, onNode(node), device("few")),
	)
	b.wantRunning("file", "file2", "block", "few")
	const limit = 8 << 20
	b.wantRate("file", "direct writes to a file", fmt.Sprintf(directWrite, "/data/direct"), moved, limit)
	b.wantRate("file", "direct reads of a file", fmt.Sprintf(directRead, "/data/direct"), moved, limit)
	b.wantRate("file", "buffered writes to a file", fmt.Sprintf(bufferedFile, "/data/buffered"), moved, limit)
	b.wantRate("block", "direct writes to a device", fmt.Sprintf(directWrite, "/dev/data"), moved, limit)
	b.wantRate("block", "buffered writes to a device", fmt.Sprintf(bufferedFile, "/dev/data"), moved, limit)
	b.wantRate("few", "small direct writes", fmt.Sprintf(smallWrites, "/dev/data"), pieces, 100)

	// Two pods of one volume have together what one has.
	b.inPod("file2", fmt.Sprintf(directWrite, "/data/two")+" >/dev/null 2>&1 &")
	if rate := moved / b.seconds("file", fmt.Sprintf(directWrite, "/data/one")); rate > 0.7*limit {
		b.Errorf("while another pod writes to the same volume, one writes at %.3g of %.3g bytes per second", rate, float64(limit))
	}
}

// addAttributes creates a VolumeAttributesClass.
func (b *bench) addAttributes(name string, parameters map[string]string) string {
	b.Helper()
	c := &storagev1.VolumeAttributesClass{
		ObjectMeta: metav1.ObjectMeta{Name: b.ns + "-" + name}, DriverName: driverName, Parameters: parameters,
	}
	classes := b.kube.StorageV1().VolumeAttributesClasses()
	_, err := classes.Create(b.Context(), c, metav1.CreateOptions{})
	b.must(err, "creating the VolumeAttributesClass %s", c.Name)
	b.afterwards(func(ctx context.Context) {
		b.must(classes.Delete(ctx, c.Name, metav1.DeleteOptions{}), "deleting the VolumeAttributesClass %s", c.Name)
	})
	return c.Name
}

// attribute gives a claim other attributes.
func (b *bench) attribute(name, class string) {
	b.Helper()
	b.must(b.patchClaim(name, fmt.Sprintf(`{"spec":{"volumeAttributesClassName":%q}}`, class)), "changing the attributes of claim %s", name)
}

// wantAttributes waits until a claim has them.
func (b *bench) wantAttributes(name, class string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		c, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if have := c.Status.CurrentVolumeAttributesClassName; have == nil || *have != class {
			return fmt.Sprintf("claim %s does not have %s yet: %+v", name, class, c.Status.ModifyVolumeStatus), nil
		}
		return "", nil
	})
}

func limitsChangeAndStay(b *bench) {
	node := b.nodes[1]
	slow := b.addClass("slow", map[string]string{"bps": "4Mi", "iops": "1000"})
	faster := b.addAttributes("faster", map[string]string{"bps": "12Mi", "iops": "max"})
	wrong := b.addAttributes("wrong", map[string]string{"bps": "fast"})
	b.addClaims(blockClaim("data", slow, "128Mi"))
	b.addPods(pod("user", forever, onNode(node), device("data")))
	b.wantRunning("user")
	b.attribute("data", faster)
	b.wantAttributes("data", faster)
	const limit = 12 << 20
	script := fmt.Sprintf(directWrite, "/dev/data")
	b.wantRate("user", "after a change while running", script, moved, limit)

	b.attribute("data", wrong)
	b.wantEvent("data", "VolumeModifyFailed", "bps", "fast")
	b.wantRate("user", "after a change that was refused", script, moved, limit)
	b.attribute("data", faster)
	b.wantAttributes("data", faster)

	b.killOpenLocal()
	b.wantOpenLocal()
	b.wantRate("user", "after the node plugin has started again", script, moved, limit)

	b.must(b.lab.Reboot(b.Context(), node), "rebooting %s", node)
	b.wantStartedAgain("user")
	b.wantRate("user", "after the node has started again", script, moved, limit)

	// A wrong limit is no limit at all nowhere.
	b.addClaims(claim("misspelt", b.addClass("misspelt", map[string]string{"bps": "-1"}), "64Mi"))
	b.addPods(pod("misspelt", forever, mounting("misspelt")))
	b.wantEvent("misspelt", "bps", `"-1"`)
}

// wantOpenLocal waits until all of open-local runs again and has had a moment to
// look around.
func (b *bench) wantOpenLocal() {
	b.Helper()
	for _, kind := range []string{"deployment", "daemonset"} {
		said, err := b.kubectl(b.Context(), "-n", installedIn, "rollout", "status", kind, "-l", "app.kubernetes.io/name=open-local", "--timeout=120s")
		b.must(err, "waiting for open-local: %s", said)
	}
	b.soon(func(ctx context.Context) (string, error) {
		pods, err := b.kube.CoreV1().Pods(installedIn).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=open-local"})
		if err != nil {
			return "", err
		}
		for _, p := range pods.Items {
			for _, c := range p.Status.ContainerStatuses {
				if running := c.State.Running; !c.Ready || running == nil || time.Since(running.StartedAt.Time) < 5*time.Second {
					return fmt.Sprintf("container %s of pod %s is not ready", c.Name, p.Name), nil
				}
			}
		}
		return "", nil
	})
}
