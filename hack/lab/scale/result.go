package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/hack/lab/scale/meter"
	"github.com/open-local/open-local/hack/lab/scale/plane"
)

// A result is what was found in one round.
type result struct {
	mode                   string
	nodes, classes, claims int
	phases                 []phase
	published, right       time.Duration // until all capacities were published, and right at the end
	heeds                  bool          // capacity is published
	wrongCapacities        int
	queue                  queue
	verdict                hollow.Verdict
	nodesDid               hollow.Counts
	end                    snapshot
	requests               map[meter.Request]int
}

// A phase is what was found in one part of it.
type phase struct {
	name          string
	pods          int
	took          time.Duration   // until the last pod ran
	bound         []time.Duration // claims, from their creation, p50 and p99
	started       []time.Duration // pods, the same
	lag           []time.Duration // capacities, from a change of their node
	stuck, late   []string
	before, after snapshot
}

// speed returns how many pods began to run in a second.
func (p phase) speed() float64 {
	if p.took <= 0 {
		return 0
	}
	return float64(p.pods-len(p.stuck)-len(p.late)) / p.took.Seconds()
}

// more returns by how much a metric of a program has grown.
func (p phase) more(program, name string, labels map[string]string) int {
	return int(p.after.metrics[program].Sum(name, labels) - p.before.metrics[program].Sum(name, labels))
}

// verb returns p50 and p99 of a verb of the extender.
func (p phase) verb(name string) []time.Duration {
	return p.quantiles(plane.Extender, "open_local_scheduler_verb_duration_seconds", map[string]string{"verb": name})
}

func (p phase) quantiles(program, name string, labels map[string]string) []time.Duration {
	after, before := p.after.metrics[program], p.before.metrics[program]
	return []time.Duration{after.Quantile(.5, before, name, labels), after.Quantile(.99, before, name, labels)}
}

// attempts returns how often the scheduler tried more than once for each pod.
func (p phase) retries() int {
	return p.more(plane.Scheduler, "scheduler_schedule_attempts_total", nil) - p.more(plane.Scheduler, "scheduler_schedule_attempts_total", map[string]string{"result": "scheduled"})
}

func (p phase) exhausted() int {
	return p.more(plane.Controller, "open_local_call_seconds_count", map[string]string{"method": "CreateVolume", "code": "ResourceExhausted"})
}

func (r *result) stuck() (all []string) {
	for _, p := range r.phases {
		all = append(all, p.stuck...)
	}
	return all
}

func (r *result) late() (all []string) {
	for _, p := range r.phases {
		all = append(all, p.late...)
	}
	return all
}

// extends reports whether the extender was asked.
func (r *result) extends() bool { return r.mode == withExtender || r.mode == withBoth }

// overCommits returns what was promised and was not there. What the extender promises, a
// node must have; without it nodes are asked, and may refuse.
func (r *result) overCommits() int {
	broken := len(r.verdict.OverCommitted)
	if r.extends() {
		broken += int(r.nodesDid.Refused)
	}
	return broken
}

// print writes what was found.
func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "\n── %s: %d nodes, %d claims a pod ──\n", r.mode, r.nodes, r.claims)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tpods\tseconds\tpods/s\tcreated to running\tclaim to bound\tfilter\tscore\treserve\tCreateVolume\tretries\texhausted\tstuck\tlate")
	for _, p := range r.phases {
		if p.pods == 0 {
			continue
		}
		create := p.quantiles(plane.Controller, "open_local_call_seconds", map[string]string{"method": "CreateVolume", "code": "OK"})
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\n", p.name, p.pods, p.took.Seconds(), p.speed(),
			pair(p.started), pair(p.bound), pair(p.verb("filter")), pair(p.verb("prioritize")), pair(p.verb("reserve")), pair(create), p.retries(), p.exhausted(), len(p.stuck), len(p.late))
	}
	table.Flush()
	r.printCapacities(w)
	r.printUsage(w)
	r.printRequests(w)
	if r.claims > 0 {
		fmt.Fprintf(w, "over-commits %d, volumes lost %d, left over %d; nodes made %d, removed %d, refused %d\n",
			r.overCommits(), len(r.verdict.Lost), len(r.verdict.Leaked), r.nodesDid.Made, r.nodesDid.Removed, r.nodesDid.Refused)
	}
}

func (r *result) printCapacities(w io.Writer) {
	if !r.heeds {
		return
	}
	fmt.Fprintf(w, "capacities: of %d nodes and classes, published in %.1f s; nodes waiting to be looked at: at most %d, at the end %d", r.nodes*r.classes, r.published.Seconds(), r.queue.most, r.queue.last)
	for _, p := range r.phases {
		fmt.Fprintf(w, "; right after a change, %s: %s", p.name, pair(p.lag))
	}
	if r.wrongCapacities > 0 {
		fmt.Fprintf(w, "; %d never right", r.wrongCapacities)
	} else {
		fmt.Fprintf(w, "; all right %.1f s after the last pod", r.right.Seconds())
	}
	fmt.Fprintln(w)
}

// printUsage tells what programs took from the first pod to the end.
func (r *result) printUsage(w io.Writer) {
	first := r.phases[0].before
	wall := r.end.at.Sub(first.at).Seconds()
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "program\tmemory\tat most\tCPU\tof one core")
	for _, name := range []string{plane.Extender, plane.Controller, plane.Provision, plane.Scheduler, plane.Manager, plane.API, plane.Etcd} {
		end, ran := r.end.usage[name]
		if !ran {
			continue
		}
		spent := (end.CPU - first.usage[name].CPU).Seconds()
		fmt.Fprintf(table, "%s\t%d MB\t%d MB\t%.1f s\t%.0f %%\n", name, end.RSS/1e6, end.Peak/1e6, spent, 100*spent/wall)
	}
	table.Flush()
}

// writes are the verbs that change something.
var writes = []string{"create", "update", "patch", "delete", "deletecollection"}

// written is how often a user changed something.
func (r *result) written(user string) int {
	written := 0
	for request, count := range r.requests {
		if request.User == user && slices.Contains(writes, request.Verb) {
			written += count
		}
	}
	return written
}

func (r *result) printRequests(w io.Writer) {
	claims := int(r.nodesDid.Made)
	for _, user := range plane.Accounted {
		verbs, written := map[string]int{}, r.written(user)
		for request, count := range r.requests {
			if request.User == user {
				verbs[request.Verb+" "+request.Resource] += count
			}
		}
		if len(verbs) == 0 {
			continue
		}
		var said []string
		for _, verb := range slices.Sorted(maps.Keys(verbs)) {
			said = append(said, fmt.Sprintf("%s %d", verb, verbs[verb]))
		}
		fmt.Fprintf(w, "requests of %s: %s; %d writes, %.2f for each volume made\n", user, strings.Join(said, ", "), written, float64(written)/float64(max(1, claims)))
	}
	scheduler := r.end.metrics[plane.Scheduler].By("rest_client_requests_total", "method")
	var said []string
	for _, method := range slices.Sorted(maps.Keys(scheduler)) {
		said = append(said, fmt.Sprintf("%s %.0f", method, scheduler[method]))
	}
	fmt.Fprintf(w, "requests of %s: %s\n", plane.Scheduler, strings.Join(said, ", "))
}

// compare puts the speeds of all rounds side by side.
func compare(w io.Writer, results []*result) {
	fmt.Fprintln(w, "\n── pods a second ──")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\t")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t", r.mode)
	}
	fmt.Fprintln(table)
	for _, name := range []string{burst, fill, churn} {
		fmt.Fprintf(table, "%s\t", name)
		for _, r := range results {
			fmt.Fprintf(table, "%.1f\t", r.speed(name))
		}
		fmt.Fprintln(table)
	}
	table.Flush()
}

func (r *result) speed(phase string) float64 {
	for _, p := range r.phases {
		if p.name == phase {
			return p.speed()
		}
	}
	return 0
}

// judge says what must not be.
func judge(o options, results []*result) error {
	var errs []error
	speeds := map[string]float64{}
	for _, r := range results {
		speeds[r.mode] = r.speed(burst)
		wrong := map[string][]string{
			"more was promised than there is": r.verdict.OverCommitted, "volumes are lost": r.verdict.Lost, "volumes are left over": r.verdict.Leaked,
		}
		// Kubernetes alone cannot place two claims together: the first may bind the pod to
		// a node without room for the second. That is shown, and is nobody's fault here.
		if r.mode != withCapacity {
			wrong["pods are stuck"], wrong["pods do not run in time"] = r.stuck(), r.late()
		}
		for what, names := range wrong {
			if len(names) > 0 {
				errs = append(errs, fmt.Errorf("mode %s: %s: %s", r.mode, what, brief(names)))
			}
		}
		if r.extends() && r.nodesDid.Refused > 0 {
			errs = append(errs, fmt.Errorf("mode %s: the extender promised room %d times that the node did not have", r.mode, r.nodesDid.Refused))
		}
		if r.wrongCapacities > 0 {
			errs = append(errs, fmt.Errorf("mode %s: %d published capacities are wrong", r.mode, r.wrongCapacities))
		}
		// What is written goes with volumes and not with nodes; published capacity cannot but.
		if wrote, made := r.written(plane.Extender)+r.written(plane.Controller), int(r.nodesDid.Made); r.mode == withExtender && wrote > made {
			errs = append(errs, fmt.Errorf("mode %s: open-local wrote %d times to the API server for %d volumes", r.mode, wrote, made))
		}
		limit, _ := o.memoryLimit() // checked
		if peak := r.end.usage[plane.Extender].Peak; limit > 0 && peak > limit {
			errs = append(errs, fmt.Errorf("mode %s: the extender took %d MB of memory, more than %s", r.mode, peak/1e6, o.extenderMemory))
		}
	}
	least, _ := o.share() // checked
	with, without := speeds[withExtender], speeds[withCapacity]
	if least > 0 && without > 0 && with < least*without {
		errs = append(errs, fmt.Errorf("a burst with the extender runs %.1f pods a second, less than %s of the %.1f without", with, o.leastShare, without))
	}
	return errors.Join(errs...)
}

// pair writes p50 and p99.
func pair(d []time.Duration) string {
	if len(d) != 2 || d[1] == 0 {
		return "-"
	}
	return short(d[0]) + "/" + short(d[1])
}

func short(d time.Duration) string {
	switch {
	case d == math.MaxInt64:
		return "more"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}
