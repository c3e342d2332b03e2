package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/featuregate"

	"github.com/open-local/open-local/pkg/controller"
)

// updateNLS keeps the spec of every NodeLocalStorage as the init config says;
// without it they are only created.
const updateNLS featuregate.Feature = "UpdateNLS"

// controllerOptions configures the controller.
type controllerOptions struct {
	loopOptions
	controller.Options
	elect         bool
	electID       string
	electIn       string
	lease         time.Duration
	renewDeadline time.Duration
	retryPeriod   time.Duration
}

func controllerCommand() *cobra.Command {
	var o controllerOptions
	gates := featuregate.NewFeatureGate()
	// The gate is new and its name has no rules to break.
	_ = gates.Add(map[featuregate.Feature]featuregate.FeatureSpec{updateNLS: {Default: true, PreRelease: featuregate.Beta}})
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Keep a NodeLocalStorage for every node, as the init config says",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Update = gates.Enabled(updateNLS)
			if o.InitConfig == "" {
				return errors.New("--initconfig is empty")
			}
			return runController(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	o.addFlags(flags)
	gates.AddFlag(flags)
	flags.StringVar(&o.InitConfig, "initconfig", "open-local", "name of the NodeLocalStorageInitConfig to follow")
	flags.BoolVar(&o.elect, "leader-election", true, "let only one of several controllers work")
	flags.StringVar(&o.electID, "leader-election-id", "open-local-controller", "name of the Lease that says who works")
	flags.StringVar(&o.electIn, "leader-election-namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), metav1.NamespaceSystem), "namespace of the Lease")
	flags.DurationVar(&o.lease, "leader-election-lease-duration", 15*time.Second, "how long another controller waits before it takes over")
	flags.DurationVar(&o.renewDeadline, "leader-election-renew-deadline", 10*time.Second, "how long the leader tries to renew before it gives up")
	flags.DurationVar(&o.retryPeriod, "leader-election-retry-period", 2*time.Second, "how long to wait between tries")
	return cmd
}

// runController works until ctx ends, or until another controller leads.
func runController(ctx context.Context, o controllerOptions) error {
	l, err := o.start(ctx, "open-local-controller", "")
	if err != nil {
		return err
	}
	c, err := controller.New(l.core, l.storage, l.events, o.Options)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := o.serve(ctx, group, l.registry); err != nil {
		return err
	}
	group.Go(func() error {
		if !o.elect {
			return c.Run(ctx)
		}
		return o.lead(ctx, l, c)
	})
	return group.Wait()
}

// lead runs c while it leads. The one that lost the lead ends, and starts afresh.
func (o *controllerOptions) lead(ctx context.Context, l *loop, c *controller.Controller) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: o.electIn, Name: o.electID},
			Client:     l.core.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
		},
		LeaseDuration: o.lease, RenewDeadline: o.renewDeadline, RetryPeriod: o.retryPeriod,
		ReleaseOnCancel: true,
		Name:            o.electID,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { result <- c.Run(ctx) },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	select {
	case err = <-result:
	default: // it never led, or ends just now
	}
	if err == nil && ctx.Err() == nil {
		err = errors.New("another controller leads now")
	}
	return err
}
