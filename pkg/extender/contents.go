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

var (
	contentResource       = schema.GroupVersionResource{Group: snapshotGroup, Version: "v1", Resource: "volumesnapshotcontents"}
	snapshotClassResource = schema.GroupVersionResource{Group: snapshotGroup, Version: "v1", Resource: "volumesnapshotclasses"}
)

// contents are the VolumeSnapshotContents of our driver: they tie a VolumeSnapshot to
// the handle under which reports list it. A nil contents knows none.
type contents struct {
	driver   string
	informer cache.SharedIndexInformer
	classes  cache.SharedIndexInformer // VolumeSnapshotClasses
	running  sync.WaitGroup
	absent   chan struct{} // closed when there are none to read, or no right to
	isAbsent sync.Once     // closes absent
}

// beingCreated is the annotation of a content that csi-snapshotter sets before it asks for
// the snapshot, and takes off when it knows what became of it.
const beingCreated = "snapshot.storage.kubernetes.io/volumesnapshot-being-created"

// creationTime is when the node made the snapshot, in nanoseconds since 1970.
var creationTime = []string{"status", "creationTime"}

// Indexes of reports and of contents.
const (
	bySnapshot       = "snapshot"       // reports, by snapshot handle
	byVolumeSnapshot = "volumeSnapshot" // contents, by namespace/name of the VolumeSnapshot
)

func newContents(driver string, client dynamic.Interface, news func()) (*contents, error) {
	c := &contents{driver: driver, absent: make(chan struct{})}
	var err error
	if c.informer, err = c.watch(client, contentResource, stripContent, cache.Indexers{
		byVolumeSnapshot: func(obj any) ([]string, error) {
			content, ok := obj.(*unstructured.Unstructured)
			if !ok || textIn(content, "spec", "driver") != driver {
				return nil, nil
			}
			return []string{textIn(content, "spec", "volumeSnapshotRef", "namespace") + "/" + textIn(content, "spec", "volumeSnapshotRef", "name")}, nil
		},
	}); err != nil {
		return nil, err
	}
	if c.classes, err = c.watch(client, snapshotClassResource, nil, cache.Indexers{}); err != nil {
		return nil, err
	}
	_, err = c.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { news() }, UpdateFunc: func(_, _ any) { news() },
	})
	return c, err
}

// watch returns what watches a kind that may be absent.
func (c *contents) watch(client dynamic.Interface, what schema.GroupVersionResource, strip cache.TransformFunc, indexers cache.Indexers) (cache.SharedIndexInformer, error) {
	informer := dynamicinformer.NewFilteredDynamicInformer(client, what, "", 0, indexers, nil).Informer()
	if strip != nil {
		if err := informer.SetTransform(strip); err != nil {
			return nil, err
		}
	}
	return informer, informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			c.isAbsent.Do(func() { close(c.absent) })
		}
		if apierrors.IsNotFound(err) {
			klog.FromContext(ctx).V(4).Info("There are none in this cluster yet", "resource", what.Resource)
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
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
		{"metadata", "annotations", beingCreated},
		{"spec", "driver"}, {"spec", "source", "volumeHandle"}, {"spec", "volumeSnapshotClassName"},
		{"spec", "volumeSnapshotRef", "namespace"}, {"spec", "volumeSnapshotRef", "name"}, {"spec", "volumeSnapshotRef", "uid"},
		{"status", "snapshotHandle"},
	} {
		if value := textIn(content, path...); value != "" {
			_ = unstructured.SetNestedField(small.Object, value, path...) // all of them are strings in maps of ours
		}
	}
	if made, is, _ := unstructured.NestedInt64(content.Object, creationTime...); is {
		_ = unstructured.SetNestedField(small.Object, made, creationTime...)
	}
	return small, nil
}

func textIn(content *unstructured.Unstructured, path ...string) string {
	value, _, _ := unstructured.NestedString(content.Object, path...)
	return value
}

// start watches until ctx ends.
func (c *contents) start(ctx context.Context) {
	if c != nil {
		c.running.Go(func() { c.informer.RunWithContext(ctx) })
		c.running.Go(func() { c.classes.RunWithContext(ctx) })
	}
}

// wait returns when all have been read once, or there are none to read: snapshots may
// never come.
func (c *contents) wait(ctx context.Context) error {
	if c == nil {
		return nil
	}
	for _, synced := range []<-chan struct{}{c.informer.HasSyncedChecker().Done(), c.classes.HasSyncedChecker().Done()} {
		select {
		case <-synced:
		case <-c.absent:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("reading all VolumeSnapshotContents and their classes: %w", context.Cause(ctx))
		}
	}
	return nil
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
