package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// zeroingTag is on a block volume from the moment it exists until no byte of a
// former tenant is left on it. Only a volume with this tag is ever zeroed.
const zeroingTag = volume.TagPrefix + "state=zeroing"

// progressEvery is how often zeroing says how far it is.
const progressEvery = 30 * time.Second

// host is the part of *lvm.Host that changes volumes.
type host interface {
	maker
	alterer
	resizer
	snapshotVerbs
}

// maker is the part of *lvm.Host that makes and removes volumes.
type maker interface {
	CreateVolume(ctx context.Context, c lvm.CreateVolume) error
	RemoveVolume(ctx context.Context, group, name string, tags ...string) error
	DiscardVolume(ctx context.Context, group, name string, tags ...string) error
}

// alterer is the part of *lvm.Host that alters, or looks at, a volume which stands.
type alterer interface {
	ChangeTags(ctx context.Context, group, name string, add, del []string) error
	ActivateVolume(ctx context.Context, group, name string) error
	MakeDevices(ctx context.Context, group, name string) error
	viewer
}

// viewer is the part of *lvm.Host that looks.
type viewer interface {
	Volume(ctx context.Context, group, name string) (lvm.Volume, error)
	Report(ctx context.Context) (lvm.Report, error)
}

// devices is what a device file tells without any process.
type devices interface {
	Exists(path string) (bool, error)
	Size(path string) (capacity.Bytes, error)
	eraser
}

// eraser destroys what is on a device that nobody uses.
type eraser interface {
	Zero(ctx context.Context, path string, progress func(done, size capacity.Bytes)) error
	Discard(ctx context.Context, path string, progress func(done, size capacity.Bytes)) error
	// Discards returns into how many requests to the disk discarding is divided.
	Discards(path string) (int64, error)
}

// managed says from which volume groups this node may cut volumes, and how many
// bytes our volumes in each may have together. Not knowing yet is ErrNotReady.
type managed interface {
	Managed() (map[string]capacity.Bytes, error)
}

// Logical makes logical volumes. All exported fields but Standing must be set.
type Logical struct {
	Host    host
	Devices devices
	Managed managed
	// Prefer says which group is better where nobody else decided.
	Prefer      allocator.Preference
	Clock       clock.Clock
	Copier      copier
	FileSystems fileSystems
	// Scratch is a directory of the host below which file systems of new copies are
	// mounted for a moment.
	Scratch string
	// Making remembers the volumes that LVM may have made and not cleared.
	Making making
	// Standing is told of every volume that is seen, made or removed; nil for nobody.
	Standing *Standing

	choosing sync.Mutex // held from choosing a group, or physical volumes, until the volume is there

	recalling sync.Mutex          // guards what follows
	stood     map[string][]string // see Recall; it is replaced, not changed
	recalled  map[string]bool     // the groups whose volumes are in it

	inlines    inlines    // filled by recall and ensure
	tombstones tombstones // filled by recall and remove
	watched    watched    // filled by recall and takeSnapshot
	copies     turns
	// later has work done that nobody waits for, until it is told to stop; nil before a
	// Provisioner is made.
	later func(work func(ctx context.Context))
}

// ensure takes one process where the group was decided on and nothing is in the
// way: whether the volume stands in another group is seen from the device files.
func (l *Logical) ensure(ctx context.Context, spec Spec) (Volume, finish, error) {
	managed, err := l.Managed.Managed()
	if err != nil {
		return Volume{}, nil, err
	}
	groups := slices.Sorted(maps.Keys(managed))
	for _, group := range []string{spec.Group, spec.OnlyGroup} {
		if group != "" && !slices.Contains(groups, group) {
			return Volume{}, nil, fmt.Errorf("volume %s in volume group %q: %w", spec.ID, group, ErrUnmanaged)
		}
	}
	if have, stands, err := l.standing(ctx, spec.ID, groups); err != nil {
		return Volume{}, nil, err
	} else if stands {
		return l.accept(spec, have)
	}
	var from source
	var report lvm.Report
	if spec.Source.Given() {
		if spec, from, report, err = l.fit(ctx, spec); err != nil {
			return Volume{}, nil, err
		}
	}
	if most, decided := managed[spec.Group]; decided && spec.Size > most {
		return Volume{}, nil, fmt.Errorf("volume %s: %s wanted, volume group %s has %s for volumes in all: %w", spec.ID, spec.Size, spec.Group, most, lvm.ErrNoSpace)
	}
	if spec.Group == "" || spec.Layout == capacity.Striped {
		l.choosing.Lock()
		defer l.choosing.Unlock()
	}
	group, err := l.choose(ctx, spec, managed)
	if err != nil {
		return Volume{}, nil, err
	}
	if err := l.checkRoom(spec, group, from, report); err != nil {
		return Volume{}, nil, err
	}
	return l.create(ctx, spec, group)
}

// standing looks for the volume in the groups. One whose making was cut short is none.
func (l *Logical) standing(ctx context.Context, id string, groups []string) (lvm.Volume, bool, error) {
	have, found, err := l.find(ctx, groups, volume.NameOf(id))
	if err != nil || !found {
		return lvm.Volume{}, false, err
	}
	unmade, err := l.unmake(ctx, id, have)
	return have, !unmade, err
}

// find looks for a volume of that name in the groups. LVM is asked only about one
// whose device file is there, or that stood when this process began.
func (l *Logical) find(ctx context.Context, groups []string, name string) (lvm.Volume, bool, error) {
	stood, err := l.recall(ctx)
	if err != nil {
		return lvm.Volume{}, false, err
	}
	for _, group := range groups {
		stands, err := l.Devices.Exists(lvm.DevicePath(group, name))
		if err != nil {
			return lvm.Volume{}, false, fmt.Errorf("looking for volume %s/%s: %w", group, name, err)
		}
		if !stands && !slices.Contains(stood[name], group) {
			continue
		}
		have, err := l.Host.Volume(ctx, group, name)
		if errors.Is(err, lvm.ErrNotFound) {
			continue // a file that a volume left behind
		}
		return have, err == nil, err
	}
	return lvm.Volume{}, false, nil
}

// accept answers with a volume that stands already, if it is the one wanted. It
// may lie in another group than was decided on now: whoever decides may have
// forgotten, and there is never a second volume for one handle.
func (l *Logical) accept(spec Spec, have lvm.Volume) (Volume, finish, error) {
	path := have.Group + "/" + have.Name
	id, _ := volume.IDFromTags(have.Tags)
	switch {
	case id != spec.ID:
		return Volume{}, nil, fmt.Errorf("volume %s: logical volume %s is there and not tagged as this volume (%q): %w", spec.ID, path, id, ErrConflict)
	case !samePod(spec.Tags, have.Tags):
		return Volume{}, nil, fmt.Errorf("volume %s: logical volume %s is there and not tagged as of the same pod: %w", spec.ID, path, ErrConflict)
	case slices.Contains(have.Tags, volume.DeletedTag):
		return Volume{}, nil, fmt.Errorf("volume %s: logical volume %s is deleted and stays for its snapshots: %w", spec.ID, path, ErrConflict)
	case !spec.Source.sameSource(have.Tags):
		return Volume{}, nil, fmt.Errorf("volume %s: logical volume %s is there and not a copy of %+v: %w", spec.ID, path, spec.Source, ErrConflict)
	case spec.OnlyGroup != "" && have.Group != spec.OnlyGroup:
		return Volume{}, nil, fmt.Errorf("volume %s: it lies in volume group %s and only %s will do: %w", spec.ID, have.Group, spec.OnlyGroup, ErrConflict)
	case have.Size < spec.Size, spec.Limit > 0 && have.Size > spec.Limit:
		return Volume{}, nil, fmt.Errorf("volume %s: logical volume %s has %s, wanted are at least %s and at most %s: %w",
			spec.ID, path, have.Size, spec.Size, limitString(spec.Limit), ErrConflict)
	}
	l.inlines.intend(spec, have.Group)
	l.Standing.remember(have)
	vol := Volume{ID: spec.ID, Group: have.Group, Size: have.Size}
	return vol, l.unfinished(spec, vol, have.Tags), nil
}

// unfinished returns what a volume with these tags still wants done, or nil.
func (l *Logical) unfinished(spec Spec, vol Volume, tags []string) finish {
	switch {
	case slices.Contains(tags, volume.CopyingTag):
		return l.copy(spec, vol)
	case slices.Contains(tags, zeroingTag):
		return l.zero(vol.Group, volume.NameOf(vol.ID))
	}
	return nil
}

func limitString(limit capacity.Bytes) string {
	if limit == 0 {
		return "anything"
	}
	return limit.String()
}

func (l *Logical) create(ctx context.Context, spec Spec, group string) (Volume, finish, error) {
	layout, devices, err := l.lie(ctx, spec, group)
	if err != nil {
		return Volume{}, nil, err
	}
	name := volume.NameOf(spec.ID)
	tags := append([]string{volume.IDTag(spec.ID)}, spec.Tags...)
	if spec.Wipe != "" {
		tags = append(tags, volume.WipeTag(spec.Wipe))
	}
	switch {
	case spec.Source.Given():
		tags = append(tags, spec.Source.copyTags()...)
	case spec.Block:
		tags = append(tags, zeroingTag)
	default: // LVM clears it, if it comes to that
		token, err := l.Making.Begin(name)
		if err != nil {
			return Volume{}, nil, err
		}
		tags = append(tags, volume.MadeTag(token))
	}
	l.inlines.intend(spec, group)
	err = l.Host.CreateVolume(ctx, lvm.CreateVolume{Group: group, Name: name, Size: max(spec.Size, 1), Layout: layout, Tags: tags, Devices: devices})
	switch {
	case errors.Is(err, lvm.ErrExists):
		// It is not active, so its device file did not show it.
		return l.meet(ctx, spec, group, name)
	case errors.Is(err, lvm.ErrNoSpace):
		return Volume{}, nil, errors.Join(err, l.Making.End(name))
	case err != nil:
		return Volume{}, nil, err
	}
	l.Standing.remember(lvm.Volume{Group: group, Name: name, Tags: tags})
	if err := l.Making.End(name); err != nil {
		return Volume{}, nil, err
	}
	size, err := l.sizeOf(ctx, group, name)
	if err != nil {
		return Volume{}, nil, fmt.Errorf("looking at the new volume %s/%s: %w", group, name, err)
	}
	klog.FromContext(ctx).Info("Created logical volume", "volume", spec.ID, "group", group, "name", name, "bytes", int64(size))
	vol := Volume{ID: spec.ID, Group: group, Size: size}
	return vol, l.unfinished(spec, vol, tags), nil
}

// meet answers with a volume that LVM knows and no device file showed. One whose making
// was cut short is made again.
func (l *Logical) meet(ctx context.Context, spec Spec, group, name string) (Volume, finish, error) {
	have, err := l.Host.Volume(ctx, group, name)
	if err != nil {
		return Volume{}, nil, err
	}
	unmade, err := l.unmake(ctx, spec.ID, have)
	switch {
	case err != nil:
		return Volume{}, nil, err
	case unmade:
		return l.create(ctx, spec, group)
	}
	if err := l.Making.End(name); err != nil { // it was another attempt that made it
		return Volume{}, nil, err
	}
	return l.accept(spec, have)
}

// sizeOf measures a volume by its device file. LVM is asked only where udev is slow
// to make the file.
func (l *Logical) sizeOf(ctx context.Context, group, name string) (capacity.Bytes, error) {
	if size, err := l.Devices.Size(lvm.DevicePath(group, name)); err == nil {
		return size, nil
	}
	have, err := l.Host.Volume(ctx, group, name)
	return have.Size, err
}

// zero returns the work of wiping what former tenants left on a volume that
// carries zeroingTag, and of taking the tag off.
func (l *Logical) zero(group, name string) finish {
	return func(ctx context.Context, say say) error {
		log := klog.FromContext(ctx).WithValues("group", group, "name", name)
		say(func() string { return "filling it with zeros" })
		if err := l.reach(ctx, group, name); err != nil {
			return fmt.Errorf("zeroing block volume %s/%s: %w", group, name, err)
		}
		said := l.Clock.Now()
		err := l.Devices.Zero(ctx, lvm.DevicePath(group, name), func(done, size capacity.Bytes) {
			if l.Clock.Since(said) >= progressEvery {
				said = l.Clock.Now()
				log.Info("Zeroing block volume", "done", done.String(), "size", size.String())
			}
		})
		if err != nil {
			return fmt.Errorf("zeroing block volume %s/%s: %w", group, name, err)
		}
		if err := l.Host.ChangeTags(ctx, group, name, nil, []string{zeroingTag}); err != nil {
			return fmt.Errorf("marking block volume %s/%s as zeroed: %w", group, name, err)
		}
		return nil
	}
}

// reach makes the device file of a volume appear if it is not there: after a reboot
// a volume may be inactive, and an lvcreate that was cut short may have left one
// that is active and has no file.
func (l *Logical) reach(ctx context.Context, group, name string) error {
	for _, appear := range []func(ctx context.Context, group, name string) error{l.Host.ActivateVolume, l.Host.MakeDevices} {
		stands, err := l.Devices.Exists(lvm.DevicePath(group, name))
		if stands || err != nil {
			return err
		}
		if err := appear(ctx, group, name); err != nil {
			return err
		}
	}
	return nil
}
