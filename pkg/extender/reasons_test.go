package extender

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/metrics"
	"github.com/open-local/open-local/pkg/volume"
)

// TestNoReasonIsTakenForAFormat has what a class, a pod and a report say repeated in
// reasons. kube-scheduler takes what it is told for a format.
func TestNoReasonIsTakenForAFormat(t *testing.T) {
	device := nls("n1", vg("pool", 10*gib))
	device.Status.NodeStorageInfo.VolumeGroups[0].Condition = "worn to 90%"
	for name, test := range map[string]struct {
		objects []runtime.Object
		pod     *corev1.Pod
		want    string
	}{
		"a parameter of a class": {
			[]runtime.Object{nls("n1", vg("pool", 10*gib)), class("odd", "50%s", "x"), claim("a", gib, "odd")}, pod("p", "a"),
			`"50 percents": not known`,
		},
		"a value in a class": {
			[]runtime.Object{nls("n1", vg("pool", 10*gib)), class("odd", "iops", "50 %"), claim("a", gib, "odd")}, pod("p", "a"),
			`"50 percent"`,
		},
		"the size of an inline volume": {
			[]runtime.Object{nls("n1", vg("pool", 10*gib))}, withInline(pod("p"), "s", "vgName", "pool", "size", "50%d"),
			`"50 percentd"`,
		},
		"the name of a group": {
			[]runtime.Object{nls("n1", vg("100%n", 10*gib)), claim("a", 20*gib, "lvm")}, pod("p", "a"),
			"vg 100 percentn: wants 20Gi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(test.objects, node("n1"), test.pod)...)
			r, err := w.s.Filter(w.ctx(), &extenderv1.ExtenderArgs{Pod: test.pod, NodeNames: &[]string{"n1"}})
			_, answer := encodeFilter(nil, r, err)
			said := strings.ReplaceAll(string(answer), `\"`, `"`)
			if strings.Contains(said, "%") || !strings.Contains(said, test.want) {
				t.Errorf("said is %s, want %s and no sign", said, test.want)
			}
			// The event of ours is not sent where the scheduler has said the same.
			p, _ := w.s.caches.pods.Get("default/p")
			count, _, err := w.s.whyNot(p)
			if err != nil {
				t.Fatal(err)
			}
			for reason := range count {
				if !strings.Contains(said, reason) {
					t.Errorf("in our own words it is %q, the scheduler was told %s", reason, said)
				}
			}
		})
	}
	_, answer := encodeFilter(nil, nil, errors.New("full to 100% of it"))
	if !strings.Contains(string(answer), `"Error":"full to 100 percent of it"`) {
		t.Errorf("an error is sent as %s", answer)
	}
}

func TestReasonsAreCountedInFewWords(t *testing.T) {
	for want, reasons := range map[string][]error{
		"no group": {&allocator.Misfit{Final: true}},
		"trouble":  {&allocator.Misfit{Group: "g", Trouble: "DiskFault", Final: true}},
		"stripes":  {&allocator.Misfit{Group: "g", Stripes: true, Final: true}},
		"too large": {
			&allocator.Misfit{Group: "g", Final: true},
			fmt.Errorf("%w: %w", reserve.ErrNoRoom, &allocator.Misfit{Group: "g", Final: true}),
		},
		"held":      {&allocator.Misfit{Group: "g", Held: 1}},
		"no room":   {&allocator.Misfit{Group: "g"}, fmt.Errorf("%w: here", reserve.ErrNoRoom)},
		"no report": {errNoReport, refusedReservation(errNoReport)},
		"elsewhere": {fmt.Errorf("%w: there", errElsewhere), fmt.Errorf("%w: there", errThere), fmt.Errorf("%w: there", reserve.ErrElsewhere)},
		"changed":   {fmt.Errorf("%w: again", errChanged)},
		"invalid":   {fmt.Errorf("%w class", volume.ErrInvalid), fmt.Errorf("%w: request", reserve.ErrInvalid)},
		"unknown":   {fmt.Errorf("%w: claim", reserve.ErrUnknown)},
		"other":     {errors.New("what is this")},
	} {
		for _, reason := range reasons {
			if got := why(reason); got != want {
				t.Errorf("%v counts as %q, want %q", reason, got, want)
			}
		}
	}
}

// TestRefusalsAreCounted refuses nodes for two reasons, and a reservation.
func TestRefusalsAreCounted(t *testing.T) {
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 10*gib)), node("n2"), nls("n2", vg("pool", 30*gib, lv("x", 20*gib))), node("n3"),
		claim("a", 20*gib, "lvm"), pod("p", "a"))
	registry := metrics.NewRegistry("test")
	if err := w.s.Register(registry); err != nil {
		t.Fatal(err)
	}
	w.mustFit(pod("p", "a"), "", "n1", "n2", "n3")
	_, err := w.s.Reserve(w.ctx(), reserve.Request{Namespace: "default", Claim: "a", Node: "n2"})
	w.s.meter.deny("reserve", err)
	w.s.meter.deny("reserve", fmt.Errorf("%w: yet", reserve.ErrNotReady))
	w.s.meter.deny("reserve", nil)
	want := `
# HELP open_local_scheduler_refusals_total Nodes that were refused when a pod was filtered, and other questions that were refused, by reason.
# TYPE open_local_scheduler_refusals_total counter
open_local_scheduler_refusals_total{reason="no report",verb="filter"} 1
open_local_scheduler_refusals_total{reason="no room",verb="filter"} 1
open_local_scheduler_refusals_total{reason="too large",verb="filter"} 1
open_local_scheduler_refusals_total{reason="no room",verb="reserve"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "open_local_scheduler_refusals_total"); err != nil {
		t.Error(err)
	}
}

// TestEveryMetricIsExplained looks for what the extender measures, and for all words that
// are counted, in docs/operations.md.
func TestEveryMetricIsExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 10*gib)), claim("a", 20*gib, "lvm"), pod("p", "a"))
	registry := metrics.NewRegistry("test")
	if err := w.s.Register(registry); err != nil {
		t.Fatal(err)
	}
	w.mustFit(pod("p", "a"), "", "n1")
	w.s.meter.observe("filter", "ok", 0)
	server := httptest.NewServer(w.s.Handler(w.ctx(), registry))
	defer server.Close()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, family := range families {
		if name := family.GetName(); strings.HasPrefix(name, "open_local_scheduler_") {
			named++
			if !strings.Contains(string(page), "| `"+name+"` |") {
				t.Errorf("%s is not explained", name)
			}
		}
	}
	if named != 8 {
		t.Errorf("%d metrics were looked for", named)
	}
	for _, word := range []string{
		"invalid", "elsewhere", "no report", "no group", "trouble", "too large", "stripes", "held", "no room", "changed", "unknown", "other", "ok", "not ready", "error",
		"hold", "assumption", "lingering", "room", "volumes", "claims", "reports", "pods",
	} {
		if !strings.Contains(string(page), "`"+word+"`") {
			t.Errorf("the word %q is not explained", word)
		}
	}
}
