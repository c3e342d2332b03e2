package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/hack/lab/scale/meter"
	"github.com/open-local/open-local/pkg/capacity"
)

// kubelets is how many pods are worked on at one time.
const kubelets = 16

// A view is what happens in the cluster, as this process sees it.
type view struct {
	fleet      *hollow.Fleet
	factory    informers.SharedInformerFactory
	volumes    cache.SharedIndexInformer
	capacities cache.SharedIndexInformer
	kubelets   *hollow.Kubelets

	mu      sync.Mutex           // guards the fields below
	born    map[string]time.Time // claims and pods that are not bound or do not run yet
	running map[string]bool      // pods
	lastRun time.Time            // when the last pod began to run
	shown   map[string]time.Time // of a capacity, the change that it showed last

	bound, started, lag *meter.Samples
}

func newView(client kubernetes.Interface, fleet *hollow.Fleet) (*view, error) {
	v := &view{
		fleet: fleet, factory: informers.NewSharedInformerFactory(client, 0),
		born: map[string]time.Time{}, running: map[string]bool{}, shown: map[string]time.Time{},
	}
	v.measure()
	core := v.factory.Core().V1()
	pods, claims := core.Pods().Informer(), core.PersistentVolumeClaims().Informer()
	v.volumes, v.capacities = core.PersistentVolumes().Informer(), v.factory.Storage().V1().CSIStorageCapacities().Informer()
	for _, informer := range []cache.SharedIndexInformer{pods, claims, v.volumes, v.capacities} {
		if err := informer.SetTransform(trim); err != nil {
			return nil, err
		}
	}
	var err error
	if v.kubelets, err = hollow.NewKubelets(client, pods, claims); err != nil {
		return nil, err
	}
	for informer, look := range map[cache.SharedIndexInformer]cache.ResourceEventHandlerFuncs{
		pods:         {AddFunc: v.seePod, UpdateFunc: func(_, now any) { v.seePod(now) }, DeleteFunc: v.podGone},
		claims:       {AddFunc: v.seeClaim, UpdateFunc: func(_, now any) { v.seeClaim(now) }},
		v.capacities: {AddFunc: v.seeCapacity, UpdateFunc: func(_, now any) { v.seeCapacity(now) }, DeleteFunc: v.capacityGone},
	} {
		if _, err := informer.AddEventHandler(look); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// trim drops what nobody looks at here.
func trim(obj any) (any, error) {
	if o, ok := obj.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return obj, nil
}

// run follows the cluster until ctx ends. It returns when all has been seen once.
func (v *view) run(ctx context.Context) error {
	v.factory.StartWithContext(ctx)
	for kind, synced := range v.factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("reading all objects of %s: %w", kind, context.Cause(ctx))
		}
	}
	go v.kubelets.Run(ctx, kubelets)
	return nil
}

// measure begins to measure anew.
func (v *view) measure() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.bound, v.started, v.lag = &meter.Samples{}, &meter.Samples{}, &meter.Samples{}
}

func (v *view) podCreated(name string) { v.note("pod/" + name) }

func (v *view) claimCreated(name string) { v.note("claim/" + name) }

func (v *view) note(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.born[name] = time.Now()
}

func (v *view) seePod(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running[pod.Name] = true
	if born, ok := v.born["pod/"+pod.Name]; ok {
		delete(v.born, "pod/"+pod.Name)
		v.lastRun = time.Now()
		v.started.Add(v.lastRun.Sub(born))
	}
}

func (v *view) podGone(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.running, pod.Name)
	}
}

func (v *view) seeClaim(obj any) {
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok || claim.Status.Phase != corev1.ClaimBound {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if born, ok := v.born["claim/"+claim.Name]; ok {
		delete(v.born, "claim/"+claim.Name)
		v.bound.Add(time.Since(born))
	}
}

// seeCapacity measures how long after a change of its node a capacity tells of it.
func (v *view) seeCapacity(obj any) {
	if c, ok := obj.(*storagev1.CSIStorageCapacity); ok && c.Capacity != nil && c.MaximumVolumeSize != nil {
		v.seeRoom(c, capacity.Bytes(c.MaximumVolumeSize.Value()), capacity.Bytes(c.Capacity.Value()))
	}
}

// capacityGone does the same: what is not published is nothing.
func (v *view) capacityGone(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	if c, ok := obj.(*storagev1.CSIStorageCapacity); ok {
		v.seeRoom(c, 0, 0)
	}
}

func (v *view) seeRoom(c *storagev1.CSIStorageCapacity, largest, left capacity.Bytes) {
	hasLargest, hasLeft, since := v.fleet.Largest(nodeOf(c))
	if largest != hasLargest || left != hasLeft || since.IsZero() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shown[c.Name] != since {
		v.shown[c.Name] = since
		v.lag.Add(time.Since(since))
	}
}

// nodeOf returns the node that a capacity is of, or "".
func nodeOf(c *storagev1.CSIStorageCapacity) string {
	if c.NodeTopology == nil {
		return ""
	}
	return c.NodeTopology.MatchLabels[corev1.LabelHostname]
}

// capacitiesRight returns of how many nodes and classes what is published is right.
func (v *view) capacitiesRight(classes []string) int {
	type of struct{ node, class string }
	published := map[of]*storagev1.CSIStorageCapacity{}
	for _, obj := range v.capacities.GetStore().List() {
		if c, ok := obj.(*storagev1.CSIStorageCapacity); ok {
			published[of{nodeOf(c), c.StorageClassName}] = c
		}
	}
	right := 0
	for _, node := range v.fleet.Names() {
		largest, left, _ := v.fleet.Largest(node)
		for _, class := range classes {
			c := published[of{node, class}]
			if c == nil && largest == 0 || c != nil && c.MaximumVolumeSize.Value() == int64(largest) && c.Capacity.Value() == int64(left) {
				right++
			}
		}
	}
	return right
}

// runningOf returns how many of the pods run.
func (v *view) runningOf(names []string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	count := 0
	for _, name := range names {
		if v.running[name] {
			count++
		}
	}
	return count
}

// waiting returns those of the pods that do not run.
func (v *view) waiting(names []string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var waiting []string
	for _, name := range names {
		if !v.running[name] {
			waiting = append(waiting, name)
		}
	}
	return waiting
}

func (v *view) lastStart() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lastRun
}

// persistent returns all PersistentVolumes.
func (v *view) persistent() []corev1.PersistentVolume {
	objs := v.volumes.GetStore().List()
	all := make([]corev1.PersistentVolume, 0, len(objs))
	for _, obj := range objs {
		if pv, ok := obj.(*corev1.PersistentVolume); ok {
			all = append(all, *pv)
		}
	}
	return all
}
