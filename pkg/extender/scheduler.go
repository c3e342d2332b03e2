package extender

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/ledger"
)

// errNotReady answers every question that comes before the caches are filled.
var errNotReady = errors.New("the caches are not filled yet")

// A Scheduler answers what kube-scheduler and the CSI controller ask. Its verbs,
// Filter, Prioritize and Reserve, are ordinary methods; Run serves them over HTTP.
type Scheduler struct {
	o      Options
	clock  clock.Clock
	caches *caches
	ledger *ledger.Ledger
	ready  atomic.Bool // the ledger is built

	watching atomic.Bool // the caches are filled

	meter  *meter
	teller *teller     // nil where no events are sent
	waker  *waker      // nil where the scheduler is not woken
	spaces chan *space // not in use

	// events is held while news of an object is worked in, and while a reservation is
	// decided: one of these at a time. Filter does without.
	events sync.Mutex
	news   bell // rings when a pod, a claim or a class has come or changed
}

// New returns a Scheduler that watches through the clients once Start or Run is called.
func New(o Options, core kubernetes.Interface, storage versioned.Interface) (*Scheduler, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("configuring the scheduler extender: %w", err)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	caches, err := newCaches(o.Driver, core, storage, o.Clock)
	if err != nil {
		return nil, fmt.Errorf("preparing the caches: %w", err)
	}
	s := &Scheduler{o: o, clock: o.Clock, caches: caches, ledger: ledger.New(), meter: newMeter(), spaces: make(chan *space, keptSpaces)}
	if o.Snapshots != nil {
		if caches.contents, err = newContents(o.Driver, o.Snapshots, s.news.ring); err != nil {
			return nil, fmt.Errorf("preparing the caches: %w", err)
		}
	}
	if o.Events != nil {
		s.teller = newTeller(s)
	}
	if o.Wake != nil {
		s.waker = newWaker(s, o.Wake)
	}
	return s, nil
}

// Start watches until the context ends, and returns when the first question can be
// answered.
func (s *Scheduler) Start(ctx context.Context) error {
	if err := s.Watch(ctx); err != nil {
		return err
	}
	s.Lead(ctx)
	return nil
}

// Watch watches until the context ends, and returns when the caches are filled.
func (s *Scheduler) Watch(ctx context.Context) error {
	if err := s.listen(ctx); err != nil {
		return err
	}
	if err := s.caches.start(ctx); err != nil {
		return err
	}
	s.watching.Store(true)
	return nil
}

// Lead makes what is known the ledger that answers, once Watch has returned.
func (s *Scheduler) Lead(ctx context.Context) { s.rebuild(klog.FromContext(ctx)) }

// Ready reports whether questions are answered here.
func (s *Scheduler) Ready() bool { return s.ready.Load() && s.leads() }

// Useful reports whether it makes sense to ask here: this extender answers, or passes
// on to the one that does and would take over.
func (s *Scheduler) Useful() bool {
	if s.Ready() {
		return true
	}
	return s.watching.Load() && !s.leads() && s.o.Replica.Leader() != ""
}

// soon is when a hold made now ends by itself.
func (s *Scheduler) soon() time.Time { return s.clock.Now().Add(s.o.HoldTimeout) }

// late is when a promise made now ends by itself unless its claim confirms it.
func (s *Scheduler) late() time.Time { return s.clock.Now().Add(promiseFactor * s.o.HoldTimeout) }

// A bell wakes all who wait for it.
type bell struct {
	mu      sync.Mutex
	waiting chan struct{} // nil while nobody waits
}

// next returns a channel that is closed when the bell next rings.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	return b.waiting
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}

// wait returns true when woken before the deadline and the end of the context.
func (s *Scheduler) wait(ctx context.Context, woken <-chan struct{}, deadline time.Time) bool {
	left := deadline.Sub(s.clock.Now())
	if left <= 0 {
		return false
	}
	timer := s.clock.NewTimer(left)
	defer timer.Stop()
	select {
	case <-woken:
		return true
	case <-timer.C():
		return true // the caller looks once more, and finds that the time is up
	case <-ctx.Done():
		return false
	}
}

// patient calls try again while it fails because the caches lag behind what the caller
// has seen, for a second at most.
func (s *Scheduler) patient(ctx context.Context, try func() error) error {
	deadline := s.clock.Now().Add(lagWait)
	for {
		news := s.news.next()
		err := try()
		if !errors.Is(err, errLagging) || !s.wait(ctx, news, deadline) {
			return err
		}
	}
}
