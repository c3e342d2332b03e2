package blockcopy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// alignment suits the direct IO of every disk in use: the address in memory, the
// offset and the length are multiples of it.
const alignment = 4096

// device is an open block device or file.
type device struct {
	*os.File
	path  string // as the host calls it
	size  int64
	block bool // a block device, not a file
}

// open opens a device, around the page cache where that is wanted and the file system
// that a file lies on can do it.
func (c *Copier) open(path string, flag int, direct bool) (*device, error) {
	resolved, err := c.root.Resolve(path)
	if err != nil {
		return nil, err
	}
	if direct {
		d, err := openAs(resolved, path, flag|unix.O_DIRECT)
		if !errors.Is(err, unix.EINVAL) {
			return d, err
		}
	}
	return openAs(resolved, path, flag)
}

// pair opens source and target. Only files can end elsewhere than at a multiple of the
// alignment; direct IO could not copy their end.
func (c *Copier) pair(source, target string) (from, to *device, err error) {
	from, err = c.open(source, os.O_RDONLY, true)
	if err != nil {
		return nil, nil, err
	}
	direct := from.size%alignment == 0
	if !direct {
		_ = from.Close()
		if from, err = c.open(source, os.O_RDONLY, false); err != nil {
			return nil, nil, err
		}
	}
	to, err = c.open(target, os.O_RDWR|unix.O_EXCL, direct)
	if err != nil {
		_ = from.Close()
		return nil, nil, err
	}
	return from, to, nil
}

func openAs(resolved, path string, flag int) (*device, error) {
	file, err := os.OpenFile(resolved, flag, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() && info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		err = fmt.Errorf("%s is neither a block device nor a file", path)
	}
	var size int64
	if err == nil {
		size, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &device{File: file, path: path, size: size, block: info.Mode()&fs.ModeDevice != 0}, nil
}

// bare returns what the kernel said, without the path at which this process sees the
// device.
func bare(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

func (d *device) read(p []byte, at int64) error {
	_, err := d.ReadAt(p, at)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("reading %d bytes of %s at byte %d: %w", len(p), d.path, at, bare(err))
	}
	return nil
}

func (d *device) write(p []byte, at int64) error {
	if _, err := d.WriteAt(p, at); err != nil {
		return fmt.Errorf("writing %d bytes of %s at byte %d: %w", len(p), d.path, at, bare(err))
	}
	return nil
}

// zero makes a part of the device read as zeros. A disk that can do so by itself is
// told to; a file gets a hole. It returns EOPNOTSUPP where the kernel offers neither.
func (d *device) zero(at, length int64) error {
	mode := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
	if d.block {
		mode = unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE
	}
	for {
		err := unix.Fallocate(int(d.Fd()), mode, at, length)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("zeroing %d bytes of %s at byte %d: %w", length, d.path, at, err)
		default:
			return nil
		}
	}
}

// buffer returns memory that direct IO takes. It is to be given back with release.
func buffer(size int) ([]byte, error) {
	p, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	return p, os.NewSyscallError("mmap", err)
}

func release(p []byte) { _ = unix.Munmap(p) }

// window lets a reader of a file system's structures read a device at any offset,
// though direct IO wants aligned ones. It keeps what it read last, because bitmaps
// lie beside each other.
type window struct {
	from   *device
	buffer []byte
	start  int64
	filled int64
}

func newWindow(from *device) (*window, error) {
	p, err := buffer(defaultGrain)
	return &window{from: from, buffer: p}, err
}

func (w *window) close() { release(w.buffer) }

// ReadAt reads like io.ReaderAt.
func (w *window) ReadAt(p []byte, at int64) (int, error) {
	done := 0
	for done < len(p) {
		here := at + int64(done)
		if here < 0 || here >= w.from.size {
			return done, io.EOF
		}
		if here < w.start || here >= w.start+w.filled {
			if err := w.fill(here - here%int64(len(w.buffer))); err != nil {
				return done, err
			}
		}
		done += copy(p[done:], w.buffer[here-w.start:w.filled])
	}
	return done, nil
}

func (w *window) fill(start int64) error {
	w.filled = 0
	length := min(int64(len(w.buffer)), w.from.size-start)
	if err := w.from.read(w.buffer[:length], start); err != nil {
		return err
	}
	w.start, w.filled = start, length
	return nil
}
