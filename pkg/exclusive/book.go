package exclusive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BookDir is where a host keeps the book, in its root.
const BookDir = "/var/lib/open-local/exclusive"

// A Book remembers which volume has what, over restarts: one file for each volume. What
// is written is on disk when a call returns, or was not written at all. One process
// writes; any may read.
type Book struct {
	dir string
}

// NewBook returns the book of the host whose root file system is at root.
func NewBook(root string) *Book { return &Book{dir: filepath.Join(root, BookDir)} }

// Dir returns the directory of the book as this process sees it.
func (b *Book) Dir() string { return b.dir }

const suffix = ".json"

// lockName is the file that whoever decides about devices holds a lock on.
const lockName = "lock"

// lockEvery is how often a lock that somebody else has is asked for.
const lockEvery = 20 * time.Millisecond

// Alone waits until nobody else on this host, in whatever process, is between finding
// that nobody has a device and making that known: by writing it into the book, or by
// writing on the device. What it returns lets the next one go on.
func (b *Book) Alone(ctx context.Context) (release func(), err error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, fmt.Errorf("locking the book of devices: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(b.dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the book of devices: %w", err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // that ends the lock, and so does the end of the process
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking the book of devices: %w", err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting until nobody else decides about devices: %w", context.Cause(ctx)), file.Close())
		case <-time.After(lockEvery):
		}
	}
}

// file returns where a volume stands. Its handle may be nothing that a file can be called.
func (b *Book) file(volume string) string {
	sum := sha256.Sum256([]byte(volume))
	return filepath.Join(b.dir, hex.EncodeToString(sum[:16])+suffix)
}

// Get returns what is remembered of a volume, and false when that is nothing.
func (b *Book) Get(volume string) (Record, bool, error) {
	r, err := read(b.file(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	if err == nil && r.Volume != volume {
		err = fmt.Errorf("%s is about volume %q", b.file(volume), r.Volume)
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("reading what volume %s has: %w", volume, err)
	}
	return r, true, nil
}

// List returns all records, ordered by volume. One that cannot be read is an error: what
// it stands for must not be taken for free.
func (b *Book) List() ([]Record, error) {
	entries, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading which volumes have what: %w", err)
	}
	var all []Record
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), suffix) {
			continue // being written
		}
		r, err := read(filepath.Join(b.dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, fmt.Errorf("reading which volumes have what: %w", err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Volume, b.Volume) })
	return all, nil
}

func read(path string) (Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("parsing %s: %w", path, err)
	}
	if r.Volume == "" || r.ID == "" || r.State == "" {
		return Record{}, fmt.Errorf("parsing %s: volume, id or state is missing", path)
	}
	return r, nil
}

// Put remembers r.
func (b *Book) Put(r Record) error {
	if err := b.put(r); err != nil {
		return fmt.Errorf("remembering what volume %s has: %w", r.Volume, err)
	}
	return nil
}

func (b *Book) put(r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(b.dir, "new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // after it was renamed there is none
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), b.file(r.Volume)); err != nil {
		return err
	}
	return b.sync()
}

// Forget makes the book know nothing of a volume.
func (b *Book) Forget(volume string) error {
	err := os.Remove(b.file(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = b.sync()
	}
	if err != nil {
		return fmt.Errorf("forgetting volume %s: %w", volume, err)
	}
	return nil
}

// sync has the names in the directory on disk.
func (b *Book) sync() error {
	dir, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("fsync", unix.Fsync(int(dir.Fd()))), dir.Close())
}

// holder returns the volume that has the device or file system of that identity, or "".
func holder(b book, id string) (string, error) {
	all, err := b.List()
	if err != nil {
		return "", err
	}
	for _, r := range all {
		if r.ID == id {
			return r.Volume, nil
		}
	}
	return "", nil
}
