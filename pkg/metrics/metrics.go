// Package metrics makes the registries that the roles of open-local are watched
// through, and the collector of what nodes have. It knows Prometheus and the names on
// dashboards; what the numbers are is told to it. Nothing is registered by importing it.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry that has the process and the Go runtime in it, and the
// version of the program as open_local_build_info.
func NewRegistry(version string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "open_local_build_info",
		Help: "1, with the version of the running program.",
	}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	registry.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
		build,
	)
	return registry
}

// Handler serves the registry's metrics.
func Handler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
}
