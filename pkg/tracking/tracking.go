// Package tracking publishes what volumes may still take on each node, for the storage
// capacity tracking of Kubernetes (KEP-1472): one CSIStorageCapacity for each node and
// class that has room there. It hears of changes and looks at nothing else, so it writes
// as much as changes, in clusters of any size, and nothing where nothing does. It does not
// know where what it publishes comes from.
package tracking

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/follow"
)

const (
	// workers is how many nodes are dealt with at one time. How much is written in a second
	// is bounded by the client.
	workers = 4
	// What failed is tried again after these.
	firstRetry = 100 * time.Millisecond
	lastRetry  = time.Minute
)

// nodes knows what nodes have left.
type nodes interface {
	// Names returns all nodes that may have something to give.
	Names() []string
	// Capacity returns what the node still has to give, and false when that is nothing or
	// not known.
	Capacity(name string) (capacity.Node, bool)
}

// Options configures a Publisher.
type Options struct {
	Client    kubernetes.Interface
	Nodes     nodes
	Driver    string                 // the name of the CSI driver, whose classes are published
	Namespace string                 // of the objects
	Owner     *metav1.OwnerReference // with which the objects go; may be nil
	Clock     clock.PassiveClock
	Registry  prometheus.Registerer
}

// A Publisher keeps the objects as the nodes are.
type Publisher struct {
	o       Options
	objects *follow.Cache[*object]
	classes *follow.Cache[*class]
	queue   workqueue.TypedRateLimitingInterface[string] // nodes
	meter   *meter

	mu    sync.Mutex           // guards what follows
	since map[string]time.Time // when a node changed that was not looked at yet
}

// New returns a Publisher that publishes nothing before it runs.
func New(o Options) *Publisher {
	p := &Publisher{
		o: o, since: map[string]time.Time{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)),
	}
	mine := labels.Set{labelDriver: o.Driver}.String()
	p.objects = follow.New(follow.Options[*object]{
		Name: "capacities", Type: &storagev1.CSIStorageCapacity{}, Source: follow.From(o.Client, o.Client.StorageV1().CSIStorageCapacities(o.Namespace)).Selecting(mine),
		Keep:    func(obj runtime.Object) *object { return objectOf(obj.(*storagev1.CSIStorageCapacity)) }, //nolint:forcetypeassert // the reflector has looked
		Indexes: map[string]func(*object) []string{byNode: func(o *object) []string { return []string{o.node} }},
	})
	p.classes = follow.New(follow.Options[*class]{
		Name: "storage classes", Type: &storagev1.StorageClass{}, Source: follow.From(o.Client, o.Client.StorageV1().StorageClasses()),
		Keep: func(obj runtime.Object) *class { return classOf(obj.(*storagev1.StorageClass), o.Driver) }, //nolint:forcetypeassert // the reflector has looked
	})
	// Somebody else may have changed or removed an object; most news are of what was
	// written here.
	p.objects.Listen(func(_, now *object) { p.queue.Add(now.node) }, func(last *object) { p.queue.Add(last.node) })
	p.classes.Listen(func(before, now *class) {
		if (before != nil && before.like != nil) || now.like != nil {
			p.all()
		}
	}, func(*class) { p.all() })
	p.meter = newMeter(o.Registry, p)
	return p
}

// Changed says that a node may have more or less to give than before. It does not block,
// and may be called before Run.
func (p *Publisher) Changed(node string) {
	p.mu.Lock()
	if _, waits := p.since[node]; !waits {
		p.since[node] = p.o.Clock.Now()
	}
	p.mu.Unlock()
	p.queue.Add(node)
}

// all has every node looked at.
func (p *Publisher) all() {
	for _, object := range p.objects.List() {
		p.queue.Add(object.node)
	}
	for _, node := range p.o.Nodes.Names() {
		p.queue.Add(node)
	}
}

// Run publishes until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, p.queue.ShutDown)
	defer stop()
	go p.classes.Run(ctx)
	go p.objects.Run(ctx)
	if errors.Join(p.classes.Wait(ctx), p.objects.Wait(ctx)) != nil {
		return // ctx has ended
	}
	p.all()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() { p.work(ctx) })
	}
	running.Wait()
}

func (p *Publisher) work(ctx context.Context) {
	for {
		node, over := p.queue.Get()
		if over {
			return
		}
		p.look(ctx, node)
		p.queue.Done(node)
	}
}

// look has the objects of a node be as it is, and sees to it that they are looked at again
// where that did not work.
func (p *Publisher) look(ctx context.Context, node string) {
	p.mu.Lock()
	since, known := p.since[node]
	delete(p.since, node)
	p.mu.Unlock()
	wrote, err := p.sync(ctx, node)
	if err == nil {
		p.queue.Forget(node)
		if wrote && known {
			p.meter.lag.Observe(p.o.Clock.Since(since).Seconds())
		}
		return
	}
	p.mu.Lock()
	if known {
		p.since[node] = since
	}
	p.mu.Unlock()
	if p.queue.NumRequeues(node) == 0 && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Cannot publish the capacity of a node; it is tried again", "node", node)
	}
	p.queue.AddRateLimited(node)
}

// sync has the objects of a node be as it is. It reports whether anything was written.
func (p *Publisher) sync(ctx context.Context, node string) (wrote bool, err error) {
	wanted := p.wanted(node)
	for _, have := range p.objects.By(byNode, node) {
		want, wants := wanted[have.Name()]
		delete(wanted, have.Name())
		switch {
		case !wants:
			wrote, err = true, errors.Join(err, p.remove(ctx, have))
		case have.room != want.room || have.largest != want.largest:
			wrote, err = true, errors.Join(err, p.change(ctx, want))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		wrote, err = true, errors.Join(err, p.create(ctx, wanted[name]))
	}
	return wrote, err
}

// wanted returns the objects that a node should have, by name. Where volumes of a class
// have no room there is none, which says the same: so kube-scheduler, which goes through
// all objects for each node, has fewer to go through.
func (p *Publisher) wanted(node string) map[string]*object {
	wanted := map[string]*object{}
	has, known := p.o.Nodes.Capacity(node)
	if !known {
		return wanted
	}
	for _, class := range p.classes.List() {
		if class.like == nil {
			continue
		}
		if room, largest := allocator.Room(has, *class.like); largest > 0 {
			want := &object{node: node, class: class.Name(), room: int64(room), largest: int64(largest)}
			wanted[want.name(p.o.Driver)] = want
		}
	}
	return wanted
}

// remembered keeps an object as the API server has it now, before it tells of it.
func (p *Publisher) remembered(now *storagev1.CSIStorageCapacity, err error, what string, about *object) error {
	p.meter.count(what, err)
	if err != nil {
		return fmt.Errorf("%s the capacity of class %q on node %q: %w", what, about.class, about.node, err)
	}
	p.objects.Put(objectOf(now))
	return nil
}
