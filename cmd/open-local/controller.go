package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
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
	election election
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
	o.election.addFlags(flags, "controllers")
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
		if !o.election.enabled {
			return c.Run(ctx)
		}
		name, err := processName()
		if err != nil {
			return err
		}
		return o.election.run(ctx, l.core, name, nil, func(ctx context.Context, _ leadership) error { return c.Run(ctx) })
	})
	return group.Wait()
}
