package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/initplan"
)

// How long a step that failed is left alone: at first, and at most. A failed
// command can cause events, which must not cause the next attempt at once.
const (
	stepBackoff    = 10 * time.Second
	stepBackoffMax = 5 * time.Minute
)

// A failure is a step that did not work.
type failure struct {
	backoff
	problem initplan.Problem
}

// act carries out the steps, but those that failed a short while ago. It returns
// the steps that were done and a problem for each that was not.
func (a *Agent) act(ctx context.Context, steps []initplan.Step) (done []initplan.Step, problems []initplan.Problem) {
	failed := map[string]*failure{}
	for _, step := range steps {
		name := step.String()
		f := a.failed[name]
		if f == nil {
			f = &failure{backoff: backoff{shortest: stepBackoff, longest: stepBackoffMax}}
		}
		if !f.waits(time.Now()) {
			klog.FromContext(ctx).Info("Changing node", "step", name)
			err := a.carryOut(ctx, step)
			if err == nil {
				done = append(done, step)
				continue
			}
			f.failed(time.Now())
			f.problem = initplan.Problem{
				Area: initplan.OfGroups, Reason: initplan.StepFailed, Object: groupOf(step), Message: fmt.Sprintf("to %s failed: %v", name, err),
			}
		}
		failed[name] = f
		problems = append(problems, f.problem)
	}
	a.failed = failed // steps no longer planned are forgotten
	return done, problems
}

// toTry reports whether act will try any of steps.
func (a *Agent) toTry(steps []initplan.Step) bool {
	return slices.ContainsFunc(steps, func(step initplan.Step) bool {
		f := a.failed[step.String()]
		return f == nil || !f.waits(time.Now())
	})
}

func (a *Agent) carryOut(ctx context.Context, step initplan.Step) error {
	switch s := step.(type) {
	case initplan.CreateGroup:
		return a.groups.CreateGroup(ctx, s.Group, s.Devices)
	case initplan.ExtendGroup:
		return a.groups.ExtendGroup(ctx, s.Group, s.Devices)
	}
	return fmt.Errorf("no way to %s", step)
}

func groupOf(step initplan.Step) string {
	switch s := step.(type) {
	case initplan.CreateGroup:
		return s.Group
	case initplan.ExtendGroup:
		return s.Group
	}
	return ""
}
