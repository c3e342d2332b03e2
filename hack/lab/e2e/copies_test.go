//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"
)

func megabytes(n int) string { return fmt.Sprintf("%dMi", n) }

func clonesOfVolumesInUse(b *bench) {
	node := b.nodes[1]
	b.addKinds("", "320Mi", pool0)
	for _, kind := range kinds {
		b.addPods(pod(kind, busy, onNode(node), using(kind)))
	}
	b.wantRunning(kinds...)
	for _, kind := range kinds {
		b.wantBusy(kind)
		b.addClaims(fromClaim(b.like(kind, "clone-"+kind, "384Mi"), kind))
		// One node has both mounted at one time, as file systems of their own.
		b.addPods(pod("clone-"+kind, forever, using("clone-"+kind)))
	}
	for _, kind := range kinds {
		b.wantRunning("clone-" + kind)
		b.wantSeen("clone-"+kind, 384)
		b.wantMark("clone-"+kind, "before")
		if got := b.nodeOf("clone-" + kind); got != node {
			b.Errorf("the clone of the %s volume is on %s, its source on %s", kind, got, node)
		}
		b.inPod("clone-"+kind, remark)
		b.wantMark(kind, "before")
		b.wantMark("clone-"+kind, "after!")
	}
	// Nothing but the volumes remains of the copying, and a source may go.
	b.wantVolumes(node, 2*len(kinds), "of the case", every)
	b.removePod("xfs")
	b.removeClaim("xfs")
	b.removePod("clone-xfs")
	b.addPods(pod("heir", forever, mounting("clone-xfs")))
	b.wantRunning("heir")
	b.wantMark("heir", "after!")

	// One that nobody uses at the time.
	b.removePod("ext4")
	b.addClaims(fromClaim(b.like("ext4", "idle", "320Mi"), "ext4"))
	b.addPods(pod("idle", forever, mounting("idle")))
	b.wantRunning("idle")
	b.wantMark("idle", "before")
}

func interruptedCopies(b *bench) {
	node := b.nodes[0]
	quick := b.addSnapshotClass("quick", nil)
	pool := b.addClass("pool", map[string]string{"vgName": pool0})
	b.addClaims(blockClaim("data", pool, "1000Mi"))
	b.addPods(pod("user", "tr '\\000' S </dev/zero | dd of=/dev/data bs=1M count=1000 iflag=fullblock conv=fsync; touch /tmp/busy; "+forever,
		onNode(node), device("data")))
	b.wantRunning("user")
	b.wantBusy("user")
	b.snapshot("past", "data", quick)
	b.wantSnapshots("past")
	b.addClaims(fromSnapshot(b.like("data", "copy", "1000Mi"), "past"))
	b.addPods(pod("reader", digest+"; "+forever, device("copy")))

	// Whenever the copy is on its way, everything of open-local dies at once.
	for range 2 {
		b.wantCopying(node)
		b.killOpenLocal()
	}
	b.wantCopying(node)
	// Meanwhile others get what they ask for.
	began := time.Now()
	b.addClaims(claim("other", "open-local-lvm", "64Mi"))
	b.addPods(pod("other", forever, onNode(node), mounting("other")))
	b.wantRunning("other")
	b.Logf("another pod of the node ran after %.1f s, amid the copying", time.Since(began).Seconds())
	b.wantRunning("reader")
	if copied, data := b.inPod("reader", digest), b.inPod("user", digest); copied != data {
		b.Errorf("the copy is not what was copied: %s, want %s", copied, data)
	}
	b.wantVolumes(node, 4, "of the case", every)
}

// wantCopying waits until a volume of a node is being filled.
func (b *bench) wantCopying(node string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		lines, err := b.volumesOn(ctx, node, "lv_tags")
		if err != nil || strings.Contains(strings.Join(lines, "\n"), "open-local.state=copying") {
			return "", err
		}
		return "nothing is being copied:\n" + strings.Join(lines, "\n"), nil
	})
}
