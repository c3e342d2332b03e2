package provision

import (
	"context"
	"time"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A Growth names a volume that shall be larger.
type Growth struct {
	ID     string
	Kind   volume.Kind
	Group  string         // where it is known to lie
	Size   capacity.Bytes // at least
	Limit  capacity.Bytes // at most; 0 is no limit
	Proven bool           // as in Removal
}

// A Modification names a volume whose limits shall be others.
type Modification struct {
	ID     string
	Kind   volume.Kind
	Group  string // where it is known to lie
	IOPS   *int64 // nil leaves it as it is, 0 takes it off
	BPS    *int64 // as IOPS
	Proven bool   // as in Removal
}

// A SnapshotSpec is a snapshot that shall exist.
type SnapshotSpec struct {
	ID     string // the snapshot handle
	Volume string // the handle of the volume it is of
	Kind   volume.Kind
	Group  string // where the volume is known to lie
	// Space is what the snapshot gets at first for what is overwritten, Step by how
	// much that grows at least, and Threshold how full it is then, in percent.
	Space, Step capacity.Bytes
	Threshold   int
	ReadOnly    bool     // volumes made of it show the snapshot itself
	Tags        []string // whose it is
}

// A Snapshot is one that exists.
type Snapshot struct {
	ID      string
	Volume  string // the handle of the volume it is of
	Group   string
	Size    capacity.Bytes // what a volume made of it needs at least
	Created time.Time
}

// A SnapshotRemoval names a snapshot that shall not exist.
type SnapshotRemoval struct {
	ID    string
	Kind  volume.Kind
	Group string // where it is known to lie
}

// Grow makes the volume at least as large as asked and returns the size it has. One
// that is that large already stays as it is. Errors to ask about: ErrOutOfRange,
// lvm.ErrNoSpace, lvm.ErrNotFound, lvm.ErrNotOurs, ErrBusy.
func (p *Provisioner) Grow(ctx context.Context, g Growth) (size capacity.Bytes, err error) {
	err = p.alone(g.ID, g.Kind, func(k kind) error {
		size, err = k.grow(ctx, g)
		return err
	})
	return size, err
}

// Modify makes the volume's limits those asked, now and for as long as it lives.
func (p *Provisioner) Modify(ctx context.Context, m Modification) error {
	return p.alone(m.ID, m.Kind, func(k kind) error { return k.modify(ctx, m) })
}

// Snapshot makes the snapshot exist and returns it. Calling it again is free and
// returns the same; another snapshot of that handle is ErrConflict. While anything is
// under way with the volume it is ErrBusy.
func (p *Provisioner) Snapshot(ctx context.Context, spec SnapshotSpec) (snapshot Snapshot, err error) {
	err = p.alone(spec.Volume, spec.Kind, func(kind) error {
		return p.alone(spec.ID, spec.Kind, func(k kind) error {
			snapshot, err = k.snapshot(ctx, spec)
			return err
		})
	})
	return snapshot, err
}

// RemoveSnapshot makes the snapshot not exist. One that is gone already is a success.
func (p *Provisioner) RemoveSnapshot(ctx context.Context, r SnapshotRemoval) error {
	return p.alone(r.ID, r.Kind, func(k kind) error { return k.removeSnapshot(ctx, r) })
}

// alone calls do unless another call for the same handle is under way.
func (p *Provisioner) alone(id string, name volume.Kind, do func(kind) error) error {
	kind, err := p.kind(name)
	if err != nil {
		return err
	}
	if err := volume.ValidID(id); err != nil {
		return err
	}
	job, err := p.begin(id)
	if err != nil {
		return err
	}
	defer p.end(job)
	return do(kind)
}
