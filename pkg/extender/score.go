package extender

import (
	"context"
	"errors"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// Prioritize scores what Filter held for the pod on the nodes that are left, from 0 to
// 10. What the pod holds elsewhere ends: it will not land there. A pod without volumes
// of ours gets no scores, which counts as zero everywhere.
func (s *Scheduler) Prioritize(ctx context.Context, args *extenderv1.ExtenderArgs) (*extenderv1.HostPriorityList, error) {
	return s.prioritize(ctx, args, new(space))
}

// prioritize is Prioritize; what it returns may be in the working space.
func (s *Scheduler) prioritize(ctx context.Context, args *extenderv1.ExtenderArgs, w *space) (*extenderv1.HostPriorityList, error) {
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
	s.ledger.See(pod, names, &w.views)
	plan := s.plan(claims)
	w.scores = w.scores[:0]
	for i := range names {
		view := w.views.At(i)
		places := view.Held
		if places == nil { // nothing is held there any more
			w.places, _ = plan.place(&view, w.places[:0]) // without places the score is zero
			places = w.places
		}
		w.scores = append(w.scores, extenderv1.HostPriority{Host: view.Name, Score: plan.whole.Score(view.Groups, view.Free, places)})
	}
	return &w.scores, nil
}
