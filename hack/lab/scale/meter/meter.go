// Package meter reads numbers: what programs tell of themselves, and how samples are
// distributed. It does not know what the numbers mean.
package meter

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Series is one line of what a program tells of itself.
type Series struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Metrics is what a program tells of itself.
type Metrics []Series

var line = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$`)
var label = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)

// Parse reads the text format of Prometheus, and keeps what bears one of the names, with or
// without what is put behind the name of a histogram.
func Parse(text io.Reader, names ...string) (Metrics, error) {
	var all Metrics
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(lines.Text(), name) }) {
			continue
		}
		found := line.FindStringSubmatch(lines.Text())
		if found == nil {
			return nil, fmt.Errorf("reading metrics: %q is none", lines.Text())
		}
		value, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			return nil, fmt.Errorf("reading metrics: %q: %w", lines.Text(), err)
		}
		s := Series{Name: found[1], Labels: map[string]string{}, Value: value}
		for _, l := range label.FindAllStringSubmatch(found[2], -1) {
			s.Labels[l[1]] = l[2]
		}
		all = append(all, s)
	}
	return all, lines.Err()
}

func (s Series) matches(name string, labels map[string]string) bool {
	if s.Name != name {
		return false
	}
	for key, value := range labels {
		if s.Labels[key] != value {
			return false
		}
	}
	return true
}

// Sum adds up all series of the name that have the labels.
func (m Metrics) Sum(name string, labels map[string]string) float64 {
	sum := 0.0
	for _, s := range m {
		if s.matches(name, labels) {
			sum += s.Value
		}
	}
	return sum
}

// By adds up the series of the name, by the value of a label.
func (m Metrics) By(name, label string) map[string]float64 {
	sums := map[string]float64{}
	for _, s := range m {
		if s.Name == name {
			sums[s.Labels[label]] += s.Value
		}
	}
	return sums
}

// Quantile returns the upper bound of the bucket in which that share of the observations
// since before lies, of all histograms of the name that have the labels, in seconds.
func (m Metrics) Quantile(share float64, before Metrics, name string, labels map[string]string) time.Duration {
	counts := map[float64]float64{}
	for sign, metrics := range map[float64]Metrics{1: m, -1: before} {
		for _, s := range metrics {
			if !s.matches(name+"_bucket", labels) {
				continue
			}
			bound, err := strconv.ParseFloat(s.Labels["le"], 64)
			if err == nil {
				counts[bound] += sign * s.Value
			}
		}
	}
	bounds := slices.Sorted(maps.Keys(counts))
	if len(bounds) == 0 {
		return 0
	}
	wanted := share * counts[bounds[len(bounds)-1]]
	for _, bound := range bounds {
		if counts[bound] >= wanted && !math.IsInf(bound, 1) {
			return time.Duration(bound * float64(time.Second))
		}
	}
	return time.Duration(math.MaxInt64)
}

// Samples are durations that were measured. They may be added by many.
type Samples struct {
	mu  sync.Mutex // guards all
	all []time.Duration
}

// Add adds a sample.
func (s *Samples) Add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, d)
}

// Quantiles returns for each share the sample below which that share of all lies, or 0
// where there is none.
func (s *Samples) Quantiles(shares ...float64) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.all)
	found := make([]time.Duration, len(shares))
	for i, share := range shares {
		if n := len(s.all); n > 0 {
			found[i] = s.all[min(n-1, int(math.Ceil(share*float64(n)))-1)]
		}
	}
	return found
}
