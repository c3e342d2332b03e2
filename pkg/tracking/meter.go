package tracking

import (
	"github.com/prometheus/client_golang/prometheus"
)

// A meter counts what is published.
type meter struct {
	writes *prometheus.CounterVec
	lag    prometheus.Histogram
}

func newMeter(registry prometheus.Registerer, p *Publisher) *meter {
	m := &meter{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "open_local_capacity_writes_total", Help: "Writes of CSIStorageCapacity objects, by what was done and how it ended.",
		}, []string{"doing", "outcome"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "open_local_capacity_lag_seconds", Help: "How long after a change of a node its capacity was published.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
	}
	registry.MustRegister(m.writes, m.lag,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "open_local_capacities", Help: "CSIStorageCapacity objects that are published.",
		}, func() float64 { return float64(p.objects.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "open_local_capacities_waiting", Help: "Nodes whose capacity has changed and was not looked at yet.",
		}, func() float64 { return float64(p.queue.Len()) }))
	return m
}

func (m *meter) count(doing string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.writes.WithLabelValues(doing, outcome).Inc()
}
