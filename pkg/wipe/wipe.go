// Package wipe destroys what is on a block device, and is the only package that can. It
// refuses to know why: whoever calls it has been told to by a spec that names the
// device, or owned what is on it. What it destroys it has for itself alone from the
// first look to the last, and whatever it is told, it leaves alone what is mounted,
// built upon, read-only or no disk.
package wipe

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/hostexec"
)

// A Method says what becomes of the data between the two ends of a device. Both ends,
// and whatever a program would recognise anywhere on it, are always taken away.
type Method string

// The methods. The words are those of the wipe parameter.
const (
	None    Method = "none"    // it stays
	Discard Method = "discard" // the disk is told to forget it, if it can
	Zero    Method = "zero"    // it is overwritten with zeros
)

var (
	// ErrChanged says that something else is on the device than was to be destroyed.
	ErrChanged = errors.New("what is on the device is not what was to be destroyed")
	// ErrInUse says that the device, or something on it, is in use.
	ErrInUse = errors.New("device is in use")
	// ErrNotClean says that a device that was wiped is not blank.
	ErrNotClean = errors.New("device is not blank after it was wiped")
)

// edge is how much of either end is zeroed.
const edge = 4 * capacity.MiB

// An Order says which device is to be wiped.
type Order struct {
	Path         string
	Major, Minor uint32 // the device that must be there
	// Contents is what must be on it, as package blockdev says; empty for whatever is.
	Contents string
	Method   Method
	// Begin, if any, is called once when nothing is left but to do it: the device is ours
	// alone, it may be wiped and has the Contents. When it fails, or was never called,
	// nothing on the device was changed.
	Begin func() error
}

// Host wipes devices of one host. Its methods may be called from any goroutine.
type Host struct {
	runner  hostexec.Runner
	root    devfile.Root
	devices *blockdev.Host
}

// New returns the wiper of the host whose root file system is at root and whose
// programs r runs.
func New(r hostexec.Runner, root string) *Host {
	return &Host{runner: r, root: devfile.Root(root), devices: blockdev.New(r, root)}
}

// Wipe makes a device blank, and has looked that it is when it returns nil. It can be
// repeated, unless the order has Contents, which are others as soon as it has begun.
// Between two pieces of a long job it stops when ctx ends; progress is told how far it is.
func (h *Host) Wipe(ctx context.Context, order Order, progress func(done, of capacity.Bytes)) error {
	if err := h.wipe(ctx, order, progress); err != nil {
		return fmt.Errorf("wiping %s: %w", order.Path, err)
	}
	return nil
}

func (h *Host) wipe(ctx context.Context, order Order, progress func(done, of capacity.Bytes)) error {
	claim, err := h.root.Claim(order.Path, unix.Mkdev(order.Major, order.Minor))
	if errors.Is(err, unix.EBUSY) {
		return ErrInUse
	}
	if err != nil {
		return err
	}
	err = h.destroy(ctx, claim, order, progress)
	if err := errors.Join(err, claim.Close()); err != nil {
		return err
	}
	return h.verify(ctx, order.Path)
}

// destroy does it to a device that we have alone.
func (h *Host) destroy(ctx context.Context, claim *devfile.Claim, order Order, progress func(done, of capacity.Bytes)) error {
	evidence, err := h.devices.Inspect(ctx, order.Path)
	if err != nil {
		return err
	}
	if err := mayBe(evidence); err != nil {
		return err
	}
	if order.Contents != "" {
		is, err := h.devices.Contents(evidence)
		if err != nil {
			return err
		}
		if is != order.Contents {
			return fmt.Errorf("%w: it is %s now, and was to be %s", ErrChanged, is, order.Contents)
		}
	}
	if err := order.begin(ctx); err != nil {
		return err
	}
	if err := h.signatures(ctx, evidence); err != nil {
		return err
	}
	if err := data(ctx, claim, order.Method, progress); err != nil {
		return err
	}
	return ends(ctx, claim)
}

// begin tells whoever asked that the next step destroys something. Where ctx has ended
// there would be no next step.
func (o Order) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil || o.Begin == nil {
		return err
	}
	return o.Begin()
}

// mayBe refuses whatever is not to be wiped, whoever asks. That it is busy is our doing.
func mayBe(e blockdev.Evidence) error {
	harmless := []string{blockdev.HasSignature, blockdev.HasData, blockdev.HasPartitions, blockdev.IsInUse}
	for _, o := range blockdev.Objections(e) {
		loop := o.Reason == blockdev.WrongType && e.Type == "loop"
		if !loop && !slices.Contains(harmless, o.Reason) {
			return fmt.Errorf("%w: it %s", ErrInUse, o.Message)
		}
	}
	return nil
}

// signatures takes away what a program would recognise, on the partitions first: a
// table that is made again must not bring back what they held.
func (h *Host) signatures(ctx context.Context, e blockdev.Evidence) error {
	// It would ask for the device alone, and that are we. All at once: between two
	// processes we may die, and a disk of which a part is recognised is somebody's.
	args := []string{"--all", "--force", "--quiet", "--"}
	for _, partition := range e.Partitions {
		args = append(args, "/dev/"+partition)
	}
	_, err := h.runner.Run(ctx, "wipefs", append(args, e.Resolved)...)
	return err
}

// data does to the data what the method says.
func data(ctx context.Context, claim *devfile.Claim, method Method, progress func(done, of capacity.Bytes)) error {
	switch method {
	case None, "":
		return nil
	case Zero:
		return claim.Zero(ctx, 0, claim.Size(), progress)
	case Discard:
		if err := claim.Discard(ctx); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		return nil
	}
	return fmt.Errorf("method %q is none of %s, %s and %s", method, None, Discard, Zero)
}

// ends zeroes both ends, whatever the disk shows where it was told to forget, and has
// the kernel forget the partitions.
func ends(ctx context.Context, claim *devfile.Claim) error {
	length := min(edge, claim.Size())
	starts := []capacity.Bytes{0, claim.Size() - length}
	for _, at := range starts {
		if err := claim.Zero(ctx, at, length, func(capacity.Bytes, capacity.Bytes) {}); err != nil {
			return err
		}
	}
	if err := claim.Sync(); err != nil {
		return err
	}
	for _, at := range starts {
		is, err := claim.IsZero(at, length)
		if err != nil {
			return err
		}
		if !is {
			return fmt.Errorf("%w: it does not keep the zeros written at byte %d", ErrNotClean, at)
		}
	}
	return claim.Reread()
}

// verify looks at the device as whoever wants it next will.
func (h *Host) verify(ctx context.Context, path string) error {
	evidence, err := h.devices.Inspect(ctx, path)
	if err != nil {
		return err
	}
	for _, o := range blockdev.Objections(evidence) {
		if o.Reason != blockdev.WrongType {
			return fmt.Errorf("%w: it %s", ErrNotClean, o.Message)
		}
	}
	return nil
}
