//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

const snapshotGroup = "snapshot.storage.k8s.io"

var (
	snapshots        = schema.GroupVersionResource{Group: snapshotGroup, Version: "v1", Resource: "volumesnapshots"}
	snapshotContents = schema.GroupVersionResource{Group: snapshotGroup, Version: "v1", Resource: "volumesnapshotcontents"}
	snapshotClasses  = schema.GroupVersionResource{Group: snapshotGroup, Version: "v1", Resource: "volumesnapshotclasses"}
)

func snapshotObject(kind, name string, content map[string]any) *unstructured.Unstructured {
	all := map[string]any{
		"apiVersion": snapshotGroup + "/v1", "kind": kind, "metadata": map[string]any{"name": name},
	}
	maps.Copy(all, content)
	return &unstructured.Unstructured{Object: all}
}

// addSnapshotClass makes a class whose snapshots begin small, as the disks here
// are, and removes it with the case.
func (b *bench) addSnapshotClass(name string, changes map[string]string) string {
	b.Helper()
	parameters := map[string]any{
		"csi.aliyun.com/snapshot-initial-size":        "32Mi",
		"csi.aliyun.com/snapshot-expansion-size":      "64Mi",
		"csi.aliyun.com/snapshot-expansion-threshold": "50%",
	}
	for key, value := range changes {
		parameters["csi.aliyun.com/"+key] = value
	}
	name = b.ns + "-" + name
	_, err := b.other.Resource(snapshotClasses).Create(b.Context(), snapshotObject("VolumeSnapshotClass", name, map[string]any{
		"driver": driverName, "deletionPolicy": "Delete", "parameters": parameters,
	}), metav1.CreateOptions{})
	b.must(err, "creating the VolumeSnapshotClass %s", name)
	b.afterwards(func(ctx context.Context) {
		b.must(b.other.Resource(snapshotClasses).Delete(ctx, name, metav1.DeleteOptions{}), "deleting the VolumeSnapshotClass %s", name)
	})
	return name
}

// snapshot asks for a snapshot of a claim.
func (b *bench) snapshot(name, claim, class string) {
	b.Helper()
	_, err := b.other.Resource(snapshots).Namespace(b.ns).Create(b.Context(), snapshotObject("VolumeSnapshot", name, map[string]any{
		"spec": map[string]any{
			"volumeSnapshotClassName": class,
			"source":                  map[string]any{"persistentVolumeClaimName": claim},
		},
	}), metav1.CreateOptions{})
	b.must(err, "creating snapshot %s", name)
}

// wantSnapshots waits until snapshots can be used.
func (b *bench) wantSnapshots(names ...string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		for _, name := range names {
			s, err := b.other.Resource(snapshots).Namespace(b.ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			if ready, _, _ := unstructured.NestedBool(s.Object, "status", "readyToUse"); !ready {
				return fmt.Sprintf("snapshot %s is not ready: %v", name, s.Object["status"]), nil
			}
		}
		return "", nil
	})
}

func (b *bench) removeSnapshot(name string) {
	b.Helper()
	err := b.other.Resource(snapshots).Namespace(b.ns).Delete(b.Context(), name, metav1.DeleteOptions{})
	b.must(err, "deleting snapshot %s", name)
}

// removeSnapshots deletes the snapshots of the case and waits until nothing of
// them is left in the API.
func (b *bench) removeSnapshots(ctx context.Context) {
	b.Helper()
	err := b.other.Resource(snapshots).Namespace(b.ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	b.must(err, "deleting the snapshots of %s", b.ns)
	b.eventually(ctx, func(ctx context.Context) (string, error) {
		contents, err := b.other.Resource(snapshotContents).List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		for _, content := range contents.Items {
			if ns, _, _ := unstructured.NestedString(content.Object, "spec", "volumeSnapshotRef", "namespace"); ns == b.ns {
				return fmt.Sprintf("%s is still there: %v", content.GetName(), content.Object["status"]), nil
			}
		}
		return "", nil
	})
}

// fromSnapshot and fromClaim fill a claim when it is made.
func fromSnapshot(c *corev1.PersistentVolumeClaim, name string) *corev1.PersistentVolumeClaim {
	c.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ptr.To(snapshotGroup), Kind: "VolumeSnapshot", Name: name}
	return c
}

func fromClaim(c *corev1.PersistentVolumeClaim, name string) *corev1.PersistentVolumeClaim {
	c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: name}
	return c
}

// like returns another claim of the same kind.
func (b *bench) like(of, name, size string) *corev1.PersistentVolumeClaim {
	b.Helper()
	c, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Get(b.Context(), of, metav1.GetOptions{})
	b.must(err, "reading claim %s", of)
	other := claim(name, *c.Spec.StorageClassName, size)
	other.Spec.VolumeMode = c.Spec.VolumeMode
	return other
}
