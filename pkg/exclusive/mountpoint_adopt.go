package exclusive

import (
	"context"
	"fmt"

	"github.com/open-local/open-local/pkg/volume"
)

// adopt is for a volume that the node does not remember, because its system was installed
// anew or the volume is one of the first open-local, which wrote down nothing but a path.
func (p *MountPoints) adopt(ctx context.Context, ref Ref) (Mounted, error) {
	if ref.Path == "" {
		return Mounted{}, fmt.Errorf("%w: neither the node nor the PersistentVolume says which it is", ErrNotOurs)
	}
	alone, err := p.Book.Alone(ctx)
	if err != nil {
		return Mounted{}, err
	}
	defer alone()
	m, err := p.isMounted(ctx, ref.Path, ref.ID)
	if err != nil {
		return Mounted{}, err
	}
	id, err := p.mountedID(ctx, m)
	if err != nil {
		return Mounted{}, err
	}
	has, err := holder(p.Book, id)
	switch {
	case err != nil:
		return Mounted{}, err
	case id == "":
		return Mounted{}, fmt.Errorf("%w: the file system at %s has no UUID, and a path alone may be another's", ErrNotOurs, ref.Path)
	case has != "":
		return Mounted{}, fmt.Errorf("file system %s: %w: volume %s", id, ErrTaken, has)
	}
	usage, err := p.Root.Usage(ref.Path)
	if err != nil {
		return Mounted{}, err
	}
	record := Record{Volume: ref.Volume, Kind: volume.MountPoint, ID: id, Path: ref.Path, Size: usage.Total, Adopted: true, State: Ready}
	if err := p.Book.Put(record); err != nil {
		return Mounted{}, err
	}
	number, err := p.numberOf(m)
	return Mounted{Record: record, Source: m.Source, Number: number}, err
}

// neverHeard decides about a volume that the node does not remember.
func (p *MountPoints) neverHeard(ctx context.Context, ref Ref) error {
	if ref.Path == "" {
		return nil
	}
	m, err := p.isMounted(ctx, ref.Path, ref.ID)
	if err != nil {
		return err
	}
	id, err := p.mountedID(ctx, m)
	if err != nil {
		return err
	}
	has, err := holder(p.Book, id)
	if err != nil || has != "" && id != "" {
		return err // its next tenant has it
	}
	return p.wantEmpty(ctx, ref.Path, id)
}

// wantEmpty refuses to forget what may be somebody's data.
func (p *MountPoints) wantEmpty(ctx context.Context, path, id string) error {
	top, err := p.open(ctx, path, id)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	if err := isEmpty(top); err != nil {
		return fmt.Errorf("%w: this node did not hand it out, and at %s there is something; if that may go, delete it there: %w", ErrNotOurs, path, err)
	}
	return nil
}
