package extender

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/metrics"
	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

// A meter measures the verbs.
type meter struct {
	seconds *prometheus.HistogramVec
	refused *prometheus.CounterVec
}

func newMeter() *meter {
	return &meter{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "open_local_scheduler_verb_duration_seconds",
			Help:    "Time to answer the scheduler and the CSI controller, by how it came out.",
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"verb", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "open_local_scheduler_refusals_total",
			Help: "Nodes that were refused when a pod was filtered, and other questions that were refused, by reason.",
		}, []string{"verb", "reason"}),
	}
}

// refuse counts the nodes that are refused a pod.
func (m *meter) refuse(refused []refusal) {
	if len(refused) == 0 {
		return
	}
	counts := map[string]int{}
	for i := range refused {
		counts[why(refused[i].reason)]++
	}
	for reason, n := range counts {
		m.refused.WithLabelValues("filter", reason).Add(float64(n))
	}
}

// deny counts a question that is refused. That this extender is not ready is no refusal.
func (m *meter) deny(verb string, err error) {
	if err != nil && !errors.Is(err, reserve.ErrNotReady) {
		m.refused.WithLabelValues(verb, why(err)).Inc()
	}
}

func (m *meter) observe(verb, outcome string, took time.Duration) {
	m.seconds.WithLabelValues(verb, outcome).Observe(took.Seconds())
}

// outcome sums an error up in one of few words.
func outcome(err error) string {
	for word, kind := range map[string]error{
		"not ready": reserve.ErrNotReady,
		"no room":   reserve.ErrNoRoom,
		"elsewhere": reserve.ErrElsewhere,
		"unknown":   reserve.ErrUnknown,
		"invalid":   reserve.ErrInvalid,
	} {
		if errors.Is(err, kind) {
			return word
		}
	}
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errNotReady):
		return "not ready"
	}
	return "error"
}

// Register adds what is to be measured here to the registry.
func (s *Scheduler) Register(registry *prometheus.Registry) error {
	gauge := func(name, help string, value func(ledger.Stats) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.ledger.Expire(s.clock.Now())
			return float64(value(s.ledger.Stats()))
		})
	}
	expired := func(what string, value func(ledger.Expired) int) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "open_local_scheduler_expired_total", Help: "What ended by itself because nobody said in time what became of it.",
			ConstLabels: prometheus.Labels{"what": what},
		}, func() float64 { return float64(value(s.ledger.Stats().Expired)) })
	}
	age := func(name string, heard func() time.Time) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "open_local_scheduler_cache_age_seconds", Help: "Time since the API server last said anything about objects of a kind.",
			ConstLabels: prometheus.Labels{"cache": name},
		}, func() float64 { return s.clock.Since(heard()).Seconds() })
	}
	var errs []error
	for _, collector := range []prometheus.Collector{
		s.meter.seconds, s.meter.refused,
		expired("hold", func(e ledger.Expired) int { return e.Holds }),
		expired("assumption", func(e ledger.Expired) int { return e.Promises }),
		expired("lingering", func(e ledger.Expired) int { return e.Lingered }),
		expired("room", func(e ledger.Expired) int { return e.Rooms }),
		age("volumes", s.caches.volumes.Heard), age("claims", s.caches.claims.Heard),
		age("reports", s.caches.reports.Heard), age("pods", s.caches.pods.Heard),
		gauge("open_local_scheduler_nodes", "Nodes that have reported.", func(n ledger.Stats) int { return n.Nodes }),
		gauge("open_local_scheduler_holds", "Pods that room is held for on every node they may land on.", func(n ledger.Stats) int { return n.Holds }),
		gauge("open_local_scheduler_rooms", "Volumes that grow and snapshots that are made for which room is kept until a report shows them.", func(n ledger.Stats) int { return n.Rooms }),
		gauge("open_local_scheduler_assumptions", "Volumes that are promised on a node and not known to exist.", func(n ledger.Stats) int { return n.Promises }),
	} {
		errs = append(errs, registry.Register(collector))
	}
	return errors.Join(errs...)
}

// snapshot returns what dashboards show: nothing where another extender leads and says
// it, or a sum would count everything twice.
func (s *Scheduler) snapshot() metrics.Snapshot {
	if !s.leads() {
		return metrics.Snapshot{}
	}
	now := metrics.Snapshot{Allocated: map[string]int{}, Volumes: s.volumeMetrics}
	bound := map[[2]string]bool{} // mount points and devices, by node and path
	for _, pv := range s.caches.volumes.List() {
		p, ours := pv.placed()
		if !ours {
			continue
		}
		if p.path != "" {
			bound[[2]string{p.node, p.path}] = true
		}
	}
	free := map[[2]string]float64{}
	for _, use := range s.ledger.Uses() {
		now.Allocated[use.Name] = use.Volumes
		for _, g := range use.Groups {
			free[[2]string{use.Name, g.Name}] = float64(g.Free)
		}
	}
	for _, report := range s.caches.reports.List() {
		addStorage(&now, report, free, bound)
	}
	for _, pod := range s.caches.pods.List() {
		addInline(&now, pod)
	}
	return now
}

// volumeMetrics are what dashboards show of volumes.
func (s *Scheduler) volumeMetrics(each func(metrics.Volume) bool) {
	for _, pv := range s.caches.volumes.List() {
		if p, ours := pv.placed(); ours && !each(volumeMetric(p, pv)) {
			return
		}
	}
}

func volumeMetric(p placed, pv *volumeRecord) metrics.Volume {
	m := metrics.Volume{
		Node: p.node, Name: pv.Key(), Type: string(p.kind),
		Status: string(pv.at.Value().phase), Storage: p.path,
	}
	if p.kind == volume.LVM {
		m.Storage = p.spot.Group
	}
	m.Namespace, m.Claim, _ = strings.Cut(pv.claim, "/")
	return m
}

func addStorage(now *metrics.Snapshot, report *reportRecord, free map[[2]string]float64, bound map[[2]string]bool) {
	node := report.Key()
	for _, g := range report.totals {
		if left, counted := free[[2]string{node, g.name}]; counted {
			now.Groups = append(now.Groups, metrics.Group{Node: node, Name: g.name, Total: float64(g.total), Used: float64(g.total) - left})
		}
	}
	state := func(w metrics.Whole) metrics.Whole {
		if w.Bound = bound[[2]string{node, w.Name}]; w.Bound {
			w.Available = 0
		}
		return w
	}
	for _, m := range report.mounts {
		now.MountPoints = append(now.MountPoints, state(m))
	}
	for _, d := range report.devices {
		now.Devices = append(now.Devices, state(d))
	}
}

// wholeMetrics returns the file systems and disks that the agent manages, as if none of
// them were bound.
func wholeMetrics(nls *v1alpha1.NodeLocalStorage) (mounts, devices []metrics.Whole) {
	info, managed := &nls.Status.NodeStorageInfo, &nls.Status.FilteredStorageInfo
	whole := func(name, media string, total, available int64) metrics.Whole {
		return metrics.Whole{Node: nls.Name, Name: slim.Once(name), Type: slim.Once(media), Total: float64(total), Available: float64(available)}
	}
	for _, m := range info.MountPoints {
		if slices.Contains(managed.MountPoints, m.Name) {
			mounts = append(mounts, whole(m.Name, mediaOfDevice(m.Device, info.DeviceInfos), m.Total, m.Available))
		}
	}
	for _, d := range info.DeviceInfos {
		if slices.Contains(managed.Devices, d.Name) {
			devices = append(devices, whole(d.Name, d.MediaType, d.Total, d.Total))
		}
	}
	return mounts, devices
}

func addInline(now *metrics.Snapshot, pod *podRecord) {
	if pod.node == "" || pod.ended {
		return
	}
	for _, v := range pod.volumes {
		if v.inline == nil {
			continue
		}
		now.Inline = append(now.Inline, metrics.Inline{
			Pod: pod.Name(), Namespace: pod.Namespace(), Node: pod.node, Group: v.inline.attributes["vgName"], Name: v.inline.name,
		})
	}
}
