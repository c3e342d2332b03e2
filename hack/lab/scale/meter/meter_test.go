package meter

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const text = `# HELP verb_seconds How long verbs take.
# TYPE verb_seconds histogram
verb_seconds_bucket{verb="filter",outcome="ok",le="0.001"} 90
verb_seconds_bucket{verb="filter",outcome="ok",le="0.01"} 98
verb_seconds_bucket{verb="filter",outcome="ok",le="+Inf"} 98
verb_seconds_bucket{verb="filter",outcome="a \"bad\" one",le="0.001"} 0
verb_seconds_bucket{verb="filter",outcome="a \"bad\" one",le="0.01"} 1
verb_seconds_bucket{verb="filter",outcome="a \"bad\" one",le="+Inf"} 2
verb_seconds_count{verb="filter",outcome="ok"} 98
other_total 1e+06
calls_total{method="GET"} 3
calls_total{method="PUT"} 4 1700000000000
`

func parse(t *testing.T, text string) Metrics {
	t.Helper()
	m, err := Parse(strings.NewReader(text), "verb_seconds", "calls_total")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMetricsAreSummed(t *testing.T) {
	m := parse(t, text)
	if got := m.Sum("calls_total", nil); got != 7 {
		t.Errorf("all calls are %v, want 7", got)
	}
	if got := m.Sum("calls_total", map[string]string{"method": "PUT"}); got != 4 {
		t.Errorf("PUTs are %v, want 4", got)
	}
	if diff := cmp.Diff(map[string]float64{"GET": 3, "PUT": 4}, m.By("calls_total", "method")); diff != "" {
		t.Errorf("by method (-want +got):\n%s", diff)
	}
	if got := m.Sum("other_total", nil); got != 0 {
		t.Errorf("what nobody asked for is %v", got)
	}
}

func TestQuantilesOfHistograms(t *testing.T) {
	m := parse(t, text)
	filter := map[string]string{"verb": "filter"}
	for name, test := range map[string]struct {
		share  float64
		before Metrics
		want   time.Duration
	}{
		"the bucket in which half of all lie":             {.5, nil, time.Millisecond},
		"the bucket in which nearly all lie":              {.99, nil, 10 * time.Millisecond},
		"beyond the last bound":                           {1, nil, math.MaxInt64},
		"of what came since, the ok ones having been old": {.5, parse(t, strings.ReplaceAll(text, `a \"bad\" one`, "gone")), 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			before := test.before
			if before != nil { // only the series of before that are still told
				before = before[:3]
			}
			if got := m.Quantile(test.share, before, "verb_seconds", filter); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	if got := m.Quantile(.5, nil, "verb_seconds", map[string]string{"verb": "none"}); got != 0 {
		t.Errorf("of a verb that was never called: %s", got)
	}
}

func TestWhatIsNoMetricIsAnError(t *testing.T) {
	for _, wrong := range []string{"calls_total", "calls_total{x} y", `calls_total{method="GET"} many`} {
		if _, err := Parse(strings.NewReader(wrong+"\n"), "calls_total"); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

func TestQuantilesOfSamples(t *testing.T) {
	var s Samples
	if diff := cmp.Diff([]time.Duration{0, 0}, s.Quantiles(.5, .99)); diff != "" {
		t.Errorf("of nothing (-want +got):\n%s", diff)
	}
	for i := range 100 {
		s.Add(time.Duration(100-i) * time.Second)
	}
	if diff := cmp.Diff([]time.Duration{50 * time.Second, 99 * time.Second, 100 * time.Second}, s.Quantiles(.5, .99, 1)); diff != "" {
		t.Errorf("of 1 to 100 s (-want +got):\n%s", diff)
	}
}

func TestRequestsAreCountedByWhoAskedWhat(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.jsonl")
	lines := `{"verb":"update","user":{"username":"a"},"objectRef":{"resource":"pods","subresource":"status"}}
{"verb":"update","user":{"username":"a"},"objectRef":{"resource":"pods","subresource":"status"}}
{"verb":"get","user":{"username":"b"},"objectRef":{"resource":"pods"}}
{"verb":"get","user":{"username":"b"}}
`
	if err := os.WriteFile(log, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Requests(log)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Request]int{{"a", "update", "pods/status"}: 2, {"b", "get", "pods"}: 1, {"b", "get", ""}: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(log, []byte(lines+"{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Requests(log); err == nil {
		t.Error("a broken log was read")
	}
}
