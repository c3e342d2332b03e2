package extender

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/ephemeral"

	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/client/informers/externalversions"
	nlslisters "github.com/open-local/open-local/pkg/client/listers/storage/v1alpha1"
)

// caches are what is watched.
type caches struct {
	pods     corelisters.PodLister
	claims   corelisters.PersistentVolumeClaimLister
	volumes  corelisters.PersistentVolumeLister
	nodes    corelisters.NodeLister
	classes  storagelisters.StorageClassLister
	storages nlslisters.NodeLocalStorageLister

	podIndex     cache.Indexer
	claimIndex   cache.Indexer
	storageIndex cache.Indexer

	contents *contents // nil where snapshots are not looked for

	informers map[string]cache.SharedIndexInformer
	factory   informers.SharedInformerFactory
	ours      externalversions.SharedInformerFactory
}

// Indexes of the caches.
const (
	byClaim        = "claim"        // pods, by namespace/name of the claims they use
	bySelectedNode = "selectedNode" // claims without a volume, by the node selected for them
)

func newCaches(driver string, core kubernetes.Interface, storage versioned.Interface) (*caches, error) {
	factory := informers.NewSharedInformerFactory(core, 0)
	ours := externalversions.NewSharedInformerFactory(storage, 0)
	pods, claims := factory.Core().V1().Pods(), factory.Core().V1().PersistentVolumeClaims()
	volumes, nodes := factory.Core().V1().PersistentVolumes(), factory.Core().V1().Nodes()
	classes, storages := factory.Storage().V1().StorageClasses(), ours.Csi().V1alpha1().NodeLocalStorages()
	c := &caches{
		pods: pods.Lister(), claims: claims.Lister(), volumes: volumes.Lister(), nodes: nodes.Lister(),
		classes: classes.Lister(), storages: storages.Lister(),
		podIndex: pods.Informer().GetIndexer(), claimIndex: claims.Informer().GetIndexer(),
		storageIndex: storages.Informer().GetIndexer(),
		informers: map[string]cache.SharedIndexInformer{
			"pods": pods.Informer(), "claims": claims.Informer(), "volumes": volumes.Informer(),
			"nodes": nodes.Informer(), "classes": classes.Informer(), "storages": storages.Informer(),
		},
		factory: factory, ours: ours,
	}
	return c, errors.Join(
		pods.Informer().SetTransform(stripped(stripPod(driver))),
		claims.Informer().SetTransform(stripped(stripClaim)),
		volumes.Informer().SetTransform(stripped(stripVolume(driver))),
		nodes.Informer().SetTransform(stripped(stripNode)),
		classes.Informer().SetTransform(stripped(stripClass)),
		storages.Informer().SetTransform(stripped(stripStorage)),
		pods.Informer().AddIndexers(cache.Indexers{byClaim: claimsOfPod}),
		claims.Informer().AddIndexers(cache.Indexers{bySelectedNode: selectedNodeOf}),
		storages.Informer().AddIndexers(cache.Indexers{bySnapshot: snapshotsIn}),
	)
}

// start begins to watch and returns when all caches have been filled once.
func (c *caches) start(ctx context.Context) error {
	c.factory.StartWithContext(ctx)
	c.ours.StartWithContext(ctx)
	c.contents.start(ctx)
	for name, informer := range c.informers {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return errors.New("waiting for the cache of " + name + ": told to stop")
		}
	}
	return nil
}

// stop returns when nothing is watched any more; the context of start has ended.
func (c *caches) stop() {
	c.factory.Shutdown()
	c.ours.Shutdown()
	c.contents.stop()
}

// claimOf returns the name of the claim behind a volume of the pod, or "".
func claimOf(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, v)
	}
	return ""
}

func claimsOfPod(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	var keys []string
	for i := range pod.Spec.Volumes {
		if name := claimOf(pod, &pod.Spec.Volumes[i]); name != "" {
			keys = append(keys, pod.Namespace+"/"+name)
		}
	}
	return keys, nil
}

func selectedNodeOf(obj any) ([]string, error) {
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok || claim.Spec.VolumeName != "" || claim.Annotations[annSelectedNode] == "" {
		return nil, nil
	}
	return []string{claim.Annotations[annSelectedNode]}, nil
}

// indexed returns the objects under the key of an index that exists.
func indexed[T any](indexer cache.Indexer, index, key string) []T {
	objects, err := indexer.ByIndex(index, key)
	if err != nil {
		panic(err) // a misspelt index: every use is in this package
	}
	typed := make([]T, 0, len(objects))
	for _, obj := range objects {
		if t, ok := obj.(T); ok {
			typed = append(typed, t)
		}
	}
	return typed
}
