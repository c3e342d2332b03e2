package extender

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// listen has news of all objects worked into the ledger. Nothing below blocks: it is
// arithmetic on what the caches have.
func (s *Scheduler) listen(ctx context.Context) error {
	log := klog.FromContext(ctx)
	for name, handler := range map[string]cache.ResourceEventHandler{
		"storages": handle(s, func(_, now *v1alpha1.NodeLocalStorage) { s.syncNode(log, now.Name) },
			func(nls *v1alpha1.NodeLocalStorage) { s.syncNode(log, nls.Name) }),
		"nodes": handle(s, func(before, now *corev1.Node) {
			if before == nil {
				s.syncNode(log, now.Name)
			}
		}, func(node *corev1.Node) { s.syncNode(log, node.Name) }),
		"volumes": handle(s, func(_, now *corev1.PersistentVolume) { s.volumeSeen(now) }, s.volumeGone),
		"claims": handle(s, func(before, now *corev1.PersistentVolumeClaim) { s.claimSeen(log, before, now) },
			s.claimGone),
		"pods":    handle(s, s.podSeen, s.podGone),
		"classes": handle(s, func(_, _ any) {}, func(any) {}),
	} {
		if _, err := s.caches.informers[name].AddEventHandler(handler); err != nil {
			return fmt.Errorf("listening to %s: %w", name, err)
		}
	}
	return nil
}

// handle returns a handler that calls seen with the object before, which is nil when it
// is new, and now, or gone with its last known state. Until the ledger has been built
// from all caches it calls neither: the caches have the objects already.
func handle[T any](s *Scheduler, seen func(before, now T), gone func(T)) cache.ResourceEventHandler {
	call := func(f func()) {
		s.events.Lock()
		defer s.events.Unlock()
		if s.ready.Load() {
			f()
		}
		s.news.ring()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if now, ok := obj.(T); ok {
				var none T
				call(func() { seen(none, now) })
			}
		},
		UpdateFunc: func(before, now any) {
			b, okBefore := before.(T)
			n, okNow := now.(T)
			if okBefore && okNow {
				call(func() { seen(b, n) })
			}
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if last, ok := obj.(T); ok {
				call(func() { gone(last) })
			}
		},
	}
}

// rebuild fills the ledger from the caches: what is there first, then what grows and what
// was promised, the oldest claims first so that every restart promises alike.
func (s *Scheduler) rebuild(log klog.Logger) {
	s.events.Lock()
	defer s.events.Unlock()
	volumes, _ := s.caches.volumes.List(labels.Everything()) // a cache lists without error
	for _, pv := range volumes {
		s.volumeSeen(pv)
	}
	pods, _ := s.caches.pods.List(labels.Everything())
	for _, pod := range pods {
		s.podSeen(nil, pod)
	}
	storages, _ := s.caches.storages.List(labels.Everything())
	for _, nls := range storages {
		s.report(nls.Name)
	}
	claims, _ := s.caches.claims.List(labels.Everything())
	claims = slices.Clone(claims)
	slices.SortFunc(claims, older)
	for _, pvc := range claims {
		s.growing(pvc)
	}
	for _, pvc := range claims {
		s.claimSeen(log, nil, pvc)
	}
	s.ready.Store(true)
	s.news.ring()
	if s.teller != nil {
		for _, pod := range pods {
			s.teller.seen(nil, pod)
		}
	}
	for _, pod := range pods {
		s.waker.seen(pod)
	}
	stats := s.ledger.Stats()
	log.Info("Ready to answer", "nodes", stats.Nodes, "promises", stats.Promises)
}

func older(a, b *corev1.PersistentVolumeClaim) int {
	return cmp.Or(
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
	)
}

// report brings the ledger's report of the node up to date. Node and NodeLocalStorage
// must both be there. It returns true when the node had no report before.
func (s *Scheduler) report(name string) bool {
	nls, err := s.caches.storages.Get(name)
	if err == nil {
		_, err = s.caches.nodes.Get(name)
	}
	if err == nil {
		if report, looked := reportOf(nls); looked {
			return s.ledger.Report(name, report)
		}
	}
	s.ledger.Leave(name)
	return false
}

// syncNode works in news of a node or its storage. What was promised on a node before
// it reported is promised now.
func (s *Scheduler) syncNode(log klog.Logger, name string) {
	s.waker.freed(name)
	if !s.report(name) {
		return
	}
	claims := indexed[*corev1.PersistentVolumeClaim](s.caches.claimIndex, bySelectedNode, name)
	slices.SortFunc(claims, older)
	for _, pvc := range claims {
		s.claimSeen(log, nil, pvc)
	}
}

func (s *Scheduler) volumeSeen(pv *corev1.PersistentVolume) {
	p, ours := placedBy(s.o.Driver, pv)
	switch {
	case ours && p.shows:
		s.ledger.Forget(p.name) // what was promised before anybody knew
	case ours && p.spot.Group != "":
		s.ledger.Choose(p.name, p.node, s.late())
		s.ledger.Exists(p.name, p.node, p.spot)
		s.wishedFor(pv)
	}
}

func (s *Scheduler) volumeGone(pv *corev1.PersistentVolume) {
	if p, ours := placedBy(s.o.Driver, pv); ours {
		s.ledger.Gone(p.name, p.node, s.soon())
		s.ledger.Grow(p.name, 0)
		s.waker.freed(p.node)
	}
}

// claimSeen makes promises of what is held, or else new ones, when a claim shows its
// node, and forgets them when it shows another or none.
func (s *Scheduler) claimSeen(log klog.Logger, before, now *corev1.PersistentVolumeClaim) {
	name := s.o.volumeOf(string(now.UID))
	selected := now.Annotations[annSelectedNode]
	if now.Spec.VolumeName != "" {
		s.ledger.Made(name)
	}
	switch {
	case now.Spec.VolumeName == volume.ForClaim(s.o.VolumePrefix, string(now.UID)):
		// Its PersistentVolume was or will be seen, and ends the promise.
		s.growthSeen(now)
	case now.Spec.VolumeName != "":
		s.ledger.Forget(name) // it found a volume that was there
		s.growthSeen(now)
	case s.ledger.OldNews(name, selected, s.soon()):
	case selected != "":
		if err := s.landed(now, selected); err != nil {
			log.V(2).Info("A claim has a node where it has no place", "claim", klog.KObj(now), "node", selected, "reason", err.Error())
		}
	case before != nil && before.Annotations[annSelectedNode] != "":
		s.ledger.Forget(name) // nobody makes the volume: csi-provisioner gave up for good
	}
}

// landed promises the claim's volume on the node selected for it, and with it all that
// its pod wants there.
func (s *Scheduler) landed(pvc *corev1.PersistentVolumeClaim, node string) error {
	class, err := s.classOf(pvc)
	if class == nil || err != nil {
		return err
	}
	name := s.o.volumeOf(string(pvc.UID))
	if s.ledger.Confirm(name, node) {
		return nil
	}
	if place, counted := s.ledger.Where(name); counted && place.Exists {
		return nil
	}
	s.ledger.Choose(name, node, s.late())
	if !s.ledger.Confirm(name, node) {
		if err := s.promise(pvc, class, node); err != nil {
			s.ledger.Forget(name) // and with it a promise elsewhere
			return err
		}
		s.ledger.Confirm(name, node)
	}
	return nil
}

func (s *Scheduler) claimGone(pvc *corev1.PersistentVolumeClaim) {
	name := s.o.volumeOf(string(pvc.UID))
	s.ledger.Made(name)
	s.ledger.Linger(name, s.soon())
	s.unwished(pvc)
	s.waker.freed(pvc.Annotations[annSelectedNode])
}

// podSeen ends what the pod holds when it has landed or ended, and counts its inline
// volumes on its node.
func (s *Scheduler) podSeen(before, now *corev1.Pod) {
	if s.teller != nil {
		s.teller.seen(before, now)
	}
	s.waker.seen(now)
	switch {
	case ended(now):
		if before == nil || !ended(before) {
			s.podGone(now)
		}
	case now.Spec.NodeName != "" && (before == nil || before.Spec.NodeName == ""):
		s.ledger.ChooseForPod(string(now.UID), now.Spec.NodeName, s.late())
		for _, claim := range s.inlineClaims(now) {
			s.ledger.Exists(claim.Volume, now.Spec.NodeName, capacity.Spot{Group: claim.Group, Size: claim.Size, Layout: claim.Layout})
		}
	}
}

// podGone ends what the pod holds and has: its inline volumes, and what was promised
// for claims of it that never showed a node.
func (s *Scheduler) podGone(pod *corev1.Pod) {
	s.waker.gone(pod)
	s.waker.freed(pod.Spec.NodeName)
	s.ledger.Release(string(pod.UID))
	for _, claim := range s.inlineClaims(pod) {
		s.ledger.Linger(claim.Volume, s.soon())
		s.ledger.Gone(claim.Volume, pod.Spec.NodeName, s.soon())
	}
	for i := range pod.Spec.Volumes {
		name := claimOf(pod, &pod.Spec.Volumes[i])
		if name == "" || len(s.podsOf(pod.Namespace, name)) > 0 {
			continue
		}
		pvc, err := s.caches.claims.PersistentVolumeClaims(pod.Namespace).Get(name)
		if err == nil && pvc.Spec.VolumeName == "" && pvc.Annotations[annSelectedNode] == "" {
			s.ledger.Linger(s.o.volumeOf(string(pvc.UID)), s.soon())
		}
	}
}

// podsOf returns the pods, ordered by name, that use the claim and have not ended.
func (s *Scheduler) podsOf(namespace, claim string) []*corev1.Pod {
	pods := indexed[*corev1.Pod](s.caches.podIndex, byClaim, namespace+"/"+claim)
	pods = slices.DeleteFunc(pods, ended)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

// inlineClaims returns what the pod's inline volumes of ours want. One that asks for
// nonsense is left out: its node will refuse it.
func (s *Scheduler) inlineClaims(pod *corev1.Pod) []volume.Claim {
	var claims []volume.Claim
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.CSI == nil || v.CSI.Driver != s.o.Driver {
			continue
		}
		if claim, err := inlineClaim(pod, v); err == nil {
			claims = append(claims, claim)
		}
	}
	return claims
}
