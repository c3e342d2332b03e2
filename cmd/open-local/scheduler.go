package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
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
	verbsTLSPort       uint16
	tlsDir             string
	strategy           string
	antiAffinity       string
	election           election
	address            string // of this pod
	wake               string // namespace/name of what is written to wake the scheduler
}

func schedulerCommand() *cobra.Command {
	// Short, because a pod that waits for its node waits for the extender.
	o := schedulerOptions{election: election{
		id: schedulerComponent, lease: 6 * time.Second, renew: 4 * time.Second, retry: time.Second,
	}}
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
	flags.Uint16Var(&o.verbsTLSPort, "verbs-tls-port", 0, "port of the scheduler's questions with a certificate on this side; --port does not answer them then. 0 takes them on --port, without")
	flags.StringVar(&o.VerbsCaller, "verbs-client-name", "", "common name of the certificate that may ask on --verbs-tls-port (default: none is needed)")
	flags.StringVar(&o.tlsDir, "tls-dir", "/etc/open-local/tls", "directory of tls.crt, tls.key and ca.crt for reservations and --verbs-tls-port")
	flags.StringVar(&o.Caller, "tls-client-name", extender.DefaultCaller, "common name of the certificate that may reserve")
	flags.StringVar(&o.strategy, "scheduler-strategy", string(allocator.Binpack), "binpack fills a node's groups before others, spread keeps them even")
	flags.StringVar(&o.antiAffinity, "enabled-node-anti-affinity", "", "prefer nodes without free storage of these types for pods that do not ask for it, by these weights from 1 to 10, such as MountPoint=5,LVM=3")
	flags.StringVar(&o.Driver, "driver", volume.DefaultDriver, "name of the CSI driver whose volumes are placed")
	flags.StringVar(&o.VolumePrefix, "volume-name-prefix", volume.DefaultPrefix, "csi-provisioner's --volume-name-prefix")
	flags.StringVar(&o.SnapshotPrefix, "snapshot-name-prefix", volume.DefaultSnapshotPrefix, "csi-snapshotter's --snapshot-name-prefix")
	flags.DurationVar(&o.HoldTimeout, "hold-timeout", extender.DefaultHoldTimeout, "how long room is kept for a pod until the scheduler's choice shows")
	o.election.addFlags(flags, "extenders")
	flags.StringVar(&o.address, "pod-ip", os.Getenv("POD_IP"), "address at which the others reach this one when it leads (default: $POD_IP)")
	flags.StringVar(&o.wake, "wake-with", "", "NAMESPACE/NAME of a CSIStorageCapacity to write on when a pod that waits has room, as kube-scheduler tries it again then (default: it is tried when anything else changes, or after five minutes)")
	flags.DurationVar(&o.HoldWait, "hold-wait", extender.DefaultHoldWait, "how long a pod waits for others to choose when only what they hold is in its way; below the scheduler's httpTimeout")
}

// runScheduler works until ctx ends.
func runScheduler(ctx context.Context, o schedulerOptions) error {
	saveMemory()
	o.Prefer, o.Version = allocator.Preference(o.strategy), version
	averse, err := extender.ParseAntiAffinity(o.antiAffinity)
	if o.AntiAffinity = averse; err != nil {
		return fmt.Errorf("reading --enabled-node-anti-affinity: %w", err)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	if err := o.readCertificates(); err != nil {
		return err
	}
	client, err := o.connect(ctx)
	if err != nil {
		return err
	}
	if o.wake != "" {
		if o.Wake, err = waking(client.core, o.wake); err != nil {
			return err
		}
	}
	var elect extender.Election
	if o.election.enabled {
		if elect, err = o.stand(client.core); err != nil {
			return err
		}
	}
	scheduler, err := extender.New(o.Options, client.core, client.storage)
	if err != nil {
		return err
	}
	registry := metrics.NewRegistry(version)
	if err := scheduler.Register(registry); err != nil {
		return err
	}
	at, err := o.listen(ctx)
	if err != nil {
		return err
	}
	return scheduler.Run(ctx, at, registry, elect)
}

// readCertificates reads what proves this extender, where it must.
func (o *schedulerOptions) readCertificates() (err error) {
	serve := func(server func(cert, key, ca string) (*tls.Config, error)) (*tls.Config, error) {
		return server(filepath.Join(o.tlsDir, "tls.crt"), filepath.Join(o.tlsDir, "tls.key"), filepath.Join(o.tlsDir, "ca.crt"))
	}
	if o.tlsPort != 0 {
		if o.ReserveTLS, err = serve(tlsfiles.Server); err != nil {
			return err
		}
	}
	switch {
	case o.verbsTLSPort == 0 && o.VerbsCaller != "":
		return fmt.Errorf("--verbs-client-name %s: without --verbs-tls-port nobody shows a certificate", o.VerbsCaller)
	case o.verbsTLSPort == 0:
		return nil
	case o.VerbsCaller != "":
		o.VerbsTLS, err = serve(tlsfiles.Server)
	default:
		o.VerbsTLS, err = serve(tlsfiles.ServerForAll)
	}
	return err
}

// listen listens on all ports that are given.
func (o *schedulerOptions) listen(ctx context.Context) (at extender.Listeners, err error) {
	if at.Plain, err = listen(ctx, o.port); err != nil {
		return at, err
	}
	for _, more := range []struct {
		port uint16
		into *net.Listener
	}{{o.verbsTLSPort, &at.Verbs}, {o.tlsPort, &at.Secure}} {
		if more.port == 0 {
			continue
		}
		if *more.into, err = listen(ctx, more.port); err != nil {
			return at, err // the process ends, and with it what was opened
		}
	}
	return at, nil
}

// clients reach the API server.
type clients struct {
	core    kubernetes.Interface
	storage versioned.Interface
}

func (o *schedulerOptions) connect(ctx context.Context) (*clients, error) {
	config, err := clientcmd.BuildConfigFromFlags(o.master, o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	config.UserAgent = schedulerComponent + "/" + version
	storage, err := versioned.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	if o.Snapshots, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	core := rest.CopyConfig(config)
	core.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(core)
	if err != nil {
		return nil, err
	}
	o.Events = recorder(ctx, client, schedulerComponent, "")
	return &clients{client, storage}, nil
}

// waking returns what changes the CSIStorageCapacity of that name: kube-scheduler watches
// these, and after any change tries pods again that an extender refused. Nobody reads the
// number.
func waking(client kubernetes.Interface, name string) (func(context.Context) error, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(name)
	if err != nil || namespace == "" || name == "" {
		return nil, fmt.Errorf("--wake-with %q is not NAMESPACE/NAME of a CSIStorageCapacity", name)
	}
	objects := client.StorageV1().CSIStorageCapacities(namespace)
	return func(ctx context.Context) error {
		change := fmt.Appendf(nil, `{"capacity":"%d"}`, time.Now().UnixMilli())
		if _, err := objects.Patch(ctx, name, types.MergePatchType, change, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("writing on CSIStorageCapacity %s/%s, which the chart installs: %w", namespace, name, err)
		}
		return nil
	}, nil
}

// stand has this extender stand for election, under a name that ends in its address.
func (o *schedulerOptions) stand(client kubernetes.Interface) (extender.Election, error) {
	if net.ParseIP(o.address) == nil {
		return nil, fmt.Errorf("--pod-ip %q is not an address, and the other extenders must reach this one when it leads", o.address)
	}
	name, err := processName()
	if err != nil {
		return nil, err
	}
	r := &replica{}
	o.Replica = r
	return func(ctx context.Context, lead func(context.Context)) error {
		return o.election.run(ctx, client, name+addressMark+o.address, r.changed, func(ctx context.Context, mine leadership) error {
			r.lead.Store(&mine)
			lead(ctx)
			<-ctx.Done()
			return nil
		})
	}, nil
}

// addressMark stands before the address in the name of an extender.
const addressMark = "_"

// replica is how this extender stands among all.
type replica struct {
	lead   atomic.Pointer[leadership] // nil until this one leads
	leader atomic.Pointer[string]     // its address
}

func (r *replica) changed(leader string) {
	address := leader[strings.LastIndex(leader, addressMark)+1:]
	r.leader.Store(&address)
}

// Leads implements extender.Replica.
func (r *replica) Leads() bool {
	mine := r.lead.Load()
	return mine != nil && (*mine).Leads()
}

// Leader implements extender.Replica.
func (r *replica) Leader() string {
	if leader := r.leader.Load(); leader != nil {
		return *leader
	}
	return ""
}

func listen(ctx context.Context, port uint16) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("listening on port %d: %w", port, err)
	}
	return listener, nil
}
