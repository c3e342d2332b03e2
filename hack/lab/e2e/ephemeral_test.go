//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// inline gives a pod a volume of its own at /data, as its attributes say.
func inline(fsType string, attributes map[string]string) podOption {
	return func(spec *corev1.PodSpec) {
		source := &corev1.CSIVolumeSource{Driver: driverName, VolumeAttributes: attributes}
		if fsType != "" {
			source.FSType = ptr.To(fsType)
		}
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{CSI: source}})
		spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "scratch", MountPath: "/data"})
	}
}

// ephemeral gives a pod a claim of its own at /data.
func ephemeral(className, size string) podOption {
	return func(spec *corev1.PodSpec) {
		template := &corev1.PersistentVolumeClaimTemplate{Spec: claim("", className, size).Spec}
		spec.Volumes = append(spec.Volumes, corev1.Volume{
			Name:         "scratch",
			VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template}},
		})
		spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "scratch", MountPath: "/data"})
	}
}

// noInline complains while a node has the volume of a pod.
func (b *bench) noInline(nodes ...string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		for _, node := range nodes {
			lines, err := b.volumesOn(ctx, node)
			if err != nil {
				return "", err
			}
			if left := strings.Join(lines, " "); strings.Contains(left, "csi-") {
				return fmt.Sprintf("node %s still has %s", node, left), nil
			}
		}
		return "", nil
	}
}

func inlineVolumes(b *bench) {
	node := b.nodes[0]
	pool := map[string]string{"vgName": pool0, "size": "512Mi"}
	b.addPods(pod("xfs", "grep ' /data xfs' /proc/mounts; echo mine > /data/file; sync; "+forever, onNode(node), inline("xfs", pool)))
	b.wantRunning("xfs")
	b.wantVolumes(node, 1, "of a pod", called("csi-"))
	slow := maps.Clone(pool)
	slow["bps"] = "8Mi"
	b.addPods(pod("slow", forever, onNode(node), inline("", slow)))
	b.wantRunning("slow")
	b.wantRate("slow", "direct writes to an inline volume", fmt.Sprintf(directWrite, "/data/direct"), moved, 8<<20)

	// They are counted like claims, before they exist and as long as they do.
	rest := 4*b.freeExtents(node, pool0) - 8
	b.addPods(pod("rest", forever, onNode(node), inline("", map[string]string{"vgName": pool0, "size": megabytes(rest)})))
	b.wantRunning("rest")
	b.addPods(pod("late", forever, onNode(node), inline("", map[string]string{"vgName": pool0, "size": "64Mi"})))
	b.wantEvent("late", "vg "+pool0, "wants 64Mi", "8Mi free")
	b.removePod("xfs")
	b.wantRunning("late")

	// One that ends has no use for its volume, however it ends.
	for _, name := range []string{"slow", "rest", "late"} {
		b.must(b.kube.CoreV1().Pods(b.ns).Delete(b.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}), "deleting pod %s", name)
	}
	b.soon(b.noInline(node))
}

func inlineVolumesAfterCrashes(b *bench) {
	node := b.nodes[1]
	names := []string{"a", "b", "c", "d", "e", "f"}
	attributes := map[string]string{"vgName": pool0, "size": "128Mi"}
	for _, name := range names {
		b.addPods(pod(name, forever, onNode(node), inline("", attributes)))
	}
	b.soon(func(ctx context.Context) (string, error) {
		lines, err := b.volumesOn(ctx, node)
		if err == nil && !strings.Contains(strings.Join(lines, " "), "csi-") {
			return "no pod has its volume yet", nil
		}
		return "", err
	})
	b.killOpenLocal() // amid making them
	b.wantRunning(names...)
	b.wantVolumes(node, len(names), "of pods", called("csi-"))

	for _, name := range names[:3] {
		b.must(b.kube.CoreV1().Pods(b.ns).Delete(b.Context(), name, metav1.DeleteOptions{}), "deleting pod %s", name)
	}
	b.killOpenLocal() // amid removing them
	b.wantVolumes(node, len(names)-3, "of pods", called("csi-"))

	// The power fails; pods that somebody gives up meanwhile leave nothing, the
	// others find their volumes again.
	b.must(b.lab.Kill(b.Context(), node), "cutting the power of %s", node)
	for _, name := range names[3:5] {
		b.must(b.kube.CoreV1().Pods(b.ns).Delete(b.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}), "deleting pod %s", name)
	}
	b.must(b.lab.Start(b.Context(), node), "starting %s", node)
	b.wantStartedAgain(names[5])
	b.wantVolumes(node, 1, "of pods", called("csi-"))
}

// hostile are attributes of somebody who may create pods and wants more than
// that. Every one of them is refused with a reason, and nothing happens.
func hostileAttributes(b *bench) {
	node := b.nodes[0]
	b.unmanagedGroup(node, "foreign")
	b.addClaims(claim("victim", "open-local-lvm", "64Mi"))
	b.addPods(pod("victim", busy, onNode(node), mounting("victim")))
	b.wantRunning("victim")
	victim := b.volumeOf("victim")
	group := victim.Spec.CSI.VolumeAttributes["vgName"]
	before, err := b.volumesOn(b.Context(), node)
	b.must(err, "listing volumes")

	type attributes = map[string]string
	with := func(key, value string) attributes { return attributes{"vgName": pool0, "size": "64Mi", key: value} }
	attempts := map[string]struct {
		fsType     string
		attributes attributes
	}{
		"another-group":     {"", with("vgName", "foreign")},
		"anothers-volume":   {"", with("vgName", group+"/"+victim.Name)},
		"a-path":            {"", with("vgName", "../../etc")},
		"a-device":          {"", with("vgName", "/dev/ubdd")},
		"an-option":         {"", with("vgName", "--config=devices{filter=[]}")},
		"a-tag":             {"", with("vgName", "@open-local")},
		"a-shell":           {"", with("vgName", "$(reboot)")},
		"two-commands":      {"", with("vgName", pool0+"; reboot")},
		"a-newline":         {"", with("vgName", pool0+"\nforeign")},
		"no-group":          {"", attributes{"size": "64Mi"}},
		"negative":          {"", with("size", "-64Mi")},
		"nothing-at-all":    {"", with("size", "0")},
		"too-many-digits":   {"", with("size", "99999999999999999999")},
		"size-and-more":     {"", with("size", "64Mi --type thin")},
		"all-that-is-free":  {"", with("size", "100%FREE")},
		"another-layout":    {"", with("lvmType", "raid1 --mirrors 3")},
		"a-limit-that-isnt": {"", with("bps", "0")},
		"anothers-name":     {"", with("volumeID", victim.Name)},
		"a-snapshot":        {"", with("csi.aliyun.com/snapshot", "snap-1")},
		"a-class-key":       {"", with("mkfsOptions", "-E root_owner=0:0")},
		"a-mount-point":     {"", attributes{"volumeType": "MountPoint", "MountPoint": "/etc"}},
		"whole-disk":        {"", attributes{"volumeType": "Device", "Device": "/dev/ubdd"}},
		"a-file-system":     {"ext4 -F /dev/ubdd", with("size", "64Mi")},
		"not-a-file-system": {"../../../etc", with("size", "64Mi")},
	}
	for name, attempt := range attempts {
		b.addPods(pod(name, forever, onNode(node), inline(attempt.fsType, attempt.attributes)))
	}
	for name := range attempts {
		b.wantRefused(name)
	}
	after, err := b.volumesOn(b.Context(), node)
	b.must(err, "listing volumes")
	if len(after) != len(before) {
		b.Errorf("there were volumes %v, and now there are %v", before, after)
	}
	b.inPod("victim", "grep before /data/mark")
	b.Logf("%d attempts were refused", len(attempts))
}

// wantRefused waits until a pod has an event that says why it does not run.
func (b *bench) wantRefused(name string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		p, err := b.kube.CoreV1().Pods(b.ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if p.Status.Phase == corev1.PodRunning {
			b.Fatalf("pod %s runs", name)
		}
		messages, err := b.events(ctx, name)
		for _, message := range messages {
			if strings.HasPrefix(message, "FailedScheduling") || strings.HasPrefix(message, "FailedMount") {
				return "", nil
			}
		}
		return "pod " + name + " has no event that says why: " + strings.Join(messages, "; "), err
	})
}

func genericEphemeralVolumes(b *bench) {
	node := b.nodes[0]
	b.addPods(pod("user", "echo mine > /data/file; sync; "+forever, onNode(node), ephemeral("open-local-lvm-xfs", "512Mi")))
	b.wantRunning("user")
	if size := b.volumeOf("user-scratch").Spec.Capacity[corev1.ResourceStorage]; size.Cmp(resource.MustParse("512Mi")) != 0 {
		b.Errorf("the pod's volume has %s, want 512Mi", size.String())
	}
	b.addPods(pod("large", forever, onNode(node), ephemeral("open-local-lvm", "4500Mi")))
	b.wantEvent("large", "wants 4500Mi", "has 4092Mi in all")
	b.removePod("large")
	b.removePod("user")
	b.soon(b.noVolumes)
}
