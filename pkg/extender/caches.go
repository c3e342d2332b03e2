package extender

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	coreinformers "k8s.io/client-go/informers/core/v1"
	storageinformers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/follow"
)

// caches are what is watched: records of what there are hundreds of thousands of, and
// objects of what there are few of.
type caches struct {
	driver string

	volumes *follow.Cache[*volumeRecord]
	claims  *follow.Cache[*claimRecord]
	reports *follow.Cache[*reportRecord]
	pods    *follow.Cache[*podRecord]

	nodes, classes cache.SharedIndexInformer

	contents *contents // nil where snapshots are not looked for
	running  sync.WaitGroup
}

// Indexes of the caches.
const (
	byClaim        = "claim"        // pods, by namespace/name of the claims they use
	bySelectedNode = "selectedNode" // claims without a volume, by the node selected for them
)

func newCaches(driver string, core kubernetes.Interface, storage versioned.Interface, now clock.PassiveClock) (*caches, error) {
	c := &caches{driver: driver}
	c.volumes = follow.New(follow.Options[*volumeRecord]{
		Name: "volumes", Clock: now, Type: &corev1.PersistentVolume{}, Source: follow.From(core, core.CoreV1().PersistentVolumes()),
		Keep: keeping(func(pv *corev1.PersistentVolume) *volumeRecord { return volumeOf(driver, pv) }),
	})
	c.claims = follow.New(follow.Options[*claimRecord]{
		Name: "claims", Clock: now, Type: &corev1.PersistentVolumeClaim{}, Source: follow.From(core, core.CoreV1().PersistentVolumeClaims("")),
		Keep: keeping(c.keepClaim), Indexes: map[string]func(*claimRecord) []string{bySelectedNode: (*claimRecord).waitsFor},
	})
	c.reports = follow.New(follow.Options[*reportRecord]{
		Name: "reports", Clock: now, Type: &v1alpha1.NodeLocalStorage{}, Source: follow.From(storage, storage.CsiV1alpha1().NodeLocalStorages()), PageSize: 250,
		Keep: keeping(c.keepReport), Indexes: map[string]func(*reportRecord) []string{bySnapshot: (*reportRecord).snapshotHandles},
	})
	c.pods = follow.New(follow.Options[*podRecord]{
		Name: "pods", Clock: now, Type: &corev1.Pod{}, Source: follow.From(core, core.CoreV1().Pods("")),
		Keep: keeping(c.keepPod), Indexes: map[string]func(*podRecord) []string{byClaim: (*podRecord).claims},
	})
	c.nodes = coreinformers.NewNodeInformer(core, 0, cache.Indexers{})
	c.classes = storageinformers.NewStorageClassInformer(core, 0, cache.Indexers{})
	return c, errors.Join(c.nodes.SetTransform(strip), c.classes.SetTransform(strip))
}

// keeping turns what keeps of objects of a type into what keeps of any object; it is
// called for that type only.
func keeping[O runtime.Object, T any](keep func(O) T) func(runtime.Object) T {
	return func(obj runtime.Object) T {
		return keep(obj.(O)) //nolint:forcetypeassert // the reflector has looked
	}
}

// kinds is of how many kinds there are watches.
const kinds = 6

// start begins to watch and returns when all caches have been filled once. They are filled
// one after the other: what it takes to read many objects is not taken for all of them at
// one time, and names in records of the first are shared by the others.
func (c *caches) start(ctx context.Context) error {
	c.contents.start(ctx)
	for _, follow := range []struct {
		run  func(context.Context)
		wait func(context.Context) error
	}{{c.volumes.Run, c.volumes.Wait}, {c.claims.Run, c.claims.Wait}, {c.reports.Run, c.reports.Wait}, {c.pods.Run, c.pods.Wait}} {
		c.running.Go(func() { follow.run(ctx) })
		if err := follow.wait(ctx); err != nil {
			return err
		}
	}
	for name, informer := range map[string]cache.SharedIndexInformer{"nodes": c.nodes, "classes": c.classes} {
		c.running.Go(func() { informer.RunWithContext(ctx) })
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return fmt.Errorf("reading all %s: %w", name, context.Cause(ctx))
		}
	}
	return c.contents.wait(ctx)
}

// stop returns when nothing is watched any more; the context of start has ended.
func (c *caches) stop() {
	c.running.Wait()
	c.contents.stop()
}

// class returns the class of that name, if there is one.
func (c *caches) class(name string) (*storagev1.StorageClass, bool) {
	obj, exists, _ := c.classes.GetStore().GetByKey(name) // from memory, which does not fail
	class, is := obj.(*storagev1.StorageClass)
	return class, exists && is
}

// hasNode reports whether there is a node of that name.
func (c *caches) hasNode(name string) bool {
	_, exists, _ := c.nodes.GetStore().GetByKey(name)
	return exists
}
