// Command scale shows how open-local does in a cluster of thousands of nodes, on one
// machine: etcd, the API server, kube-scheduler, csi-provisioner, the scheduler extender and
// the CSI controller are the real programs, the nodes are hollow. It makes a burst of pods
// with volumes, fills the nodes, and lets pods come and go; first with the extender, then
// with capacity tracking alone, then without any volumes. It prints what that took, and
// fails when a promise was broken.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/open-local/open-local/hack/lab/build"
	"github.com/open-local/open-local/hack/lab/scale/plane"
	"github.com/open-local/open-local/pkg/capacity"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// The ways to place pods.
const (
	withExtender = "extender" // by the extender alone
	withBoth     = "both"     // by published capacity first, and then by the extender
	withCapacity = "capacity" // by published capacity alone
	withNothing  = "none"     // pods without volumes
)

var modes = []string{withExtender, withBoth, withCapacity, withNothing}

// options is what the user wants to see.
type options struct {
	nodes, groups, standing    int
	pods, claims, classes      int
	churn                      int
	fill                       int // percent
	modes                      []string
	size                       string
	dir, program, strategy     string
	workers, qps               int
	nodeTakes, patience, limit time.Duration
	extenderMemory, leastShare string
	keep                       bool
	claimSize                  capacity.Bytes
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Show how open-local does in a cluster of thousands of hollow nodes",
		Long: `scale runs etcd, kube-apiserver, kube-scheduler, csi-provisioner, the scheduler extender and the CSI controller
on this machine, with nodes that are played by this process. In each mode it makes a burst of pods, fills the
nodes and lets pods come and go, and prints what that took. It ends with an error when more was promised
than a node has, when a volume was lost or left over, or when a pod did not run.

Modes: extender (the scheduler extender alone), both (published capacity first, and then the extender), capacity
(published capacity alone), none (pods without volumes).
docs/scale.md says what the figures mean.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	cmd.Flags().AddFlagSet(flagSet(&o))
	cmd.AddCommand(memoryCommand())
	return cmd
}

// flagSet defines what a user may say.
func flagSet(o *options) *pflag.FlagSet {
	flags := pflag.NewFlagSet("scale", pflag.ContinueOnError)
	flags.IntVar(&o.nodes, "nodes", 1000, "number of nodes")
	flags.IntVar(&o.groups, "groups", 2, "volume groups of each node")
	flags.IntVar(&o.standing, "volumes", 0, "volumes that each node has from the beginning, each bound to a claim")
	flags.IntVar(&o.pods, "pods", 2000, "pods of the burst")
	flags.IntVar(&o.claims, "claims", 2, "claims of each pod")
	flags.IntVar(&o.classes, "classes", 1, "storage classes; the capacity of each is published for each node")
	flags.StringVar(&o.size, "size", "1Gi", "size of each claim")
	flags.IntVar(&o.fill, "fill", 98, "percent of the room that is filled after the burst")
	flags.IntVar(&o.churn, "churn", 0, "pods that are deleted while as many others are created (default: half as many as --pods)")
	flags.StringSliceVar(&o.modes, "modes", []string{withExtender, withCapacity, withNothing}, "what to compare: "+strings.Join(modes, ", "))
	flags.StringVar(&o.strategy, "strategy", "spread", "of the extender: spread or binpack")
	flags.IntVar(&o.workers, "worker-threads", 100, "volumes that csi-provisioner makes at one time")
	flags.IntVar(&o.qps, "kube-api-qps", 2000, "requests a second that every program may make")
	flags.DurationVar(&o.nodeTakes, "node-takes", 100*time.Millisecond, "how long a node takes to make or remove a volume")
	flags.DurationVar(&o.patience, "patience", 2*time.Minute, "how long nothing may come about before what is missing counts as stuck")
	flags.DurationVar(&o.limit, "phase-limit", 10*time.Minute, "how long a phase may take; pods that do not run by then are told apart from those that are stuck")
	flags.StringVar(&o.extenderMemory, "extender-memory", "300Mi", "fail when the extender takes more; 0 for no limit")
	flags.StringVar(&o.leastShare, "least-share", "", "fail when a burst with the extender is slower than this share of one without, such as 90%")
	flags.StringVar(&o.dir, "dir", "_output/scale", "directory of logs and data; those of before are removed")
	flags.StringVar(&o.program, "open-local", "_output/bin/open-local", "the program under test")
	flags.BoolVar(&o.keep, "keep", false, "keep the data of etcd as well as the logs")
	return flags
}

// check reports every mistake at once.
func (o *options) check() error {
	var errs []error
	complain := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	complain(o.nodes < 1 || o.nodes > 65000, "--nodes %d is not from 1 to 65000", o.nodes)
	complain(o.groups < 1 || o.groups > 24, "--groups %d is not from 1 to 24", o.groups)
	complain(o.standing < 0 || o.standing > 1000, "--volumes %d is not from 0 to 1000", o.standing)
	complain(o.pods < 1, "--pods %d is not above zero", o.pods)
	complain(o.claims < 1 || o.claims > 16, "--claims %d is not from 1 to 16", o.claims)
	complain(o.classes < 1 || o.classes > 16, "--classes %d is not from 1 to 16", o.classes)
	complain(o.fill < 0 || o.fill > 100, "--fill %d is not from 0 to 100", o.fill)
	complain(o.churn < 0 || o.churn > o.pods, "--churn %d is not from 0 to --pods", o.churn)
	complain(o.strategy != "spread" && o.strategy != "binpack", "--strategy %q is neither spread nor binpack", o.strategy)
	complain(len(o.modes) == 0, "--modes is empty")
	for _, mode := range o.modes {
		complain(!slices.Contains(modes, mode), "--modes: %q is none of %s", mode, strings.Join(modes, ", "))
	}
	size, err := resource.ParseQuantity(o.size)
	complain(err != nil || size.Value() < int64(4*capacity.MiB), "--size %q is not a quantity of 4Mi at least", o.size)
	o.claimSize = capacity.Bytes(size.Value())
	_, err = o.memoryLimit()
	complain(err != nil, "--extender-memory %q is not a quantity", o.extenderMemory)
	_, err = o.share()
	complain(err != nil, "--least-share %q is not of the form 90%%", o.leastShare)
	if o.churn == 0 {
		o.churn = o.pods / 2
	}
	return errors.Join(errs...)
}

func (o *options) memoryLimit() (int64, error) {
	limit, err := resource.ParseQuantity(o.extenderMemory)
	return limit.Value(), err
}

// share returns the least share, or 0.
func (o *options) share() (float64, error) {
	if o.leastShare == "" {
		return 0, nil
	}
	var percent float64
	_, err := fmt.Sscanf(o.leastShare, "%f%%", &percent)
	return percent / 100, err
}

// run shows every mode, and judges at the end.
func run(ctx context.Context, o options) error {
	programs, err := findPrograms(ctx, o.program)
	if err != nil {
		return err
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return fmt.Errorf("finding --dir: %w", err)
	}
	log, err := quietly(o.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	var results []*result
	for _, mode := range o.modes {
		r, err := newRound(o, mode, programs)
		if err != nil {
			return err
		}
		result, err := r.run(ctx)
		if err != nil {
			return fmt.Errorf("mode %s: %w", mode, err)
		}
		result.print(os.Stdout)
		results = append(results, result)
	}
	if len(results) > 1 {
		compare(os.Stdout, results)
	}
	return judge(o, results)
}

// quietly has what libraries of this process have to say written to a file.
func quietly(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making --dir: %w", err)
	}
	file, err := os.Create(filepath.Join(dir, "scale.log"))
	if err != nil {
		return nil, fmt.Errorf("making a log: %w", err)
	}
	klog.SetLogger(textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(file))))
	return file, nil
}

// findPrograms returns the files of all programs. Those of Kubernetes are built if they are
// not there.
func findPrograms(ctx context.Context, program string) (map[string]string, error) {
	own, err := filepath.Abs(program)
	if err != nil {
		return nil, fmt.Errorf("finding --open-local: %w", err)
	}
	if _, err := os.Stat(own); err != nil {
		return nil, fmt.Errorf("finding --open-local, which make build makes: %w", err)
	}
	cache, err := build.Open(os.Stderr)
	if err != nil {
		return nil, err
	}
	programs, err := cache.Get(ctx, plane.Programs...)
	if err != nil {
		return nil, err
	}
	programs["open-local"] = own
	return programs, nil
}
