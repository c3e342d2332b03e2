// Package blockcopy copies one block device, or file, onto another at the speed of
// the disks. It goes around the page cache, keeps several reads and writes under way,
// writes no zeros as data, and of a file system whose map of free space it can trust
// reads only what is in use. It refuses to know what the devices are for, and it
// starts no program.
package blockcopy

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
)

// What callers ask about a failure, with errors.Is.
var (
	// ErrTooSmall says that the source has more bytes than the target.
	ErrTooSmall = errors.New("target is smaller than source")
	// ErrDiffers says that what was written is not what is read back.
	ErrDiffers = errors.New("target differs from source")
)

// Options say how to copy.
type Options struct {
	// Everything copies also what a file system does not use. Without it such
	// parts of the target keep what a former owner left there, out of reach of
	// whoever uses the file system.
	Everything bool
	// ZeroRest fills the target with zeros beyond the end of the source. Without it
	// that part is left alone.
	ZeroRest bool
	// Verify is how many pieces, spread evenly over the copy, are read back and
	// compared.
	Verify int
	// Progress, when set, is told after each piece how much of the work is done. It
	// is never called twice at once and must return quickly.
	Progress func(done, total capacity.Bytes)
}

// A Result is what was done.
type Result struct {
	Read    capacity.Bytes // of the source
	Written capacity.Bytes // to the target as data
	Zeroed  capacity.Bytes // of the target, by the kernel or the disk where they can
	Unused  capacity.Bytes // of the source: neither read nor written
	// FileSystem is whose map was followed; empty when everything was read, and then
	// Because says why that was necessary.
	FileSystem string
	Because    string
}

// Copier copies between devices of one host.
type Copier struct {
	root devfile.Root
}

// New returns a Copier for the host whose root file system is seen at root.
func New(root string) *Copier { return &Copier{root: devfile.Root(root)} }

// Copy makes target a copy of source and returns when it is on disk. The target is
// opened for this alone: one that is mounted is unix.EBUSY and left as it is. When ctx
// ends it stops between two pieces, and the target is neither what it was nor what it
// shall be. The source must not change meanwhile.
func (c *Copier) Copy(ctx context.Context, source, target string, o Options) (Result, error) {
	result, err := c.copy(ctx, source, target, o)
	if err != nil {
		return result, fmt.Errorf("copying %s to %s: %w", source, target, err)
	}
	return result, nil
}

func (c *Copier) copy(ctx context.Context, source, target string, o Options) (Result, error) {
	from, to, err := c.pair(source, target)
	if err != nil {
		return Result{}, err
	}
	defer func() { _, _ = from.Close(), to.Close() }()
	if to.size < from.size {
		return Result{}, fmt.Errorf("%w: %s has %s, %s has %s", ErrTooSmall, source, capacity.Bytes(from.size), target, capacity.Bytes(to.size))
	}
	used, result := whatToRead(from, o.Everything)
	job := &job{from: from, to: to, used: used, progress: o.Progress, total: used.bytes()}
	if o.ZeroRest {
		job.rest = to.size - from.size
		job.total += job.rest
	}
	if err := job.run(ctx); err != nil {
		return result, err
	}
	if err := to.Sync(); err != nil {
		return result, fmt.Errorf("flushing %s: %w", target, bare(err))
	}
	result.Read, result.Written, result.Zeroed = job.counts()
	return result, job.verify(ctx, o.Verify)
}

// whatToRead returns the parts of a device to copy.
func whatToRead(from *device, everything bool) (*useMap, Result) {
	whole := newUseMap(from.size)
	whole.use(0, from.size)
	if everything {
		return whole, Result{Because: "it was asked for"}
	}
	window, err := newWindow(from)
	if err != nil {
		return whole, Result{Because: err.Error()}
	}
	defer window.close()
	used, fileSystem, err := mapUsed(window, from.size)
	if err != nil {
		return whole, Result{Because: err.Error()}
	}
	return used, Result{FileSystem: fileSystem, Unused: capacity.Bytes(from.size - used.bytes())}
}
