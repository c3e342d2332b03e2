package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/blockcopy"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// A restored volume and a clone are copies. The volume is created with
// volume.CopyingTag, and whoever finds that tag copies from the start: no step before
// its end makes a difference, so there is nothing to resume and nothing to undo. A
// clone is copied from a snapshot that stands only meanwhile.

// ErrLost says that a snapshot is lost: its copy-on-write space ran full.
var ErrLost = errors.New("snapshot is lost, its copy-on-write space ran full")

// verified is how many pieces of a copy are read back and compared.
const verified = 16

// copier copies one device onto another.
type copier interface {
	Copy(ctx context.Context, source, target string, o blockcopy.Options) (blockcopy.Result, error)
}

// fileSystems is the part of *mounts.Host that a copy needs.
type fileSystems interface {
	// Renew makes a file system that is a copy one of its own right, and as large as
	// its device if grow is set. Meanwhile it may be mounted at dir.
	Renew(ctx context.Context, device, dir string, grow bool) error
	// Abandon takes off what a process that died left mounted at dir, and dir.
	Abandon(ctx context.Context, dir string) error
	// Flush writes to a device what the kernel would not by itself before a snapshot.
	Flush(device string) error
}

// source is what a volume is copied from.
type source struct {
	id          string // the handle
	group, name string
	size        capacity.Bytes
	volume      bool           // not a snapshot: it may change meanwhile
	space       capacity.Bytes // at most, for what is overwritten meanwhile; or zero
}

func (s source) path() string { return s.group + "/" + s.name }

// findSource returns what spec's volume is copied from, and all that LVM knows.
func (l *Logical) findSource(ctx context.Context, spec Spec) (source, lvm.Report, error) {
	report, err := l.Host.Report(ctx)
	if err != nil {
		return source{}, report, err
	}
	id := cmp.Or(spec.Source.Snapshot, spec.Source.Volume)
	name := volume.NameOf(id)
	groups := slices.Clone(report.Groups)
	slices.SortStableFunc(groups, func(a, b lvm.Group) int { // the group it should lie in comes first
		return cmp.Compare(b2i(b.Name == spec.Source.Group), b2i(a.Name == spec.Source.Group))
	})
	refusal := fmt.Errorf("%w in any volume group of this node", lvm.ErrVolumeNotFound)
	for _, group := range groups {
		v, ok := group.Volume(name)
		if !ok {
			continue
		}
		from := source{id: id, group: group.Name, name: name, size: v.Size, volume: spec.Source.Volume != "", space: spec.Source.Space}
		if refusal = from.check(v); refusal != nil {
			break
		}
		if from.volume {
			return from, report, nil
		}
		from.size, err = l.shown(ctx, v)
		return from, report, err
	}
	return source{}, report, fmt.Errorf("volume %s: its source %s: %w", spec.ID, id, refusal)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// check tells why a logical volume is not what is to be copied, or cannot be.
func (s source) check(v lvm.Volume) error {
	handle, tagged := volume.IDFromTags(v.Tags)
	if !s.volume {
		handle, tagged = volume.SnapshotFromTags(v.Tags)
	}
	switch {
	case tagged && handle != s.id, !tagged && (marked(v.Tags) || !volume.LooksOurs(v.Name)):
		return fmt.Errorf("logical volume %s is not tagged as that: %w", s.path(), lvm.ErrVolumeNotFound)
	case v.IsSnapshot() == s.volume:
		return fmt.Errorf("logical volume %s has the role %q: %w", s.path(), v.Role, lvm.ErrVolumeNotFound)
	case v.Invalid():
		return ErrLost
	case v.HasTag(volume.DeletedTag):
		return fmt.Errorf("it is deleted and only kept for its snapshots: %w", lvm.ErrVolumeNotFound)
	case v.HasTag(volume.CopyingTag), v.HasTag(zeroingTag):
		return fmt.Errorf("it is not ready itself: %w", ErrBusy)
	}
	return nil
}

// shown returns how large the device of a snapshot is. LVM's own size of it is that of
// its copy-on-write space.
func (l *Logical) shown(ctx context.Context, v lvm.Volume) (capacity.Bytes, error) {
	if size, ok := volume.SourceSizeFromTags(v.Tags); ok {
		return size, nil
	}
	if err := l.reach(ctx, v.Group, v.Name); err != nil {
		return 0, err
	}
	return l.Devices.Size(lvm.DevicePath(v.Group, v.Name))
}

// fit makes room in spec for a copy of its source.
func (l *Logical) fit(ctx context.Context, spec Spec) (Spec, source, lvm.Report, error) {
	from, report, err := l.findSource(ctx, spec)
	if err != nil {
		return spec, from, report, err
	}
	group, _ := report.Group(from.group)
	v, _ := group.Volume(from.name)
	// A source of the same request may have been rounded up by an extent, or by one
	// for each of its stripes.
	unit := group.Extent * capacity.Bytes(max(v.Stripes, 1))
	if spec.Size > 0 && spec.Size.Extents(unit) < from.size || spec.Limit > 0 && spec.Limit < from.size {
		return spec, from, report, fmt.Errorf("volume %s: %w: it is to have at least %s and at most %s, and its source %s has %s",
			spec.ID, ErrOutOfRange, spec.Size, limitString(spec.Limit), from.id, from.size)
	}
	spec.Size = max(spec.Size, from.size)
	return spec, from, report, nil
}

// copyTags returns the tags of a volume that is yet to become a copy.
func (s Source) copyTags() []string {
	return []string{volume.CopyingTag, volume.CopyTag(cmp.Or(s.Snapshot, s.Volume))}
}

// sameSource reports whether a volume with these tags began as what is asked.
func (s Source) sameSource(tags []string) bool {
	is, _ := volume.CopyFromTags(tags)
	return is == cmp.Or(s.Snapshot, s.Volume)
}

// copy returns the work of making a volume with volume.CopyingTag a copy of its
// source, and of taking the tag off. If that fails nothing is left of the volume; if
// it is given up, all is left as it is.
func (l *Logical) copy(spec Spec, vol Volume) finish {
	return func(ctx context.Context, say say) error {
		err := l.copyInTurn(ctx, spec, vol, say)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if undo := l.undoCopy(context.WithoutCancel(ctx), vol); undo != nil {
			// Whoever asked must not take it that nothing is left, as an error about room says.
			return fmt.Errorf("volume %s: %w: the half copy could not be removed yet: %w; it was given up because: %v", vol.ID, ErrBusy, undo, err) //nolint:errorlint // says why, and is not that error
		}
		return err
	}
}

// undoCopy leaves nothing of a volume that is yet to become a copy. What it was to be
// copied from goes first: while the volume stands, somebody finds that.
func (l *Logical) undoCopy(ctx context.Context, vol Volume) error {
	if err := l.endCopy(ctx, vol.ID); err != nil {
		return err
	}
	way, name := l.wayOf(vol.ID), volume.NameOf(vol.ID)
	remove := l.discardOrNot(way)
	if l.erases(way, vol.Group, name) {
		var err error
		remove, err = l.erase(ctx, lvm.Volume{Group: vol.Group, Name: name}, volume.CopyingTag, way, func(func() string) {})
		if err != nil {
			return err
		}
	}
	return remove(ctx, vol.Group, name, volume.IDTag(vol.ID), volume.CopyingTag)
}

func (l *Logical) copyInTurn(ctx context.Context, spec Spec, vol Volume, say say) error {
	done, err := l.copies.begin(ctx, say)
	if err != nil {
		return err
	}
	defer done()
	say(func() string { return "preparing to copy" })
	from, report, err := l.findSource(ctx, spec)
	if err != nil {
		return err
	}
	if from.volume {
		if from, err = l.still(ctx, spec, from, report); err != nil {
			return err
		}
	}
	if err := l.copyFrom(ctx, spec, vol, from, say); err != nil {
		return fmt.Errorf("making volume %s of %s: %w", spec.ID, from.id, l.whyUnreadable(ctx, from, err))
	}
	if err := l.endCopy(ctx, spec.ID); err != nil {
		return err
	}
	name := volume.NameOf(spec.ID)
	if err := l.Host.ChangeTags(ctx, vol.Group, name, nil, []string{volume.CopyingTag}); err != nil {
		return fmt.Errorf("marking volume %s/%s as copied: %w", vol.Group, name, err)
	}
	return nil
}

// copyFrom copies onto the volume and makes its file system its own.
func (l *Logical) copyFrom(ctx context.Context, spec Spec, vol Volume, from source, say say) error {
	name := volume.NameOf(spec.ID)
	if err := errors.Join(l.reach(ctx, from.group, from.name), l.reach(ctx, vol.Group, name)); err != nil {
		return err
	}
	if err := l.FileSystems.Abandon(ctx, l.scratch(spec.ID)); err != nil {
		return err
	}
	device := lvm.DevicePath(vol.Group, name)
	log := klog.FromContext(ctx).WithValues("volume", spec.ID, "source", from.id, "group", vol.Group)
	pace := newPace(l.Clock)
	say(pace.String)
	result, err := l.Copier.Copy(ctx, lvm.DevicePath(from.group, from.name), device, blockcopy.Options{
		// A block volume shows every byte that it has; a file system only those in use.
		Everything: spec.Block, ZeroRest: spec.Block, Verify: verified,
		Progress: func(done, total capacity.Bytes) {
			if pace.step(done, total) {
				log.Info("Copying volume", "progress", pace.String())
			}
		},
	})
	if err != nil {
		return err
	}
	if !spec.Block {
		say(func() string { return "copied, its file system is made its own" })
		if err := l.FileSystems.Renew(ctx, device, l.scratch(spec.ID), vol.Size > from.size); err != nil {
			return err
		}
	}
	log.Info("Copied volume", "duration", pace.elapsed(), "read", result.Read.String(), "written", result.Written.String(),
		"zeroed", result.Zeroed.String(), "unused", result.Unused.String(), "fileSystem", result.FileSystem, "because", result.Because)
	return nil
}

// scratch is where the file system of a volume is mounted while it is made its own.
func (l *Logical) scratch(id string) string { return l.Scratch + "/" + volume.NameOf(id) }

// whyUnreadable says of a copy that failed that its source is lost, if so.
func (l *Logical) whyUnreadable(ctx context.Context, from source, failure error) error {
	if ctx.Err() != nil {
		return failure
	}
	v, err := l.Host.Volume(ctx, from.group, from.name)
	if err == nil && v.Invalid() {
		return fmt.Errorf("%w: %w", ErrLost, failure)
	}
	return failure
}
