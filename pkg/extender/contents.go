package extender

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/volume"
)

// snapshotGroup is the API group of snapshots. Its kinds are no part of Kubernetes and
// may be absent; they may come while we run.
const snapshotGroup = "snapshot.storage.k8s.io"

var contentResource = schema.GroupVersionResource{Group: snapshotGroup, Version: "v1", Resource: "volumesnapshotcontents"}

// contents are the VolumeSnapshotContents of our driver: they tie a VolumeSnapshot to
// the handle under which reports list it. A nil contents knows none.
type contents struct {
	informer cache.SharedIndexInformer
	running  sync.WaitGroup
}

// Indexes of reports and of contents.
const (
	bySnapshot       = "snapshot"       // reports, by snapshot handle
	byVolumeSnapshot = "volumeSnapshot" // contents, by namespace/name of the VolumeSnapshot
)

func newContents(driver string, client dynamic.Interface, news func()) (*contents, error) {
	informer := dynamicinformer.NewFilteredDynamicInformer(client, contentResource, "", 0, cache.Indexers{
		byVolumeSnapshot: func(obj any) ([]string, error) {
			content, ok := obj.(*unstructured.Unstructured)
			if !ok || textIn(content, "spec", "driver") != driver {
				return nil, nil
			}
			return []string{textIn(content, "spec", "volumeSnapshotRef", "namespace") + "/" + textIn(content, "spec", "volumeSnapshotRef", "name")}, nil
		},
	}, nil).Informer()
	if err := informer.SetTransform(stripContent); err != nil {
		return nil, err
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			klog.FromContext(ctx).V(4).Info("There are no VolumeSnapshotContents in this cluster yet")
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	}); err != nil {
		return nil, err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { news() }, UpdateFunc: func(_, _ any) { news() },
	})
	return &contents{informer: informer}, err
}

// stripContent keeps what is read here.
func stripContent(obj any) (any, error) {
	content, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	small := &unstructured.Unstructured{Object: map[string]any{}}
	for _, path := range [][]string{
		{"apiVersion"}, {"kind"}, {"metadata", "name"}, {"metadata", "uid"}, {"metadata", "resourceVersion"}, {"metadata", "creationTimestamp"},
		{"spec", "driver"}, {"spec", "volumeSnapshotRef", "namespace"}, {"spec", "volumeSnapshotRef", "name"}, {"status", "snapshotHandle"},
	} {
		if value := textIn(content, path...); value != "" {
			_ = unstructured.SetNestedField(small.Object, value, path...) // all of them are strings in maps of ours
		}
	}
	return small, nil
}

func textIn(content *unstructured.Unstructured, path ...string) string {
	value, _, _ := unstructured.NestedString(content.Object, path...)
	return value
}

// start watches until ctx ends. Nobody waits for it: snapshots may never come.
func (c *contents) start(ctx context.Context) {
	if c != nil {
		c.running.Go(func() { c.informer.RunWithContext(ctx) })
	}
}

func (c *contents) stop() {
	if c != nil {
		c.running.Wait()
	}
}

// handleOf returns the handle of the snapshot that a VolumeSnapshot stands for. Of
// several contents, because one of that name was there before, the youngest counts.
func (c *contents) handleOf(namespace, name string) (string, error) {
	if c == nil || !c.informer.HasSynced() {
		return "", fmt.Errorf("%w source: VolumeSnapshotContents cannot be read; are the kinds of %s installed?", volume.ErrInvalid, snapshotGroup)
	}
	var youngest *unstructured.Unstructured
	found, err := c.informer.GetIndexer().ByIndex(byVolumeSnapshot, namespace+"/"+name)
	if err != nil {
		panic(err) // a misspelt index
	}
	for _, obj := range found {
		content, is := obj.(*unstructured.Unstructured)
		if is && (youngest == nil || youngest.GetCreationTimestamp().Time.Before(content.GetCreationTimestamp().Time)) {
			youngest = content
		}
	}
	if youngest == nil {
		return "", fmt.Errorf("it has no VolumeSnapshotContent of this driver: %w", errLagging)
	}
	handle := textIn(youngest, "status", "snapshotHandle")
	if handle == "" {
		return "", fmt.Errorf("it is not made yet: %w", errLagging)
	}
	return handle, nil
}
