package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/hack/lab/scale/meter"
	"github.com/open-local/open-local/hack/lab/scale/plane"
	"github.com/open-local/open-local/hack/lab/scale/still"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// memoryOptions is what the memory of our programs is measured with.
type memoryOptions struct {
	nodes, volumes, claimsPerPod int
	streams                      bool
	settle                       time.Duration
	dir, program, limit          string
}

func memoryCommand() *cobra.Command {
	var o memoryOptions
	cmd := &cobra.Command{
		Use:   "memory",
		Short: "Measure the memory of the extender and the CSI controller in a large cluster",
		Long: `memory starts the scheduler extender, and then the CSI controller, in a cluster of many nodes with volumes in
which nothing happens. This process plays the API server, and keeps nothing, so that the machine need not have
room for the cluster. It prints the memory of each program: at most until it is ready, after a while, and
after dashboards have asked it for metrics. It ends with an error when one takes more than --limit.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return measureMemory(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.IntVar(&o.nodes, "nodes", 5000, "number of nodes")
	flags.IntVar(&o.volumes, "volumes", 50, "volumes that each node has, each bound to a claim")
	flags.IntVar(&o.claimsPerPod, "claims-per-pod", 2, "claims of each of the pods that use them all; 0 for no pods")
	flags.BoolVar(&o.streams, "streaming-lists", true, "have the API server stream lists, as it does from Kubernetes 1.34 on")
	flags.DurationVar(&o.settle, "settle", 30*time.Second, "how long after a program is ready its memory is read")
	flags.StringVar(&o.limit, "limit", "300Mi", "fail when a program takes more; 0 for no limit")
	flags.StringVar(&o.dir, "dir", "_output/scale", "directory of logs and keys")
	flags.StringVar(&o.program, "open-local", "_output/bin/open-local", "the program under test")
	return cmd
}

// measureMemory measures one program after the other.
func measureMemory(ctx context.Context, o memoryOptions) error {
	limit, err := resource.ParseQuantity(o.limit)
	if err != nil || o.nodes < 1 || o.volumes < 0 || o.claimsPerPod < 0 {
		return errors.Join(err, fmt.Errorf("--nodes %d must be above zero, --volumes %d and --claims-per-pod %d not below, and --limit a quantity", o.nodes, o.volumes, o.claimsPerPod))
	}
	program, err := filepath.Abs(o.program)
	if err != nil {
		return fmt.Errorf("finding --open-local: %w", err)
	}
	dir, err := filepath.Abs(filepath.Join(o.dir, "memory"))
	if err != nil {
		return fmt.Errorf("finding --dir: %w", err)
	}
	cluster := still.Cluster{
		Fleet: hollow.NewFleet(hollow.Shape{Nodes: o.nodes, Groups: 2, Standing: o.volumes, Size: capacity.GiB, Room: 100 * capacity.GiB}),
		Nodes: o.nodes, ClaimsPerPod: o.claimsPerPod,
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fmt.Printf("%d nodes with %d volumes each\n%-22s %9s %9s %9s %9s %14s %11s\n", o.nodes, o.volumes,
		"memory, MiB", "ready in", "peak", "then", "live heap", "after metrics", "peak of all")
	var tooMuch error
	for _, name := range []string{plane.Extender, plane.Controller} {
		p, err := plane.New(plane.Options{
			Dir: filepath.Join(dir, name), Programs: map[string]string{"open-local": program}, Driver: volume.DefaultDriver, Strategy: "binpack", QPS: 50, Workers: 1,
		})
		if err != nil {
			return err
		}
		go func() {
			if err := p.ServeAPI(ctx, cluster.Server(o.streams)); err != nil {
				cancel(err)
			}
		}()
		peak, err := measure(ctx, p, name, o.settle)
		p.Stop()
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if limit.Value() > 0 && peak > limit.Value() {
			tooMuch = errors.Join(tooMuch, fmt.Errorf("%s took %d MiB, more than --limit %s", name, peak>>20, o.limit))
		}
	}
	return tooMuch
}

// measure prints what one program takes, and returns the most that it took.
func measure(ctx context.Context, p *plane.Plane, name string, settle time.Duration) (int64, error) {
	began := time.Now()
	if err := p.StartOurs(ctx, name); err != nil {
		return 0, err
	}
	took := time.Since(began)
	program := p.Processes()[0]
	first, err := program.Usage()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(settle):
	}
	then, err := program.Usage()
	if err != nil {
		return 0, err
	}
	answer, err := p.Metrics(ctx, name)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	metrics, err := meter.Parse(answer.Body, "go_memstats_next_gc_bytes", "go_gc_gogc_percent")
	if err != nil {
		return 0, err
	}
	// What is alive, and not what is to be collected, says how much is kept.
	live := metrics.Sum("go_memstats_next_gc_bytes", nil) / (1 + metrics.Sum("go_gc_gogc_percent", nil)/100)
	last, err := program.Usage()
	fmt.Printf("%-22s %8.1fs %9d %9d %9.0f %14d %11d\n", name, took.Seconds(), first.Peak>>20, then.RSS>>20,
		live/(1<<20), last.RSS>>20, last.Peak>>20)
	return last.Peak, err
}
