package extender

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// Filter answers on which of the nodes all volumes of the pod fit together, and why not
// on the others. Room is then held on all of them until the scheduler's choice shows.
// An error that the scheduler should show is in the result.
func (s *Scheduler) Filter(ctx context.Context, args *extenderv1.ExtenderArgs) (*extenderv1.ExtenderFilterResult, error) {
	return s.filter(ctx, args, new(space))
}

// filter is Filter; what it returns may be in the working space.
func (s *Scheduler) filter(ctx context.Context, args *extenderv1.ExtenderArgs, w *space) (*extenderv1.ExtenderFilterResult, error) {
	if !s.Ready() {
		return nil, errNotReady
	}
	if args.Pod == nil {
		return nil, errors.New("the request has no pod")
	}
	pod := podOf(s.o.Driver, args.Pod)
	if !pod.concerns() {
		return &extenderv1.ExtenderFilterResult{Nodes: args.Nodes, NodeNames: args.NodeNames}, nil
	}
	claims, err := s.asks(pod)
	if err != nil || len(claims) > 0 {
		claims, err = s.asksKnown(ctx, pod)
	}
	switch {
	case errors.Is(err, volume.ErrInvalid):
		refused := refuseAll(args, err)
		s.meter.refuse(refused)
		return result(args, []string{}, refused), nil
	case err != nil:
		return nil, fmt.Errorf("reading the volumes of pod %s: %w", pod.Key(), err)
	case len(claims) == 0:
		return &extenderv1.ExtenderFilterResult{Nodes: args.Nodes, NodeNames: args.NodeNames}, nil
	}
	asked := question{pod: pod.uid, claims: claims, names: namesOf(args)}
	fit, refused := s.fit(ctx, asked, w)
	s.meter.refuse(refused)
	klog.FromContext(ctx).V(4).Info("Filtered", "claims", len(claims), "fit", len(fit), "refused", len(refused))
	return result(args, fit, refused), nil
}

// asksKnown returns what the pod of a request wants. It believes the API server and not
// the request, which anybody may have sent: room is held only for pods that exist. The
// caches may need a moment to catch up with the scheduler's.
func (s *Scheduler) asksKnown(ctx context.Context, sent *podRecord) (claims []volume.Claim, err error) {
	err = s.patient(ctx, func() error {
		pod, known := s.caches.pods.Get(sent.Key())
		if !known || pod.uid != sent.uid {
			return fmt.Errorf("pod with UID %q: %w", sent.uid, errLagging)
		}
		claims, err = s.asks(pod)
		return err
	})
	return claims, err
}

// A question is where the claims of a pod may go.
type question struct {
	pod    string // its UID
	claims []volume.Claim
	names  []string // of the nodes
}

// A refusal is why one node will not do.
type refusal struct {
	node   string
	reason error
}

// fit decides, and holds what it decided. When only what other pods hold is in the way
// it waits a moment for them to choose their nodes: the scheduler writes its choices
// while we wait.
func (s *Scheduler) fit(ctx context.Context, q question, w *space) (fit []string, refused []refusal) {
	deadline := s.clock.Now().Add(s.o.HoldWait)
	for {
		changed := s.ledger.Changed()
		next := s.ledger.Expire(s.clock.Now())
		fit, refused = s.tryFit(q, w)
		if len(fit) > 0 || !s.onlyHoldsHinder(q.claims, refused, w) {
			return fit, refused
		}
		until := deadline
		if !next.IsZero() && next.Before(deadline) {
			until = next
		}
		if !s.clock.Now().Before(deadline) || !s.wait(ctx, changed, until) {
			return fit, refused
		}
	}
}

// tries is how often a decision is made anew for nodes that changed meanwhile.
const tries = 3

var errChanged = errors.New("node changed while it was looked at")

// tryFit decides once for every node, and again for those that changed meanwhile. One
// that changes each time is refused for what it has at last.
func (s *Scheduler) tryFit(q question, w *space) (fit []string, refused []refusal) {
	var changed []string
	for range tries {
		fit, changed, refused = s.decide(q, w)
		if len(changed) == 0 {
			return fit, refused
		}
		// What fits is held. To hold the others as well, all are looked at again.
	}
	plan, views := s.plan(q.claims), ledger.Views{} // w has what fits
	s.ledger.See(q.pod, changed, &views)
	for i, view := range views.All() {
		refused = append(refused, refusal{changed[i], whyChanged(plan, view)})
	}
	return fit, refused
}

// whyChanged returns why there is no room on a node that changed each time it was looked
// at. If there is at this moment, the reason says how much.
func whyChanged(plan *plan, view *ledger.View) error {
	if _, err := plan.place(view, nil); err != nil {
		return err
	}
	var wants, free capacity.Bytes
	for i := range plan.claims {
		wants += plan.claims[i].Size
	}
	for i := range view.Free {
		free += view.Free[i]
	}
	return fmt.Errorf("%w: wants %s, %s free now", errChanged, wants, free)
}

// decide finds places on every node and holds them. It returns where they are held,
// where they no longer fitted, and where there are none.
func (s *Scheduler) decide(q question, w *space) (fit, changed []string, refused []refusal) {
	plan := s.plan(q.claims)
	s.ledger.See(q.pod, q.names, &w.views)
	w.places, w.offers = w.places[:0], w.offers[:0]
	for _, view := range w.views.All() {
		first := len(w.places)
		var err error
		if w.places, err = plan.place(view, w.places); err != nil {
			refused = append(refused, refusal{view.Name, err})
			continue
		}
		w.offers = append(w.offers, view.Offer(w.places[first:]))
	}
	gone := s.ledger.Hold(q.pod, q.claims, w.offers, s.soon())
	if len(refused) == 0 && len(gone) == 0 {
		return q.names, nil, nil
	}
	w.fit = w.fit[:0]
	for i := range w.offers {
		if len(gone) > 0 && gone[0] == i {
			gone, changed = gone[1:], append(changed, w.offers[i].Node())
			continue
		}
		w.fit = append(w.fit, w.offers[i].Node())
	}
	return w.fit, changed, refused
}

// onlyHoldsHinder reports whether some node would do if no pod held anything. It notes
// in the reasons what is held.
func (s *Scheduler) onlyHoldsHinder(claims []volume.Claim, refused []refusal, w *space) (would bool) {
	if s.ledger.Stats().Holds == 0 {
		return false
	}
	var names []string
	var misfits []*allocator.Misfit
	for _, refusal := range refused {
		if !final(refusal.reason) {
			misfit, _ := errors.AsType[*allocator.Misfit](refusal.reason)
			names, misfits = append(names, refusal.node), append(misfits, misfit)
		}
	}
	plan := s.plan(claims)
	s.ledger.SeeWithoutHolds(names, &w.views)
	for i, view := range w.views.All() {
		if !would {
			_, err := plan.place(view, w.places[:0])
			would = err == nil
		}
		if misfits[i] != nil {
			misfits[i].Held = heldIn(view, misfits[i].Group)
		}
	}
	return would
}

// heldIn returns what is held of the group in a view without holds.
func heldIn(view *ledger.View, group string) capacity.Bytes {
	for i := range view.Groups {
		if view.Groups[i].Name == group {
			return view.Others[i]
		}
	}
	return 0
}

// namesOf returns the nodes that are asked about, by name.
func namesOf(args *extenderv1.ExtenderArgs) []string {
	switch {
	case args.NodeNames != nil:
		return *args.NodeNames
	case args.Nodes != nil:
		names := make([]string, len(args.Nodes.Items))
		for i := range args.Nodes.Items {
			names[i] = args.Nodes.Items[i].Name
		}
		return names
	}
	return nil
}

// result answers in the form of the request: names, or whole nodes to a scheduler that
// is not configured with nodeCacheCapable.
func result(args *extenderv1.ExtenderArgs, fit []string, refused []refusal) *extenderv1.ExtenderFilterResult {
	r := &extenderv1.ExtenderFilterResult{}
	if len(refused) > 0 {
		r.FailedNodes = make(extenderv1.FailedNodesMap, len(refused))
		r.FailedAndUnresolvableNodes = extenderv1.FailedNodesMap{}
	}
	said := sayings{}
	for _, refusal := range refused {
		if final(refusal.reason) {
			r.FailedAndUnresolvableNodes[refusal.node] = said.of(refusal.reason)
		} else {
			r.FailedNodes[refusal.node] = said.of(refusal.reason)
		}
	}
	if args.NodeNames != nil || args.Nodes == nil {
		r.NodeNames = &fit
		return r
	}
	r.Nodes = &corev1.NodeList{}
	for i := range args.Nodes.Items {
		if len(fit) > 0 && fit[0] == args.Nodes.Items[i].Name { // both in one order
			fit = fit[1:]
			r.Nodes.Items = append(r.Nodes.Items, args.Nodes.Items[i])
		}
	}
	return r
}

// sayings are reasons in words. Thousands of nodes have few different ones.
type sayings map[allocator.Misfit]string

func (s sayings) of(reason error) string {
	misfit, ok := errors.AsType[*allocator.Misfit](reason)
	if !ok {
		return spoken(reason.Error())
	}
	words, said := s[*misfit]
	if !said {
		words = spoken(misfit.Error())
		s[*misfit] = words
	}
	return words
}

// refuseAll refuses all nodes, whatever is evicted.
func refuseAll(args *extenderv1.ExtenderArgs, reason error) []refusal {
	names := namesOf(args)
	refused := make([]refusal, len(names))
	for i, name := range names {
		refused[i] = refusal{name, reason}
	}
	return refused
}
