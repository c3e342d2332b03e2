//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// The disks of a node: two that become volume groups, and one to spare.
const (
	firstDisk  = "/dev/ubdb"
	secondDisk = "/dev/ubdc"
	spareDisk  = "/dev/ubdd"
)

// The SCSI disks of a node, which can be torn out, fail and grow while they are used,
// and who they are.
const (
	oneDisk   = "/dev/sda"
	otherDisk = "/dev/sdb"
	oneID     = "wwn-0x33333330000007d0"
	otherID   = "wwn-0x3333333000000fa0"
)

// configName is the NodeLocalStorageInitConfig that the chart installs.
const configName = "open-local"

// groups is the storage of every node unless a case says otherwise.
func groups(more ...v1alpha1.VGToBeInited) v1alpha1.StorageSpec {
	spec := v1alpha1.StorageSpec{}
	spec.ListConfig.VGs.Include = []string{"open-local-pool-[0-9]+"}
	spec.ResourceToBeInited.VGs = append([]v1alpha1.VGToBeInited{
		{Name: "open-local-pool-0", Devices: []string{firstDisk}},
		{Name: "open-local-pool-1", Devices: []string{secondDisk}},
	}, more...)
	return spec
}

// configure gives one node a storage of its own until the case ends.
func (b *bench) configure(node string, spec v1alpha1.StorageSpec) {
	b.Helper()
	b.updateConfig(b.Context(), []v1alpha1.NodeConfig{{
		Selector:    &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}},
		StorageSpec: spec,
	}})
	b.afterwards(func(ctx context.Context) {
		b.updateConfig(ctx, nil)
		b.eventually(ctx, func(ctx context.Context) (string, error) {
			nls, err := b.local.CsiV1alpha1().NodeLocalStorages().Get(ctx, node, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			// Until then the agent would do again what is undone next.
			if diff := cmp.Diff(groups().ResourceToBeInited, nls.Spec.ResourceToBeInited); diff != "" {
				return "node " + node + " does not have its old storage again: " + diff, nil
			}
			return "", nil
		})
	})
}

func (b *bench) updateConfig(ctx context.Context, nodes []v1alpha1.NodeConfig) {
	b.Helper()
	configs := b.local.CsiV1alpha1().NodeLocalStorageInitConfigs()
	config, err := configs.Get(ctx, configName, metav1.GetOptions{})
	b.must(err, "reading the NodeLocalStorageInitConfig %s", configName)
	config.Spec.NodesConfig = nodes
	_, err = configs.Update(ctx, config, metav1.UpdateOptions{})
	b.must(err, "writing the NodeLocalStorageInitConfig %s", configName)
}

// growPool adds the spare disk of a node to its first group through the
// configuration, as an operator would.
func (b *bench) growPool(node string) {
	b.Helper()
	spec := groups()
	spec.ResourceToBeInited.VGs[0].Devices = []string{firstDisk, spareDisk}
	b.afterwards(func(ctx context.Context) {
		b.exec(ctx, node, "vgreduce", "open-local-pool-0", spareDisk)
		b.blank(ctx, node, spareDisk)
	})
	b.configure(node, spec)
}

// unmanagedGroup makes a volume group that no listConfig selects.
func (b *bench) unmanagedGroup(node, name string) {
	b.Helper()
	b.exec(b.Context(), node, "vgcreate", name, spareDisk)
	b.afterwards(func(ctx context.Context) {
		b.exec(ctx, node, "vgremove", name)
		b.blank(ctx, node, spareDisk)
	})
}

func (b *bench) exec(ctx context.Context, node string, argv ...string) string {
	b.Helper()
	said, err := b.lab.Exec(ctx, node, argv...)
	b.must(err, "running %s on %s", strings.Join(argv, " "), node)
	return said
}

// blank makes disks of a node as they are before every case: without a signature, and with
// zeros at both ends.
func (b *bench) blank(ctx context.Context, node string, disks ...string) {
	b.Helper()
	const script = `for disk; do
		wipefs --all --force --quiet $disk || exit
		for at in 0 $(($(blockdev --getsize64 $disk) - 4194304)); do
			dd if=/dev/zero of=$disk bs=1M count=4 oflag=seek_bytes seek=$at conv=notrunc,fsync status=none || exit
		done
	done`
	b.exec(ctx, node, append([]string{"sh", "-c", script, "blank"}, disks...)...)
}

func deviceWithDataIsLeftAlone(b *bench) {
	node := b.nodes[0]
	b.exec(b.Context(), node, "mkfs.ext4", "-q", "-F", spareDisk)
	sum := func() string { return b.exec(b.Context(), node, "sha256sum", spareDisk) }
	before := sum()
	b.afterwards(func(ctx context.Context) { b.blank(ctx, node, spareDisk) })

	b.configure(node, groups(v1alpha1.VGToBeInited{Name: "open-local-pool-2", Devices: []string{spareDisk}}))
	b.soon(func(ctx context.Context) (string, error) {
		nls, err := b.local.CsiV1alpha1().NodeLocalStorages().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		for _, c := range nls.Status.Conditions {
			if strings.Contains(c.Message, spareDisk) && strings.Contains(c.Message, "ext4") {
				return "", nil
			}
		}
		return fmt.Sprintf("no condition of %s names %s and its ext4: %+v", node, spareDisk, nls.Status.Conditions), nil
	})
	b.soon(func(ctx context.Context) (string, error) {
		events, err := b.kube.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + node})
		if err != nil {
			return "", err
		}
		for _, e := range events.Items {
			if e.Type == corev1.EventTypeWarning && strings.Contains(e.Message, spareDisk) && strings.Contains(e.Message, "ext4") {
				return "", nil
			}
		}
		return "no event of " + node + " names " + spareDisk + " and its ext4", nil
	})
	if after := sum(); after != before {
		b.Errorf("%s was written to: %s before, %s after", spareDisk, before, after)
	}
}
