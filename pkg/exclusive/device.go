package exclusive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// Devices hands out whole disks and partitions of one node. Its methods may be called
// from any goroutine; two calls for one volume are the caller's to keep apart.
type Devices struct {
	Book  book
	Host  devices
	Wiper wiper
	// Zero fills a device with zeros to the last byte, for itself alone.
	Zero func(ctx context.Context, path string, number uint64, progress progress) error

	changing sync.Mutex // held from reading a record to writing what is made of it
}

// ZeroOn returns what fills devices of the host whose root file system is at root.
func ZeroOn(root devfile.Root) func(ctx context.Context, path string, number uint64, progress progress) error {
	return func(ctx context.Context, path string, number uint64, progress progress) error {
		claim, err := root.Claim(path, number)
		if err != nil {
			return err
		}
		return errors.Join(claim.Zero(ctx, 0, claim.Size(), progress), claim.Sync(), claim.Close())
	}
}

// A Want is a device that a volume shall have.
type Want struct {
	Volume string
	ID     string         // who the device is
	Size   capacity.Bytes // at least
	// Block volumes are handed out as they are, so they are zeroed first.
	Block bool
	// Whole wants no partition: the kernel holds only whole disks to limits.
	Whole bool
	Wipe  wipe.Method
	Tags  []string
}

// A Taken is a device that a volume has, as it is called now.
type Taken struct {
	Record
	Path         string // as it is called now
	Major, Minor uint32
}

// Take gives a blank device to a volume. Calling it again is free, and finishes what was
// begun; calling it for another device is ErrConflict. It is remembered before anything
// is written, so that a device is never handed out twice and a half-made volume is found.
// A block volume shows no byte of a former tenant, whatever its disk can do.
func (d *Devices) Take(ctx context.Context, want Want, progress progress) (Taken, error) {
	taken, err := d.Promise(ctx, want)
	if err != nil {
		return Taken{}, err
	}
	return d.Prepare(ctx, taken, progress)
}

// Promise is the first half of Take: from then on the volume has the device, and nobody
// else.
func (d *Devices) Promise(ctx context.Context, want Want) (Taken, error) {
	if want.Volume == "" || want.ID == "" {
		return Taken{}, fmt.Errorf("giving device %q to volume %q: %w: a volume and a device must be named", want.ID, want.Volume, ErrNotFit)
	}
	record, device, err := d.claim(ctx, want)
	if err != nil {
		return Taken{}, fmt.Errorf("giving device %s to volume %s: %w", want.ID, want.Volume, err)
	}
	return Taken{Record: record, Path: device.Path, Major: device.Major, Minor: device.Minor}, nil
}

// Prepare is the second half of Take: what it returns may be handed out.
func (d *Devices) Prepare(ctx context.Context, taken Taken, progress progress) (Taken, error) {
	if taken.State == Ready {
		return taken, nil
	}
	var err error
	if taken.Block {
		err = d.Zero(ctx, taken.Path, unix.Mkdev(taken.Major, taken.Minor), progress)
	}
	if err == nil {
		taken.State = Ready
		err = d.Book.Put(taken.Record)
	}
	if err != nil {
		return Taken{}, fmt.Errorf("preparing device %s for volume %s: %w", taken.ID, taken.Volume, err)
	}
	return taken, nil
}

// claim has the volume be the one that has the device.
func (d *Devices) claim(ctx context.Context, want Want) (Record, blockdev.Device, error) {
	alone, err := d.Book.Alone(ctx)
	if err != nil {
		return Record{}, blockdev.Device{}, err
	}
	defer alone()
	record, stands, err := d.Book.Get(want.Volume)
	if err != nil {
		return Record{}, blockdev.Device{}, err
	}
	if stands {
		switch {
		case record.Kind != volume.Device, record.ID != want.ID, record.Block != want.Block, record.Size < want.Size:
			return Record{}, blockdev.Device{}, fmt.Errorf("%w: it has %s %s of %s", ErrConflict, record.Kind, record.ID, record.Size)
		case record.State == Clearing:
			return Record{}, blockdev.Device{}, fmt.Errorf("%w: it is being removed", ErrNotReady)
		}
		device, err := d.byID(ctx, record.ID, "")
		return record, device, err
	}
	has, err := holder(d.Book, want.ID)
	switch {
	case err != nil:
		return Record{}, blockdev.Device{}, err
	case has != "":
		return Record{}, blockdev.Device{}, fmt.Errorf("%w: volume %s", ErrTaken, has)
	}
	device, err := d.byID(ctx, want.ID, "")
	if err != nil {
		return Record{}, blockdev.Device{}, err
	}
	if err := d.fit(ctx, device, want); err != nil {
		return Record{}, blockdev.Device{}, err
	}
	record = Record{
		Volume: want.Volume, Kind: volume.Device, ID: want.ID, Path: device.Path, Size: device.Size, Block: want.Block,
		Wipe: want.Wipe, Tags: want.Tags, State: Taking,
	}
	return record, device, d.Book.Put(record)
}

// partition is the type of a device that is a part of another.
const partition = "part"

// fit reports whether a device can be handed out: it is blank, and large enough.
func (d *Devices) fit(ctx context.Context, device blockdev.Device, want Want) error {
	evidence, err := d.Host.Inspect(ctx, device.Path)
	if err != nil {
		return err
	}
	if evidence.Major != device.Major || evidence.Minor != device.Minor {
		return fmt.Errorf("%w: %s is another device than a moment ago", ErrNotFit, device.Path)
	}
	for _, o := range blockdev.Objections(evidence) {
		if o.Reason != blockdev.WrongType || evidence.Type != "loop" {
			return fmt.Errorf("%w: %s %s", ErrNotFit, device.Path, o.Message)
		}
	}
	switch {
	case want.Whole && evidence.Type == partition:
		return fmt.Errorf("%w: %s is a partition, and the kernel limits the IO of whole disks only", ErrNotFit, device.Path)
	case device.Size < want.Size:
		return fmt.Errorf("%w: %s has %s, and %s are wanted", ErrTooSmall, device.Path, device.Size, want.Size)
	}
	return nil
}

// byID finds the one device of that identity, whatever it is called. path is what it was
// called, for the error to say what is there now.
func (d *Devices) byID(ctx context.Context, id, path string) (blockdev.Device, error) {
	all, err := d.Host.Devices(ctx)
	if err != nil {
		return blockdev.Device{}, err
	}
	var found []blockdev.Device
	now := "nothing"
	for _, device := range all {
		if device.ID == id {
			found = append(found, device)
		}
		if device.Path == path {
			now = device.ID
			if now == "" {
				now = "a device that does not say who it is"
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return blockdev.Device{}, fmt.Errorf("%w: %s and %s both say that they are %s", ErrOther, found[0].Path, found[1].Path, id)
	case path != "":
		return blockdev.Device{}, fmt.Errorf("device %s: %w; at %s there is %s", id, ErrGone, path, now)
	}
	return blockdev.Device{}, fmt.Errorf("device %s: %w", id, ErrGone)
}

// Find returns the device of a volume that is ready. One that is gone is ErrGone, and
// whatever has its name now is never taken for it. A volume that the node does not
// remember it finds by what its PersistentVolume says, and remembers from then on.
func (d *Devices) Find(ctx context.Context, ref Ref) (Taken, error) {
	taken, err := d.find(ctx, ref)
	if err != nil {
		return Taken{}, fmt.Errorf("finding the device of volume %s: %w", ref.Volume, err)
	}
	return taken, nil
}

func (d *Devices) find(ctx context.Context, ref Ref) (Taken, error) {
	record, stands, err := d.Book.Get(ref.Volume)
	if err != nil {
		return Taken{}, err
	}
	if !stands {
		return d.adopt(ctx, ref)
	}
	if err := known(record, ref, volume.Device); err != nil {
		return Taken{}, err
	}
	if record.State != Ready {
		return Taken{}, fmt.Errorf("%w: it is %s", ErrNotReady, record.State)
	}
	device, err := d.byID(ctx, record.ID, record.Path)
	return Taken{Record: record, Path: device.Path, Major: device.Major, Minor: device.Minor}, err
}

// Release wipes the device of a volume, looks that it is blank, and only then lets it be
// handed out again. A volume that nobody remembers is gone already, unless the device
// that its PersistentVolume names is not blank: nothing proves whose data that is. A
// device that is not there is ErrGone, because it may come back with the data on it. How
// it is wiped was said when it was taken.
func (d *Devices) Release(ctx context.Context, ref Ref, progress progress) error {
	if err := d.release(ctx, ref, progress); err != nil {
		return fmt.Errorf("removing volume %s: %w", ref.Volume, err)
	}
	return nil
}

func (d *Devices) release(ctx context.Context, ref Ref, progress progress) error {
	record, stands, err := d.Book.Get(ref.Volume)
	if err != nil {
		return err
	}
	if !stands {
		return d.neverHeard(ctx, ref)
	}
	if err := known(record, ref, volume.Device); err != nil {
		return err
	}
	device, err := d.byID(ctx, record.ID, record.Path)
	switch {
	case err != nil:
		return err
	case record.Adopted:
		return d.disown(ctx, record, device)
	}
	if err := d.become(record.Volume, Clearing); err != nil {
		return err
	}
	order := wipe.Order{Path: device.Path, Major: device.Major, Minor: device.Minor, Method: cmp.Or(record.Wipe, wipe.Discard)}
	err = d.Wiper.Wipe(ctx, order, progress)
	if errors.Is(err, wipe.ErrInUse) { // nothing was done to it, and it still serves
		return errors.Join(err, d.become(record.Volume, record.State))
	}
	if err != nil {
		return err
	}
	return d.Book.Forget(ref.Volume)
}
