package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/component-base/featuregate"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/controller"
	"github.com/open-local/open-local/pkg/orphans"
	"github.com/open-local/open-local/pkg/volume"
)

// updateNLS keeps the spec of every NodeLocalStorage as the init config says;
// without it they are only created.
const updateNLS featuregate.Feature = "UpdateNLS"

// controllerOptions configures the controller.
type controllerOptions struct {
	loopOptions
	controller.Options
	election  election
	driver    string
	orphanAge time.Duration
}

func controllerCommand() *cobra.Command {
	o := controllerOptions{election: election{
		enabled: true, id: "open-local-controller", lease: 15 * time.Second, renew: 10 * time.Second, retry: 2 * time.Second,
	}}
	gates := featuregate.NewFeatureGate()
	// The gate is new and its name has no rules to break.
	_ = gates.Add(map[featuregate.Feature]featuregate.FeatureSpec{updateNLS: {Default: true, PreRelease: featuregate.Beta}})
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Keep a NodeLocalStorage for every node, as the init config says",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Update = gates.Enabled(updateNLS)
			if err := o.validate(); err != nil {
				return err
			}
			return runController(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	o.addFlags(flags)
	gates.AddFlag(flags)
	flags.StringVar(&o.InitConfig, "initconfig", "open-local", "name of the NodeLocalStorageInitConfig to follow")
	flags.StringVar(&o.driver, "driver", volume.DefaultDriver, "name of the CSI driver whose PersistentVolumes name volumes")
	flags.DurationVar(&o.orphanAge, "orphan-age", orphans.DefaultAge, "how long no PersistentVolume must have named a volume for it to be an orphan")
	o.election.addFlags(flags, "controllers")
	return cmd
}

// validate reports every mistake at once.
func (o *controllerOptions) validate() error {
	var errs []error
	if o.InitConfig == "" {
		errs = append(errs, errors.New("--initconfig is empty"))
	}
	if o.driver == "" {
		errs = append(errs, errors.New("--driver is empty"))
	}
	if o.orphanAge < time.Second {
		errs = append(errs, fmt.Errorf("--orphan-age %s is below a second", o.orphanAge))
	}
	return errors.Join(errs...)
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
	finder, err := orphans.New(orphans.Options{
		Kubernetes: l.core, Storage: l.storage, Reports: c.Reports(), Driver: o.driver, Age: o.orphanAge, Clock: clock.RealClock{},
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := o.serve(ctx, group, l.registry); err != nil {
		return err
	}
	group.Go(func() error {
		if !o.election.enabled {
			return runBoth(ctx, c.Run, finder.Run)
		}
		name, err := processName()
		if err != nil {
			return err
		}
		return o.election.run(ctx, l.core, name, nil, func(ctx context.Context, _ leadership) error { return runBoth(ctx, c.Run, finder.Run) })
	})
	return group.Wait()
}

// runBoth runs what the controller does side by side, until ctx ends or one of them fails.
func runBoth(ctx context.Context, runs ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}
