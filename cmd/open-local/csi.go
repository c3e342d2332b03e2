package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/nodeapi"
	"github.com/open-local/open-local/pkg/volume"
)

// The modes of csi.
const (
	modeController = "controller"
	modeNode       = "node"
	modeAll        = "all"
)

// csiOptions configures the CSI driver.
type csiOptions struct {
	mode       string
	driver     string
	endpoint   string
	kubeconfig string
	cluster    string
	tlsDir     string
	metrics    string
	serverName string
	clientName string
	prefer     string

	extender  string
	nodePort  int
	nodeGrace time.Duration
	publish   publishOptions

	node        string
	hostRoot    string
	kubeletDir  string
	nodeAddress string
	limitsEvery time.Duration
	healthEvery time.Duration
}

func csiCommand() *cobra.Command {
	var o csiOptions
	cmd := &cobra.Command{
		Use:   "csi",
		Short: "Serve the CSI driver: the controller's side, a node's side or both",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return runCSI(cmd.Context(), o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *csiOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.mode, "mode", modeAll, "what to serve: controller, node or all")
	flags.StringVar(&o.driver, "driver", volume.DefaultDriver, "name of the CSI driver")
	flags.StringVar(&o.endpoint, "endpoint", "", "unix:// path of the CSI socket (default: plugins/<driver>/csi.sock in the kubelet's directory)")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file (default: the pod's own account)")
	flags.StringVar(&o.cluster, "cluster-id", "", "identity of the cluster, for the tags of volumes (default: the UID of namespace kube-system)")
	flags.StringVar(&o.tlsDir, "tls-dir", "/etc/open-local/tls", "directory of tls.crt, tls.key and ca.crt, for calls between controller, extender and nodes")
	flags.StringVar(&o.metrics, "metrics-address", "", "address of /metrics, /healthz and /readyz (default: none)")
	flags.StringVar(&o.serverName, "node-api-server-name", nodeapi.DefaultServerName, "name that the certificates of nodes prove")
	flags.StringVar(&o.clientName, "node-api-client-name", nodeapi.DefaultClientName, "common name of the certificate that may call a node")
	flags.StringVar(&o.prefer, "scheduler-strategy", string(allocator.Binpack), "which group is better where no extender decides: binpack or spread")

	flags.StringVar(&o.extender, "extender-address", "", "controller: host:port of the scheduler extender's TLS port (default: none, nodes choose groups)")
	flags.IntVar(&o.nodePort, "node-api-port", 1736, "controller: port at which nodes answer")
	flags.DurationVar(&o.nodeGrace, "node-grace", 5*time.Minute, "controller: how long a node must have left the cluster, since a volume on it was first to be deleted, for its volumes to count as deleted; what is on its disks stays there")

	o.publish.addFlags(flags)

	flags.StringVar(&o.node, "node-name", os.Getenv("NODE_NAME"), "node: its name (default: $NODE_NAME)")
	flags.StringVar(&o.hostRoot, "host-root", "/", "node: where the host's root file system is mounted")
	flags.StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "node: the kubelet's directory, the same here and on the host")
	flags.StringVar(&o.nodeAddress, "node-api-address", ":1736", "node: address at which to answer the controller")

	flags.DurationVar(&o.limitsEvery, "limits-interval", 5*time.Second, "node: how often it is seen to that the limits of volumes hold")
	flags.DurationVar(&o.healthEvery, "health-interval", 30*time.Second, "node: how often the volumes in use are looked at")

	// The names that the first open-local had.
	for old, now := range map[string]string{"driver-name": "driver", "drivername": "driver", "nodeID": "node-name"} {
		flags.Var(flags.Lookup(now).Value, old, "")
		_ = flags.MarkDeprecated(old, "it is --"+now+" now")
	}
}

func (o *csiOptions) controls() bool { return o.mode != modeNode }

func (o *csiOptions) isNode() bool { return o.mode != modeController }

// socket returns the path of the CSI socket.
func (o *csiOptions) socket() string {
	if o.endpoint == "" {
		return filepath.Join(o.kubeletDir, "plugins", o.driver, "csi.sock")
	}
	return strings.TrimPrefix(o.endpoint, "unix://")
}

// validate reports every mistake at once.
func (o *csiOptions) validate() error {
	var errs []error
	complain := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	complain(o.mode != modeController && o.mode != modeNode && o.mode != modeAll, "--mode %q is none of controller, node and all", o.mode)
	complain(o.driver == "", "--driver is empty")
	complain(o.endpoint != "" && !strings.HasPrefix(o.endpoint, "unix:///"), "--endpoint %q is not of the form unix:///path", o.endpoint)
	complain(o.mode == modeController && o.endpoint == "", "--endpoint is required for the controller")
	complain(o.isNode() && o.node == "", "--node-name is required on a node")
	complain(o.isNode() && !filepath.IsAbs(o.hostRoot), "--host-root %q is not an absolute path", o.hostRoot)
	complain(o.isNode() && !filepath.IsAbs(o.kubeletDir), "--kubelet-dir %q is not an absolute path", o.kubeletDir)
	complain(o.isNode() && o.limitsEvery <= 0, "--limits-interval %s is not above zero", o.limitsEvery)
	complain(o.isNode() && o.healthEvery <= 0, "--health-interval %s is not above zero", o.healthEvery)
	if o.controls() {
		o.checkController(complain)
	}
	_, err := allocator.PreferenceNamed(o.prefer)
	return errors.Join(append(errs, err)...)
}

// checkController complains about mistakes in what only the controller's side uses.
func (o *csiOptions) checkController(complain func(wrong bool, format string, args ...any)) {
	complain(o.nodeGrace < 0, "--node-grace %s is below zero", o.nodeGrace)
	o.publish.check(complain)
	complain(o.nodePort < 1 || o.nodePort > 65535, "--node-api-port %d is not a port", o.nodePort)
	if o.extender != "" {
		_, _, err := net.SplitHostPort(o.extender)
		complain(err != nil, "--extender-address %q is not host:port", o.extender)
	}
}

// runCSI serves until ctx ends or something fails, and then lets running calls end.
func runCSI(ctx context.Context, o csiOptions) error {
	r, err := newCSIRun(ctx, o)
	if err != nil {
		return err
	}
	err = r.serve(ctx)
	return cmp.Or(err, r.close())
}
