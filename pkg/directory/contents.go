package directory

import (
	"context"
	"fmt"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// ContentResource is the kind in which csi-snapshotter keeps what it asked of a driver.
// It is not part of Kubernetes and may be absent.
var ContentResource = schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshotcontents"}

// Contents looks into VolumeSnapshotContents.
type Contents struct{ Client dynamic.Interface }

// uidAtEnd is what csi-snapshotter puts behind the prefix of a snapshot's name.
var uidAtEnd = regexp.MustCompile(`-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// SourceOf returns the handle of the volume that the snapshot with that handle was made
// of, or "" when no VolumeSnapshotContent tells: snapshot-controller calls it
// snapcontent-<UID of the VolumeSnapshot>.
func (c Contents) SourceOf(ctx context.Context, id string) (string, error) {
	uid := uidAtEnd.FindString(id)
	if uid == "" {
		return "", nil
	}
	content, err := c.Client.Resource(ContentResource).Get(ctx, "snapcontent"+uid, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil // so is the kind itself where it is absent
	case err != nil:
		return "", fmt.Errorf("looking for the source of snapshot %s: %w", id, err)
	}
	source, _, err := unstructured.NestedString(content.Object, "spec", "source", "volumeHandle")
	if err != nil {
		return "", fmt.Errorf("looking for the source of snapshot %s: %w", id, err)
	}
	return source, nil
}
