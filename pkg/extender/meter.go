package extender

import (
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/metrics"
	"github.com/open-local/open-local/pkg/volume"
)

// A meter measures the verbs.
type meter struct{ seconds *prometheus.HistogramVec }

func newMeter() *meter {
	return &meter{seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "open_local_scheduler_verb_duration_seconds",
		Help:    "Time to answer the scheduler and the CSI controller, by how it came out.",
		Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"verb", "outcome"})}
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
	var errs []error
	for _, collector := range []prometheus.Collector{
		s.meter.seconds,
		metrics.NewStorage(s.snapshot),
		gauge("open_local_scheduler_nodes", "Nodes that have reported.", func(n ledger.Stats) int { return n.Nodes }),
		gauge("open_local_scheduler_holds", "Pods that room is held for on every node they may land on.", func(n ledger.Stats) int { return n.Holds }),
		gauge("open_local_scheduler_rooms", "Volumes that grow and snapshots that are made for which room is kept until a report shows them.", func(n ledger.Stats) int { return n.Rooms }),
		gauge("open_local_scheduler_assumptions", "Volumes that are promised on a node and not known to exist.", func(n ledger.Stats) int { return n.Promises }),
	} {
		errs = append(errs, registry.Register(collector))
	}
	return errors.Join(errs...)
}

// snapshot returns what dashboards show.
func (s *Scheduler) snapshot() metrics.Snapshot {
	now := metrics.Snapshot{Allocated: map[string]int{}}
	bound := map[[2]string]bool{} // mount points and devices, by node and path
	volumes, _ := s.caches.volumes.List(labels.Everything())
	for _, pv := range volumes {
		p, ours := placedBy(s.o.Driver, pv)
		if !ours {
			continue
		}
		bound[[2]string{p.node, p.path}] = p.path != ""
		now.Volumes = append(now.Volumes, volumeMetric(p, pv))
	}
	free := map[[2]string]float64{}
	for _, use := range s.ledger.Uses() {
		now.Allocated[use.Name] = use.Volumes
		for _, g := range use.Groups {
			free[[2]string{use.Name, g.Name}] = float64(g.Free)
		}
	}
	storages, _ := s.caches.storages.List(labels.Everything())
	for _, nls := range storages {
		addStorage(&now, nls, free, bound)
	}
	pods, _ := s.caches.pods.List(labels.Everything())
	for _, pod := range pods {
		s.addInline(&now, pod)
	}
	return now
}

func volumeMetric(p placed, pv *corev1.PersistentVolume) metrics.Volume {
	m := metrics.Volume{
		Node: p.node, Name: pv.Name, Type: string(p.kind),
		Status: string(pv.Status.Phase), Storage: p.path,
	}
	if p.kind == volume.LVM {
		m.Storage = p.spot.Group
	}
	if ref := pv.Spec.ClaimRef; ref != nil {
		m.Claim, m.Namespace = ref.Name, ref.Namespace
	}
	return m
}

func addStorage(now *metrics.Snapshot, nls *v1alpha1.NodeLocalStorage, free map[[2]string]float64, bound map[[2]string]bool) {
	info, managed := &nls.Status.NodeStorageInfo, &nls.Status.FilteredStorageInfo
	for _, g := range info.VolumeGroups {
		if left, counted := free[[2]string{nls.Name, g.Name}]; counted {
			now.Groups = append(now.Groups, metrics.Group{Node: nls.Name, Name: g.Name, Total: float64(g.Total), Used: float64(g.Total) - left})
		}
	}
	whole := func(name, kind string, total, available int64) metrics.Whole {
		w := metrics.Whole{Node: nls.Name, Name: name, Type: kind, Total: float64(total), Bound: bound[[2]string{nls.Name, name}]}
		if !w.Bound {
			w.Available = float64(available)
		}
		return w
	}
	for _, m := range info.MountPoints {
		if slices.Contains(managed.MountPoints, m.Name) {
			now.MountPoints = append(now.MountPoints, whole(m.Name, mediaOfDevice(m.Device, info.DeviceInfos), m.Total, m.Available))
		}
	}
	for _, d := range info.DeviceInfos {
		if slices.Contains(managed.Devices, d.Name) {
			now.Devices = append(now.Devices, whole(d.Name, d.MediaType, d.Total, d.Total))
		}
	}
}

func (s *Scheduler) addInline(now *metrics.Snapshot, pod *corev1.Pod) {
	if pod.Spec.NodeName == "" || ended(pod) {
		return
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.CSI == nil || v.CSI.Driver != s.o.Driver {
			continue
		}
		now.Inline = append(now.Inline, metrics.Inline{
			Pod: pod.Name, Namespace: pod.Namespace, Node: pod.Spec.NodeName,
			Group: v.CSI.VolumeAttributes["vgName"], Name: v.Name,
		})
	}
}
