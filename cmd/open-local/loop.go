package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
)

// loopOptions are those that the two loops, agent and controller, have in common.
type loopOptions struct {
	kubeconfig, master string
	metrics            string
}

func (o *loopOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file (default: the pod's own account)")
	flags.StringVar(&o.master, "master", "", "address of the API server, instead of the kubeconfig's")
	flags.StringVar(&o.metrics, "metrics-address", "", "address of /metrics and /healthz (default: none)")
}

// A loop is what a loop needs of the outside world.
type loop struct {
	core     kubernetes.Interface
	storage  versioned.Interface
	events   record.EventRecorder
	registry *prometheus.Registry
}

// start connects the loop named component on host. Events are sent until ctx ends.
func (o *loopOptions) start(ctx context.Context, component, host string) (*loop, error) {
	config, err := clientcmd.BuildConfigFromFlags(o.master, o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	config.UserAgent = component + "/" + version
	config.QPS, config.Burst = 50, 100 // a new cluster of thousands of nodes is to be ready in minutes
	l := &loop{registry: prometheus.NewRegistry()}
	if l.storage, err = versioned.NewForConfig(config); err != nil {
		return nil, err
	}
	core := rest.CopyConfig(config)
	core.ContentType = "application/vnd.kubernetes.protobuf"
	if l.core, err = kubernetes.NewForConfig(core); err != nil {
		return nil, err
	}
	l.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	l.events = recorder(ctx, l.core, component, host)
	return l, nil
}

// recorder sends events, about Kubernetes' own objects and ours, until ctx ends.
func recorder(ctx context.Context, core kubernetes.Interface, component, host string) record.EventRecorder {
	known := runtime.NewScheme()
	utilruntime.Must(errors.Join(corev1.AddToScheme(known), v1alpha1.AddToScheme(known)))
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: core.CoreV1().Events("")})
	return broadcaster.NewRecorder(known, corev1.EventSource{Component: component, Host: host})
}

// serve answers for the loop's health and metrics, in group until ctx ends. A
// process that answers is alive; whether it can work is for its objects to say.
func (o *loopOptions) serve(ctx context.Context, group *errgroup.Group, registry *prometheus.Registry) error {
	if o.metrics == "" {
		return nil
	}
	alive := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") }
	return serveProbes(ctx, group, o.metrics, map[string]http.Handler{
		"GET /metrics": promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		"GET /healthz": http.HandlerFunc(alive),
	})
}

// serveProbes answers at address, in group until ctx ends.
func serveProbes(ctx context.Context, group *errgroup.Group, address string, routes map[string]http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening for probes: %w", err)
	}
	mux := http.NewServeMux()
	for route, handler := range routes {
		mux.Handle(route, handler)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return nil
}
