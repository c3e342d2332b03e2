package exclusive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
)

// FileSystemID is how a file system is named by its UUID.
func FileSystemID(uuid string) string { return "fsuuid-" + uuid }

// table is the part of *mounts.Host that tells what is mounted.
type table interface {
	IsMounted(target string) (mounts.Mount, bool, error)
	Below(dir string) ([]mounts.Mount, error)
}

// MountPoints hands out mounted file systems of one node. Its methods may be called from
// any goroutine; two calls for one volume are the caller's to keep apart.
type MountPoints struct {
	Book   *Book
	Host   devices
	Mounts table
	Root   devfile.Root

	choosing sync.Mutex // held from looking who has a mount point until it is remembered
}

// A WantedMount is a mount point that a volume shall have.
type WantedMount struct {
	Volume string
	Path   string
	ID     string         // which file system must be mounted there
	Size   capacity.Bytes // of it, at least
}

// Take gives a mount point with nothing in it to a volume. Calling it again is free;
// calling it for another mount point is ErrConflict.
func (p *MountPoints) Take(ctx context.Context, want WantedMount) (Record, error) {
	record, err := p.take(ctx, want)
	if err != nil {
		return Record{}, fmt.Errorf("giving mount point %s to volume %s: %w", want.Path, want.Volume, err)
	}
	return record, nil
}

func (p *MountPoints) take(ctx context.Context, want WantedMount) (Record, error) {
	if want.Volume == "" || want.Path == "" || want.ID == "" {
		return Record{}, fmt.Errorf("%w: a volume, a path and a file system must be named", ErrNotFit)
	}
	p.choosing.Lock()
	defer p.choosing.Unlock()
	record, stands, err := p.Book.Get(want.Volume)
	if err != nil {
		return Record{}, err
	}
	if stands {
		switch {
		case record.Kind != volume.MountPoint, record.ID != want.ID, record.Path != want.Path, record.Size < want.Size:
			return Record{}, fmt.Errorf("%w: it has %s %s", ErrConflict, record.Kind, record.Path)
		case record.State != Ready:
			return Record{}, fmt.Errorf("%w: it is %s", ErrNotReady, record.State)
		}
		return record, nil
	}
	holder, err := p.Book.holder(want.ID)
	switch {
	case err != nil:
		return Record{}, err
	case holder != "":
		return Record{}, fmt.Errorf("%w: volume %s", ErrTaken, holder)
	}
	size, err := p.fit(ctx, want)
	if err != nil {
		return Record{}, err
	}
	record = Record{Volume: want.Volume, Kind: volume.MountPoint, ID: want.ID, Path: want.Path, Size: size, State: Ready}
	return record, p.Book.Put(record)
}

// fit reports how large the file system is, if it can be handed out: it is the right one,
// large enough, and there is nothing in it.
func (p *MountPoints) fit(ctx context.Context, want WantedMount) (capacity.Bytes, error) {
	top, err := p.open(ctx, want.Path, want.ID)
	if err != nil {
		return 0, err
	}
	defer func() { _ = top.Close() }()
	if err := isEmpty(top); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotFit, err)
	}
	usage, err := p.Root.Usage(want.Path)
	if err != nil {
		return 0, err
	}
	if usage.Total < want.Size {
		return 0, fmt.Errorf("%w: %s has %s, and %s are wanted", ErrTooSmall, want.Path, usage.Total, want.Size)
	}
	return usage.Total, nil
}

// Find returns the mount point of a volume, once it has seen that the very file system is
// mounted there: what would be written to a bare directory would go to another disk.
func (p *MountPoints) Find(ctx context.Context, ref Ref) (Record, error) {
	record, stands, err := p.Book.Get(ref.Volume)
	if err != nil {
		return Record{}, err
	}
	switch {
	case !stands && (ref.ID == "" || ref.Path == ""):
		err = fmt.Errorf("%w: neither the node nor the PersistentVolume says which it is", ErrNotOurs)
	case !stands:
		record = Record{Volume: ref.Volume, Kind: volume.MountPoint, ID: ref.ID, Path: ref.Path, State: Ready}
	case record.State != Ready:
		err = fmt.Errorf("%w: it is %s", ErrNotReady, record.State)
	default:
		err = known(record, ref, volume.MountPoint)
	}
	if err != nil {
		return Record{}, fmt.Errorf("finding the mount point of volume %s: %w", ref.Volume, err)
	}
	top, err := p.open(ctx, record.Path, record.ID)
	if err != nil {
		return Record{}, fmt.Errorf("finding the mount point of volume %s: %w", ref.Volume, err)
	}
	return record, top.Close()
}

// Release deletes all that is in the file system of a volume, and only then lets it be
// handed out again. A volume that nobody remembers is gone already. One that is not
// mounted is ErrGone, for it may come back.
func (p *MountPoints) Release(ctx context.Context, ref Ref) error {
	if err := p.release(ctx, ref); err != nil {
		return fmt.Errorf("removing volume %s: %w", ref.Volume, err)
	}
	return nil
}

func (p *MountPoints) release(ctx context.Context, ref Ref) error {
	record, stands, err := p.Book.Get(ref.Volume)
	if err != nil || !stands {
		return err
	}
	if err := known(record, ref, volume.MountPoint); err != nil {
		return err
	}
	below, err := p.Mounts.Below(record.Path)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("%w: something is mounted below it, at %s", ErrOther, below[0].Target)
	}
	top, err := p.open(ctx, record.Path, record.ID)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	record.State = Clearing
	if err := p.Book.Put(record); err != nil {
		return err
	}
	if err := errors.Join(empty(ctx, top), asNew(top)); err != nil {
		return err
	}
	if err := isEmpty(top); err != nil {
		return err
	}
	return p.Book.Forget(ref.Volume)
}

// open returns the root of the file system that is mounted at path, if it is that one.
// Whatever becomes of the path from then on, what is opened stays that file system.
func (p *MountPoints) open(ctx context.Context, path, id string) (*os.File, error) {
	m, mounted, err := p.Mounts.IsMounted(path)
	switch {
	case err != nil:
		return nil, err
	case !mounted:
		return nil, fmt.Errorf("file system %s: %w: nothing is mounted at %s", id, ErrGone, path)
	case m.Root != "/":
		return nil, fmt.Errorf("%w: at %s a part of a file system is mounted, %s, and not all of it", ErrOther, path, m.Root)
	}
	is, err := p.mountedID(ctx, m)
	if err != nil {
		return nil, err
	}
	if is != id {
		return nil, fmt.Errorf("%w: at %s %q is mounted, and not %s", ErrOther, path, is, id)
	}
	resolved, err := p.Root.Resolve(path)
	if err != nil {
		return nil, err
	}
	top, err := os.OpenFile(resolved, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := p.isRootOf(top, path, m); err != nil {
		return nil, errors.Join(err, top.Close())
	}
	return top, nil
}

// isRootOf makes sure that what was opened is what was found mounted at path, and not
// the bare directory below.
func (p *MountPoints) isRootOf(top *os.File, path string, m mounts.Mount) error {
	gone := fmt.Errorf("%w: it was unmounted from %s a moment ago", ErrGone, path)
	var opened unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &opened); err != nil {
		return err
	}
	if m.Major != 0 {
		if opened.Dev != unix.Mkdev(m.Major, m.Minor) {
			return gone
		}
		return nil
	}
	// btrfs has made-up numbers, another for each subvolume. So what was opened must be
	// what is seen at the path while that is still mounted there.
	var seen unix.Stat_t
	if err := unix.Stat(top.Name(), &seen); err != nil {
		return err
	}
	again, mounted, err := p.Mounts.IsMounted(path)
	if err != nil {
		return err
	}
	if !mounted || again.Source != m.Source || seen.Dev != opened.Dev || seen.Ino != opened.Ino {
		return gone
	}
	return nil
}

// mountedID says which file system is mounted.
func (p *MountPoints) mountedID(ctx context.Context, m mounts.Mount) (string, error) {
	number := unix.Mkdev(m.Major, m.Minor)
	if m.Major == 0 { // made up, as by btrfs: its source tells
		file, err := p.Root.Look(m.Source)
		if err != nil {
			return "", err
		}
		number = file.Device
	}
	all, err := p.Host.Devices(ctx)
	if err != nil {
		return "", err
	}
	for _, d := range all {
		if unix.Mkdev(d.Major, d.Minor) == number && d.UUID != "" {
			return FileSystemID(d.UUID), nil
		}
	}
	return "", nil
}

// isEmpty wants nothing but lost+found in a directory, and nothing in that.
func isEmpty(top *os.File) error {
	e := emptier{ctx: context.Background()}
	names, err := e.names(top)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != lostAndFound {
			return fmt.Errorf("%w: it holds %q", ErrNotClean, name)
		}
	}
	lost, err := enter(top, lostAndFound)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = lost.Close() }()
	if names, err = e.names(lost); err == nil && len(names) > 0 {
		err = fmt.Errorf("%w: its %s holds %q", ErrNotClean, lostAndFound, names[0])
	}
	return err
}

// asNew gives the root of a file system the owner and the mode that it was made with.
func asNew(top *os.File) error {
	changeable(int(top.Fd()))
	for _, attribute := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		err := unix.Fremovexattr(int(top.Fd()), attribute)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("removing attribute %s of %s: %w", attribute, top.Name(), err)
		}
	}
	return errors.Join(top.Chown(0, 0), top.Chmod(0o755))
}
