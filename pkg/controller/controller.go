// Package controller gives every node a NodeLocalStorage whose spec follows from
// one NodeLocalStorageInitConfig, and takes it away with the node. It writes
// nothing but those specs, and knows nothing of what is on a node.
package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/client/informers/externalversions"
	listers "github.com/open-local/open-local/pkg/client/listers/storage/v1alpha1"
)

// workers is how many nodes are dealt with at once.
const workers = 4

// Options configures a Controller.
type Options struct {
	// InitConfig names the NodeLocalStorageInitConfig to follow.
	InitConfig string
	// Update keeps the spec of every NodeLocalStorage as the config says; without
	// it they are only created.
	Update bool
}

// A Controller keeps a NodeLocalStorage for every node.
type Controller struct {
	options Options
	nodes   kubernetes.Interface
	client  versioned.Interface
	events  record.EventRecorder

	nodeLister   corelisters.NodeLister
	nlsLister    listers.NodeLocalStorageLister
	configLister listers.NodeLocalStorageInitConfigLister
	informers    []cache.SharedIndexInformer
	queue        workqueue.TypedRateLimitingInterface[key]

	mu      sync.Mutex // guards the fields below
	parsed  parsedConfig
	told    told
	follows string // the version of the config for which every node was looked at
}

// parsedConfig is the config that was parsed last, and from which object.
type parsedConfig struct {
	version string
	config  config
}

// told is what was last said about the config, so that it is said once.
type told struct {
	uid        types.UID
	generation int64
	missing    bool
}

// A key says what is to be looked at: one node by name, or the config.
type key struct {
	config bool
	node   string
}

// New returns a Controller. Nothing happens before Run.
func New(nodes kubernetes.Interface, client versioned.Interface, events record.EventRecorder, options Options) (*Controller, error) {
	c := &Controller{
		options: options, nodes: nodes, client: client, events: events,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[key](100*time.Millisecond, time.Minute),
			workqueue.TypedRateLimitingQueueConfig[key]{Name: "nodes"},
		),
	}
	core := informers.NewSharedInformerFactoryWithOptions(nodes, 0, informers.WithTransform(trimNode))
	ours := externalversions.NewSharedInformerFactoryWithOptions(client, 0, externalversions.WithTransform(trimStatus))
	one := externalversions.NewSharedInformerFactoryWithOptions(client, 0,
		externalversions.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, options.InitConfig).String()
		}))

	node := core.Core().V1().Nodes()
	nls := ours.Csi().V1alpha1().NodeLocalStorages()
	config := one.Csi().V1alpha1().NodeLocalStorageInitConfigs()
	c.nodeLister, c.nlsLister, c.configLister = node.Lister(), nls.Lister(), config.Lister()
	c.informers = []cache.SharedIndexInformer{node.Informer(), nls.Informer(), config.Informer()}
	for i, handler := range []cache.ResourceEventHandler{
		c.changes(nodeChanged), c.changes(specChanged), c.configChanges(),
	} {
		if _, err := c.informers[i].AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("watching for changes: %w", err)
		}
	}
	return c, nil
}

// Reports returns the NodeLocalStorages that Run follows. Of their status they have the
// handles of volumes and nothing else.
func (c *Controller) Reports() cache.SharedIndexInformer { return c.informers[1] }

// Run works until ctx ends. It returns early only when ctx ends before the first
// lists have arrived, and that is no error either.
func (c *Controller) Run(ctx context.Context) error {
	log := klog.FromContext(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.queue.ShutDown()

	for _, informer := range c.informers {
		wg.Go(func() { informer.RunWithContext(ctx) })
	}
	for _, informer := range c.informers {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return nil
		}
	}
	log.Info("Following the config", "config", c.options.InitConfig, "update", c.options.Update)
	// The config first: all nodes are in the queue now, and looked at once.
	if err := c.syncConfig(ctx); err != nil {
		log.Error(err, "Reading the config again soon")
	}
	c.queue.Add(key{config: true})
	for range workers {
		wg.Go(func() {
			for c.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	return nil
}

// next deals with one item of the queue; false means that there will be no more.
func (c *Controller) next(ctx context.Context) bool {
	k, stop := c.queue.Get()
	if stop {
		return false
	}
	defer c.queue.Done(k)

	err := c.sync(ctx, k)
	if err == nil {
		c.queue.Forget(k)
		return true
	}
	if ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Trying again later", "node", k.node, "failures", c.queue.NumRequeues(k))
	}
	c.queue.AddRateLimited(k)
	return true
}

func (c *Controller) sync(ctx context.Context, k key) error {
	if k.config {
		return c.syncConfig(ctx)
	}
	return c.syncNode(ctx, k.node)
}

// changes enqueues the node of that name for every object that comes, goes, or
// changes in a way that matters.
func (c *Controller) changes(matters func(before, after any) bool) cache.ResourceEventHandler {
	enqueue := func(object any) {
		if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			c.queue.Add(key{node: name})
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		DeleteFunc: enqueue,
		UpdateFunc: func(before, after any) {
			if matters(before, after) {
				enqueue(after)
			}
		},
	}
}

func (c *Controller) configChanges() cache.ResourceEventHandler {
	enqueue := func() { c.queue.Add(key{config: true}) }
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { enqueue() },
		UpdateFunc: func(any, any) { enqueue() },
		DeleteFunc: func(any) { enqueue() },
	}
}

// trimNode keeps of a node what a config can ask for. A cluster's nodes are
// large, and most of it is status.
func trimNode(object any) (any, error) {
	if node, ok := object.(*corev1.Node); ok {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Labels: node.Labels,
		}}, nil
	}
	return object, nil
}
