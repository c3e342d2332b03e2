// Package directory knows where volumes are, what nodes have left to give and how
// to reach them. It is what the CSI controller asks, because a volume handle names
// neither node nor group. It follows PersistentVolumes, the agents' reports and
// nodes, and writes nothing. On a node, Own knows what that node manages.
package directory

import (
	"context"
	"fmt"
	"sync"
	"time"

	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	nlsinformers "github.com/open-local/open-local/pkg/client/informers/externalversions/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/driver"
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
	o                      Options
	volumes, reports, node cache.SharedIndexInformer

	mu   sync.Mutex           // guards what follows
	made recent[driver.Place] // what no report shows yet
	gone map[string]bool      // what was removed and reports or PersistentVolumes may still show

	snapshots     recent[driver.SnapshotPlace] // as made
	goneSnapshots map[string]bool              // as gone
	missing       map[string]time.Time         // since when a node is not there
}

// New returns a Directory that knows nothing until Run is called.
func New(o Options) (*Directory, error) {
	d := &Directory{
		o:       o,
		volumes: coreinformers.NewPersistentVolumeInformer(o.Kubernetes, 0, cache.Indexers{byHandle: handleOf, byShown: shownBy}),
		reports: nlsinformers.NewNodeLocalStorageInformer(o.Storage, 0, cache.Indexers{byHandle: shelvesIn, bySnapshot: snapshotsOf}),
		node:    coreinformers.NewNodeInformer(o.Kubernetes, 0, cache.Indexers{}),
		made:    newRecent(func(p driver.Place) string { return p.Node }), gone: map[string]bool{}, missing: map[string]time.Time{},

		snapshots: newRecent(func(p driver.SnapshotPlace) string { return p.Node }), goneSnapshots: map[string]bool{},
	}
	for _, informer := range d.informers() {
		if err := informer.SetTransform(d.keep); err != nil {
			return nil, err
		}
	}
	return d, d.forgetWhatIsGone()
}

// forgetWhatIsGone has what was removed forgotten when nothing shows it any more.
func (d *Directory) forgetWhatIsGone() error {
	_, err := d.reports.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    d.returned,
		UpdateFunc: func(before, _ any) { d.reportChanged(before) },
		DeleteFunc: func(obj any) { d.reportChanged(last(obj)) },
	})
	if err != nil {
		return err
	}
	if _, err = d.node.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: d.returned}); err != nil {
		return err
	}
	_, err = d.volumes.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if r, ok := last(obj).(*record); ok && r.handle() != "" {
			d.volumeDropped(r.handle())
		}
	}})
	return err
}

// last returns the last that was seen of an object that is gone.
func last(obj any) any {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return obj
}

// informers returns all, in the order in which they start.
func (d *Directory) informers() []cache.SharedIndexInformer {
	return []cache.SharedIndexInformer{d.volumes, d.reports, d.node}
}

// Run follows the cluster until ctx ends. It returns when all that there is has
// been read: one kind after the other, so that what reading takes is not taken for all of
// them at one time.
func (d *Directory) Run(ctx context.Context) error {
	for _, informer := range d.informers() {
		go informer.RunWithContext(ctx)
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return fmt.Errorf("reading volumes, reports and nodes: %w", context.Cause(ctx))
		}
	}
	return nil
}

// byHandle is the index of volumes by handles that are not their names, and of reports by
// the shelves of volume handles.
const byHandle = "handle"

// keep is the transform of all caches: it returns what is kept of an object. The names of
// volumes in reports share the memory of their PersistentVolumes'.
func (d *Directory) keep(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.PersistentVolume:
		return d.o.recordOf(o), nil
	case *v1alpha1.NodeLocalStorage:
		r := reportOf(o)
		for i := range r.groups {
			for j := range r.groups[i].volumes {
				v := &r.groups[i].volumes[j]
				if pv, known := got[*record](d.volumes, v.handle); known {
					v.handle = slim.Share(v.handle, pv.Key())
				}
			}
		}
		return r, nil
	case *corev1.Node:
		return trimNode(o), nil
	}
	return obj, nil
}

func trimNode(node *corev1.Node) *corev1.Node {
	kept := &corev1.Node{}
	kept.Name, kept.ResourceVersion, kept.UID = node.Name, node.ResourceVersion, node.UID
	kept.Status.Addresses = node.Status.Addresses
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			kept.Status.Conditions = []corev1.NodeCondition{{Type: condition.Type, Status: condition.Status}}
		}
	}
	return kept
}

// got returns what an informer has under the key, if anything.
func got[T any](informer cache.SharedIndexInformer, key string) (typed T, is bool) {
	obj, exists, _ := informer.GetStore().GetByKey(key) // from memory, which does not fail
	if exists {
		typed, is = obj.(T)
	}
	return typed, is
}
