package health

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// atOnce is how many volumes are looked at at the same time. Those on a disk that hangs
// take seconds each, and all of them are to be known within a minute.
const atOnce = 256

// teller tells the owners of a volume.
type teller interface {
	Abnormal(volume, reason, message string)
	Normal(volume, message string)
}

// Options configure a Watcher. All must be set.
type Options struct {
	Examiner *Examiner
	Mounts   mountTable
	Devices  namer
	Known    known
	Teller   teller
	// KubeletDir is the kubelet's directory, Driver the driver's name.
	KubeletDir, Driver string
	Registry           prometheus.Registerer
}

// Watcher looks at all volumes in use, and tells once when one is not well, and once
// when it is well again.
type Watcher struct {
	o      Options
	finder finder
	gauge  *prometheus.GaugeVec
	sick   map[string]Condition // by volume; of Look alone
}

// NewWatcher returns a Watcher.
func NewWatcher(o Options) (*Watcher, error) {
	w := &Watcher{
		o:      o,
		finder: finder{mounts: o.Mounts, devices: o.Devices, known: o.Known, kubelet: o.KubeletDir, driver: o.Driver},
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "open_local_volume_abnormal", Help: "1 for each volume in use on this node that is not well, and why.",
		}, []string{"volume", "reason"}),
		sick: map[string]Condition{},
	}
	return w, o.Registry.Register(w.gauge)
}

// Run looks so often, until ctx ends.
func (w *Watcher) Run(ctx context.Context, clock clock.WithTicker, every time.Duration) {
	ticker := clock.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := w.Look(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "The volumes in use were not looked at")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// Look looks at every volume in use, once.
func (w *Watcher) Look(ctx context.Context) error {
	used, err := w.finder.find()
	if err != nil {
		return err
	}
	now := w.examine(ctx, used)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // what was not asked to its end says nothing
	}
	for id, was := range w.sick {
		is, inUse := now[id]
		if is.Reason == was.Reason {
			continue // the same, even if more of it
		}
		w.gauge.DeleteLabelValues(id, was.Reason)
		delete(w.sick, id)
		if inUse && !is.Abnormal() {
			w.o.Teller.Normal(id, "the volume is well again")
			klog.FromContext(ctx).Info("A volume is well again", "volume", id, "reason", was.Reason)
		}
	}
	for id, is := range now {
		if _, known := w.sick[id]; known || !is.Abnormal() {
			continue
		}
		w.sick[id] = is
		w.gauge.WithLabelValues(id, is.Reason).Set(1)
		w.o.Teller.Abnormal(id, is.Reason, is.Message)
		klog.FromContext(ctx).Info("A volume is not well", "volume", id, "reason", is.Reason, "message", is.Message)
	}
	return nil
}

func (w *Watcher) examine(ctx context.Context, used map[string]Subject) map[string]Condition {
	type answer struct {
		id string
		is Condition
	}
	answers := make(chan answer, len(used))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for id, s := range used {
		group.Go(func() error {
			answers <- answer{id, w.o.Examiner.Examine(ctx, s)}
			return nil
		})
	}
	_ = group.Wait() // none of them fails
	close(answers)
	now := map[string]Condition{}
	for a := range answers {
		now[a.id] = a.is
	}
	return now
}
