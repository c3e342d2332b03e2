package provisiontest

import (
	"context"
	"fmt"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/wipe"
)

// Inspect implements the part of a host that looks at one device.
func (d *Disks) Inspect(_ context.Context, path string) (blockdev.Evidence, error) {
	disk, exists := d.at(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	e := blockdev.Evidence{
		Path: path, Resolved: path, Exists: exists, IsBlock: exists, Type: disk.Type, KernelName: disk.KernelName, Size: disk.Size,
		Major: disk.Major, Minor: disk.Minor, ReadOnly: disk.ReadOnly, Busy: d.open[disk.ID] > 0,
	}
	if what := d.on[disk.ID]; what != "" && what != Garbage {
		e.Signatures = []blockdev.Signature{{Type: what}}
	}
	return e, d.pass("inspecting a disk")
}

// Wipe wipes a disk. It takes the signatures first.
func (d *Disks) Wipe(_ context.Context, order wipe.Order, progress func(done, of capacity.Bytes)) error {
	if err := d.pass("before a disk is wiped"); err != nil {
		return err
	}
	if d.Wiping != nil {
		d.Wiping()
	}
	disk, exists := d.at(order.Path)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !exists || disk.Major != order.Major || disk.Minor != order.Minor:
		return fmt.Errorf("wiping %s: %w", order.Path, devfile.ErrAnotherDevice)
	case d.open[disk.ID] > 0:
		return fmt.Errorf("wiping %s: %w", order.Path, wipe.ErrInUse)
	}
	if d.on[disk.ID] != "" {
		d.on[disk.ID] = Garbage
	}
	progress(disk.Size/2, disk.Size)
	if err := d.pass("while a disk is wiped"); err != nil {
		return err
	}
	if order.Method != wipe.None {
		delete(d.on, disk.ID)
	}
	return d.pass("after a disk is wiped")
}

func (d *Disks) zero(_ context.Context, path string, _ uint64, progress func(done, of capacity.Bytes)) error {
	if err := d.pass("before a disk is zeroed"); err != nil {
		return err
	}
	disk, _ := d.at(path)
	progress(disk.Size/2, disk.Size)
	if err := d.pass("while a disk is zeroed"); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.on, disk.ID)
	d.mu.Unlock()
	return d.pass("after a disk is zeroed")
}

// mortalBook is a book with a point to die at on either side of each change.
type mortalBook struct {
	*exclusive.Book
	disks *Disks
}

// Put writes a record.
func (b mortalBook) Put(r exclusive.Record) error {
	if err := b.disks.pass("before " + string(r.State) + " is written"); err != nil {
		return err
	}
	if err := b.Book.Put(r); err != nil {
		return err
	}
	return b.disks.pass("after " + string(r.State) + " is written")
}

// Forget removes a record.
func (b mortalBook) Forget(volume string) error {
	if err := b.disks.pass("before a record is removed"); err != nil {
		return err
	}
	if err := b.Book.Forget(volume); err != nil {
		return err
	}
	return b.disks.pass("after a record is removed")
}
