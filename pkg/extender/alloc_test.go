package extender

import (
	"testing"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// TestMoreNodesCostNoMoreAllocations asks about ten times the nodes in working space that
// has grown to them.
func TestMoreNodesCostNoMoreAllocations(t *testing.T) {
	count := func(nodes int) (filter, score float64) {
		s, p, names := filled(t, nodes, 4, 4)
		args, w := &extenderv1.ExtenderArgs{Pod: p, NodeNames: &names}, new(space)
		ask := func(verb func()) float64 {
			verb()
			return testing.AllocsPerRun(5, verb)
		}
		filter = ask(func() {
			if r, err := s.filter(t.Context(), args, w); err != nil || len(*r.NodeNames) != nodes {
				t.Fatal(err)
			}
		})
		score = ask(func() {
			if r, err := s.prioritize(t.Context(), args, w); err != nil || len(*r) != nodes {
				t.Fatal(err)
			}
		})
		return filter, score
	}
	fewFilter, fewScore := count(100)
	manyFilter, manyScore := count(1000)
	const slack = 5 // pieces that the runtime adds now and then
	if manyFilter > fewFilter+slack || manyScore > fewScore+slack {
		t.Errorf("100 nodes take %v and %v allocations to filter and score, 1000 nodes %v and %v", fewFilter, fewScore, manyFilter, manyScore)
	}
}
