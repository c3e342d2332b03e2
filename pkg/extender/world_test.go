package extender

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	corefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	storagefake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	gib      = capacity.GiB
	patience = 20 * time.Second // how long a test waits for what must come
)

// A world is an API server, fake, and the Scheduler that watches it.
type world struct {
	t       *testing.T
	core    *corefake.Clientset
	storage *storagefake.Clientset
	dynamic dynamic.Interface // nil where snapshots are not looked for
	clock   *clocktesting.FakeClock
	s       *Scheduler
	serial  int
	watches chan begunWatch            // that nobody has waited for yet
	begun   map[string]watch.Interface // those that were waited for, by resource
}

// A begunWatch is one that has begun.
type begunWatch struct {
	resource string
	events   watch.Interface
}

// begin is when the clock of every world stands at first.
var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// newWorld starts a Scheduler when all objects are there, with the classes "lvm" and
// "immediate" besides.
func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	t.Parallel()
	return openWorld(t, objects...)
}

// openWorld is newWorld for a test with a time of its own, which cannot run beside others.
func openWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	w := &world{t: t, clock: clocktesting.NewFakeClock(begin), watches: make(chan begunWatch, 100), begun: map[string]watch.Interface{}}
	w.core, w.storage = corefake.NewClientset(), storagefake.NewSimpleClientset()
	w.core.PrependWatchReactor("*", w.watched(w.core.Tracker()))
	w.storage.PrependWatchReactor("*", w.watched(w.storage.Tracker()))
	for _, obj := range append(objects, class("lvm"), immediate(class("immediate"))) {
		w.create(obj)
	}
	w.restart()
	return w
}

func options(w *world) Options {
	return Options{
		Driver: volume.DefaultDriver, VolumePrefix: volume.DefaultPrefix, SnapshotPrefix: volume.DefaultSnapshotPrefix, Prefer: allocator.Binpack,
		HoldTimeout: DefaultHoldTimeout, HoldWait: DefaultHoldWait, Caller: DefaultCaller, Version: "test", Clock: w.clock, Snapshots: w.dynamic,
	}
}

// restart replaces the Scheduler by one that remembers nothing.
func (w *world) restart() {
	w.t.Helper()
	s, err := New(options(w), w.core, w.storage)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.ctx())
	w.t.Cleanup(func() { stop(); s.caches.stop() })
	if err := s.Start(ctx); err != nil {
		w.t.Fatal(err)
	}
	w.s = s
	w.watching()
}

// watched says when a watch has begun. What happens before, and after the list, the
// fake loses: unlike a real server it does not begin a watch in the past.
func (w *world) watched(tracker clienttesting.ObjectTracker) clienttesting.WatchReactionFunc {
	return func(action clienttesting.Action) (bool, watch.Interface, error) {
		events, err := tracker.Watch(action.GetResource(), action.GetNamespace())
		w.watches <- begunWatch{action.GetResource().Resource, events}
		return true, events, err
	}
}

// watching waits until everything is watched.
func (w *world) watching() {
	w.t.Helper()
	for range kinds {
		select {
		case begun := <-w.watches:
			w.begun[begun.resource] = begun.events
		case <-time.After(patience):
			w.t.Fatal("not everything is watched")
		}
	}
}

// expire has the API server end the watch of the resource because it no longer knows what
// happened since. All objects are listed again after a while, and what happens meanwhile is
// never told.
func (w *world) expire(resource string) {
	w.t.Helper()
	status := apierrors.NewResourceExpired("too old").Status()
	begun, is := w.begun[resource].(*watch.RaceFreeFakeWatcher)
	if !is {
		w.t.Fatalf("there is no watch of %s to end", resource)
	}
	begun.Error(&status)
}

func (w *world) ctx() context.Context {
	return klog.NewContext(w.t.Context(), klog.New(nil))
}

func (w *world) create(obj runtime.Object) {
	w.t.Helper()
	ctx := context.Background()
	var err error
	switch o := obj.(type) {
	case *corev1.Node:
		_, err = w.core.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{})
	case *corev1.Pod:
		_, err = w.core.CoreV1().Pods(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
	case *corev1.PersistentVolumeClaim:
		_, err = w.core.CoreV1().PersistentVolumeClaims(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
	case *corev1.PersistentVolume:
		_, err = w.core.CoreV1().PersistentVolumes().Create(ctx, o, metav1.CreateOptions{})
	case *storagev1.StorageClass:
		_, err = w.core.StorageV1().StorageClasses().Create(ctx, o, metav1.CreateOptions{})
	case *v1alpha1.NodeLocalStorage:
		_, err = w.storage.CsiV1alpha1().NodeLocalStorages().Create(ctx, o, metav1.CreateOptions{})
	default:
		err = fmt.Errorf("a %T cannot be created here", obj)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// report replaces what the agent reports of the node.
func (w *world) report(nls *v1alpha1.NodeLocalStorage) {
	w.t.Helper()
	w.serial++
	nls.ResourceVersion = fmt.Sprint(1000 + w.serial)
	if _, err := w.storage.CsiV1alpha1().NodeLocalStorages().Update(context.Background(), nls, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// selectNode writes the scheduler's choice on a claim, or takes it off.
func (w *world) selectNode(claim, node string) {
	w.t.Helper()
	w.updateClaim(claim, func(pvc *corev1.PersistentVolumeClaim) {
		delete(pvc.Annotations, annSelectedNode)
		if node != "" {
			metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, annSelectedNode, node)
		}
	})
}

func (w *world) updateClaim(name string, change func(*corev1.PersistentVolumeClaim)) {
	w.t.Helper()
	claims := w.core.CoreV1().PersistentVolumeClaims("default")
	pvc, err := claims.Get(context.Background(), name, metav1.GetOptions{})
	if err == nil {
		change(pvc)
		_, err = claims.Update(context.Background(), pvc, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) updatePod(name string, change func(*corev1.Pod)) {
	w.t.Helper()
	pods := w.core.CoreV1().Pods("default")
	pod, err := pods.Get(context.Background(), name, metav1.GetOptions{})
	if err == nil {
		change(pod)
		_, err = pods.Update(context.Background(), pod, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteClaim(name string) {
	w.t.Helper()
	if err := w.core.CoreV1().PersistentVolumeClaims("default").Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deletePod(name string) {
	w.t.Helper()
	if err := w.core.CoreV1().Pods("default").Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// bind has the claim's volume made on the node: its PersistentVolume, its claim bound.
func (w *world) bind(claim, node, group string, size capacity.Bytes) {
	w.t.Helper()
	w.create(pv(claim, node, group, size))
	w.updateClaim(claim, func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.VolumeName = "local-uid-" + claim })
}

// claimsSeen waits until all news of claims have been worked in: they come in order,
// but those of other kinds may overtake them.
func (w *world) claimsSeen() {
	w.t.Helper()
	promised := func() bool {
		_, counted := w.s.ledger.Where("local-uid-last")
		return counted
	}
	w.create(claim("last", gib, "lvm"))
	w.selectNode("last", "n2")
	w.until("the last claim is promised", promised)
	w.selectNode("last", "")
	w.until("the last claim is promised no more", func() bool { return !promised() })
	w.deleteClaim("last")
}

// until waits for the news that make it so.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		news := w.s.news.next()
		if so() {
			return
		}
		select {
		case <-news:
		case <-deadline:
			w.t.Fatalf("it never came to this: %s; %s", what, w.free())
		}
	}
}

// free returns what all groups of all nodes have free for a new pod, as "n1/pool=10Gi".
func (w *world) free() string {
	var all []string
	for _, use := range w.s.ledger.Uses() {
		for _, g := range use.Groups {
			all = append(all, fmt.Sprintf("%s/%s=%s", use.Name, g.Name, g.Free))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// wantFree waits until that is free.
func (w *world) wantFree(want string) {
	w.t.Helper()
	w.until("free is "+want, func() bool { return w.free() == want })
}

// filter asks for the pod on the nodes, and returns where it fits and why not elsewhere.
func (w *world) filter(pod *corev1.Pod, nodes ...string) (fit string, reasons map[string]string) {
	w.t.Helper()
	r, err := w.s.Filter(w.ctx(), &extenderv1.ExtenderArgs{Pod: pod, NodeNames: &nodes})
	if err != nil {
		w.t.Fatal(err)
	}
	reasons = map[string]string{}
	maps.Copy(reasons, r.FailedNodes)
	for node, reason := range r.FailedAndUnresolvableNodes {
		reasons[node] = "never: " + reason
	}
	return strings.Join(*r.NodeNames, " "), reasons
}

// mustFit filters, and wants the pod to fit on just these nodes of those asked.
func (w *world) mustFit(pod *corev1.Pod, want string, nodes ...string) {
	w.t.Helper()
	if fit, reasons := w.filter(pod, nodes...); fit != want {
		w.t.Fatalf("pod %s fits on %q, want %q; %v; %s", pod.Name, fit, want, reasons, w.free())
	}
}

// Builders. They state what matters.

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}}
}

func vg(name string, size capacity.Bytes, lvs ...v1alpha1.LogicalVolume) v1alpha1.VolumeGroup {
	g := v1alpha1.VolumeGroup{
		Name: name, Total: int64(size), Allocatable: int64(size), Available: int64(size),
		ExtentSize: int64(capacity.DefaultExtent), LogicalVolumes: lvs,
	}
	for _, lv := range lvs {
		g.Available -= lv.Total
	}
	return g
}

func lv(claim string, size capacity.Bytes) v1alpha1.LogicalVolume {
	return v1alpha1.LogicalVolume{Name: "local-uid-" + claim, VolumeID: "local-uid-" + claim, Total: int64(size)}
}

// nls is the report of a node whose groups are all managed.
func nls(name string, groups ...v1alpha1.VolumeGroup) *v1alpha1.NodeLocalStorage {
	n := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"}}
	n.Status.NodeStorageInfo.Phase = v1alpha1.NodeStorageRunning
	n.Status.NodeStorageInfo.VolumeGroups = groups
	for _, g := range groups {
		n.Status.FilteredStorageInfo.VolumeGroups = append(n.Status.FilteredStorageInfo.VolumeGroups, g.Name)
	}
	return n
}

func class(name string, params ...string) *storagev1.StorageClass {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	c := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: volume.DefaultDriver,
		Parameters: map[string]string{"volumeType": "LVM"}, VolumeBindingMode: &wait,
	}
	for i := 0; i < len(params); i += 2 {
		c.Parameters[params[i]] = params[i+1]
	}
	return c
}

func immediate(c *storagev1.StorageClass) *storagev1.StorageClass {
	mode := storagev1.VolumeBindingImmediate
	c.VolumeBindingMode = &mode
	return c
}

func claim(name string, size capacity.Bytes, class string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)}}
	c.Spec.StorageClassName = &class
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(size), resource.BinarySI)}
	return c
}

func selected(pvc *corev1.PersistentVolumeClaim, node string) *corev1.PersistentVolumeClaim {
	metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, annSelectedNode, node)
	return pvc
}

func pv(claim, node, group string, size capacity.Bytes) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "local-uid-" + claim}}
	v.Spec.CSI = &corev1.CSIPersistentVolumeSource{
		Driver: volume.DefaultDriver, VolumeHandle: v.Name,
		VolumeAttributes: map[string]string{"volumeType": "LVM", "vgName": group},
	}
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(size), resource.BinarySI)}
	v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: claim, UID: types.UID("uid-" + claim)}
	v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: volume.TopologyKey, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}}}},
	}}
	v.Status.Phase = corev1.VolumeBound
	return v
}

// pod uses the claims.
func pod(name string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)}}
	for _, c := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: c, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c},
		}})
	}
	return p
}

// withInline adds an inline volume to the pod.
func withInline(p *corev1.Pod, name string, attributes ...string) *corev1.Pod {
	source := &corev1.CSIVolumeSource{Driver: volume.DefaultDriver, VolumeAttributes: map[string]string{}}
	for i := 0; i < len(attributes); i += 2 {
		source.VolumeAttributes[attributes[i]] = attributes[i+1]
	}
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{CSI: source}})
	return p
}

// stats returns the number of holds and promises.
func (w *world) stats() ledger.Stats { return w.s.ledger.Stats() }
