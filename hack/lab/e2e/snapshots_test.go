//go:build e2e

package e2e

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const pool0, pool1 = "open-local-pool-0", "open-local-pool-1"

func every(string) bool { return true }

func snapshotsOutliveTheirClaims(b *bench) {
	node := b.nodes[0]
	quick := b.addSnapshotClass("quick", nil)
	// Snapshots of busy volumes grow as large as these: all of it must fit.
	b.addKinds("", "304Mi", pool0)
	for _, kind := range kinds {
		b.addPods(pod(kind, busy, onNode(node), using(kind)))
	}
	b.wantRunning(kinds...)
	var restores []*corev1.PersistentVolumeClaim
	for _, kind := range kinds {
		b.wantBusy(kind)
		b.snapshot(kind, kind, quick)
		restores = append(restores, fromSnapshot(b.like(kind, "restored-"+kind, "368Mi"), kind))
	}
	b.wantSnapshots(kinds...)
	for _, kind := range kinds {
		b.inPod(kind, remark) // what comes after is not part of it
	}
	free := b.freeExtents(node, pool0)

	// The claims go; the snapshots stay, and so does the space of both.
	for _, kind := range kinds {
		b.removePod(kind)
		b.removeClaim(kind)
	}
	b.soon(b.noVolumes)
	b.wantVolumes(node, 2*len(kinds), "of the case", every)
	if now := b.freeExtents(node, pool0); now > free {
		b.Errorf("%d extents were free with the claims, %d are without: the snapshots lost what they stand on", free, now)
	}

	// The pods go to the node of the snapshots by themselves.
	for i, kind := range kinds {
		b.addClaims(restores[i])
		b.addPods(pod("restored-"+kind, forever, using("restored-"+kind)))
	}
	for _, kind := range kinds {
		b.wantRunning("restored-" + kind)
		b.wantMark("restored-"+kind, "before")
		b.wantSeen("restored-"+kind, 368)
		if got := b.nodeOf("restored-" + kind); got != node {
			b.Errorf("the restored %s volume is on %s, its snapshot on %s", kind, got, node)
		}
	}

	// With the last snapshot goes all that it stood on, and the copies do not mind.
	for _, kind := range kinds {
		b.removeSnapshot(kind)
	}
	b.wantVolumes(node, len(kinds), "of the case", every)
	for _, kind := range kinds {
		b.inPod("restored-"+kind, remark)
		b.wantMark("restored-"+kind, "after!")
	}
}

// wantBusy waits until a busy pod has written its mark and more.
func (b *bench) wantBusy(name string) {
	b.Helper()
	b.soon(func(context.Context) (string, error) {
		_, err := b.tryInPod(name, "test -e /tmp/busy")
		return "", err // until it has written
	})
}

func (b *bench) wantMark(name, mark string) {
	b.Helper()
	if have := b.inPod(name, showMark); !strings.HasPrefix(have, mark) {
		b.Errorf("pod %s sees the mark %q, want %q", name, have, mark)
	}
}

func snapshotsToReadOnly(b *bench) {
	node := b.nodes[1]
	readable := b.addSnapshotClass("readable", map[string]string{"readonly": "true"})
	b.addKinds("", "320Mi", pool0)
	for _, kind := range kinds {
		b.addPods(pod(kind, busy, onNode(node), using(kind)))
	}
	b.wantRunning(kinds...)
	for _, kind := range kinds {
		b.wantBusy(kind)
		b.snapshot(kind, kind, readable)
	}
	b.wantSnapshots(kinds...)
	for _, kind := range kinds {
		b.inPod(kind, remark)
		b.addClaims(fromSnapshot(b.like(kind, "past-"+kind, "320Mi"), kind))
		b.addPods(pod("past-"+kind, forever, using("past-"+kind)))
	}
	// Two btrfs of one identity cannot be mounted at one time: it is refused.
	b.wantEvent("past-btrfs", "ProvisioningFailed", "InvalidArgument", "btrfs cannot be mounted twice")
	shown := slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return kind == "btrfs" })
	for _, kind := range shown {
		b.wantRunning("past-" + kind)
		b.wantMark("past-"+kind, "before")
		b.wantMark(kind, "after!")
		if said, err := b.tryInPod("past-"+kind, remark); err == nil {
			b.Errorf("the past of the %s volume can be changed: %s", kind, said)
		}
	}
	b.wantVolumes(node, 2*len(kinds), "of the case: nothing is copied", every)

	// The claim on a snapshot goes and leaves the snapshot.
	for _, kind := range kinds {
		b.removePod("past-" + kind)
		b.removeClaim("past-" + kind)
	}
	b.soon(func(ctx context.Context) (string, error) {
		claims, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).List(ctx, metav1.ListOptions{})
		if err == nil && len(claims.Items) != len(kinds) {
			return "claims on snapshots are still there", nil
		}
		return "", err
	})
	b.wantVolumes(node, 2*len(kinds), "of the case", every)
}

// digest sums a whole device up.
const digest = "sha256sum /dev/data"

func snapshotsGrowInTime(b *bench) {
	node := b.nodes[0]
	readable := b.addSnapshotClass("readable", map[string]string{"readonly": "true"})
	pool := b.addClass("pool", map[string]string{"vgName": pool1})
	b.addClaims(blockClaim("data", pool, "768Mi"))
	b.addPods(pod("user", "dd if=/dev/urandom of=/dev/data bs=1M count=32 conv=fsync; touch /tmp/busy; "+forever, onNode(node), device("data")))
	b.wantRunning("user")
	b.wantBusy("user")
	before := b.inPod("user", digest)
	b.snapshot("past", "data", readable)
	b.wantSnapshots("past")

	started := time.Now()
	b.inPod("user", "dd if=/dev/zero of=/dev/data bs=1M count=768 oflag=direct 2>&1")
	b.Logf("768 MiB were rewritten under a snapshot of 32 MiB in %.1f s", time.Since(started).Seconds())
	b.addClaims(fromSnapshot(b.like("data", "shown", "768Mi"), "past"))
	b.addPods(pod("reader", forever, device("shown")))
	b.wantRunning("reader")
	if after := b.inPod("reader", digest); after != before {
		b.Errorf("the snapshot changed while the volume was rewritten: %s before, %s after", before, after)
	}
	if now := b.inPod("user", digest); now == before {
		b.Error("the volume was not rewritten")
	}
}

func snapshotsInAFullGroup(b *bench) {
	node := b.nodes[0]
	readable := b.addSnapshotClass("readable", map[string]string{"readonly": "true"})
	pool := b.addClass("pool", map[string]string{"vgName": pool1})
	b.addClaims(blockClaim("data", pool, "512Mi"), blockClaim("other", pool, "64Mi"))
	const write = "dd if=/dev/urandom of=/dev/data bs=1M count=32 conv=fsync; touch /tmp/busy; "
	b.addPods(pod("data", write+forever, onNode(node), device("data")), pod("other", write+forever, onNode(node), device("other")))
	b.wantRunning("data", "other")
	b.wantBusy("data")
	b.wantBusy("other")
	other := b.inPod("other", digest)
	b.snapshot("data", "data", readable)
	b.snapshot("other", "other", readable)
	b.wantSnapshots("data", "other")
	// It takes no space, and Kubernetes' own check of the published capacity does not
	// know that: in the full group its pod would wait.
	b.addClaims(fromSnapshot(b.like("other", "shown", "64Mi"), "other"))
	b.addPods(pod("reader", forever, device("shown")))
	b.wantRunning("reader")
	b.addClaims(blockClaim("rest", pool, megabytes(4*b.freeExtents(node, pool1))))
	b.addPods(pod("rest", forever, onNode(node), device("rest")))
	b.wantRunning("rest")

	// More changes than the snapshot has space for, and there is none to be had.
	b.inPod("data", "dd if=/dev/zero of=/dev/data bs=1M count=512 oflag=direct 2>&1")
	if got := b.inPod("data", "cmp -n 536870912 /dev/data /dev/zero && echo whole"); !strings.Contains(got, "whole") {
		b.Errorf("the volume is not what was written to it: %s", got)
	}
	b.wantEvent("data", "snapshot", pool1)
	// csi-snapshotter never looks again at a snapshot that was ready once.
	began := time.Now()
	b.soon(func(ctx context.Context) (string, error) {
		nls, err := b.local.CsiV1alpha1().NodeLocalStorages().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if !meta.IsStatusConditionFalse(nls.Status.Conditions, "SnapshotsWhole") {
			return "the node does not say that a snapshot is lost", nil
		}
		return "", nil
	})
	if took := time.Since(began); took > 20*time.Second {
		b.Errorf("the node said after %.0f s that a snapshot is lost, want seconds", took.Seconds())
	}
	if now := b.inPod("reader", digest); now != other {
		b.Errorf("another snapshot suffered: %s before, %s after", other, now)
	}
}
