package exclusive

import "fmt"

// NoteFormatted remembers that the volume has its file system. Noting it again is free.
func (d *Devices) NoteFormatted(volume string) error {
	record, stands, err := d.Book.Get(volume)
	if err != nil || stands && record.Formatted {
		return err
	}
	return d.change(volume, func(r *Record) error {
		if r.State != Ready {
			return fmt.Errorf("noting that volume %s is formatted: %w: it is %s", volume, ErrNotReady, r.State)
		}
		r.Formatted = true
		return nil
	})
}

// change writes another record of a volume that stands, made of the one that is there: who
// stages a volume and who removes it undo nothing of each other's.
func (d *Devices) change(volume string, change func(r *Record) error) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	record, stands, err := d.Book.Get(volume)
	if err == nil && !stands {
		err = fmt.Errorf("volume %s: %w: nothing is remembered of it any more", volume, ErrNotReady)
	}
	if err == nil {
		err = change(&record)
	}
	if err != nil {
		return err
	}
	return d.Book.Put(record)
}

// become has a volume that stands be in another state.
func (d *Devices) become(volume string, state State) error {
	return d.change(volume, func(r *Record) error { r.State = state; return nil })
}
