// Package directory knows where volumes are, what nodes have left to give and how
// to reach them. It is what the CSI controller asks, because a volume handle names
// neither node nor group. It follows PersistentVolumes, the agents' reports and
// nodes, and writes nothing. On a node, Own knows what that node manages.
package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/follow"
	"github.com/open-local/open-local/pkg/slim"

	corev1 "k8s.io/api/core/v1"
)

// Options configures a Directory. All fields must be set.
type Options struct {
	Kubernetes kubernetes.Interface
	Storage    versioned.Interface
	Driver     string // the name of the CSI driver
	NodePort   int    // where nodes answer
	// Dial returns the client of the node at address, host:port.
	Dial func(address string) (driver.RemoteNode, error)
	// NodeGrace is how long neither a node nor its report must have been there, since
	// somebody first asked, for its volumes to be gone with it.
	NodeGrace time.Duration
	Clock     clock.PassiveClock
}

// Directory answers the CSI controller. Its methods may be called from any
// goroutine, once Run has returned.
type Directory struct {
	o       Options
	volumes *follow.Cache[*record]
	reports *follow.Cache[*report]
	node    cache.SharedIndexInformer
	changed func(node string)

	mu        sync.Mutex                   // guards what follows
	made      recent[driver.Place]         // volumes
	snapshots recent[driver.SnapshotPlace] // the same
	missing   map[string]time.Time         // since when a node is not there
}

// New returns a Directory that knows nothing until Run is called.
func New(o Options) (*Directory, error) {
	d := &Directory{
		o:       o,
		changed: func(string) {},
		node:    coreinformers.NewNodeInformer(o.Kubernetes, 0, cache.Indexers{}),
		made:    newRecent(func(p driver.Place) string { return p.Node }), snapshots: newRecent(func(p driver.SnapshotPlace) string { return p.Node }),
		missing: map[string]time.Time{},
	}
	d.volumes = follow.New(follow.Options[*record]{
		Name: "volumes", Type: &corev1.PersistentVolume{}, Source: follow.From(o.Kubernetes, o.Kubernetes.CoreV1().PersistentVolumes()),
		Keep:    func(obj runtime.Object) *record { return o.recordOf(obj.(*corev1.PersistentVolume)) }, //nolint:forcetypeassert // the reflector has looked
		Indexes: map[string]func(*record) []string{byHandle: (*record).otherHandle, byShown: (*record).shows},
	})
	d.reports = follow.New(follow.Options[*report]{
		Name: "reports", Type: &v1alpha1.NodeLocalStorage{}, Source: follow.From(o.Storage, o.Storage.CsiV1alpha1().NodeLocalStorages()), PageSize: 250,
		Keep:    func(obj runtime.Object) *report { return d.keepReport(obj.(*v1alpha1.NodeLocalStorage)) }, //nolint:forcetypeassert // the reflector has looked
		Indexes: map[string]func(*report) []string{byHandle: (*report).handles, bySnapshot: (*report).snapshotHandles},
	})
	// What was removed is forgotten when nothing shows it any more.
	d.volumes.Listen(func(_, _ *record) {}, func(last *record) {
		if last.handle() != "" {
			d.volumeDropped(last.handle())
		}
	})
	d.reports.Listen(func(before, now *report) {
		if before == nil {
			d.returned(now.Key())
		} else {
			d.reportChanged(before)
		}
		d.changed(now.Key())
	}, func(last *report) {
		d.reportChanged(last)
		d.changed(last.Key())
	})
	_, err := d.node.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if node, ok := obj.(*corev1.Node); ok {
				d.returned(node.Name)
				d.changed(node.Name)
			}
		},
		UpdateFunc: func(before, now any) { d.nodeChanged(before, now) },
		DeleteFunc: func(obj any) {
			if name, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
				d.changed(name)
			}
		},
	})
	return d, errors.Join(err, d.node.SetTransform(trimNode))
}

// Listen has changed called, from any goroutine, with each node of which Capacity may
// answer otherwise than before. It must not block, and Listen must be called before Run.
func (d *Directory) Listen(changed func(node string)) { d.changed = changed }

// nodeChanged tells of a node that can be reached, or cannot any more. Most that changes in
// a node is something else, every few seconds.
func (d *Directory) nodeChanged(before, now any) {
	old, wasNode := before.(*corev1.Node)
	node, isNode := now.(*corev1.Node)
	if wasNode && isNode && !equality.Semantic.DeepEqual(old.Status, node.Status) {
		d.changed(node.Name)
	}
}

// Run follows the cluster until ctx ends. It returns when all that there is has
// been read: one kind after the other, so that what reading takes is not taken for all of
// them at one time.
func (d *Directory) Run(ctx context.Context) error {
	go d.volumes.Run(ctx)
	if err := d.volumes.Wait(ctx); err != nil {
		return err
	}
	go d.reports.Run(ctx)
	if err := d.reports.Wait(ctx); err != nil {
		return err
	}
	go d.node.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), d.node.HasSynced) {
		return fmt.Errorf("reading all nodes: %w", context.Cause(ctx))
	}
	return nil
}

// byHandle is the index of volumes by handles that are not their names, and of reports by
// the handles of the volumes in them.
const byHandle = "handle"

// keepReport returns what is kept of a report. The names of volumes in it share the memory
// of their PersistentVolumes'.
func (d *Directory) keepReport(nls *v1alpha1.NodeLocalStorage) *report {
	r := reportOf(nls)
	for i := range r.groups {
		for j := range r.groups[i].volumes {
			v := &r.groups[i].volumes[j]
			if pv, known := d.volumes.Get(v.handle); known {
				v.handle = slim.Share(v.handle, pv.Key())
			}
		}
	}
	return r
}

// trimNode is the transform of nodes.
func trimNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	kept := &corev1.Node{}
	kept.Name, kept.ResourceVersion, kept.UID = node.Name, node.ResourceVersion, node.UID
	kept.Status.Addresses = node.Status.Addresses
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			kept.Status.Conditions = []corev1.NodeCondition{{Type: condition.Type, Status: condition.Status}}
		}
	}
	return kept, nil
}
