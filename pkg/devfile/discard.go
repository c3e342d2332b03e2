package devfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

// discardChunk is what is discarded at once; between two chunks the caller may change
// its mind. Most disks do one in no time.
const discardChunk = capacity.GiB

// Discard tells the disk below the device at path that nothing on it is needed. As Zero
// does, it opens the device for itself alone, stops between two chunks when ctx ends,
// and tells progress how far it is. A disk that cannot is errors.ErrUnsupported.
func (r Root) Discard(ctx context.Context, path string, progress func(done, size capacity.Bytes)) error {
	file, size, err := r.alone(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return discard(ctx, file, size, progress)
}

func discard(ctx context.Context, file *os.File, size capacity.Bytes, progress func(done, size capacity.Bytes)) error {
	for done := capacity.Bytes(0); done < size; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("discarding %s, %s of %s done: %w", file.Name(), done, size, context.Cause(ctx))
		}
		chunk := min(discardChunk, size-done)
		from := [2]uint64{uint64(done), uint64(chunk)}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&from))) //nolint:gosec // the kernel reads it
		switch errno {
		case 0:
			done += chunk
			progress(done, size)
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY:
			return fmt.Errorf("discarding %s: %w", file.Name(), errors.ErrUnsupported)
		default:
			return fmt.Errorf("discarding %s: %w", file.Name(), errno)
		}
	}
	return nil
}

// Discards returns into how many requests to its disk the kernel would divide the
// discarding of the device at path; 0 if the disk cannot.
func (r Root) Discards(path string) (int64, error) {
	file, err := r.Look(path)
	if err != nil {
		return 0, err
	}
	size, err := r.Size(path)
	if err != nil {
		return 0, err
	}
	said, err := r.fact(file.Device, "queue/discard_max_bytes") // Documentation/ABI/stable/sysfs-block of the kernel
	if err != nil || said == "" {
		return 0, err
	}
	most, err := strconv.ParseInt(said, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("asking how much %s discards at once: %w", path, err)
	}
	if most <= 0 {
		return 0, nil
	}
	return (int64(size) + most - 1) / most, nil
}
