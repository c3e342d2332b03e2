package extender

import (
	"context"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

const (
	// wakeEvery bounds how often the scheduler is woken, and how often a node that has
	// changed is looked at again: what lingers there ends without news.
	wakeEvery = time.Second
	// wakeSlack is how much longer than a hold lasts a node that has changed is looked at.
	wakeSlack = 10 * time.Second
)

// A waker has the scheduler try pods again that found no room, when there is some. The
// scheduler tries a pod that an extender has refused whenever anything in the cluster
// changes, but it does not watch what nodes report: the news that a volume is gone often
// reaches it before the ledger knows that its room is free, and after that a quiet cluster
// has no more news for five minutes.
type waker struct {
	s    *Scheduler
	wake func(context.Context) error
	kick chan struct{} // has one place; full when there is something to look at

	mu      sync.Mutex
	waiting map[string]struct{}  // namespace/name of pods that found no node
	changed map[string]time.Time // nodes, and until when to look at them
}

func newWaker(s *Scheduler, wake func(context.Context) error) *waker {
	return &waker{
		s: s, wake: wake, kick: make(chan struct{}, 1),
		waiting: map[string]struct{}{}, changed: map[string]time.Time{},
	}
}

// seen notes whether a pod waits. It does not block.
func (w *waker) seen(pod *podRecord) {
	if w == nil {
		return
	}
	key := pod.Key()
	w.mu.Lock()
	defer w.mu.Unlock()
	_, known := w.waiting[key]
	waits := pod.node == "" && pod.said != "" && pod.concerns()
	switch {
	case waits && !known:
		w.waiting[key] = struct{}{}
		w.look()
	case !waits && known:
		delete(w.waiting, key)
	}
}

// gone forgets a pod.
func (w *waker) gone(pod *podRecord) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, pod.Key())
}

// freed notes that there may be more room on a node, now or when what lingers there ends.
// It does not block.
func (w *waker) freed(node string) {
	if w == nil || node == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed[node] = w.s.soon().Add(wakeSlack)
	if len(w.waiting) > 0 {
		w.look()
	}
}

func (w *waker) look() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// run wakes until the context ends.
func (w *waker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		}
		if again := w.try(ctx); again {
			w.look()
		}
		timer := w.s.clock.NewTimer(wakeEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}

// try wakes the scheduler when a waiting pod fits on a node that has changed. It reports
// whether there is something to look at later.
func (w *waker) try(ctx context.Context) (again bool) {
	if !w.s.Ready() {
		return false // another one leads, and who takes over sees all pods
	}
	pods, nodes := w.candidates()
	if len(pods) == 0 || len(nodes) == 0 {
		return false
	}
	node, pod := w.room(pods, nodes)
	if node == "" {
		return true
	}
	log := klog.FromContext(ctx)
	if err := w.wake(ctx); err != nil {
		log.Error(err, "Cannot have the scheduler try a pod again", "pod", pod, "node", node)
		return true
	}
	log.V(2).Info("A pod that waits has room now", "pod", pod, "node", node)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.changed, node) // until it changes again: the pod may wait for something else
	return len(w.changed) > 0
}

// candidates returns who waits and which nodes have changed lately.
func (w *waker) candidates() (pods, nodes []string) {
	now := w.s.clock.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for node, until := range w.changed {
		if now.After(until) {
			delete(w.changed, node)
		} else {
			nodes = append(nodes, node)
		}
	}
	for pod := range w.waiting {
		pods = append(pods, pod)
	}
	return pods, nodes
}

// room returns a node that has room for all volumes of a pod, and that pod, or nothing.
func (w *waker) room(pods, nodes []string) (node, pod string) {
	space := w.s.borrow()
	defer w.s.giveBack(space)
	w.s.ledger.Expire(w.s.clock.Now())
	w.s.ledger.SeeWithoutHolds(nodes, &space.views)
	for _, key := range pods {
		pod, known := w.s.caches.pods.Get(key)
		if !known {
			continue // it is gone
		}
		claims, err := w.s.asks(pod)
		if err != nil || len(claims) == 0 {
			continue // it waits for something else
		}
		plan := w.s.plan(claims)
		for _, view := range space.views.All() {
			if _, err := plan.place(view, space.places[:0]); err == nil {
				return view.Name, key
			}
		}
	}
	return "", ""
}
