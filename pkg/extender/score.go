package extender

import (
	"context"
	"errors"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// Prioritize scores what Filter held for the pod on the nodes that are left, from 0 to
// 10. What the pod holds elsewhere ends: it will not land there. A pod without volumes
// of ours gets no scores, which counts as zero everywhere, unless it is to be kept away
// from nodes with storage.
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
	var claims []volume.Claim
	pod := podOf(s.o.Driver, args.Pod)
	if pod.concerns() {
		var err error
		if claims, err = s.asksKnown(ctx, pod); err != nil {
			return nil, err
		}
	}
	names := namesOf(args)
	averse := s.o.AntiAffinity.beside(claims)
	if len(claims) == 0 && len(averse) == 0 {
		return &extenderv1.HostPriorityList{}, nil
	}
	s.ledger.Narrow(pod.uid, names)
	s.ledger.See(pod.uid, names, &w.views)
	plan := s.plan(claims)
	w.scores = w.scores[:0]
	for _, view := range w.views.All() {
		score := plan.score(view, w)
		if len(averse) > 0 {
			score = mean(score, averse.score(view), len(claims) == 0)
		}
		w.scores = append(w.scores, extenderv1.HostPriority{Host: view.Name, Score: score})
	}
	return &w.scores, nil
}

// score returns how good the node is for the claims, which are placed if nothing is held
// there any more.
func (p *plan) score(view *ledger.View, w *space) int64 {
	places := view.Held
	if places == nil {
		w.places, _ = p.place(view, w.places[:0]) // without places the score is zero
		places = w.places
	}
	return p.whole.Score(view.Groups, view.Free, places)
}

// mean returns the mean of two scores, halves rounded up, or the second alone.
func mean(a, b int64, alone bool) int64 {
	if alone {
		return b
	}
	return (a + b + 1) / 2
}
