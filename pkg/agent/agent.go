// Package agent makes one node's storage as its NodeLocalStorage says and reports
// what is there: it looks, plans, acts and reports. It writes the status of that
// one object and nothing else, starts no process while nothing happens on the
// node, and never decides itself what may be done to a device.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	informers "github.com/open-local/open-local/pkg/client/informers/externalversions/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

// Options configures an Agent.
type Options struct {
	// Node is the name of the node, and of its NodeLocalStorage.
	Node string
	// Driver is the name of the CSI driver whose volumes are ours.
	Driver string
	// HostRoot is the directory at which the host's root is seen.
	HostRoot string
	// Pattern is the regular expression of the kernel's names of the block devices that
	// are looked at, DefaultPattern when empty. Volume groups are made of any that the
	// spec names.
	Pattern string
	// Interval is between two looks when no event comes.
	Interval time.Duration
	// Heartbeat is how old a report may get before it is repeated.
	Heartbeat time.Duration
}

// Validate reports every mistake at once.
func (o Options) Validate() error {
	var errs []error
	if o.Node == "" {
		errs = append(errs, errors.New("the name of the node is not known"))
	}
	if o.Driver == "" {
		errs = append(errs, errors.New("the name of the driver is not known"))
	}
	if !filepath.IsAbs(o.HostRoot) {
		errs = append(errs, fmt.Errorf("the host's root %q is not an absolute path", o.HostRoot))
	}
	if o.Interval < time.Second || o.Heartbeat < time.Second {
		errs = append(errs, fmt.Errorf("interval %s and heartbeat %s must be a second at least", o.Interval, o.Heartbeat))
	}
	if _, err := compilePattern(o.Pattern); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Events on the node are answered when none came for quiet, and at the latest
// after most: the report is due within a second, and the look takes its time too.
const (
	quiet = 50 * time.Millisecond
	most  = 400 * time.Millisecond
	// A device that is listed and missing may only lack its symbolic link yet,
	// which udev makes a while after the kernel's event.
	recheck = 2 * time.Second
)

// An Agent looks after the storage of one node.
type Agent struct {
	options Options
	host    Host
	client  versioned.Interface
	events  record.EventRecorder
	metrics metrics
	pattern *regexp.Regexp // of the devices to look at

	object cache.SharedIndexInformer
	onNode chan struct{} // something happened on the node
	wake   chan struct{} // something happened to the object

	// What follows belongs to the goroutine of Run.
	waiting    pace                       // events on the node that no look has seen yet
	view       *view                      // nil before the first look at this object
	lookAgain  backoff                    // of looks that failed
	writeAgain backoff                    // of reports that could not be written
	failed     map[string]*failure        // by step
	announced  map[initplan.Problem]bool  // for which there was an event
	wiped      []v1alpha1.WipedDevice     // since the process began, for this object
	ids        map[string]string          // by path, of devices as they were last seen
	onOrphans  map[string]string          // by handle of an orphan, the file system on it
	filled     map[string]capacity.Bytes  // by device, its size when its physical volume was made to fill it and did not
	written    *v1alpha1.NodeLocalStorage // as the last write left it
	wroteOver  *v1alpha1.NodeLocalStorage // what the cache held then
	wrote      time.Time                  // when that was
}

// A view is what the last look gave, and for which object.
type view struct {
	of       *v1alpha1.NodeLocalStorage
	seen     sighting
	seenOnce bool // false: seen is empty, for no look succeeded yet
	problems []initplan.Problem
	err      error     // of the look
	next     time.Time // the next look, if nothing happens before
}

// New returns an Agent. Nothing happens before Run.
func New(options Options, host Host, client versioned.Interface, events record.EventRecorder, registry prometheus.Registerer) (*Agent, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	pattern, err := compilePattern(cmp.Or(options.Pattern, DefaultPattern))
	if err != nil {
		return nil, err
	}
	a := &Agent{
		pattern: pattern,
		options: options, host: host, client: client, events: events, metrics: newMetrics(registry, options.Node),
		onNode: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		waiting:    pace{quiet: quiet, most: most},
		lookAgain:  backoff{shortest: time.Second, longest: time.Minute},
		writeAgain: backoff{shortest: time.Second, longest: time.Minute},
		failed:     map[string]*failure{},
		announced:  map[initplan.Problem]bool{},
		ids:        map[string]string{},
		filled:     map[string]capacity.Bytes{},
		onOrphans:  map[string]string{},
	}
	a.object = informers.NewFilteredNodeLocalStorageInformer(client, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, options.Node).String()
	})
	poke := func() { signal(a.wake) }
	_, err = a.object.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
	})
	if err != nil {
		return nil, fmt.Errorf("watching node local storage %q: %w", options.Node, err)
	}
	return a, nil
}

// Changed tells the agent that something happened on the node. It does not block.
func (a *Agent) Changed() { signal(a.onNode) }

// signal leaves one message in a channel that holds one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithValues("node", a.options.Node))
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.object.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), a.object.HasSynced) {
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.onNode:
			a.waiting.event(time.Now())
		case <-a.wake:
			a.work(ctx)
		case <-timer.C:
			a.work(ctx)
		}
		timer.Reset(time.Until(a.nextDue()))
	}
}

// Watch tells the agent of events on the node until ctx ends: of the kernel's
// about block devices and mounts, of LVM's changes to its metadata, and of volumes that
// are given whole devices. An event source that
// fails is tried again; what it missed is seen by a look then.
func (a *Agent) Watch(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, watch := range map[string]func(context.Context) error{
		"kernel":   a.watchKernel,
		"mounts":   func(ctx context.Context) error { return watchMounts(ctx, a.options.HostRoot, a.Changed) },
		"book":     func(ctx context.Context) error { return watchBook(ctx, a.host.Book.Dir(), a.Changed) },
		"metadata": func(ctx context.Context) error { return watchMetadata(ctx, a.options.HostRoot, a.Changed) },
	} {
		wg.Go(func() { a.keepWatching(ctx, name, watch) })
	}
	return nil
}

func (a *Agent) watchKernel(ctx context.Context) error {
	socket, err := listenKernel()
	if err != nil {
		return err
	}
	return watchKernel(ctx, socket, a.Changed)
}

func (a *Agent) keepWatching(ctx context.Context, name string, watch func(context.Context) error) {
	again := backoff{shortest: time.Second, longest: time.Minute}
	for ctx.Err() == nil {
		err := watch(ctx)
		if ctx.Err() != nil {
			return
		}
		again.failed(time.Now())
		klog.FromContext(ctx).Error(err, "Lost an event source, trying again", "source", name, "after", again.step)
		select {
		case <-ctx.Done():
		case <-time.After(again.step):
			a.Changed()
		}
	}
}
