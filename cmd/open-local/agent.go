package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/open-local/open-local/pkg/agent"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// agentOptions configures the agent.
type agentOptions struct {
	loopOptions
	agent.Options
	dryRun bool
}

func agentCommand() *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Make a node's storage as its NodeLocalStorage says, and report what is there",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return err
			}
			return runAgent(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *agentOptions) addFlags(flags *pflag.FlagSet) {
	o.loopOptions.addFlags(flags)
	flags.StringVar(&o.Node, "node-name", cmp.Or(os.Getenv("KUBE_NODE_NAME"), os.Getenv("NODE_NAME")), "name of the node (default: $KUBE_NODE_NAME or $NODE_NAME)")
	flags.StringVar(&o.Driver, "driver", volume.DefaultDriver, "name of the CSI driver whose volumes are counted as ours")
	flags.StringVar(&o.HostRoot, "host-root", "/", "where the host's root file system is mounted")
	flags.StringVar(&o.Pattern, "device-pattern", agent.DefaultPattern,
		"regular expression of the whole kernel names of the block devices to look at, such as sdb or nvme0n1p1; devices that listConfig selects are offered only if they match")
	o.Interval, o.Heartbeat = 5*time.Minute, 5*time.Minute
	flags.Var((*seconds)(&o.Interval), "interval", "longest time between two looks at the node; a plain number is seconds")
	flags.Var((*seconds)(&o.Heartbeat), "heartbeat", "longest time between two reports; a plain number is seconds")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print what would be done to this node, and end")

	// The names that the first open-local had.
	flags.Var(flags.Lookup("node-name").Value, "nodename", "")
	_ = flags.MarkDeprecated("nodename", "it is --node-name now")
	flags.Var(flags.Lookup("device-pattern").Value, "regexp", "")
	_ = flags.MarkDeprecated("regexp", "it is --device-pattern now")
	for _, name := range []string{"path.sysfs", "path.mount", "lvname", "initconfig"} {
		flags.String(name, "", "")
		_ = flags.MarkDeprecated(name, "it has no effect")
	}
}

// runAgent works until ctx ends.
func runAgent(ctx context.Context, o agentOptions, out io.Writer) error {
	l, err := o.start(ctx, "open-local-agent", o.Node)
	if err != nil {
		return err
	}
	runner := hostexec.Logged(hostexec.OnHost(o.HostRoot))
	host := agent.Host{
		Groups: lvmOf(runner, o.HostRoot), Devices: blockdev.New(runner, o.HostRoot), Wiper: wipe.New(runner, o.HostRoot), Mounts: mounts.New(runner, o.HostRoot),
		Book: exclusive.NewBook(o.HostRoot), Begun: begun.New(o.HostRoot),
	}
	a, err := agent.New(o.Options, host, l.storage, l.events, l.registry)
	if err != nil {
		return err
	}
	if o.dryRun {
		return printPlan(ctx, a, out)
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := o.serve(ctx, group, l.registry); err != nil {
		return err
	}
	group.Go(func() error { return a.Watch(ctx) })
	group.Go(func() error { return a.Run(ctx) })
	return group.Wait()
}

func printPlan(ctx context.Context, a *agent.Agent, out io.Writer) error {
	steps, problems, err := a.Plan(ctx)
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		_, _ = fmt.Fprintln(out, "nothing to do")
	}
	for _, step := range steps {
		_, _ = fmt.Fprintln(out, "would", step)
	}
	for _, problem := range problems {
		_, _ = fmt.Fprintln(out, "problem", problem)
	}
	return nil
}

// seconds is a duration that may be given as a plain number of seconds.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }

// Type is what the help calls the value.
func (*seconds) Type() string { return "duration" }

// Set reads "90", "90s" or "1m30s".
func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		*s = seconds(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is neither a duration such as 5m nor a number of seconds", text)
	}
	*s = seconds(d)
	return nil
}
