package extender

import (
	"context"
	"errors"
	"sync"

	storagev1 "k8s.io/api/storage/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	storageinformers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	nlsinformers "github.com/open-local/open-local/pkg/client/informers/externalversions/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/slim"
)

// caches are what is watched. In them are records, nodes and classes.
type caches struct {
	driver string

	pods, claims, volumes, nodes, classes, storages cache.Indexer

	contents *contents // nil where snapshots are not looked for

	// informers are in the order in which they start: the names in records of the first
	// are shared by the others.
	informers []namedInformer
	running   sync.WaitGroup
}

type namedInformer struct {
	cache.SharedIndexInformer
	name string
}

// Indexes of the caches.
const (
	byClaim        = "claim"        // pods, by the shelves of the claims they use
	bySelectedNode = "selectedNode" // claims without a volume, by the node selected for them
)

func newCaches(driver string, core kubernetes.Interface, storage versioned.Interface) (*caches, error) {
	c := &caches{driver: driver}
	c.informers = []namedInformer{
		{coreinformers.NewPersistentVolumeInformer(core, 0, cache.Indexers{}), "volumes"},
		{coreinformers.NewPersistentVolumeClaimInformer(core, "", 0, cache.Indexers{bySelectedNode: selectedNodeOf}), "claims"},
		{nlsinformers.NewNodeLocalStorageInformer(storage, 0, cache.Indexers{bySnapshot: snapshotsIn}), "storages"},
		{coreinformers.NewPodInformer(core, "", 0, cache.Indexers{byClaim: shelvesOfPod}), "pods"},
		{coreinformers.NewNodeInformer(core, 0, cache.Indexers{}), "nodes"},
		{storageinformers.NewStorageClassInformer(core, 0, cache.Indexers{}), "classes"},
	}
	into := []*cache.Indexer{&c.volumes, &c.claims, &c.storages, &c.pods, &c.nodes, &c.classes}
	var errs []error
	for i, informer := range c.informers {
		*into[i] = informer.GetIndexer()
		errs = append(errs, informer.SetTransform(c.keep))
	}
	return c, errors.Join(errs...)
}

// start begins to watch and returns when all caches have been filled once. They are filled
// one after the other: what it takes to read many objects is not taken for all of them at
// one time.
func (c *caches) start(ctx context.Context) error {
	c.contents.start(ctx)
	for _, informer := range c.informers {
		c.running.Go(func() { informer.RunWithContext(ctx) })
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return errors.New("waiting for the cache of " + informer.name + ": told to stop")
		}
	}
	return nil
}

// stop returns when nothing is watched any more; the context of start has ended.
func (c *caches) stop() {
	c.running.Wait()
	c.contents.stop()
}

func (c *caches) pod(key string) (*podRecord, bool)     { return got[*podRecord](c.pods, key) }
func (c *caches) claim(key string) (*claimRecord, bool) { return got[*claimRecord](c.claims, key) }
func (c *caches) volume(name string) (*volumeRecord, bool) {
	return got[*volumeRecord](c.volumes, name)
}
func (c *caches) report(node string) (*reportRecord, bool) {
	return got[*reportRecord](c.storages, node)
}
func (c *caches) class(name string) (*storagev1.StorageClass, bool) {
	return got[*storagev1.StorageClass](c.classes, name)
}

// podsWith returns the pods that use the claim, in no order.
func (c *caches) podsWith(claim string) []*podRecord {
	var users []*podRecord
	for _, pod := range indexed[*podRecord](c.pods, byClaim, slim.Shelf(claim)) {
		for i := range pod.volumes {
			if pod.volumes[i].claim == claim {
				users = append(users, pod)
				break
			}
		}
	}
	return users
}

// got returns what is under the key, if anything.
func got[T any](store cache.Store, key string) (typed T, is bool) {
	obj, exists, _ := store.GetByKey(key) // from memory, which does not fail
	if exists {
		typed, is = obj.(T)
	}
	return typed, is
}

// listed returns all objects, in no order.
func listed[T any](store cache.Store) []T { return ofType[T](store.List()) }

// indexed returns the objects under the key of an index that exists.
func indexed[T any](indexer cache.Indexer, index, key string) []T {
	objects, err := indexer.ByIndex(index, key)
	if err != nil {
		panic(err) // a misspelt index: every use is in this package
	}
	return ofType[T](objects)
}

func ofType[T any](objects []any) []T {
	typed := make([]T, 0, len(objects))
	for _, obj := range objects {
		if t, ok := obj.(T); ok {
			typed = append(typed, t)
		}
	}
	return typed
}
