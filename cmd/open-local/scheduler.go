package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/extender"
	"github.com/open-local/open-local/pkg/metrics"
	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/volume"
)

// schedulerComponent is what the extender calls itself to the API server.
const schedulerComponent = "open-local-scheduler-extender"

// schedulerOptions configures the scheduler extender.
type schedulerOptions struct {
	extender.Options
	kubeconfig, master string
	port, tlsPort      uint16
	tlsDir             string
	strategy           string
}

func schedulerCommand() *cobra.Command {
	var o schedulerOptions
	cmd := &cobra.Command{
		Use:   "scheduler",
		Short: "Tell kube-scheduler on which nodes a pod's volumes fit, and keep their places",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runScheduler(klog.NewContext(cmd.Context(), klog.Background()), o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *schedulerOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file (default: the pod's own account)")
	flags.StringVar(&o.master, "master", "", "address of the API server, instead of the kubeconfig's")
	flags.Uint16Var(&o.port, "port", 23000, "port of the scheduler's questions, health and metrics")
	flags.Uint16Var(&o.tlsPort, "tls-port", 23443, "port of the CSI controller's reservations, with certificates on both sides; 0 takes none")
	flags.StringVar(&o.tlsDir, "tls-dir", "/etc/open-local/tls", "directory of tls.crt, tls.key and ca.crt for reservations")
	flags.StringVar(&o.Caller, "tls-client-name", extender.DefaultCaller, "common name of the certificate that may reserve")
	flags.StringVar(&o.strategy, "scheduler-strategy", string(allocator.Binpack), "binpack fills a node's groups before others, spread keeps them even")
	flags.StringVar(&o.Driver, "driver", volume.DefaultDriver, "name of the CSI driver whose volumes are placed")
	flags.StringVar(&o.VolumePrefix, "volume-name-prefix", volume.DefaultPrefix, "csi-provisioner's --volume-name-prefix")
	flags.DurationVar(&o.HoldTimeout, "hold-timeout", extender.DefaultHoldTimeout, "how long room is kept for a pod until the scheduler's choice shows")
	flags.DurationVar(&o.HoldWait, "hold-wait", extender.DefaultHoldWait, "how long a pod waits for others to choose when only what they hold is in its way; below the scheduler's httpTimeout")
}

// runScheduler works until ctx ends.
func runScheduler(ctx context.Context, o schedulerOptions) error {
	o.Prefer, o.Version = allocator.Preference(o.strategy), version
	if err := o.Validate(); err != nil {
		return err
	}
	if o.tlsPort != 0 {
		config, err := tlsfiles.Server(filepath.Join(o.tlsDir, "tls.crt"), filepath.Join(o.tlsDir, "tls.key"), filepath.Join(o.tlsDir, "ca.crt"))
		if err != nil {
			return err
		}
		o.ReserveTLS = config
	}
	scheduler, err := o.connect(ctx)
	if err != nil {
		return err
	}
	registry := metrics.NewRegistry(version)
	if err := scheduler.Register(registry); err != nil {
		return err
	}
	plain, err := listen(ctx, o.port)
	if err != nil {
		return err
	}
	var secure net.Listener
	if o.tlsPort != 0 {
		if secure, err = listen(ctx, o.tlsPort); err != nil {
			return errors.Join(err, plain.Close())
		}
	}
	return scheduler.Run(ctx, plain, secure, registry)
}

func (o *schedulerOptions) connect(ctx context.Context) (*extender.Scheduler, error) {
	config, err := clientcmd.BuildConfigFromFlags(o.master, o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	config.UserAgent = schedulerComponent + "/" + version
	storage, err := versioned.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	core := rest.CopyConfig(config)
	core.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(core)
	if err != nil {
		return nil, err
	}
	o.Events = recorder(ctx, client, schedulerComponent, "")
	return extender.New(o.Options, client, storage)
}

func listen(ctx context.Context, port uint16) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("listening on port %d: %w", port, err)
	}
	return listener, nil
}
