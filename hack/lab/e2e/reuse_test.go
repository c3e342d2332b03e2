//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// dryRun returns what an agent would do on a node now.
func (b *bench) dryRun(node string) string {
	b.Helper()
	pods, err := b.kube.CoreV1().Pods(installedIn).List(b.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=open-local-agent", FieldSelector: "spec.nodeName=" + node,
	})
	b.must(err, "looking for the agent of %s", node)
	if len(pods.Items) != 1 {
		b.Fatalf("node %s has %d agents", node, len(pods.Items))
	}
	said, err := b.kubectl(b.Context(), "-n", installedIn, "exec", pods.Items[0].Name, "-c", "agent", "--",
		"/open-local", "agent", "--dry-run", "--node-name", node, "--host-root", "/host")
	b.must(err, "asking the agent of %s what it would do: %s", node, said)
	return said
}

func diskIsUsedAgainOnce(b *bench) {
	node := b.nodes[0]
	run := func(argv ...string) string { b.Helper(); return b.exec(b.Context(), node, argv...) }
	b.cleanSCSI(node)
	run("mkfs.ext4", "-q", "-F", oneDisk)
	spec := groups(v1alpha1.VGToBeInited{Name: thirdGroup, Devices: []string{oneDisk}})
	b.configure(node, spec)
	b.wantCondition(node, "GroupsReady", oneDisk, "ext4")
	info := b.wantDevice(node, oneDisk, oneID, "HasSignature")
	if said := b.dryRun(node); !strings.Contains(said, "nothing to do") || !strings.Contains(said, "problem HasSignature: device "+oneDisk) {
		b.Errorf("where nothing may be done, a dry run says %q", said)
	}

	// The agent is held while somebody asks what it is about to do.
	agent := strings.TrimSpace(run("pgrep", "--full", "^/open-local agent"))
	run("kill", "-STOP", agent)
	spec.ResourceToBeInited.Wipe = []v1alpha1.DeviceToBeWiped{{ID: info.ID, Contents: info.Contents}}
	b.reconfigure(node, spec)
	before := run("sha256sum", oneDisk)
	b.soon(func(context.Context) (string, error) {
		if said := b.dryRun(node); !strings.Contains(said, "would destroy all that is on "+oneDisk+" ("+info.ID) {
			return fmt.Sprintf("of a disk to be wiped a dry run says %q", said), nil
		}
		return "", nil
	})
	if after := run("sha256sum", oneDisk); after != before {
		b.Errorf("a dry run wrote to %s", oneDisk)
	}
	run("kill", "-CONT", agent)

	b.wantGroup(node, thirdGroup, wantDisks(oneDisk))
	b.wantReport(b.Context(), node, func(s v1alpha1.NodeLocalStorageStatus) string {
		if n := len(s.Wiped); n == 0 || s.Wiped[n-1].ID != info.ID || s.Wiped[n-1].Contents != info.Contents {
			return fmt.Sprintf("wiped were %+v, want %s among them", s.Wiped, info.Contents)
		}
		return ""
	})
	b.wantNodeEvent(node, "NodeStoragePlanned", "destroy all that is on "+oneDisk, info.Contents)

	// The leave is used up: the next data on the disk is safe, whatever the spec still says.
	b.reconfigure(node, groups())
	run("vgremove", thirdGroup)
	run("pvremove", oneDisk)
	run("mkfs.ext4", "-q", "-F", oneDisk)
	before = run("sha256sum", oneDisk)
	b.reconfigure(node, spec)
	b.speak(b.Context(), node, oneDisk)
	b.wantCondition(node, "GroupsReady", oneDisk, "ext4")
	if after := run("sha256sum", oneDisk); after != before {
		b.Errorf("a disk was wiped a second time")
	}
}
