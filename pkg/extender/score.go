package extender

import (
	"context"
	"errors"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/allocator"
)

// Prioritize scores what Filter held for the pod on the nodes that are left, from 0 to
// 10. What the pod holds elsewhere ends: it will not land there. A pod without volumes
// of ours gets no scores, which counts as zero everywhere.
func (s *Scheduler) Prioritize(ctx context.Context, args *extenderv1.ExtenderArgs) (*extenderv1.HostPriorityList, error) {
	if !s.Ready() {
		return nil, errNotReady
	}
	if args.Pod == nil {
		return nil, errors.New("the request has no pod")
	}
	scores := extenderv1.HostPriorityList{}
	if !s.concerns(args.Pod) {
		return &scores, nil
	}
	claims, err := s.asksKnown(ctx, args.Pod)
	if err != nil {
		return nil, err
	}
	if len(claims) == 0 {
		return &scores, nil
	}
	names, pod := namesOf(args), string(args.Pod.UID)
	s.ledger.Narrow(pod, names)
	w := s.borrow()
	defer s.giveBack(w)
	s.ledger.See(pod, names, &w.views)
	plan := s.plan(claims)
	scores = make(extenderv1.HostPriorityList, len(names))
	for i := range w.views.Nodes {
		view := &w.views.Nodes[i]
		spots := view.Spots
		if spots == nil { // nothing is held there any more
			spots, _ = plan.place(view, w.spots[:0]) // without spots the score is zero
		}
		scores[i] = extenderv1.HostPriority{Host: view.Name, Score: allocator.Score(view.Node, spots, s.o.Prefer)}
	}
	return &scores, nil
}
