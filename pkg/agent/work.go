package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

// forever is longer than anything waits.
const forever = 1000 * time.Hour

// current returns the object as it is now, or nil when there is none. Right
// after a report the cache may still hold the status before it.
func (a *Agent) current() *v1alpha1.NodeLocalStorage {
	nls := a.cached()
	if nls == nil || nls.DeletionTimestamp != nil {
		return nil
	}
	if a.behind(nls) {
		nls = nls.DeepCopy()
		nls.Status = a.written.Status
	}
	return nls
}

// cached returns the object in the cache, or nil.
func (a *Agent) cached() *v1alpha1.NodeLocalStorage {
	object, exists, err := a.object.GetStore().GetByKey(a.options.Node)
	if err != nil || !exists {
		return nil
	}
	nls, _ := object.(*v1alpha1.NodeLocalStorage)
	return nls
}

// behind reports whether nls, from the cache, is older than the last write.
func (a *Agent) behind(nls *v1alpha1.NodeLocalStorage) bool {
	if a.written == nil || a.written.UID != nls.UID {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(nls.ResourceVersion, a.written.ResourceVersion)
	if err != nil { // no API server that numbers its versions
		return nls == a.wroteOver
	}
	return order < 0
}

// work does what is due.
func (a *Agent) work(ctx context.Context) {
	nls := a.current()
	if nls == nil {
		// Nobody asks for anything and there is no place to report. A new object
		// is looked at afresh.
		a.view, a.written, a.wroteOver, a.wiped = nil, nil, nil, nil
		clear(a.failed)
		clear(a.announced)
		a.waiting.take()
		return
	}
	if now := time.Now(); !now.Before(a.lookDue(nls)) {
		a.lookPlanAct(ctx, nls)
		if a.view == nil { // it was told to stop in its first look
			return
		}
		a.announce(nls)
	}
	if a.view != nil && !a.writeAgain.waits(time.Now()) {
		a.lookAtOrphans(ctx, nls)
		a.report(ctx, nls)
	}
}

// lookDue returns when to look: at once when the object asks for something else
// than the last look was for, else when events have waited enough or it is time.
func (a *Agent) lookDue(nls *v1alpha1.NodeLocalStorage) time.Time {
	var due time.Time
	if a.view != nil && a.view.of.UID == nls.UID && equality.Semantic.DeepEqual(a.view.of.Spec, nls.Spec) {
		due = a.view.next
		if events, some := a.waiting.due(); some {
			due = earlier(due, events)
		}
	}
	return later(due, a.lookAgain.until)
}

// nextDue returns when work has something to do if nothing happens before.
func (a *Agent) nextDue() time.Time {
	nls := a.current()
	if nls == nil {
		return time.Now().Add(forever)
	}
	due := a.lookDue(nls)
	if a.view == nil {
		return due
	}
	report := a.heartbeatDue(nls)
	if !a.writeAgain.until.IsZero() {
		report = a.writeAgain.until
	}
	return earlier(due, report)
}

// lookPlanAct leaves a new view. A look that fails leaves what was seen before.
func (a *Agent) lookPlanAct(ctx context.Context, nls *v1alpha1.NodeLocalStorage) {
	_, hasEvents := a.waiting.due()
	a.waiting.take()
	next := &view{of: nls}
	next.seen, next.problems, next.err = a.sync(ctx, nls)
	now := time.Now()
	next.next = now.Add(a.options.Interval)
	if next.err != nil {
		if ctx.Err() != nil {
			return
		}
		klog.FromContext(ctx).Error(next.err, "Could not look at the node")
		a.lookAgain.failed(now)
		next.next = a.lookAgain.until
		if a.view != nil {
			next.seen, next.seenOnce, next.problems = a.view.seen, a.view.seenOnce, a.view.problems
		}
		a.view = next
		return
	}
	a.lookAgain.succeeded()
	next.seenOnce = true
	for _, f := range a.failed {
		next.next = earlier(next.next, f.until)
	}
	// Soon once more, but not for ever.
	changed := a.view == nil || hasEvents || !equality.Semantic.DeepEqual(a.view.of.Spec, nls.Spec)
	if changed && lacksDevice(next.problems) || next.seen.newNameless(a.view) {
		next.next = earlier(next.next, now.Add(recheck))
	}
	a.view = next
}

// maxRounds bounds how often one sync acts: what one step leaves may be what another
// needs, such as a disk that is blank after it was wiped.
const maxRounds = 3

// sync looks at the node, carries out what is to be done, and looks again if
// anything was, for as long as there is something to do.
func (a *Agent) sync(ctx context.Context, nls *v1alpha1.NodeLocalStorage) (sighting, []initplan.Problem, error) {
	for round := 0; ; round++ {
		seen, err := a.look(ctx, nls.Spec.StorageSpec)
		if err != nil {
			return sighting{}, nil, fmt.Errorf("looking at node %s: %w", nls.Name, err)
		}
		if err := a.settle(nls, seen); err != nil {
			return sighting{}, nil, fmt.Errorf("looking at node %s: %w", nls.Name, err)
		}
		steps, problems := initplan.Make(nls.Spec.StorageSpec, a.node(seen, nls.Status))
		failures := a.left(steps)
		if round == maxRounds || !a.toTry(steps) {
			return seen, append(problems, failures...), nil
		}
		a.act(ctx, nls, steps)
	}
}

// Plan returns what the agent would do now, and does nothing.
func (a *Agent) Plan(ctx context.Context) ([]initplan.Step, []initplan.Problem, error) {
	nls, err := a.client.CsiV1alpha1().NodeLocalStorages().Get(ctx, a.options.Node, metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("reading node local storage %q: %w", a.options.Node, err)
	}
	seen, err := a.look(ctx, nls.Spec.StorageSpec)
	if err != nil {
		return nil, nil, fmt.Errorf("looking at node %s: %w", nls.Name, err)
	}
	_, ofSpec := describe(seen, nls, a.options.Driver, nil)
	steps, problems := initplan.Make(nls.Spec.StorageSpec, a.node(seen, nls.Status))
	return steps, append(ofSpec, problems...), nil
}

// announce makes an event of every problem that has none yet. One that went away
// and comes back is new.
func (a *Agent) announce(nls *v1alpha1.NodeLocalStorage) {
	_, problems := describe(a.view.seen, nls, a.options.Driver, nil)
	problems = append(problems, a.view.problems...)
	if a.view.err != nil {
		problems = append(problems, initplan.Problem{Reason: lookFailed, Message: a.view.err.Error()})
	}
	now := map[initplan.Problem]bool{}
	for _, p := range problems {
		about := p
		if p.Reason == initplan.StepFailed || p.Reason == lookFailed {
			about.Message = "" // what a tool says may differ each time
		}
		if !a.announced[about] && !now[about] {
			a.events.Event(nls, corev1.EventTypeWarning, validReason(p.Reason), cut(p.Message, maxEvent))
		}
		now[about] = true
	}
	a.announced = now
}

// maxEvent is the longest message of an event the API server takes.
const maxEvent = 1024

func lacksDevice(problems []initplan.Problem) bool {
	for _, p := range problems {
		if p.Reason == initplan.DeviceMissing {
			return true
		}
	}
	return false
}
