// Package provision makes and removes volumes on the node it runs on, so that
// every call can be repeated and the process can die between any two steps. It
// knows one way for each kind of volume, and refuses to know who asks: no CSI, no
// gRPC and no API client.
package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// What callers ask about, beside the errors of package lvm.
var (
	// ErrConflict says that a volume of that name stands and is not the one asked for.
	ErrConflict = errors.New("a different volume stands")
	// ErrBusy says that another call for the same volume has not ended yet.
	ErrBusy = errors.New("another operation on this volume is under way")
	// ErrOutOfRange says that no size LVM can give lies between what is wanted and
	// the limit.
	ErrOutOfRange = errors.New("size is out of range")
	// ErrUnmanaged says that volumes may not be cut from that group on this node.
	ErrUnmanaged = errors.New("volume group is not managed on this node")
	// ErrNotReady says that this node does not know yet what it manages.
	ErrNotReady = errors.New("node does not know yet which volume groups it manages")
	// ErrNoDevice says that this node has no device, or no mount point, to give for a
	// volume: nothing was given.
	ErrNoDevice = errors.New("nothing on this node can be given to the volume")
)

// kind is how volumes of one volumeType come and go.
type kind interface {
	// ensure makes the volume stand. What it returns beside the volume, if
	// anything, is long work that must have ended before the volume may be handed
	// out, and that may be begun again from its start.
	ensure(ctx context.Context, spec Spec) (Volume, finish, error)
	// remove makes the volume not stand. What it returns, if anything, is long work
	// after which it does not, and that may be begun again from its start.
	remove(ctx context.Context, r Removal) (finish, error)
	changer
	snapshotter
}

// changer is how volumes of one volumeType change.
type changer interface {
	grow(ctx context.Context, g Growth) (capacity.Bytes, error)
	modify(ctx context.Context, m Modification) error
}

// snapshotter is how snapshots of volumes of one volumeType come and go.
type snapshotter interface {
	snapshot(ctx context.Context, spec SnapshotSpec) (Snapshot, error)
	removeSnapshot(ctx context.Context, r SnapshotRemoval) error
}

type finish func(ctx context.Context, say say) error

// Provisioner makes and removes the volumes of one node.
type Provisioner struct {
	kinds   map[volume.Kind]kind
	logical *Logical        // which inline volumes are
	stop    context.Context //nolint:containedctx // ends when Close is called; work outlives calls

	cancel context.CancelFunc
	work   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	jobs map[string]*job
}

// job is what is under way for one volume.
type job struct {
	id     string
	ctx    context.Context //nolint:containedctx // that of the work which outlives the call
	cancel context.CancelFunc
	status atomic.Pointer[func() string] // what it is at
	stays  bool                          // is not given up for a removal: it is one
}

// say sets what the job tells others that it is at.
func (j *job) say(status func() string) { j.status.Store(&status) }

// busy is the error of a call that meets the job.
func (j *job) busy() error {
	if status := j.status.Load(); status != nil {
		return fmt.Errorf("volume %s: %w: %s", j.id, ErrBusy, (*status)())
	}
	return fmt.Errorf("volume %s: %w", j.id, ErrBusy)
}

// A Whole makes volumes of one type that is not cut from anything: *Devices or
// *MountPoints.
type Whole interface {
	kind
	of() volume.Kind
}

// New returns a Provisioner that logs through the logger of ctx. It works until
// Close is called, whatever becomes of ctx.
func New(ctx context.Context, logical *Logical, wholes ...Whole) *Provisioner {
	stop, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.FromContext(ctx)))
	kinds := map[volume.Kind]kind{volume.LVM: logical}
	for _, whole := range wholes {
		kinds[whole.of()] = whole
	}
	p := &Provisioner{
		kinds:   kinds,
		logical: logical,
		stop:    stop,
		cancel:  cancel,
		jobs:    map[string]*job{},
	}
	logical.later = func(work func(ctx context.Context)) { p.work.Go(func() { work(p.stop) }) }
	logical.eraseLater() // what a process that died was at
	return p
}

// Close gives up work that outlived its calls, and waits for it to end. What is
// given up is begun again by the next call for its volume.
func (p *Provisioner) Close() {
	p.cancel()
	p.work.Wait()
}

// Ensure makes spec's volume exist and returns it. Calling it again is free;
// calling it with another size is ErrConflict. While one call is under way,
// another for the same volume is ErrBusy.
//
// A block volume is zeroed, and a volume with a source is made a copy of it. Where that
// takes longer than the caller waits, it goes on without: calls are ErrBusy until it
// has ended, and say how far it is, and the next one finds the volume ready. A caller
// with a deadline is told so shortly before, while it can still hear it. If the
// process ends first, the next call begins again from the start.
func (p *Provisioner) Ensure(ctx context.Context, spec Spec) (Volume, error) {
	kind, err := p.kind(spec.Kind)
	if err != nil {
		return Volume{}, err
	}
	if err := spec.validate(); err != nil {
		return Volume{}, err
	}
	job, err := p.begin(spec.ID)
	if err != nil {
		return Volume{}, err
	}
	vol, rest, err := kind.ensure(ctx, spec)
	if err == nil {
		err = p.finish(ctx, job, rest)
	} else {
		p.end(job)
	}
	if err != nil {
		return Volume{}, err
	}
	return vol, nil
}

// finish does the rest of a job and ends it. Where that takes longer than the caller
// waits, it goes on without.
func (p *Provisioner) finish(ctx context.Context, job *job, rest finish) error {
	if rest == nil {
		p.end(job)
		return nil
	}
	done := make(chan error, 1)
	p.work.Go(func() {
		err := rest(job.ctx, job.say)
		p.end(job)
		done <- err
	})
	waiting, cancel := leaving(ctx)
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-waiting.Done():
	}
	if ctx.Err() == nil {
		return job.busy()
	}
	return fmt.Errorf("waiting for volume %s: %w", job.id, context.Cause(ctx))
}

// farewell is how long before its deadline a caller is answered.
const farewell = time.Second

// leaving returns a context that ends early enough before ctx for an answer to arrive.
func leaving(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-farewell))
}

// Remove makes the volume not exist. One that is gone already is a success. A
// group that is missing is lvm.ErrGroupNotFound, because it may come back with the
// volume in it. Zeroing or copying that is still under way is given up, and Remove is ErrBusy
// until it has ended. Wiping goes on where it takes longer than the caller waits, as
// Ensure says of zeroing.
func (p *Provisioner) Remove(ctx context.Context, r Removal) error {
	kind, err := p.kind(r.Kind)
	if err != nil {
		return err
	}
	if err := volume.ValidID(r.ID); err != nil {
		return err
	}
	if volume.IsInline(r.ID) {
		return fmt.Errorf("%w removal of volume %s: an inline volume is removed with its pod, not by a PersistentVolume", volume.ErrInvalid, r.ID)
	}
	job, err := p.begin(r.ID)
	if err != nil {
		p.giveUp(r.ID)
		return err
	}
	rest, err := kind.remove(ctx, r)
	if err != nil {
		p.end(job)
		return err
	}
	p.keep(job)
	return p.finish(ctx, job, rest)
}

func (p *Provisioner) kind(name volume.Kind) (kind, error) {
	kind, ok := p.kinds[name]
	if !ok {
		return nil, fmt.Errorf("%w volumeType %q: this node does not serve it", volume.ErrInvalid, name)
	}
	return kind, nil
}

func (p *Provisioner) begin(id string) (*job, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, taken := p.jobs[id]; taken {
		return nil, other.busy()
	}
	ctx, cancel := context.WithCancel(p.stop)
	p.jobs[id] = &job{id: id, ctx: ctx, cancel: cancel}
	return p.jobs[id], nil
}

func (p *Provisioner) end(j *job) {
	j.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.jobs, j.id)
}

// keep has a job go on whoever wants it given up.
func (p *Provisioner) keep(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.stays = true
}

// giveUp cancels what outlived its call. A call itself has its own context.
func (p *Provisioner) giveUp(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if job, ok := p.jobs[id]; ok && !job.stays {
		job.cancel()
	}
}
