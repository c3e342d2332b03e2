// Package orphans finds the volumes that stand on nodes and that no PersistentVolume
// names: what is left on the disks of a node that was removed from the cluster and came
// back. It compares the reports of all nodes with all PersistentVolumes and writes what
// it found on each NodeLocalStorage, as an annotation, for the node's agent to report.
// It has volumes made and removed by nobody, and knows nothing of disks.
package orphans

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

// DefaultAge is long enough for a volume that is being made to get its PersistentVolume.
const DefaultAge = 10 * time.Minute

// looks is how often volumes are looked at while one comes of age.
const looks = 10

// Options configures a Finder. All fields must be set.
type Options struct {
	Kubernetes kubernetes.Interface
	Storage    versioned.Interface
	// Reports are the NodeLocalStorages, of which the handles of volumes matter. Somebody
	// else runs it.
	Reports cache.SharedIndexInformer
	Driver  string // the name of the CSI driver
	// Age is how long a volume must have had no PersistentVolume to be an orphan. A volume
	// is there before its PersistentVolume.
	Age   time.Duration
	Clock clock.WithTicker
}

// A Finder finds orphans.
type Finder struct {
	o       Options
	volumes cache.SharedIndexInformer
	adopted chan struct{} // an orphan got a PersistentVolume

	unnamed map[string]seen // by node; belongs to the goroutine of Run

	mu   sync.Mutex      // guards what follows
	told map[string]bool // the handles that are annotated
}

// seen is since when volumes are known to have no PersistentVolume, by handle.
type seen map[string]time.Time

// New returns a Finder. Nothing happens before Run.
func New(o Options) (*Finder, error) {
	f := &Finder{
		o: o, volumes: coreinformers.NewPersistentVolumeInformer(o.Kubernetes, 0, cache.Indexers{byHandle: handleOf}),
		adopted: make(chan struct{}, 1), unnamed: map[string]seen{}, told: map[string]bool{},
	}
	if err := f.volumes.SetTransform(o.nameOf); err != nil {
		return nil, err
	}
	_, err := f.volumes.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: f.appeared})
	return f, err
}

// byHandle is the index of PersistentVolumes by handles that are not their names.
const byHandle = "handle"

// A name is what is kept of a PersistentVolume.
type name struct {
	slim.Meta
	ours   bool
	handle string // where it is not the name
}

func (o *Options) nameOf(obj any) (any, error) {
	pv, ok := obj.(*corev1.PersistentVolume)
	if !ok {
		return obj, nil
	}
	n := &name{Meta: slim.MetaOf(pv)}
	if csi := pv.Spec.CSI; csi != nil && csi.Driver == o.Driver {
		n.ours = true
		if csi.VolumeHandle != pv.Name {
			n.handle = csi.VolumeHandle
		}
	}
	return n, nil
}

// names reports whether n names the volume with that handle.
func (n *name) names(handle string) bool {
	return n.ours && cmp.Or(n.handle, n.Key()) == handle
}

func handleOf(obj any) ([]string, error) {
	if n, ok := obj.(*name); ok && n.handle != "" {
		return []string{n.handle}, nil
	}
	return nil, nil
}

// appeared has an orphan looked at at once when a PersistentVolume begins to name it.
func (f *Finder) appeared(obj any) {
	n, ok := obj.(*name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !ok || !f.told[cmp.Or(n.handle, n.Key())] {
		return
	}
	select {
	case f.adopted <- struct{}{}:
	default:
	}
}

// Run looks every so often until ctx ends. It needs somebody to run the reports.
func (f *Finder) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.volumes.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), f.volumes.HasSynced, f.o.Reports.HasSynced) {
		return nil
	}
	ticker := f.o.Clock.NewTicker(max(f.o.Age/looks, time.Second))
	defer ticker.Stop()
	for {
		f.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-f.adopted:
		case <-ticker.C():
		}
	}
}

// look compares everything, from memory, and writes where something changed.
func (f *Finder) look(ctx context.Context) {
	now := f.o.Clock.Now().UTC().Truncate(time.Second)
	var reports []*v1alpha1.NodeLocalStorage
	unnamed := map[string]seen{}
	for _, obj := range f.o.Reports.GetStore().List() {
		if nls, ok := obj.(*v1alpha1.NodeLocalStorage); ok && nls.DeletionTimestamp == nil {
			reports = append(reports, nls)
			unnamed[nls.Name] = f.without(nls, now)
		}
	}
	f.unnamed = unnamed
	f.postponeClaimed(ctx, reports, now)

	told := map[string]bool{}
	for _, nls := range reports {
		for handle := range f.tell(ctx, nls, now) {
			told[handle] = true
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = told
}

// without returns the volumes in a report that no PersistentVolume names. What was
// written before a restart of this process is known already.
func (f *Finder) without(nls *v1alpha1.NodeLocalStorage, now time.Time) seen {
	before, written := f.unnamed[nls.Name], writtenOn(nls)
	since := seen{}
	for _, handle := range handlesIn(nls) {
		if volume.IsInline(handle) || f.isNamed(handle) {
			continue // an inline volume goes with its pod and never has a PersistentVolume
		}
		switch first, known := before[handle]; {
		case known:
			since[handle] = first
		case !written[handle].IsZero():
			since[handle] = written[handle]
		default:
			since[handle] = now
		}
	}
	return since
}

func (f *Finder) isNamed(handle string) bool {
	if obj, there, _ := f.volumes.GetIndexer().GetByKey(handle); there {
		if n, ok := obj.(*name); ok && n.names(handle) {
			return true
		}
	}
	named, _ := f.volumes.GetIndexer().ByIndex(byHandle, handle)
	return len(named) > 0
}

// ripe reports whether a volume has had no PersistentVolume for long enough.
func (f *Finder) ripe(since, now time.Time) bool { return now.Sub(since) >= f.o.Age }

// A candidate is a volume that came of age just now.
type candidate struct {
	handle string
	of     seen // those of its node
}

// postponeClaimed has volumes wait anew whose claims still wait for them, because making
// one may take long, or have them: then it is this process that has not heard of the
// PersistentVolume. The API server is asked only when a volume comes of age; while it does
// not answer, such volumes wait anew as well.
func (f *Finder) postponeClaimed(ctx context.Context, reports []*v1alpha1.NodeLocalStorage, now time.Time) {
	var candidates []candidate
	for _, nls := range reports {
		since, written := f.unnamed[nls.Name], writtenOn(nls)
		for handle, first := range since {
			if written[handle].IsZero() && f.ripe(first, now) {
				candidates = append(candidates, candidate{handle, since})
			}
		}
	}
	if len(candidates) == 0 {
		return
	}
	claims, err := f.claims(ctx)
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Volumes that may be orphans are looked at again later", "volumes", len(candidates))
	}
	for _, c := range candidates {
		if uid := volume.ClaimUID(c.handle); err != nil || uid != "" && claims[types.UID(uid)] {
			c.of[c.handle] = now
		}
	}
}

// page is how many claims are read at once.
const page = 500

// claims returns the claims that have a volume or wait for one: all but those that lost
// theirs.
func (f *Finder) claims(ctx context.Context) (map[types.UID]bool, error) {
	with := map[types.UID]bool{}
	for options := (metav1.ListOptions{Limit: page}); ; {
		claims, err := f.o.Kubernetes.CoreV1().PersistentVolumeClaims(metav1.NamespaceAll).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("asking which claims have volumes or wait for them: %w", err)
		}
		for i := range claims.Items {
			if claims.Items[i].Status.Phase != corev1.ClaimLost {
				with[claims.Items[i].UID] = true
			}
		}
		if options.Continue = claims.Continue; options.Continue == "" {
			return with, nil
		}
	}
}

// most is how many orphans of one node are told of: annotations hold 256 KiB in all.
const most = 1000

// tell writes which volumes of a node are orphans, if that is not written yet, and
// returns them.
func (f *Finder) tell(ctx context.Context, nls *v1alpha1.NodeLocalStorage, now time.Time) seen {
	orphans := seen{}
	without := f.unnamed[nls.Name]
	for _, handle := range slices.Sorted(maps.Keys(without)) {
		if f.ripe(without[handle], now) && len(orphans) < most {
			orphans[handle] = without[handle]
		}
	}
	if maps.EqualFunc(orphans, writtenOn(nls), time.Time.Equal) && (len(orphans) > 0) == (nls.Annotations[v1alpha1.AnnotationOrphans] != "") {
		return orphans
	}
	if err := f.write(ctx, nls, orphans); err != nil {
		if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Could not say which volumes are orphans, trying again", "node", nls.Name)
		}
		return orphans
	}
	klog.FromContext(ctx).Info("Said which volumes are orphans", "node", nls.Name, "orphans", len(orphans))
	return orphans
}

// write sets the annotation of the very object that was looked at, or removes it.
func (f *Finder) write(ctx context.Context, nls *v1alpha1.NodeLocalStorage, orphans seen) error {
	var value any // null removes it
	if len(orphans) > 0 {
		text, err := json.Marshal(orphans)
		if err != nil {
			return fmt.Errorf("encoding the orphans of node %q: %w", nls.Name, err)
		}
		value = string(text)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": nls.UID, "annotations": map[string]any{v1alpha1.AnnotationOrphans: value},
	}})
	if err != nil {
		return fmt.Errorf("encoding the orphans of node %q: %w", nls.Name, err)
	}
	_, err = f.o.Storage.CsiV1alpha1().NodeLocalStorages().Patch(ctx, nls.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing the orphans of node %q on its node local storage: %w", nls.Name, err)
	}
	return nil
}

// writtenOn returns what was written before; what cannot be read was never written.
func writtenOn(nls *v1alpha1.NodeLocalStorage) seen {
	written, err := nls.Orphaned()
	if err != nil {
		return nil
	}
	return written
}

// handlesIn returns the handles of the volumes in a report.
func handlesIn(nls *v1alpha1.NodeLocalStorage) []string {
	var handles []string
	add := func(handle string, deleted bool) {
		if handle != "" && !deleted {
			handles = append(handles, handle)
		}
	}
	info := &nls.Status.NodeStorageInfo
	for _, group := range info.VolumeGroups {
		for i := range group.LogicalVolumes {
			add(group.LogicalVolumes[i].VolumeID, group.LogicalVolumes[i].Deleted)
		}
	}
	for i := range info.DeviceInfos {
		add(info.DeviceInfos[i].VolumeID, false)
	}
	for i := range info.MountPoints {
		add(info.MountPoints[i].VolumeID, false)
	}
	return handles
}
