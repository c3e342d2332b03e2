package devfile

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

const (
	// zeroChunk is what the kernel is asked to zero at once; between two chunks
	// the caller may change its mind. At 100 MB/s one takes about a second.
	zeroChunk = 128 * capacity.MiB
	// writeChunk is how much is written at once where the kernel cannot zero.
	writeChunk = 4 * capacity.MiB
)

// Zero fills the whole device at path with zeros and returns when they are on
// disk. It opens the device for itself alone: one that is mounted, or held by
// another device, is unix.EBUSY and left as it is. It stops between two chunks
// when ctx ends; progress is called after each with what is done of how much.
func (r Root) Zero(ctx context.Context, path string, progress func(done, size capacity.Bytes)) error {
	file, size, err := r.alone(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return zero(ctx, file, 0, size, progress)
}

// alone opens a device for this process alone, and returns its size.
func (r Root) alone(path string) (*os.File, capacity.Bytes, error) {
	resolved, err := r.Resolve(path)
	if err != nil {
		return nil, 0, err
	}
	// Without O_CREATE, O_EXCL on a block device asks for it exclusively (open(2)).
	file, err := os.OpenFile(resolved, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return nil, 0, err
	}
	size, err := sizeOf(file)
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, size, nil
}

// zero fills a part of a file or device and returns when that is on disk.
func zero(ctx context.Context, file *os.File, offset, length capacity.Bytes, progress func(done, size capacity.Bytes)) error {
	zero := byKernel
	for done := capacity.Bytes(0); done < length; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("zeroing %s, %s of %s done: %w", file.Name(), done, length, context.Cause(ctx))
		}
		chunk := min(zeroChunk, length-done)
		err := zero(file, offset+done, chunk)
		if errors.Is(err, unix.EOPNOTSUPP) {
			zero = byWriting
			continue
		}
		if err != nil {
			return fmt.Errorf("zeroing %s, %s of %s done: %w", file.Name(), done, length, err)
		}
		done += chunk
		progress(done, length)
	}
	return file.Sync()
}

// byKernel lets the kernel zero, which hands it to the disk where the disk can do
// it (the same as ioctl BLKZEROOUT). Blocks stay allocated.
func byKernel(file *os.File, offset, length capacity.Bytes) error {
	for {
		err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, int64(offset), int64(length))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func byWriting(file *os.File, offset, length capacity.Bytes) error {
	zeros := make([]byte, min(writeChunk, length))
	for length > 0 {
		n, err := file.WriteAt(zeros[:min(capacity.Bytes(len(zeros)), length)], int64(offset))
		if err != nil {
			return err
		}
		offset += capacity.Bytes(n)
		length -= capacity.Bytes(n)
	}
	return nil
}
