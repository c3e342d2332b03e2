package agent

import "github.com/prometheus/client_golang/prometheus"

// metrics let an operator see that an idle agent is idle.
type metrics struct {
	looks, writes prometheus.Counter
	problems      prometheus.Gauge
	orphans       prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer, node string) metrics {
	m := metrics{
		looks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "open_local_agent_looks_total", Help: "How often the agent looked at the node; each look is one LVM process.",
		}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "open_local_agent_status_writes_total", Help: "How often the agent wrote the status of its NodeLocalStorage.",
		}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "open_local_agent_problems", Help: "How many things the spec of the NodeLocalStorage asks for that are not done.",
		}),
		orphans: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "open_local_orphan_volumes", Help: "Volumes of open-local on the node that no PersistentVolume names.", ConstLabels: prometheus.Labels{"node": node},
		}),
	}
	registry.MustRegister(m.looks, m.writes, m.problems, m.orphans)
	return m
}
