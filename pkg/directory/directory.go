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

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	nlsinformers "github.com/open-local/open-local/pkg/client/informers/externalversions"
	"github.com/open-local/open-local/pkg/driver"

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
	// NodeGrace is how long neither a node nor its report must have been there for
	// its volumes to be gone with it.
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
	core := informers.NewSharedInformerFactory(o.Kubernetes, 0)
	storage := nlsinformers.NewSharedInformerFactory(o.Storage, 0)
	d := &Directory{
		o:       o,
		volumes: core.Core().V1().PersistentVolumes().Informer(),
		reports: storage.Csi().V1alpha1().NodeLocalStorages().Informer(),
		node:    core.Core().V1().Nodes().Informer(),
		made:    newRecent(func(p driver.Place) string { return p.Node }), gone: map[string]bool{}, missing: map[string]time.Time{},

		snapshots: newRecent(func(p driver.SnapshotPlace) string { return p.Node }), goneSnapshots: map[string]bool{},
	}
	for _, informer := range []struct {
		cache.SharedIndexInformer
		transform cache.TransformFunc
		indexers  cache.Indexers
	}{
		{d.volumes, o.recordOf, cache.Indexers{byHandle: handleOf, byShown: shownBy}},
		{d.reports, trimReport, cache.Indexers{byHandle: handlesIn, bySnapshot: snapshotsOf}},
		{d.node, trimNode, nil},
	} {
		if err := informer.SetTransform(informer.transform); err != nil {
			return nil, err
		}
		if err := informer.AddIndexers(informer.indexers); err != nil {
			return nil, err
		}
	}
	return d, d.forgetWhatIsGone()
}

// forgetWhatIsGone has what was removed forgotten when nothing shows it any more.
func (d *Directory) forgetWhatIsGone() error {
	_, err := d.reports.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(before, _ any) { d.reportChanged(before) },
		DeleteFunc: func(obj any) { d.reportChanged(last(obj)) },
	})
	if err != nil {
		return err
	}
	_, err = d.volumes.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if handles, err := handleOf(last(obj)); err == nil && len(handles) > 0 {
			d.volumeDropped(handles[0])
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

// Run follows the cluster until ctx ends. It returns when all that there is has
// been read.
func (d *Directory) Run(ctx context.Context) error {
	all := []cache.SharedIndexInformer{d.volumes, d.reports, d.node}
	synced := make([]cache.InformerSynced, 0, len(all))
	for _, informer := range all {
		go informer.RunWithContext(ctx)
		synced = append(synced, informer.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("reading volumes, reports and nodes: %w", context.Cause(ctx))
	}
	return nil
}

// byHandle is the index of volumes and reports by volume handle.
const byHandle = "handle"

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

func handlesIn(obj any) ([]string, error) {
	nls, ok := obj.(*v1alpha1.NodeLocalStorage)
	if !ok {
		return nil, nil
	}
	var handles []string
	for _, group := range nls.Status.NodeStorageInfo.VolumeGroups {
		for _, v := range group.LogicalVolumes {
			if v.VolumeID != "" && !v.Deleted {
				handles = append(handles, v.VolumeID)
			}
		}
	}
	return handles, nil
}
