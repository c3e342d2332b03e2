package exclusive

import (
	"context"
	"errors"
	"fmt"
	"os"

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
	Book   book
	Host   devices
	Mounts table
	Root   devfile.Root
}

// A WantedMount is a mount point that a volume shall have.
type WantedMount struct {
	Volume string
	Path   string
	ID     string         // which file system must be mounted there
	Size   capacity.Bytes // of it, at least
	// Whole wants no file system on a partition: the kernel holds only whole disks to limits.
	Whole bool
	Tags  []string
}

// A Mounted is a mount point that a volume has.
type Mounted struct {
	Record
	Source string // the device, as it is called now
	Number uint64 // of the device
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
	alone, err := p.Book.Alone(ctx)
	if err != nil {
		return Record{}, err
	}
	defer alone()
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
	has, err := holder(p.Book, want.ID)
	switch {
	case err != nil:
		return Record{}, err
	case has != "":
		return Record{}, fmt.Errorf("%w: volume %s", ErrTaken, has)
	}
	size, err := p.fit(ctx, want)
	if err != nil {
		return Record{}, err
	}
	record = Record{Volume: want.Volume, Kind: volume.MountPoint, ID: want.ID, Path: want.Path, Size: size, Tags: want.Tags, State: Ready}
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
	if want.Whole {
		if err := p.wantWhole(ctx, want); err != nil {
			return 0, err
		}
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
// mounted there: what would be written to a bare directory would go to another disk. A
// volume that the node does not remember it finds by what its PersistentVolume says, and
// remembers from then on.
func (p *MountPoints) Find(ctx context.Context, ref Ref) (Mounted, error) {
	found, err := p.find(ctx, ref)
	if err != nil {
		return Mounted{}, fmt.Errorf("finding the mount point of volume %s: %w", ref.Volume, err)
	}
	return found, nil
}

func (p *MountPoints) find(ctx context.Context, ref Ref) (Mounted, error) {
	record, stands, err := p.Book.Get(ref.Volume)
	switch {
	case err != nil:
		return Mounted{}, err
	case !stands:
		return p.adopt(ctx, ref)
	case record.State != Ready:
		return Mounted{}, fmt.Errorf("%w: it is %s", ErrNotReady, record.State)
	}
	if err := known(record, ref, volume.MountPoint); err != nil {
		return Mounted{}, err
	}
	m, err := p.isMounted(ctx, record.Path, record.ID)
	if err != nil {
		return Mounted{}, err
	}
	number, err := p.numberOf(m)
	return Mounted{Record: record, Source: m.Source, Number: number}, err
}

// Release deletes all that is in the file system of a volume, and only then lets it be
// handed out again. A volume that nobody remembers is gone already, unless the mount
// point that its PersistentVolume names holds anything: nothing proves whose that is. One
// that is not mounted is ErrGone, for it may come back, and one that is still shown to
// somebody is ErrInUse.
func (p *MountPoints) Release(ctx context.Context, ref Ref) error {
	if err := p.release(ctx, ref); err != nil {
		return fmt.Errorf("removing volume %s: %w", ref.Volume, err)
	}
	return nil
}

func (p *MountPoints) release(ctx context.Context, ref Ref) error {
	record, stands, err := p.Book.Get(ref.Volume)
	switch {
	case err != nil:
		return err
	case !stands:
		return p.neverHeard(ctx, ref)
	}
	if err := known(record, ref, volume.MountPoint); err != nil {
		return err
	}
	if record.Adopted {
		if err := p.wantEmpty(ctx, record.Path, record.ID); err != nil {
			return err
		}
		return p.Book.Forget(ref.Volume)
	}
	if err := p.idle(ctx, record); err != nil {
		return err
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
