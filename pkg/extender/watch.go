package extender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// listen has news of all objects worked into the ledger. Nothing below blocks: it is
// arithmetic on what the caches have.
func (s *Scheduler) listen(ctx context.Context) error {
	log := klog.FromContext(ctx)
	s.caches.reports.Listen(told(s, func(_, now *reportRecord) { s.syncNode(log, now.Key()) }, func(last *reportRecord) { s.syncNode(log, last.Key()) }))
	volumeSeen := func(_, now *volumeRecord) { s.volumeSeen(now) }
	claimSeen := func(before, now *claimRecord) { s.claimSeen(log, before, now) }
	s.caches.volumes.Listen(told(s, succeeding((*volumeRecord).counts, volumeSeen, s.volumeGone), s.volumeGone))
	s.caches.claims.Listen(told(s, succeeding((*claimRecord).uid, claimSeen, s.claimGone), s.claimGone))
	s.caches.pods.Listen(told(s, succeeding(func(pod *podRecord) string { return pod.uid }, s.podSeen, s.podGone), s.podGone))
	_, errNodes := s.caches.nodes.AddEventHandler(handle(told(s, func(before, now *corev1.Node) {
		if before == nil {
			s.syncNode(log, now.Name)
		}
	}, func(node *corev1.Node) { s.syncNode(log, node.Name) })))
	_, errClasses := s.caches.classes.AddEventHandler(handle(told(s, func(_, _ any) {}, func(any) {})))
	if err := errors.Join(errNodes, errClasses); err != nil {
		return fmt.Errorf("listening to nodes and classes: %w", err)
	}
	return nil
}

// told returns what works in news: one calls seen with what was before, which is nil when
// it is new, and is now, the other calls gone with the last known state. Until the ledger
// has been built from all caches they call neither: the caches have everything already.
func told[T any](s *Scheduler, seen func(before, now T), gone func(last T)) (func(before, now T), func(last T)) {
	call := func(f func()) {
		s.events.Lock()
		defer s.events.Unlock()
		if s.ready.Load() {
			f()
		}
		s.news.ring()
	}
	return func(before, now T) { call(func() { seen(before, now) }) }, func(last T) { call(func() { gone(last) }) }
}

// succeeding returns seen for news in which now may be another object than before: one
// that was deleted and made anew under its name while nobody watched. Then the one is gone
// first, and the other is new. who returns the same for one object and another for its
// successor.
func succeeding[T, W comparable](who func(T) W, seen func(before, now T), gone func(last T)) func(before, now T) {
	return func(before, now T) {
		var none T
		if before != none && who(before) != who(now) {
			gone(before)
			before = none
		}
		seen(before, now)
	}
}

// handle has an informer tell.
func handle[T any](seen func(before, now T), gone func(last T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if now, ok := obj.(T); ok {
				var none T
				seen(none, now)
			}
		},
		UpdateFunc: func(before, now any) {
			b, okBefore := before.(T)
			n, okNow := now.(T)
			if okBefore && okNow {
				seen(b, n)
			}
		},
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			if last, ok := obj.(T); ok {
				gone(last)
			}
		},
	}
}

// rebuild fills the ledger from the caches: what is there first, then what is under way,
// then what was promised, the oldest claims first so that every restart promises alike, and
// last what is wished: nobody was promised that.
func (s *Scheduler) rebuild(log klog.Logger) {
	s.events.Lock()
	defer s.events.Unlock()
	for _, pv := range s.caches.volumes.List() {
		s.exists(pv)
	}
	pods := s.caches.pods.List()
	for _, pod := range pods {
		s.podSeen(nil, pod)
	}
	for _, report := range s.caches.reports.List() {
		s.report(report.Key())
	}
	claims := s.caches.claims.List()
	slices.SortFunc(claims, older)
	s.underWay(claims)
	for _, bound := range []bool{false, true} { // which may wish for more
		for _, claim := range claims {
			if bound == (claim.volume != "") {
				s.claimSeen(log, nil, claim)
			}
		}
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

// report brings the ledger's report of the node up to date. Node and NodeLocalStorage
// must both be there. It returns true when the node had no report before.
func (s *Scheduler) report(name string) bool {
	report, reported := s.caches.reports.Get(name)
	if reported && report.looked && s.caches.hasNode(name) {
		return s.ledger.Report(name, report.says)
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
	claims := s.caches.claims.By(bySelectedNode, name)
	slices.SortFunc(claims, older)
	for _, claim := range claims {
		s.claimSeen(log, nil, claim)
	}
}

func (s *Scheduler) volumeSeen(pv *volumeRecord) {
	if s.exists(pv) {
		s.wishedFor(pv)
	}
}

// exists counts the volume, and returns false if it takes no room of its own.
func (s *Scheduler) exists(pv *volumeRecord) bool {
	p, ours := pv.placed()
	switch {
	case ours && p.shows:
		s.ledger.Forget(p.name) // what was promised before anybody knew
	case ours && p.spot.Group != "":
		s.ledger.Choose(p.name, p.node, s.late())
		s.ledger.Exists(p.name, p.node, p.spot)
		return true
	}
	return false
}

func (s *Scheduler) volumeGone(pv *volumeRecord) {
	if p, ours := pv.placed(); ours {
		s.ledger.Gone(p.name, p.node, s.soon())
		s.ledger.Grow(p.name, 0)
		s.waker.freed(p.node)
	}
}

// claimSeen makes promises of what is held, or else new ones, when a claim shows its
// node, and forgets them when it shows another or none.
func (s *Scheduler) claimSeen(log klog.Logger, before, now *claimRecord) {
	name, selected := s.o.volumeOf(now.uid()), now.selected()
	if now.volume != "" {
		s.ledger.Made(name)
	}
	switch {
	case now.volume == volume.ForClaim(s.o.VolumePrefix, now.uid()):
		// Its PersistentVolume was or will be seen, and ends the promise.
		s.growthSeen(now)
	case now.volume != "":
		s.ledger.Forget(name) // it found a volume that was there
		s.growthSeen(now)
	case s.ledger.OldNews(name, selected, s.soon()):
	case selected != "":
		if err := s.landed(now, selected); err != nil {
			log.V(2).Info("A claim has a node where it has no place", "claim", now.Key(), "node", selected, "reason", err.Error())
		}
	case before != nil && before.selected() != "":
		s.ledger.Forget(name) // nobody makes the volume: csi-provisioner gave up for good
	}
}

// landed promises the claim's volume on the node selected for it, and with it all that
// its pod wants there.
func (s *Scheduler) landed(claim *claimRecord, node string) error {
	class, err := s.classOf(claim)
	if class == nil || err != nil {
		return err
	}
	name := s.o.volumeOf(claim.uid())
	if s.ledger.Confirm(name, node) {
		return nil
	}
	place, counted := s.ledger.Where(name)
	if counted && place.Exists {
		return nil
	}
	s.ledger.Choose(name, node, s.late())
	if !s.ledger.Confirm(name, node) {
		if err := s.promise(claim, class, node); err != nil {
			if !counted || place.Node != node { // what is there may be of use again
				s.ledger.Forget(name) // and with it a promise elsewhere
			}
			return err
		}
		s.ledger.Confirm(name, node)
	}
	return nil
}

func (s *Scheduler) claimGone(claim *claimRecord) {
	name := s.o.volumeOf(claim.uid())
	s.ledger.Made(name)
	s.ledger.Linger(name, s.soon())
	s.unwished(claim)
	s.waker.freed(claim.selected())
}

// podSeen ends what the pod holds when it has landed or ended, and counts its inline
// volumes on its node.
func (s *Scheduler) podSeen(before, now *podRecord) {
	if s.teller != nil {
		s.teller.seen(before, now)
	}
	s.waker.seen(now)
	switch {
	case now.ended:
		if before == nil || !before.ended {
			s.podGone(now)
		}
	case now.node != "" && (before == nil || before.node == ""):
		s.ledger.ChooseForPod(now.uid, now.node, s.late())
		for _, claim := range now.inlineClaims() {
			s.ledger.Exists(claim.Volume, now.node, capacity.Spot{Group: claim.Group, Size: claim.Size, Layout: claim.Layout})
		}
	}
}

// podGone ends what the pod holds and has: its inline volumes, and what was promised
// for claims of it that never showed a node.
func (s *Scheduler) podGone(pod *podRecord) {
	s.waker.gone(pod)
	s.waker.freed(pod.node)
	s.ledger.Release(pod.uid)
	for _, claim := range pod.inlineClaims() {
		s.ledger.Linger(claim.Volume, s.soon())
		s.ledger.Gone(claim.Volume, pod.node, s.soon())
	}
	for i := range pod.volumes {
		key := pod.volumes[i].claim
		if key == "" || len(s.podsOf(key)) > 0 {
			continue
		}
		if claim, known := s.caches.claims.Get(key); known && claim.volume == "" && claim.selected() == "" {
			s.ledger.Linger(s.o.volumeOf(claim.uid()), s.soon())
		}
	}
}

// podsOf returns the pods, ordered by name, that use the claim and have not ended.
func (s *Scheduler) podsOf(claim string) []*podRecord {
	pods := slices.DeleteFunc(s.caches.pods.By(byClaim, claim), func(pod *podRecord) bool { return pod.ended })
	slices.SortFunc(pods, func(a, b *podRecord) int { return cmp.Compare(a.Key(), b.Key()) })
	return pods
}

// inlineClaims returns what the pod's inline volumes of ours want. One that asks for
// nonsense is left out: its node will refuse it.
func (p *podRecord) inlineClaims() []volume.Claim {
	var claims []volume.Claim
	for i := range p.volumes {
		if v := p.volumes[i].inline; v != nil {
			if claim, err := inlineClaim(p, v); err == nil {
				claims = append(claims, claim)
			}
		}
	}
	return claims
}
