package exclusive

import (
	"context"
	"fmt"
	"slices"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/volume"
)

// adopt is for a volume that the node does not remember, because its system was installed
// anew or the volume is one of the first open-local, which wrote down nothing but a name.
func (d *Devices) adopt(ctx context.Context, ref Ref) (Taken, error) {
	alone, err := d.Book.Alone(ctx)
	if err != nil {
		return Taken{}, err
	}
	defer alone()
	device, err := d.named(ctx, ref)
	if err != nil {
		return Taken{}, err
	}
	has, err := holder(d.Book, device.ID)
	switch {
	case err != nil:
		return Taken{}, err
	case has != "":
		return Taken{}, fmt.Errorf("device %s: %w: volume %s", device.ID, ErrTaken, has)
	}
	record := Record{Volume: ref.Volume, Kind: volume.Device, ID: device.ID, Path: device.Path, Size: device.Size, Adopted: true, State: Ready}
	if err := d.Book.Put(record); err != nil {
		return Taken{}, err
	}
	return Taken{Record: record, Path: device.Path, Major: device.Major, Minor: device.Minor}, nil
}

// named returns the device that a PersistentVolume names, by a name alone where that is
// all it has: then it must be one that can be told from others, and nothing else than
// a volume.
func (d *Devices) named(ctx context.Context, ref Ref) (blockdev.Device, error) {
	if ref.ID != "" {
		return d.byID(ctx, ref.ID, ref.Path)
	}
	if ref.Path == "" {
		return blockdev.Device{}, fmt.Errorf("%w: neither the node nor the PersistentVolume says which it is", ErrNotOurs)
	}
	all, err := d.Host.Devices(ctx)
	if err != nil {
		return blockdev.Device{}, err
	}
	at := slices.IndexFunc(all, func(device blockdev.Device) bool { return device.Path == ref.Path })
	if at < 0 {
		return blockdev.Device{}, fmt.Errorf("device %s: %w", ref.Path, ErrGone)
	}
	device := all[at]
	if device.ID == "" {
		return blockdev.Device{}, fmt.Errorf("%w: %s has no WWN, serial number or partition UUID, and a name alone may be another's", ErrNotOurs, ref.Path)
	}
	evidence, err := d.Host.Inspect(ctx, device.Path)
	if err != nil {
		return blockdev.Device{}, err
	}
	harmless := []string{blockdev.HasSignature, blockdev.HasData, blockdev.IsInUse, blockdev.IsMounted}
	for _, o := range blockdev.Objections(evidence) {
		if !slices.Contains(harmless, o.Reason) && (o.Reason != blockdev.WrongType || evidence.Type != "loop") {
			return blockdev.Device{}, fmt.Errorf("%w: %s %s", ErrNotOurs, device.Path, o.Message)
		}
	}
	return device, nil
}

// disown forgets a volume that was not handed out here, once nothing is left of it. Its
// device is left as it is.
func (d *Devices) disown(ctx context.Context, record Record, device blockdev.Device) error {
	if err := d.wantBlank(ctx, device, "clear it on its node, its signatures and both its ends"); err != nil {
		return err
	}
	return d.Book.Forget(record.Volume)
}

// sayWipe is what to do about a device that no volume here has.
const sayWipe = "say so in resourceToBeInited.wipe"

// neverHeard decides about a volume that the node does not remember.
func (d *Devices) neverHeard(ctx context.Context, ref Ref) error {
	if ref.ID == "" && ref.Path == "" {
		return nil
	}
	if ref.ID == "" {
		return d.neverTaken(ctx, ref)
	}
	has, err := holder(d.Book, ref.ID)
	if err != nil || has != "" {
		return err // its next tenant has it
	}
	device, err := d.byID(ctx, ref.ID, ref.Path)
	if err != nil {
		return err
	}
	return d.wantBlank(ctx, device, sayWipe)
}

// neverTaken decides about a volume of which a PersistentVolume has a name alone. Where
// nothing has that name any more, nobody could tell what is left of it, or where.
func (d *Devices) neverTaken(ctx context.Context, ref Ref) error {
	all, err := d.Host.Devices(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(device blockdev.Device) bool { return device.Path == ref.Path })
	if at < 0 {
		return fmt.Errorf("device %s: %w", ref.Path, ErrGone)
	}
	has, err := holder(d.Book, all[at].ID)
	if err != nil || has != "" && all[at].ID != "" {
		return err
	}
	return d.wantBlank(ctx, all[at], sayWipe)
}

// wantBlank refuses to forget what may be somebody's data, and says what to do if that may
// go.
func (d *Devices) wantBlank(ctx context.Context, device blockdev.Device, then string) error {
	evidence, err := d.Host.Inspect(ctx, device.Path)
	if err != nil {
		return err
	}
	if objections := blockdev.Objections(evidence); len(objections) > 0 {
		return fmt.Errorf("%w: this node did not hand it out, and %s %s; if that may go, %s", ErrNotOurs, device.Path, objections[0].Message, then)
	}
	return nil
}
