//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// minute is how long it may take until somebody is told of a sick volume, with
// what it takes to ask.
const minute = 75 * time.Second

// wantToldWithin waits for an event of a claim.
func (b *bench) wantToldWithin(limit time.Duration, claim string, words ...string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), limit)
	defer cancel()
	b.eventually(ctx, func(ctx context.Context) (string, error) {
		messages, err := b.events(ctx, claim)
		if err != nil {
			return "", err
		}
		for _, message := range messages {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(message, word) }) {
				return "", nil
			}
		}
		return fmt.Sprintf("no event of claim %s says %q: %s", claim, words, strings.Join(messages, "; ")), nil
	})
}

func sickVolumesAreNamed(b *bench) {
	node := b.nodes[0]
	pool := b.addClass("pool", map[string]string{"vgName": pool0})
	b.addClaims(blockClaim("stuck", pool, "64Mi"), blockClaim("failing", pool, "64Mi"), claim("readonly", pool, "64Mi"))
	b.addPods(pod("stuck", forever, onNode(node), device("stuck")), pod("failing", forever, onNode(node), device("failing")),
		pod("readonly", forever, onNode(node), mounting("readonly")))
	b.wantRunning("stuck", "failing", "readonly")
	mapped := func(name string) string {
		return strings.ReplaceAll(pool0, "-", "--") + "-" + strings.ReplaceAll(b.volumeOf(name).Name, "-", "--")
	}
	run := func(argv ...string) string { b.Helper(); return b.exec(b.Context(), node, argv...) }

	stuck, failing := mapped("stuck"), mapped("failing")
	table := strings.TrimSpace(run("dmsetup", "table", failing))
	heal := func(ctx context.Context) {
		b.exec(ctx, node, "dmsetup", "resume", stuck)
		b.exec(ctx, node, "dmsetup", "load", failing, "--table", table)
		b.exec(ctx, node, "dmsetup", "resume", failing)
	}
	healed := false
	defer func() {
		if !healed {
			heal(context.Background()) // or nothing of the case can be removed
		}
	}()
	target := strings.Fields(run("findmnt", "-n", "-o", "TARGET", "/dev/"+pool0+"/"+b.volumeOf("readonly").Name))[0]
	run("dmsetup", "suspend", stuck)
	run("dmsetup", "load", failing, "--table", "0 131072 error")
	run("dmsetup", "resume", failing)
	run("mount", "-o", "remount,ro", target)
	b.wantToldWithin(minute, "stuck", "VolumeConditionAbnormal", "Suspended")
	b.wantToldWithin(minute, "failing", "VolumeConditionAbnormal", "ReadError")
	b.wantToldWithin(minute, "readonly", "VolumeConditionAbnormal", "FileSystemReadOnly")
	heal(b.Context())
	healed = true
	b.wantToldWithin(minute, "stuck", "VolumeConditionNormal")
	b.wantToldWithin(minute, "failing", "VolumeConditionNormal")
}

func lostVolumesAreNotMadeAnew(b *bench) {
	node := b.nodes[1]
	b.addClaims(claim("data", "open-local-lvm", "64Mi"))
	b.addPods(pod("user", busy, onNode(node), mounting("data")))
	b.wantRunning("user")
	pv := b.volumeOf("data")
	b.removePod("user")
	b.soon(func(ctx context.Context) (string, error) { // the node lets go of it a moment after the pod
		_, err := b.lab.Exec(ctx, node, "lvremove", "--yes", pv.Spec.CSI.VolumeAttributes["vgName"]+"/"+pv.Name)
		return "", err
	})
	b.addPods(pod("heir", forever, mounting("data")))
	b.wantEvent("heir", "FailedMount", pv.Name)
	lines, err := b.volumesOn(b.Context(), node)
	b.must(err, "listing volumes")
	if len(lines) != 0 {
		b.Errorf("the lost volume was made anew: %v", lines)
	}
}
