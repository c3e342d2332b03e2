//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// lease says which extender leads.
const lease = "open-local-scheduler-extender"

// leader returns the pod of the extender that leads, and its holder's whole name.
func (b *bench) leader(ctx context.Context) (pod, holder string, err error) {
	l, err := b.kube.CoordinationV1().Leases(installedIn).Get(ctx, lease, metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	holder = ptr.Deref(l.Spec.HolderIdentity, "")
	pods, err := b.kube.CoreV1().Pods(installedIn).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + lease})
	if err != nil {
		return "", "", err
	}
	for _, p := range pods.Items {
		if strings.Contains(holder, p.Name) {
			return p.Name, holder, nil
		}
	}
	return "", holder, nil
}

// extenderDiesAmidABurst has twelve pods race for room for eight when the extender that
// knows what was promised is gone at once, without giving its lease back.
func extenderDiesAmidABurst(b *bench) {
	pool := b.addClass("pool", map[string]string{"vgName": pool0})
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("r%02d", i))
		b.addClaims(claim(names[i], pool, "1000Mi"))
	}
	first, holder, err := b.leader(b.Context())
	b.must(err, "reading who leads")
	if first == "" {
		b.Fatalf("no pod of an extender is %q, which leads", holder)
	}
	var died time.Time
	for i, name := range names {
		b.addPods(pod(name, forever, mounting(name)))
		if i == len(names)/2 {
			b.signal(b.Context(), first, "scheduler", "KILL")
			died = time.Now()
		}
	}
	b.wantAnotherLeader(holder)
	took := time.Since(died)
	b.Logf("another extender led after %.1f s", took.Seconds())
	if took > 10*time.Second {
		b.Errorf("another extender led after %s, want 10 s at most", took)
	}
	// Four fit on each node, and the groups can hold no more whatever anybody promised.
	placed, waiting := b.wantPending(4, names)
	b.wantRunning(placed...)
	for _, name := range placed {
		if said, err := b.events(b.Context(), name); err != nil || strings.Contains(strings.Join(said, " "), "ResourceExhausted") {
			b.Errorf("pod %s was promised what was not there: %v %v", name, said, err)
		}
	}
	for _, name := range placed[:4] {
		b.removePod(name)
		b.removeClaim(name)
	}
	b.wantRunning(waiting...)
}

// wantAnotherLeader waits until an extender leads that is not the holder.
func (b *bench) wantAnotherLeader(holder string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		_, now, err := b.leader(ctx)
		if err == nil && (now == holder || now == "") {
			return "nobody else leads yet", nil
		}
		return "", err
	})
}

// extenderDiesAmidASnapshot has the extender that kept room for a snapshot be gone while
// the node is at it. The one that takes over promises that room to nobody.
func extenderDiesAmidASnapshot(b *bench) {
	node := b.nodes[0]
	class := b.addSnapshotClass("large", map[string]string{"snapshot-initial-size": "256Mi"})
	pool := b.addClass("pool", map[string]string{"vgName": pool1})
	b.addClaims(blockClaim("data", pool, "512Mi"))
	b.addPods(pod("data", forever, onNode(node), device("data")))
	b.wantRunning("data")
	all := b.freeExtents(node, pool1)
	first, holder, err := b.leader(b.Context())
	b.must(err, "reading who leads")

	plugin := b.podOn(b.Context(), node, "agent")
	b.afterwards(func(ctx context.Context) { b.signal(ctx, plugin, "--mode=node", "CONT") })
	b.signal(b.Context(), plugin, "--mode=node", "STOP")
	b.snapshot("past", "data", class)
	b.wantRooms(1)
	b.signal(b.Context(), first, "scheduler", "KILL")
	b.wantAnotherLeader(holder)
	b.wantRooms(1)
	b.addClaims(blockClaim("rest", pool, megabytes(4*all)))
	b.addPods(pod("rest", forever, onNode(node), device("rest")))
	b.wantEvent("rest", "FailedScheduling", pool1, fmt.Sprintf("wants %dMi, %dMi free", 4*all, 4*all-256))
	b.signal(b.Context(), plugin, "--mode=node", "CONT")
	b.wantSnapshots("past")
	b.wantRooms(0)
	b.removeSnapshot("past")
	b.wantRunning("rest")
}

// wantRooms waits until the extender that leads keeps so many.
func (b *bench) wantRooms(count int) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		name, _, err := b.leader(ctx)
		if err != nil {
			return "", err
		}
		return b.lacksMetric(ctx, name+":23000", fmt.Sprintf("open_local_scheduler_rooms %d", count)), nil
	})
}

// signal sends a signal to the program of a pod of open-local whose arguments have the word,
// from outside: KILL lets it say no goodbye.
func (b *bench) signal(ctx context.Context, name, word, signal string) {
	b.Helper()
	p, err := b.kube.CoreV1().Pods(installedIn).Get(ctx, name, metav1.GetOptions{})
	b.must(err, "reading pod %s", name)
	pids := b.exec(ctx, p.Spec.NodeName, "find", "/sys/fs/cgroup/kubepods", "-path", "*/pod"+string(p.UID)+"/*", "-name", "cgroup.procs", "-exec", "cat", "{}", "+")
	for pid := range strings.FieldsSeq(pids) {
		if said, err := b.lab.Exec(ctx, p.Spec.NodeName, "cat", "/proc/"+pid+"/cmdline"); err == nil && strings.Contains(said, word) {
			b.exec(ctx, p.Spec.NodeName, "kill", "-"+signal, pid)
			return
		}
	}
	b.Fatalf("no process of pod %s with %s was found on %s", name, word, p.Spec.NodeName)
}

// secondScheduler ships a scheduler of its own, for clusters whose control plane cannot be
// edited, and takes it away again.
func secondScheduler(b *bench) {
	b.afterwards(func(ctx context.Context) {
		said, err := b.install(ctx, "scheduler.mode=extender")
		b.must(err, "taking the second scheduler away: %s", said)
	})
	said, err := b.install(b.Context(), "scheduler.mode=secondary")
	b.must(err, "installing the second scheduler: %s", said)
	asks := func(spec *corev1.PodSpec) { spec.SchedulerName = "open-local-scheduler" }
	b.addClaims(claim("small", "open-local-lvm", "2500Mi"), claim("large", "open-local-lvm", "3500Mi"), claim("huge", "open-local-lvm", "50Gi"))
	b.addPods(pod("both", forever, asks, mounting("small", "large")), pod("huge", forever, asks, mounting("huge")))
	b.wantRunning("both")
	b.wantEvent("huge", "FailedScheduling")
	b.wantEvent("huge", "wants 50Gi", "in all")
	events, err := b.kube.CoreV1().Events(b.ns).List(b.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=both,reason=Scheduled"})
	b.must(err, "listing events")
	if len(events.Items) != 1 || events.Items[0].ReportingController != "open-local-scheduler" {
		b.Errorf("the pod was not placed by the second scheduler: %+v", events.Items)
	}
	for name, want := range map[string]string{"small": pool1, "large": pool0} {
		if got := b.volumeOf(name).Spec.CSI.VolumeAttributes["vgName"]; got != want {
			b.Errorf("claim %s lies in %s, want %s", name, got, want)
		}
	}
}
