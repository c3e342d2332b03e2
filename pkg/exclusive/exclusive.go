// Package exclusive hands out what volumes do not share: whole devices and whole mounted
// file systems, each to one volume at a time. It remembers what it handed out by who a
// device is and not by what it is called, finds it again by that, and refuses when what
// it finds is something else. It knows no CSI and no API client, and does not choose:
// which device a volume gets is decided elsewhere.
package exclusive

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// What callers ask about a failure, with errors.Is.
var (
	// ErrTaken says that the device or mount point belongs to another volume.
	ErrTaken = errors.New("it belongs to another volume")
	// ErrConflict says that the volume stands and is not what is asked for.
	ErrConflict = errors.New("a different volume stands")
	// ErrNotFit says that the device cannot be handed out, or not for this.
	ErrNotFit = errors.New("it cannot be handed out")
	// ErrTooSmall says that it has less room than the volume wants.
	ErrTooSmall = errors.New("it is too small")
	// ErrGone says that the device, or the file system, is not on this node. It may come
	// back.
	ErrGone = errors.New("it is not on this node")
	// ErrOther says that something else is where it should be.
	ErrOther = errors.New("something else is there")
	// ErrInUse says that somebody uses what is to be given back.
	ErrInUse = errors.New("it is in use")
	// ErrNotReady says that a volume was never finished, or is being removed.
	ErrNotReady = errors.New("volume is not ready")
	// ErrNotOurs says that there is no proof that what is there is the volume's.
	ErrNotOurs = errors.New("nothing proves that it is this volume's")
	// ErrNotClean says that what was emptied is not empty.
	ErrNotClean = errors.New("it is not empty")
)

// State is how far a volume has come.
type State string

// The states. A volume that was never finished is finished or removed by the next call.
const (
	Taking   State = "taking" // a former tenant's data may still be on it
	Ready    State = "ready"
	Clearing State = "clearing" // half of it may be gone
)

// A Record is what is remembered of one volume.
type Record struct {
	Volume string      `json:"volume"` // its handle
	Kind   volume.Kind `json:"kind"`
	// ID is who the device is, or which file system.
	ID string `json:"id"`
	// Path is what the device was called when it was taken, or where the file system is
	// mounted.
	Path  string         `json:"path"`
	Size  capacity.Bytes `json:"size"`
	Block bool           `json:"block,omitempty"` // handed out as it is
	Wipe  wipe.Method    `json:"wipe,omitempty"`  // what becomes of the data when the volume goes
	Tags  []string       `json:"tags,omitempty"`  // whose it is, and what its IO is held to
	// Adopted says that it was not handed out here: a PersistentVolume named it, and
	// nothing proves that it may be destroyed.
	Adopted bool `json:"adopted,omitempty"`
	// Formatted says that the volume had its file system: a device that shows none has lost
	// it. A version of before did not note that.
	Formatted bool  `json:"formatted,omitempty"`
	State     State `json:"state"`
}

// A Ref names a volume that was handed out: by its handle, and by what a
// PersistentVolume remembers, of which some may be missing.
type Ref struct {
	Volume, ID, Path string
}

// progress is told how far a long job is.
type progress = func(done, of capacity.Bytes)

// book is what *Book is: what volumes have, remembered.
type book interface {
	Get(volume string) (Record, bool, error)
	List() ([]Record, error)
	writable
}

// writable is what changes a book.
type writable interface {
	Put(r Record) error
	Forget(volume string) error
	Alone(ctx context.Context) (release func(), err error)
}

// devices is the part of *blockdev.Host that looks.
type devices interface {
	Devices(ctx context.Context) ([]blockdev.Device, error)
	Inspect(ctx context.Context, path string) (blockdev.Evidence, error)
}

// wiper is the part of *wipe.Host that is needed.
type wiper interface {
	Wipe(ctx context.Context, order wipe.Order, progress progress) error
}

// known compares what is remembered of a volume with what a PersistentVolume says.
func known(record Record, ref Ref, kind volume.Kind) error {
	if record.Kind != kind || ref.ID != "" && ref.ID != record.ID {
		return fmt.Errorf("volume %s has %s %s here, and its PersistentVolume names %s: %w", ref.Volume, record.Kind, record.ID, ref.ID, ErrOther)
	}
	return nil
}
