package provisiontest

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockcopy"
	"github.com/open-local/open-local/pkg/lvm"
)

// half stands on a device on which a copy ended before its time.
const half = "half a copy of "

// Write makes content what the device at path holds. Snapshots of it keep what they
// show.
func (d *Devices) Write(path, content string) error {
	v, err := d.volume(path)
	if err != nil {
		return err
	}
	group, err := d.fake.Host().Group(context.Background(), v.Group)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, snapshot := range group.Volumes {
		if _, kept := d.content[snapshot.UUID]; snapshot.Origin == v.Name && !kept {
			d.content[snapshot.UUID] = d.content[v.UUID]
		}
	}
	d.content[v.UUID] = content
	return nil
}

// leave has the device at path begin with what a former tenant left.
func (d *Devices) leave(path string) {
	v, err := d.volume(path)
	if err != nil {
		panic(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.content[v.UUID] = Former
}

// Read returns what the device at path holds.
func (d *Devices) Read(path string) (string, error) {
	v, err := d.volume(path)
	if err != nil {
		return "", err
	}
	if v.Invalid() {
		return "", fmt.Errorf("reading %s at byte 0: %w", path, unix.EIO)
	}
	origin := lvm.Volume{}
	if v.Origin != "" {
		if origin, err = d.fake.Host().Volume(context.Background(), v.Group, v.Origin); err != nil {
			return "", err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if content, kept := d.content[v.UUID]; kept || v.Origin == "" {
		return content, nil
	}
	return d.content[origin.UUID], nil
}

// Copy copies one device onto another, in two steps between which Copying is called.
func (d *Devices) Copy(ctx context.Context, source, target string, o blockcopy.Options) (blockcopy.Result, error) {
	from, errFrom := d.Size(source)
	to, errTo := d.Size(target)
	if err := errors.Join(errFrom, errTo); err != nil {
		return blockcopy.Result{}, err
	}
	if to < from {
		return blockcopy.Result{}, blockcopy.ErrTooSmall
	}
	content, err := d.Read(source)
	if err != nil {
		return blockcopy.Result{}, err
	}
	if err := d.Write(target, half+content); err != nil {
		return blockcopy.Result{}, err
	}
	o.Progress(from/2, from)
	if d.Copying != nil {
		if err := d.Copying(ctx, source, target); err != nil {
			return blockcopy.Result{}, err
		}
	}
	if content, err = d.Read(source); err != nil {
		return blockcopy.Result{}, err
	}
	if err := d.Write(target, content); err != nil {
		return blockcopy.Result{}, err
	}
	o.Progress(from, from)
	v, err := d.volume(target)
	if err != nil {
		return blockcopy.Result{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.renewed, v.UUID)
	d.zeroed[v.UUID] = o.Everything && o.ZeroRest
	return blockcopy.Result{Read: from, Written: from}, nil
}

// A Renewal is what became of the file system of a copy.
type Renewal struct{ Grown bool }

// Renew mounts the file system at dir and makes it its own. Renewing is called while it
// is mounted.
func (d *Devices) Renew(ctx context.Context, device, dir string, grow bool) error {
	v, err := d.volume(device)
	if err != nil {
		return err
	}
	d.mu.Lock()
	_, taken := d.mounted[dir]
	if !taken {
		d.mounted[dir] = d.fake.Open(v.Group, v.Name)
	}
	d.mu.Unlock()
	if taken {
		return fmt.Errorf("mounting %s at %s: something is mounted there", device, dir)
	}
	if d.Renewing != nil {
		if err := d.Renewing(ctx, device); errors.Is(err, ErrKilled) {
			return err // whatever is mounted stays
		} else if err != nil {
			return errors.Join(err, d.Abandon(ctx, dir))
		}
	}
	d.mu.Lock()
	d.renewed[v.UUID] = Renewal{Grown: grow}
	d.mu.Unlock()
	return d.Abandon(ctx, dir)
}

// Abandon unmounts what Renew mounted at dir.
func (d *Devices) Abandon(_ context.Context, dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if unmount, mounted := d.mounted[dir]; mounted {
		unmount()
		delete(d.mounted, dir)
	}
	return nil
}

// Flush does nothing: what is written is there.
func (d *Devices) Flush(string) error { return nil }

// Renewed returns what became of the file system on the device at path, if it was made
// its own since it was last copied.
func (d *Devices) Renewed(path string) (Renewal, bool) {
	v, err := d.volume(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	renewal, ok := d.renewed[v.UUID]
	return renewal, ok && err == nil
}

// Mounted returns how many file systems of new copies are mounted.
func (d *Devices) Mounted() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.mounted)
}
