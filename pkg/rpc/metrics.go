package rpc

import (
	"context"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// Timed returns an interceptor that measures calls by method and code, in the
// histogram open_local_call_seconds of the registry.
func Timed(registry prometheus.Registerer) grpc.UnaryServerInterceptor {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "open_local_call_seconds",
		Help:    "How long gRPC calls took, by method and code.",
		Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 15, 60, 300},
	}, []string{"method", "code"})
	registry.MustRegister(seconds)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		resp, err := handler(ctx, req)
		seconds.WithLabelValues(path.Base(info.FullMethod), status.Code(err).String()).Observe(time.Since(start).Seconds())
		return resp, err
	}
}
