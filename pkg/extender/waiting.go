package extender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/volume"
)

// reasonNoRoom is the reason of the event on a pod that waits for storage.
const reasonNoRoom = "NoRoomForVolumes"

// notEnough is what the scheduler says of nodes whose published capacity is too small.
const notEnough = "did not have enough free storage"

// maxReasons is how many different reasons an event gives.
const maxReasons = 4

// What is not in the caches yet, such as a class made together with its claim, is looked
// for again: the scheduler does not give up on the pod a second time in other words.
const (
	maxRetries = 8
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// A teller says on a pod that waits why no node has room for its volumes. The
// scheduler shows our reasons only where it asked us, and where the published capacity
// of a node is too small it does not ask: it says "not enough free storage" and gives
// no number.
type teller struct {
	s     *Scheduler
	queue workqueue.TypedRateLimitingInterface[string] // namespace/name of pods
}

func newTeller(s *Scheduler) *teller {
	return &teller{s: s, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry))}
}

// seen notes a pod that the scheduler has just given up on for now. It does not block.
func (t *teller) seen(before, now *podRecord) {
	if now.said == "" || (before != nil && before.said == now.said) {
		return
	}
	t.queue.Add(now.Key())
}

// run tells until the context ends.
func (t *teller) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, t.queue.ShutDown)
	defer stop()
	for {
		key, over := t.queue.Get()
		if over {
			return
		}
		t.try(ctx, key)
		t.queue.Done(key)
	}
}

// try tells, and sees to it that it is tried again where that did not work.
func (t *teller) try(ctx context.Context, key string) {
	switch err := t.tell(key); {
	case err == nil:
		t.queue.Forget(key)
	case t.queue.NumRequeues(key) < maxRetries:
		t.queue.AddRateLimited(key)
	default:
		klog.FromContext(ctx).V(2).Info("Cannot say why a pod waits", "pod", key, "err", err)
		t.queue.Forget(key)
	}
}

// tell sends the event, unless the scheduler has said all of it.
func (t *teller) tell(key string) error {
	if !t.s.Ready() {
		return nil // another one tells; who takes over looks at all pods
	}
	pod, known := t.s.caches.pods.Get(key)
	if !known || pod.said == "" {
		return nil // it waits no longer
	}
	count, room, err := t.s.whyNot(pod)
	if err != nil || (room && !strings.Contains(pod.said, notEnough)) {
		return err // the pod waits for something else
	}
	for reason := range count {
		if !strings.Contains(pod.said, reason) {
			t.s.o.Events.Event(pod.reference(), corev1.EventTypeWarning, reasonNoRoom, "no room for the pod's volumes: "+summary(count))
			return nil
		}
	}
	return nil
}

// whyNot returns why nodes have no room for the volumes of the pod, in the words that the
// scheduler is told, and how many have each reason. It reports as well whether some node has room, be it one that the pod
// may not use for another reason.
func (s *Scheduler) whyNot(pod *podRecord) (count map[string]int, room bool, err error) {
	claims, err := s.asks(pod)
	names := s.ledger.Reported()
	switch {
	case errors.Is(err, volume.ErrInvalid):
		return map[string]int{spoken(err.Error()): len(names)}, false, nil
	case err != nil || len(claims) == 0:
		return nil, true, err
	case len(names) == 0:
		return map[string]int{noReport: 0}, false, nil
	}
	w := s.borrow()
	defer s.giveBack(w)
	s.ledger.SeeWithoutHolds(names, &w.views)
	plan := s.plan(claims)
	count = map[string]int{}
	for _, view := range w.views.All() {
		if _, err := plan.place(view, w.places[:0]); err != nil {
			count[spoken(err.Error())]++
		} else {
			room = true
		}
	}
	return count, room, nil
}

// summary says the reasons, those of most nodes first.
func summary(count map[string]int) string {
	reasons := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(a, b))
	})
	var said []string
	for i, reason := range reasons {
		if i == maxReasons {
			said = append(said, fmt.Sprintf("and %d more reasons", len(reasons)-i))
			break
		}
		nodes := "nodes"
		if count[reason] == 1 {
			nodes = "node"
		}
		said = append(said, fmt.Sprintf("%d %s: %s", count[reason], nodes, reason))
	}
	return strings.Join(said, "; ")
}
