package blockcopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

const (
	// workers is how many pieces are under way, each being read or written. It is
	// enough to keep two disks busy at once, and not so much that one that has to
	// move its head does so all the time.
	workers = 6
	// pieceSize is how much is read, and then written, at once.
	pieceSize = 1 << 20
	// zeroSize is how much of the rest is zeroed at once.
	zeroSize = 64 << 20
	// runSize is the least run of zeros that is not written as data.
	runSize = defaultGrain
)

// piece is a part of the work.
type piece struct {
	at, length int64
	rest       bool // beyond the source: to be zeroed
}

// job is one copy.
type job struct {
	from, to *device
	used     *useMap
	rest     int64 // bytes to zero beyond the source
	total    int64
	progress func(done, total capacity.Bytes)

	mu       sync.Mutex // guards what follows
	pieces   func() (piece, bool)
	done     int64
	read     int64
	written  int64
	zeroed   int64
	byHand   bool // the kernel cannot zero this target
	complete bool
}

// all yields the pieces of the job.
func (j *job) all() iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for at, length := range j.used.runs(pieceSize) {
			if !yield(piece{at: at, length: length}) {
				return
			}
		}
		for at, end := j.from.size, j.from.size+j.rest; at < end; at += zeroSize {
			if !yield(piece{at: at, length: min(zeroSize, end-at), rest: true}) {
				return
			}
		}
	}
}

// run does the work with several workers. The first error ends all of them.
func (j *job) run(ctx context.Context) error {
	next, stop := iter.Pull(j.all())
	defer stop()
	j.pieces = next
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			if err := j.work(ctx); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	if j.complete && j.done == j.total {
		return nil
	}
	return fmt.Errorf("%s of %s done: %w", capacity.Bytes(j.done), capacity.Bytes(j.total), context.Cause(ctx))
}

func (j *job) work(ctx context.Context) error {
	memory, err := buffer(pieceSize)
	if err != nil {
		return err
	}
	defer release(memory)
	for {
		piece, ok := j.next(ctx)
		if !ok {
			return nil
		}
		if piece.rest {
			err = j.zero(ctx, memory, piece.at, piece.length)
		} else {
			err = j.copy(ctx, memory[:piece.length], piece.at)
		}
		if err != nil {
			return err
		}
		j.finished(piece)
	}
}

// next returns the piece to do now, or false when there is none or ctx has ended.
func (j *job) next(ctx context.Context) (piece, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.complete || ctx.Err() != nil {
		return piece{}, false
	}
	p, ok := j.pieces()
	j.complete = !ok
	return p, ok
}

func (j *job) finished(p piece) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done += p.length
	if j.progress != nil {
		j.progress(capacity.Bytes(j.done), capacity.Bytes(j.total))
	}
}

func (j *job) count(read, written, zeroed int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.read += read
	j.written += written
	j.zeroed += zeroed
}

func (j *job) counts() (read, written, zeroed capacity.Bytes) {
	return capacity.Bytes(j.read), capacity.Bytes(j.written), capacity.Bytes(j.zeroed)
}

// copy copies what fills p from there.
func (j *job) copy(ctx context.Context, p []byte, at int64) error {
	if err := j.from.read(p, at); err != nil {
		return err
	}
	j.count(int64(len(p)), 0, 0)
	for begin := 0; begin < len(p); {
		end, empty := run(p, begin)
		length := int64(end - begin)
		var err error
		if empty {
			err = j.zero(ctx, p[begin:end], at+int64(begin), length)
		} else {
			err = j.to.write(p[begin:end], at+int64(begin))
			j.count(0, length, 0)
		}
		if err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// zeros is compared against.
var zeros [runSize]byte

// run returns where a run of data, or one of zeros, ends that begins at a byte of p.
func run(p []byte, begin int) (end int, empty bool) {
	for end = begin; end < len(p); {
		next := min(end+runSize, len(p))
		is := bytes.Equal(p[end:next], zeros[:next-end])
		if end > begin && is != empty {
			return end, empty
		}
		empty, end = is, next
	}
	return end, empty
}

// zero makes a part of the target read as zeros, with the kernel's help where it
// gives any. The memory may be used.
func (j *job) zero(ctx context.Context, memory []byte, at, length int64) error {
	j.count(0, 0, length)
	j.mu.Lock()
	byHand := j.byHand
	j.mu.Unlock()
	if !byHand {
		err := j.to.zero(at, length)
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		j.mu.Lock()
		j.byHand = true
		j.mu.Unlock()
	}
	clear(memory)
	for length > 0 && ctx.Err() == nil {
		n := min(length, int64(len(memory)))
		if err := j.to.write(memory[:n], at); err != nil {
			return err
		}
		at, length = at+n, length-n
	}
	return context.Cause(ctx)
}

// verify reads back and compares so many pieces, spread evenly over all of them.
func (j *job) verify(ctx context.Context, sample int) error {
	if sample <= 0 {
		return nil
	}
	memory, err := buffer(2 * pieceSize)
	if err != nil {
		return err
	}
	defer release(memory)
	stride := max(1, j.used.bytes()/pieceSize/int64(sample))
	nth := int64(0)
	for at, length := range j.used.runs(pieceSize) {
		if nth++; (nth-1)%stride != 0 {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		want, got := memory[:length], memory[pieceSize:pieceSize+length]
		if err := errors.Join(j.from.read(want, at), j.to.read(got, at)); err != nil {
			return err
		}
		if !bytes.Equal(want, got) {
			return fmt.Errorf("%w in the %d bytes of %s at byte %d", ErrDiffers, length, j.to.path, at)
		}
	}
	return nil
}
