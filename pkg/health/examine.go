// Package health looks at the volumes that are in use on a node, and says which are not
// well: gone, suspended, read-only, damaged, or without an answer. It reads files of the
// kernel and one block of each device; it starts no process and repairs nothing. It
// does not know who wants a volume.
package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/devfile"
)

// What can be wrong with a volume: the reasons in metrics, the worst first.
const (
	DeviceGone         = "DeviceGone"
	Suspended          = "Suspended"
	NotAnswering       = "NotAnswering"
	ReadError          = "ReadError"
	DeviceReadOnly     = "DeviceReadOnly"
	FileSystemReadOnly = "FileSystemReadOnly"
	FileSystemErrors   = "FileSystemErrors"
	AnotherDevice      = "AnotherDevice"
)

// A Condition is what is wrong with a volume; the zero Condition is nothing.
type Condition struct {
	Reason  string // one of the above
	Message string // for people
}

// Abnormal reports whether anything is wrong.
func (c Condition) Abnormal() bool { return c != Condition{} }

const (
	// patience is how long a device may take to read one block. A disk that sleeps takes
	// ten seconds to wake up, but then nobody uses it.
	patience = 10 * time.Second
	// LVM suspends a volume for moments while it changes it.
	suspendedFor  = time.Second
	suspendedLook = 100 * time.Millisecond
)

// device tells of devices and paths without a process: devfile.Root.
type device interface {
	facts
	Look(path string) (devfile.File, error)
	ReadFirst(ctx context.Context, number uint64) error
	Work(number uint64) (done, running uint64, err error)
}

// facts are what the kernel says of a device at once.
type facts interface {
	Alive(number uint64) bool
	Suspended(number uint64) (bool, error)
	ReadOnly(number uint64) (bool, error)
	ExtErrors(number uint64) (int64, error)
}

// A Subject is a volume in use.
type Subject struct {
	Device uint64 // its number
	// Mount is a path at which its file system is mounted; empty for a block device.
	Mount string
	// Written says that somebody may write to it, and FrozenFS that the file system
	// does not let them.
	Written, FrozenFS bool
}

// Examiner looks at volumes.
type Examiner struct {
	device device
	clock  clock.Clock

	mu      sync.Mutex        // guards reading
	reading map[uint64]*probe // by device
}

// probe is a read that has begun.
type probe struct {
	began time.Time
	ended chan struct{} // closed when err is there
	err   error
}

// NewExaminer returns an Examiner of the devices.
func NewExaminer(device device, clock clock.Clock) *Examiner {
	return &Examiner{device: device, clock: clock, reading: map[uint64]*probe{}}
}

// Examine looks at one volume. It returns within some seconds, whatever the device
// does.
func (e *Examiner) Examine(ctx context.Context, s Subject) Condition {
	if !e.device.Alive(s.Device) {
		return Condition{DeviceGone, "the device of the volume is gone from the node"}
	}
	for _, look := range []func(context.Context, Subject) Condition{e.suspended, e.answers, e.readOnly, e.errors} {
		if c := look(ctx, s); c.Abnormal() {
			return c
		}
	}
	return Condition{}
}

func (e *Examiner) suspended(ctx context.Context, s Subject) Condition {
	for waited := time.Duration(0); ; waited += suspendedLook {
		suspended, err := e.device.Suspended(s.Device)
		switch {
		case err != nil || !suspended:
			return Condition{} // what cannot be asked is seen by reading
		case waited >= suspendedFor || ctx.Err() != nil:
			return Condition{Suspended, "the device of the volume is suspended: everything that reads or writes waits (dmsetup resume)"}
		}
		select {
		case <-ctx.Done():
		case <-e.clock.After(suspendedLook):
		}
	}
}

// answers reads from the device. A read that hangs is left alone, and no other is begun
// beside it.
func (e *Examiner) answers(ctx context.Context, s Subject) Condition {
	before, _, _ := e.device.Work(s.Device)
	p := e.begin(ctx, s)
	select {
	case <-p.ended:
		if p.err != nil {
			return Condition{ReadError, fmt.Sprintf("reading the volume fails: %v", p.err)}
		}
		return Condition{}
	case <-ctx.Done():
	case <-e.clock.After(patience):
	}
	// The read may also wait behind others, because the volume is limited or busy.
	done, running, err := e.device.Work(s.Device)
	if err == nil && (done != before || running == 0) || ctx.Err() != nil {
		return Condition{}
	}
	return Condition{NotAnswering, fmt.Sprintf("a read of the volume has not come back since %s", p.began.UTC().Format(time.RFC3339))}
}

// begin returns the read that is under way, or a new one. It outlives the call.
func (e *Examiner) begin(ctx context.Context, s Subject) *probe {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, under := e.reading[s.Device]; under {
		return p
	}
	p := &probe{began: e.clock.Now(), ended: make(chan struct{})}
	e.reading[s.Device] = p
	ctx = context.WithoutCancel(ctx)
	go func() {
		p.err = e.read(ctx, s)
		e.mu.Lock()
		delete(e.reading, s.Device)
		e.mu.Unlock()
		close(p.ended)
	}()
	return p
}

func (e *Examiner) read(ctx context.Context, s Subject) error {
	if err := e.device.ReadFirst(ctx, s.Device); err != nil {
		return err
	}
	if s.Mount == "" {
		return nil
	}
	// A file system that has given up, as xfs does, fails even this.
	_, err := e.device.Look(s.Mount)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // unmounted meanwhile
	}
	return err
}

func (e *Examiner) readOnly(_ context.Context, s Subject) Condition {
	if !s.Written {
		return Condition{}
	}
	if readOnly, err := e.device.ReadOnly(s.Device); err == nil && readOnly {
		return Condition{DeviceReadOnly, "the device of the volume is read-only, and the volume was to be written to"}
	}
	if s.FrozenFS {
		return Condition{FileSystemReadOnly, "the file system has turned read-only, as it does after an error; see the kernel's log of the node"}
	}
	return Condition{}
}

func (e *Examiner) errors(_ context.Context, s Subject) Condition {
	if s.Mount == "" {
		return Condition{}
	}
	if n, err := e.device.ExtErrors(s.Device); err == nil && n > 0 {
		return Condition{FileSystemErrors, fmt.Sprintf("the file system has found %d errors in itself since it was last checked; it wants fsck while it is not mounted", n)}
	}
	return Condition{}
}
