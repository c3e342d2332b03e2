package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/hack/lab/scale/meter"
	"github.com/open-local/open-local/hack/lab/scale/plane"
)

// The phases of a round.
const (
	burst = "burst"
	fill  = "fill"
	churn = "churn"
)

// work is what a round is for.
func (r *round) work(ctx context.Context) (*result, error) {
	found := &result{mode: r.mode, nodes: r.o.nodes, classes: r.o.classes, claims: r.load.claimsOf(), heeds: heeds(r.mode)}
	if found.heeds {
		took, err := r.published(ctx)
		if err != nil {
			return nil, err
		}
		found.published = took
		r.say("%d capacities published, %.1f s after the first program began to work", r.o.nodes*r.o.classes, took.Seconds())
	}
	watch := r.watchQueue(ctx)
	for _, phase := range []struct {
		name string
		do   func(context.Context) ([]string, error)
	}{{burst, r.burst}, {fill, r.fill}, {churn, r.churn}} {
		p, err := r.phase(ctx, phase.name, phase.do)
		if err != nil {
			return nil, err
		}
		found.phases = append(found.phases, p)
		if len(p.stuck)+len(p.late) > 0 {
			break // what follows would not get further
		}
	}
	if err := r.settle(ctx, found); err != nil {
		return nil, err
	}
	found.queue = watch()
	return found, r.conclude(ctx, found)
}

// phase does one thing, waits until all pods run and measures.
func (r *round) phase(ctx context.Context, name string, do func(context.Context) ([]string, error)) (phase, error) {
	before, err := r.snapshot(ctx)
	if err != nil {
		return phase{}, err
	}
	r.view.measure()
	began := time.Now()
	pods, err := do(ctx)
	if err != nil || len(pods) == 0 {
		return phase{name: name}, err
	}
	stuck, late, err := r.await(ctx, name, pods)
	if err != nil {
		return phase{}, err
	}
	after, err := r.snapshot(ctx)
	if err != nil {
		return phase{}, err
	}
	p := phase{
		name: name, pods: len(pods), took: r.view.lastStart().Sub(began), stuck: stuck, late: late, before: before, after: after,
		bound: r.view.bound.Quantiles(.5, .99), started: r.view.started.Quantiles(.5, .99), lag: r.view.lag.Quantiles(.5, .99),
	}
	r.say("%s: %d pods in %.1f s, %.1f a second", name, p.pods, p.took.Seconds(), p.speed())
	return p, nil
}

func (r *round) burst(ctx context.Context) ([]string, error) {
	names := r.load.names(r.o.pods)
	return names, r.load.create(ctx, names)
}

// fill creates as many pods as fit into the share that is to be filled. Without volumes it
// is the number that would.
func (r *round) fill(ctx context.Context) ([]string, error) {
	shape := r.o.shape()
	room := int(shape.Room/r.o.claimSize) * shape.Groups * shape.Nodes
	pods := max(0, room*r.o.fill/100/r.o.claims-r.o.pods)
	names := r.load.names(pods)
	return names, r.load.create(ctx, names)
}

// churn deletes pods and creates as many others at the same time, a tenth at a time.
func (r *round) churn(ctx context.Context) ([]string, error) {
	var all []string
	for len(all) < r.o.churn {
		count := min(max(1, r.o.churn/10), r.o.churn-len(all))
		names := r.load.names(count)
		if err := r.load.remove(ctx, count); err != nil {
			return nil, err
		}
		if err := r.load.create(ctx, names); err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return all, nil
}

// await waits until all pods run. Those that do not while nothing comes about are stuck;
// those that would have run after the limit of the phase are late.
func (r *round) await(ctx context.Context, what string, pods []string) (stuck, late []string, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, r.o.limit, errLate)
	defer cancel()
	err = r.until(limited, func(say bool) (done, total int) {
		running := r.view.runningOf(pods)
		if say {
			r.say("%s: %d of %d pods run", what, running, len(pods))
		}
		return running, len(pods)
	})
	waiting := r.view.waiting(pods)
	switch {
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case errors.Is(err, errLate):
		return nil, waiting, nil
	}
	for i, pod := range waiting {
		if i < 5 {
			r.say("stuck: %s: %s", pod, r.load.why(ctx, pod))
		}
	}
	return waiting, nil, nil
}

// errLate ends a phase.
var errLate = errors.New("the phase takes longer than --phase-limit")

// until asks until all is done, and fails when nothing was done for as long as the user has
// patience. Now and then it has said how far things are.
func (r *round) until(ctx context.Context, ask func(say bool) (done, total int)) error {
	most, since, said := -1, time.Now(), time.Now()
	for {
		now := time.Now()
		say := now.Sub(said) > 10*time.Second
		if say {
			said = now
		}
		done, total := ask(say)
		if done == total {
			return nil
		}
		if done != most {
			most, since = done, now
		}
		if now.Sub(since) > r.o.patience {
			return fmt.Errorf("%d of %d after %s in which nothing came about", done, total, r.o.patience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// published waits until the capacity of every node is published, for every class.
func (r *round) published(ctx context.Context) (time.Duration, error) {
	began := r.working
	err := r.until(ctx, func(say bool) (int, int) {
		right := r.view.capacitiesRight(r.classNames())
		if say {
			r.say("%d of %d capacities are published", right, r.o.nodes*r.o.classes)
		}
		return right, r.o.nodes * r.o.classes
	})
	if err != nil {
		return 0, fmt.Errorf("waiting for capacities to be published: %w", err)
	}
	return time.Since(began), nil
}

// settle waits until what was deleted is gone and what is published is right.
func (r *round) settle(ctx context.Context, found *result) error {
	if !r.load.volumes {
		return nil
	}
	began := r.view.lastStart()
	removed := 0
	if last := found.phases[len(found.phases)-1]; last.name == churn {
		removed = r.o.churn * r.o.claims
	}
	err := r.until(ctx, func(say bool) (int, int) {
		gone := int(r.fleet.Counts().Removed)
		if say {
			r.say("%d of %d deleted volumes are gone", gone, removed)
		}
		return min(gone, removed), removed
	})
	if err == nil {
		err = r.until(ctx, func(bool) (int, int) { return len(r.view.persistent()), r.fleet.Volumes() })
	}
	if err != nil {
		r.say("volumes did not come to rest: %v", err)
	}
	if !found.heeds {
		return ctx.Err()
	}
	if _, err := r.published(ctx); err != nil {
		r.say("capacities did not come to be right: %v", err)
		found.wrongCapacities = r.o.nodes*r.o.classes - r.view.capacitiesRight(r.classNames())
		return ctx.Err()
	}
	found.right = time.Since(began)
	return ctx.Err()
}

// conclude judges and counts when all is at rest.
func (r *round) conclude(ctx context.Context, found *result) error {
	found.nodesDid = r.fleet.Counts()
	if r.load.volumes {
		found.verdict = r.fleet.Judge(r.view.persistent())
	}
	end, err := r.snapshot(ctx)
	if err != nil {
		return err
	}
	found.end = end
	found.requests, err = meter.Requests(r.plane.AuditLog())
	return err
}

// snapshot is how things stand at one moment.
type snapshot struct {
	at      time.Time
	usage   map[string]plane.Usage
	metrics map[string]meter.Metrics
	nodes   hollow.Counts
}

// told are the metrics that are read, of all programs.
var told = []string{
	"open_local_scheduler_verb_duration_seconds", "open_local_call_seconds",
	"scheduler_schedule_attempts_total", "rest_client_requests_total", "open_local_capacit",
}

func (r *round) snapshot(ctx context.Context) (snapshot, error) {
	s := snapshot{at: time.Now(), usage: map[string]plane.Usage{}, metrics: map[string]meter.Metrics{}, nodes: r.fleet.Counts()}
	for _, process := range r.plane.Processes() {
		usage, err := process.Usage()
		if err != nil {
			return s, err
		}
		s.usage[process.Name] = usage
		if r.plane.MetricsURL(process.Name) == "" {
			continue
		}
		if s.metrics[process.Name], err = r.metrics(ctx, process.Name); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (r *round) metrics(ctx context.Context, name string) (meter.Metrics, error) {
	answer, err := r.plane.Metrics(ctx, name)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return meter.Parse(answer.Body, told...)
}

// watchQueue looks at how many nodes wait for the CSI controller to publish what they have,
// until the function that it returns is called for the most and the last.
func (r *round) watchQueue(ctx context.Context) func() queue {
	if !heeds(r.mode) {
		return func() queue { return queue{} }
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan queue)
	go func() {
		var q queue
		defer func() { ended <- q }()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Second):
			}
			if m, err := r.metrics(ctx, plane.Controller); err == nil {
				q.last = int(m.Sum("open_local_capacities_waiting", nil))
				q.most = max(q.most, q.last)
			}
		}
	}()
	return func() queue {
		stop()
		return <-ended
	}
}

// queue is how many nodes waited to be looked at.
type queue struct {
	most, last int
}

func brief(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}
