package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/hack/lab/scale/plane"
	"github.com/open-local/open-local/hack/lab/scale/seed"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/volume"
)

// A round is one mode on a cluster of its own.
type round struct {
	o       options
	mode    string
	plane   *plane.Plane
	fleet   *hollow.Fleet
	began   time.Time
	working time.Time // since when programs work on the cluster

	core    kubernetes.Interface
	dynamic dynamic.Interface
	storage versioned.Interface
	view    *view
	load    *load
}

func newRound(o options, mode string, programs map[string]string) (*round, error) {
	dir := filepath.Join(o.dir, mode)
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("removing what an earlier run left: %w", err)
	}
	p, err := plane.New(plane.Options{
		Dir: dir, Programs: programs, Driver: volume.DefaultDriver, Strategy: o.strategy,
		Volumes: mode != withNothing, Extender: mode == withExtender || mode == withBoth, Capacity: heeds(mode), Percentage: o.percentage(mode),
		QPS: o.qps, Workers: o.workers,
	})
	if err != nil {
		return nil, err
	}
	return &round{o: o, mode: mode, plane: p, fleet: hollow.NewFleet(o.shape()), began: time.Now()}, nil
}

// heeds reports whether capacity is published, and heeded by kube-scheduler.
func heeds(mode string) bool { return mode == withBoth || mode == withCapacity }

// percentage returns of how many nodes kube-scheduler considers which is best. An extender
// is asked about these alone, so it must be all where nothing else knows what is full.
func (o *options) percentage(mode string) int {
	if mode == withExtender {
		return 100
	}
	return 0
}

// shape gives every group room for so many pods that the burst takes half of it, or for one.
func (o *options) shape() hollow.Shape {
	volumes := (2*o.pods*o.claims + o.nodes - 1) / o.nodes // of a node
	pods := max(1, (volumes+o.claims-1)/o.claims)          // whole pods, so that no room is lost in between
	perGroup := (pods*o.claims + o.groups - 1) / o.groups
	for perGroup*o.groups%o.claims != 0 {
		perGroup++
	}
	return hollow.Shape{
		Nodes: o.nodes, Groups: o.groups, Standing: o.standing, Size: o.claimSize,
		Room: o.claimSize.Extents(hollow.Extent) * capacity.Bytes(perGroup), MakingTakes: o.nodeTakes,
	}
}

// run brings the cluster up, works on it and takes it down again, however it ends.
func (r *round) run(ctx context.Context) (*result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var found *result
	err := r.begin(ctx, cancel)
	if err == nil {
		found, err = r.work(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(errors.New("the round is over"))
	r.plane.Stop()
	if !r.o.keep {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.o.dir, r.mode, "etcd")))
	}
	return found, err
}

// say tells how far the round is.
func (r *round) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%-8s %6.1f s  %s\n", r.mode, time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// begin brings the cluster up. What it starts ends with ctx.
func (r *round) begin(ctx context.Context, cancel context.CancelCauseFunc) error {
	if err := r.plane.StartStore(ctx); err != nil {
		return err
	}
	if err := r.seed(ctx); err != nil {
		return err
	}
	r.say("%d nodes with %d volume groups and %d volumes each", r.o.nodes, r.o.groups, r.o.standing)
	if err := r.plane.StartAPI(ctx); err != nil {
		return err
	}
	if err := r.connect(); err != nil {
		return err
	}
	if err := r.install(ctx); err != nil {
		return err
	}
	background := func(what string, run func(context.Context) error) {
		go func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		}()
	}
	background("answering for the nodes", func(ctx context.Context) error {
		return r.fleet.Serve(ctx, r.plane.NodePort(), r.plane.NodeKeys())
	})
	background("reporting for the nodes", func(ctx context.Context) error {
		r.fleet.Report(ctx, r.storage, 16)
		return nil
	})
	var err error
	if r.view, err = newView(r.core, r.fleet); err != nil {
		return err
	}
	if err := r.view.run(ctx); err != nil {
		return err
	}
	r.say("control plane ready")
	r.working = time.Now()
	if err := r.plane.StartWork(ctx); err != nil {
		return err
	}
	background("running the control plane", r.plane.Watch)
	r.load = &load{client: r.core, view: r.view, o: r.o, classes: r.classNames(), volumes: r.mode != withNothing}
	return nil
}

// seed writes what the API server is to know from the beginning.
func (r *round) seed(ctx context.Context) error {
	w := &seed.Writer{URL: r.plane.StoreURL()}
	for i := range r.o.nodes {
		o := r.fleet.Objects(i, volume.DefaultDriver, r.classNames()[0], namespace)
		err := errors.Join(w.Add(ctx, o.Node), w.Add(ctx, o.CSINode), w.Add(ctx, o.Storage))
		for _, pv := range o.Volumes {
			err = errors.Join(err, w.Add(ctx, pv))
		}
		for _, claim := range o.Claims {
			err = errors.Join(err, w.Add(ctx, claim))
		}
		if err != nil {
			return err
		}
	}
	return w.Flush(ctx)
}

func (r *round) connect() error {
	config := r.plane.RESTConfig("scale")
	var err error
	if r.storage, err = versioned.NewForConfig(config); err != nil {
		return err
	}
	if r.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	r.core, err = kubernetes.NewForConfig(config)
	return err
}
