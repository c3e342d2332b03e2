package devfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

// ErrAnotherDevice says that at a path there is another device than was expected.
var ErrAnotherDevice = errors.New("another device has that name now")

// A Claim is a block device that the kernel has given to us alone: until it is closed
// nobody can mount it, build on it or claim it, nor a partition of it. It is for those
// who change what is on a device.
type Claim struct {
	file *os.File
	size capacity.Bytes
}

// Claim takes the device at path, which must be the one of that number. One that is
// mounted, or held by another device or program, is unix.EBUSY.
func (r Root) Claim(path string, number uint64) (*Claim, error) {
	file, size, err := r.alone(path)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	err = unix.Fstat(int(file.Fd()), &stat)
	if err == nil && (stat.Mode&unix.S_IFMT != unix.S_IFBLK || stat.Rdev != number) {
		err = fmt.Errorf("claiming %s: %w", path, ErrAnotherDevice)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Claim{file: file, size: size}, nil
}

// Size returns the size of the device.
func (c *Claim) Size() capacity.Bytes { return c.size }

// Close gives the device back.
func (c *Claim) Close() error { return c.file.Close() }

// Sync waits until all that was written is on the disk, and forgets what memory holds
// of the device, for the next reader to see the disk itself.
func (c *Claim) Sync() error {
	if err := c.file.Sync(); err != nil {
		return err
	}
	return os.NewSyscallError("ioctl BLKFLSBUF", unix.IoctlSetInt(int(c.file.Fd()), unix.BLKFLSBUF, 0))
}

// Zero fills a part of the device with zeros. It stops when ctx ends; progress is called
// every now and then with what is done of length.
func (c *Claim) Zero(ctx context.Context, offset, length capacity.Bytes, progress func(done, of capacity.Bytes)) error {
	return zero(ctx, c.file, offset, length, progress)
}

// Discard tells the disk that nothing on it is needed. What it then shows is its own
// matter, and many cannot: that is errors.ErrUnsupported.
func (c *Claim) Discard(ctx context.Context) error {
	return discard(ctx, c.file, c.size, func(capacity.Bytes, capacity.Bytes) {})
}

// ReadAt reads from the device.
func (c *Claim) ReadAt(p []byte, offset int64) (int, error) { return c.file.ReadAt(p, offset) }

// IsZero reports whether a part of the device holds nothing but zeros.
func (c *Claim) IsZero(offset, length capacity.Bytes) (bool, error) {
	buffer := make([]byte, min(writeChunk, length))
	reader := io.NewSectionReader(c.file, int64(offset), int64(length))
	for {
		n, err := reader.Read(buffer)
		for _, b := range buffer[:n] {
			if b != 0 {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Reread has the kernel look for partitions anew.
func (c *Claim) Reread() error {
	err := unix.IoctlSetInt(int(c.file.Fd()), unix.BLKRRPART, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil // no disk that could have any
	}
	return os.NewSyscallError("ioctl BLKRRPART", err)
}
