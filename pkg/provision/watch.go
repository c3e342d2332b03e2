package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devmapper"
	"github.com/open-local/open-local/pkg/lvm"
)

// gauge tells how full snapshots are without any process, and has writers wait:
// *devmapper.Control.
type gauge interface {
	Snapshot(group, name string) (devmapper.Snapshot, error)
	Suspended(group, name string) (bool, error)
	Suspend(group, name string) error
	Resume(group, name string) error
}

// expander is the part of *lvm.Host that gives snapshots more space.
type expander interface {
	ExtendVolumeOn(ctx context.Context, group, name string, size capacity.Bytes, members []string) error
	RefreshVolume(ctx context.Context, group, name string) error
	Group(ctx context.Context, group string) (lvm.Group, error)
}

// deviceFile measures devices, and has others look at them, without any process.
type deviceFile interface {
	Size(path string) (capacity.Bytes, error)
	Announce(path string) error
}

// A Trouble is what is wrong with a snapshot, for people to know.
type Trouble struct {
	Snapshot Watched
	Reason   string // one of the words below
	Message  string
}

// The reasons of a Trouble.
const (
	SnapshotLost     = "SnapshotLost"     // it ran full
	SnapshotNoSpace  = "SnapshotNoSpace"  // it cannot grow and will be lost when more is written
	SnapshotNotGrown = "SnapshotNotGrown" // growing it failed
)

// A Watcher keeps the space of this node's snapshots ahead of what is written to the
// volumes that they are of. While nobody writes it looks once a second and starts
// nothing. A snapshot that would be full before its space has grown has those wait who
// write to its origin. All fields must be set.
type Watcher struct {
	Volumes *Provisioner
	Gauge   gauge
	Host    expander
	Devices deviceFile
	Clock   clock.WithTicker
	Tell    func(ctx context.Context, t Trouble) // once per change

	mu       sync.Mutex // guards fillings, what they point to, and members
	fillings map[string]*filling
	members  map[string]*membership // of groups
	work     sync.WaitGroup         // what was begun and has not ended
}

// A membership is which physical volumes a volume group has.
type membership struct {
	known   chan struct{} // closed when devices is
	devices []string      // none if LVM could not tell
}

// Run watches until ctx ends, and until what it had begun has ended.
func (w *Watcher) Run(ctx context.Context) {
	defer w.work.Wait()
	w.release(ctx)
	for {
		// A group that is new brings its snapshots. That it cannot be looked at, calls say.
		if err := w.Volumes.logical.Recall(ctx); err != nil {
			klog.FromContext(ctx).V(2).Info("Could not look for snapshots in new groups", "err", err)
		}
		timer := w.Clock.NewTimer(w.Look(ctx))
		select {
		case <-timer.C():
		case <-w.Volumes.logical.watched.changes():
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// release has those go on whom a process that died left waiting.
func (w *Watcher) release(ctx context.Context) {
	for _, s := range w.Volumes.Watched() {
		suspended, err := w.Gauge.Suspended(s.Group, s.Origin)
		if err == nil && suspended {
			klog.FromContext(ctx).Info("Resuming a volume that was left suspended", "group", s.Group, "name", s.Origin)
			err = w.Host.RefreshVolume(ctx, s.Group, s.Origin)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			klog.FromContext(ctx).Error(err, "Could not tell whether a volume was left suspended", "group", s.Group, "name", s.Origin)
		}
	}
}

// Look looks at every snapshot once and returns when to look again.
func (w *Watcher) Look(ctx context.Context) time.Duration {
	again := calm
	known := map[string]bool{}
	for _, s := range w.Volumes.Watched() {
		known[s.path()] = true
		w.meet(ctx, s.Group)
		again = min(again, w.lookAt(ctx, s))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, f := range w.fillings {
		if !known[path] && !f.busy {
			delete(w.fillings, path)
		}
	}
	return again
}

// lookAt looks at one snapshot. Whatever becomes of it is no matter of the others.
func (w *Watcher) lookAt(ctx context.Context, s Watched) time.Duration {
	seen, err := w.Gauge.Snapshot(s.Group, s.Name)
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.filling(s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return calm // it is being made, or not active
	case err != nil:
		w.tell(ctx, f, Trouble{s, SnapshotNotGrown, fmt.Sprintf("cannot tell how full the snapshot is: %v", err)})
		return calm
	case seen.Lost:
		w.tell(ctx, f, Trouble{s, SnapshotLost, fmt.Sprintf(
			"the space for what is overwritten ran full, nothing can be read of the snapshot; logical volume %s is left to be deleted", s.path())})
		return calm
	}
	now := w.Clock.Now()
	f.see(now, seen)
	v := f.judge(now, seen, s)
	switch {
	case v.grow > 0:
		f.busy = true
		w.work.Go(func() { w.grow(context.WithoutCancel(ctx), s, f, seen.Space, v) })
	case v.hold && f.pause != nil: // whoever writes became faster than was thought
		pause := f.pause
		w.work.Go(func() { w.hold(ctx, s, pause) })
	}
	return v.again
}

// filling returns what is remembered of the snapshot. w.mu is held.
func (w *Watcher) filling(s Watched) *filling {
	if w.fillings == nil {
		w.fillings = map[string]*filling{}
	}
	f := w.fillings[s.path()]
	if f == nil {
		f = &filling{}
		w.fillings[s.path()] = f
	}
	if f.most == 0 {
		if size, err := w.Devices.Size(lvm.DevicePath(s.Group, s.Name)); err == nil {
			f.most = capacity.SnapshotSpace(size)
		}
	}
	return f
}

// meet finds out, once, which physical volumes the group has, while snapshots go on being
// looked at. A group that LVM cannot tell of is asked for again at the next look.
func (w *Watcher) meet(ctx context.Context, group string) *membership {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.members[group]; m != nil {
		return m
	}
	m := &membership{known: make(chan struct{})}
	if w.members == nil {
		w.members = map[string]*membership{}
	}
	w.members[group] = m
	w.work.Go(func() {
		defer close(m.known)
		seen, err := w.Host.Group(ctx, group)
		if err != nil { // growing says what is wrong with it
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.members, group)
			return
		}
		for _, pv := range seen.PhysicalVolumes {
			m.devices = append(m.devices, pv.Device)
		}
	})
	return m
}

// longestHold is how long writers wait at most, whatever becomes of what they wait for.
// LVM takes tenths of a second, and seconds where a node is busy.
const longestHold = 10 * time.Second

// A pause has the writers of an origin wait. Its zero value is ready.
type pause struct {
	mu   sync.Mutex // guards what follows
	end  func()     // nil until it has begun
	over bool
}

// hold has the origin's writers wait until the pause is released, or for longestHold.
// Meanwhile nothing may read the origin that they wait for: kubelet puts a loop device
// over each block volume, at which LVM would look.
func (w *Watcher) hold(ctx context.Context, s Watched, p *pause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil || p.over {
		return
	}
	log := klog.FromContext(ctx).WithValues("group", s.Group, "name", s.Origin)
	if err := w.Gauge.Suspend(s.Group, s.Origin); err != nil {
		log.Error(err, "Could not have writers wait for a snapshot to grow", "snapshot", s.Name)
	}
	resume := sync.OnceFunc(func() {
		if err := w.Gauge.Resume(s.Group, s.Origin); err != nil {
			log.Error(err, "A volume may be left suspended")
		}
	})
	timer, done := w.Clock.NewTimer(longestHold), make(chan struct{})
	w.work.Go(func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			log.Info("Letting writers go on before a snapshot has grown", "snapshot", s.Name, "waited", longestHold.String())
			resume()
		case <-done:
		}
	})
	p.end = func() { close(done); resume() }
}

// release ends the pause, so that none begins later, and reports whether there was one.
// It is called once.
func (p *pause) release() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.end == nil {
		return false
	}
	p.end()
	return true
}

// grow gives the snapshot more space, or as much as its group has. Those who write to its
// origin wait where v says so, or a later look does.
func (w *Watcher) grow(ctx context.Context, s Watched, f *filling, have capacity.Bytes, v verdict) {
	log := klog.FromContext(ctx)
	began := w.Clock.Now()
	members := w.meet(ctx, s.Group)
	<-members.known
	pause := &pause{}
	if len(members.devices) > 0 { // an LVM that looks at all devices might wait for the writers
		if v.hold {
			w.hold(ctx, s, pause)
		}
		w.mu.Lock()
		f.pause = pause
		w.mu.Unlock()
	}
	got, err := w.extend(ctx, s, have, v.grow, members.devices)
	held := pause.release()
	gone := len(members.devices) == 0
	if !gone && err != nil && !errors.Is(err, lvm.ErrNoSpace) { // the group may have other members by now
		got, err = w.extend(ctx, s, have, v.grow, nil)
		gone = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if gone {
		delete(w.members, s.Group)
	}
	f.busy, f.pause = false, nil
	f.at = time.Time{} // those who waited say nothing about the rate
	switch {
	case got > have:
		f.told = ""
		log.Info("Gave a snapshot more space", "group", s.Group, "name", s.Name, "before", have.String(), "after", got.String(),
			"writersWaited", held, "took", w.Clock.Since(began).String())
	case errors.Is(err, lvm.ErrNoSpace):
		f.retry = w.Clock.Now().Add(afterRefusal)
		w.tell(ctx, f, Trouble{s, SnapshotNoSpace, fmt.Sprintf(
			"volume group %s has no room for the snapshot to grow beyond %s: it is lost when that is full; delete snapshots or volumes on this node", s.Group, have)})
	case err != nil:
		f.retry = w.Clock.Now().Add(calm)
		w.tell(ctx, f, Trouble{s, SnapshotNotGrown, fmt.Sprintf("cannot give the snapshot more space than %s: %v", have, err)})
	}
}

// extend extends a snapshot to size, or by what the group has left, and returns what it
// has then.
func (w *Watcher) extend(ctx context.Context, s Watched, have, size capacity.Bytes, members []string) (capacity.Bytes, error) {
	err := w.Host.ExtendVolumeOn(ctx, s.Group, s.Name, size, members)
	switch {
	case err == nil:
		return size, nil
	case !errors.Is(err, lvm.ErrNoSpace):
		return have, err
	}
	group, lookErr := w.Host.Group(ctx, s.Group)
	if lookErr != nil || group.Free == 0 {
		return have, errors.Join(err, lookErr)
	}
	size = have + group.Free
	if err := w.Host.ExtendVolumeOn(ctx, s.Group, s.Name, size, members); err != nil {
		return have, err
	}
	return size, nil
}

// tell tells of trouble that was not told last. w.mu is held.
func (w *Watcher) tell(ctx context.Context, f *filling, t Trouble) {
	if f.told == t.Reason {
		return
	}
	f.told = t.Reason
	klog.FromContext(ctx).Info("Trouble with a snapshot", "group", t.Snapshot.Group, "name", t.Snapshot.Name, "reason", t.Reason, "message", t.Message)
	w.Tell(ctx, t)
	if t.Reason != SnapshotLost {
		return
	}
	// The kernel has no event for it, and the agent would report it minutes later.
	if err := w.Devices.Announce(lvm.DevicePath(t.Snapshot.Group, t.Snapshot.Name)); err != nil {
		klog.FromContext(ctx).Error(err, "The node reports late that a snapshot is lost")
	}
}
