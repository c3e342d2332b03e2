//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// inPod runs a script in a pod and returns what it printed.
func (b *bench) inPod(name, script string) string {
	b.Helper()
	said, err := b.tryInPod(name, script)
	b.must(err, "running %q in pod %s: %s", script, name, said)
	return said
}

func (b *bench) tryInPod(name, script string) (string, error) {
	return b.kubectl(b.Context(), "-n", b.ns, "exec", name, "--", "sh", "-ec", script)
}

// request asks for another size of a claim and returns the API server's answer.
func (b *bench) request(name, size string) error {
	patch := fmt.Sprintf(`{"spec":{"resources":{"requests":{"storage":%q}}}}`, size)
	return b.patchClaim(name, patch)
}

func (b *bench) patchClaim(name, patch string) error {
	_, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Patch(b.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// wantSize waits until a claim says that it has a size.
func (b *bench) wantSize(name, size string) {
	b.Helper()
	want := resource.MustParse(size)
	b.soon(func(ctx context.Context) (string, error) {
		c, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if have := c.Status.Capacity[corev1.ResourceStorage]; have.Cmp(want) != 0 {
			return fmt.Sprintf("claim %s has %s, want %s; its conditions: %+v", name, have.String(), size, c.Status.Conditions), nil
		}
		return "", nil
	})
}

// wantBound waits until claims are bound.
func (b *bench) wantBound(names ...string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		for _, name := range names {
			c, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			if c.Status.Phase != corev1.ClaimBound {
				return fmt.Sprintf("claim %s is %s", name, c.Status.Phase), nil
			}
		}
		return "", nil
	})
}

// sizeInPod returns the size that a pod sees at /data, in MiB.
func (b *bench) sizeInPod(name string) int {
	b.Helper()
	said := b.inPod(name, `if [ -b /dev/data ]; then blockdev --getsize64 /dev/data; else df -kP /data | awk 'NR==2 {print $2*1024}'; fi`)
	n, err := strconv.ParseInt(strings.TrimSpace(said), 10, 64)
	b.must(err, "reading the size that pod %s sees", name)
	return int(n >> 20)
}

// volumesOn returns the logical volumes of a node: their names, and what else is
// asked for, separated by single blanks.
func (b *bench) volumesOn(ctx context.Context, node string, columns ...string) ([]string, error) {
	columns = append([]string{"lv_name"}, columns...)
	said, err := b.lab.Exec(ctx, node, "lvs", "--noheadings", "-o", strings.Join(columns, ","))
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(said) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines, nil
}

// wantVolumes waits until exactly so many logical volumes of a node match.
func (b *bench) wantVolumes(node string, count int, what string, matches func(line string) bool) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		lines, err := b.volumesOn(ctx, node, "vg_name", "lv_size", "lv_tags")
		if err != nil {
			return "", err
		}
		found := 0
		for _, line := range lines {
			if matches(line) {
				found++
			}
		}
		if found != count {
			return fmt.Sprintf("node %s has %d volumes that are %s, want %d, among:\n%s", node, found, what, count, strings.Join(lines, "\n")), nil
		}
		return "", nil
	})
}

// called returns a match of volumes by the beginning of their names.
func called(prefix string) func(string) bool {
	return func(line string) bool { return strings.HasPrefix(line, prefix) }
}
