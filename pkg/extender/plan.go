package extender

import (
	"bytes"
	"errors"
	"fmt"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// noReport is why a node is refused that nobody has reported on.
const noReport = "node has no NodeLocalStorage report"

var errNoReport = errors.New(noReport)

// A plan places the claims of one pod. On nearly every node that means all of them; a
// node that counts some of them already, because the pod was there before, need only
// have room for the others. A claim that is promised where nothing may be put any more is
// one of the others.
type plan struct {
	claims []volume.Claim
	pinned []error // of claims: why only one node will do, or nil
	whole  *allocator.Planner
	parts  map[string]*part // by node
}

// A part is what is left to place on one node.
type part struct {
	missing []int // of the plan's claims
	planner *allocator.Planner
}

func (s *Scheduler) plan(claims []volume.Claim) *plan {
	p := &plan{claims: claims, pinned: pins(claims), whole: allocator.NewPlanner(claims, s.o.Prefer), parts: map[string]*part{}}
	at := make([]string, len(claims))
	for i := range claims {
		if place, counted := s.ledger.Where(claims[i].Volume); counted && !place.Void {
			at[i] = place.Node
			if place.Exists {
				p.pinned[i] = fmt.Errorf("%w: claim %s, node %s", errThere, claims[i].Name, place.Node)
			}
			p.parts[place.Node] = &part{}
		}
	}
	for node, part := range p.parts {
		var missing []volume.Claim
		for i := range claims {
			if at[i] != node {
				part.missing = append(part.missing, i)
				missing = append(missing, claims[i])
			}
		}
		part.planner = allocator.NewPlanner(missing, s.o.Prefer)
	}
	return p
}

// place appends the places of the claims on the node to into; that of a claim which
// has its place there already is Nowhere. The error is errNoReport or an *allocator.Misfit.
func (p *plan) place(view *ledger.View, into []capacity.Position) ([]capacity.Position, error) {
	if !view.Reported {
		return into, errNoReport
	}
	if err := p.elsewhere(view); err != nil {
		return into, err
	}
	var part *part
	if len(p.parts) > 0 {
		part = p.parts[view.Name]
	}
	if part == nil {
		return p.whole.Fit(view.Groups, view.Free, into)
	}
	found, err := part.planner.Fit(view.Groups, view.Free, nil)
	if err != nil {
		return into, err
	}
	first := len(into)
	for range p.claims {
		into = append(into, capacity.Nowhere)
	}
	for i, at := range part.missing {
		into[first+at] = found[i]
	}
	return into, nil
}

// final reports whether evicting pods cannot help against the reason.
func final(reason error) bool {
	if misfit, ok := errors.AsType[*allocator.Misfit](reason); ok {
		return misfit.Final
	}
	return !errors.Is(reason, errChanged)
}

// A space is the working space of one question about many nodes: a megabyte or two for
// thousands of them. It is used again.
type space struct {
	text   bytes.Buffer // of the request
	names  []string     // in the request
	views  ledger.Views
	places []capacity.Position
	offers []ledger.Offer
	fit    []string
	scores extenderv1.HostPriorityList
	answer []byte
}

// How much is kept: schedulers ask one question at a time, and few of them send whole
// nodes.
const (
	keptSpaces  = 2
	largestKept = 16 << 20 // bytes of a request
)

func (s *Scheduler) borrow() *space {
	select {
	case w := <-s.spaces:
		return w
	default:
		return new(space)
	}
}

func (s *Scheduler) giveBack(w *space) {
	if w.text.Cap() > largestKept {
		return
	}
	select {
	case s.spaces <- w:
	default:
	}
}
