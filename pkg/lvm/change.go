package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/open-local/open-local/pkg/capacity"
)

// CreateVolume describes a new logical volume.
type CreateVolume struct {
	Group, Name string
	Size        capacity.Bytes // LVM rounds it up to whole extents, and to whole stripes
	Layout      Layout
	Tags        []string
	Devices     []string // the physical volumes it may lie on; all of the group when empty
}

// CreateVolume makes a volume in one process. Whatever an earlier volume left at
// its place that looks like a file system is wiped; the rest of the old data is
// not. Errors to ask about: ErrExists, ErrNoSpace, ErrGroupNotFound, ErrPartial.
func (h *Host) CreateVolume(ctx context.Context, c CreateVolume) error {
	args, err := c.arguments()
	if err != nil {
		return fmt.Errorf("creating volume \"%s/%s\": %w", c.Group, c.Name, err)
	}
	if _, err := h.change(ctx, args...); err != nil {
		return fmt.Errorf("creating volume %s/%s of %d bytes: %w", c.Group, c.Name, c.Size, err)
	}
	return nil
}

func (c CreateVolume) arguments() ([]string, error) {
	if err := errors.Join(ValidPair(c.Group, c.Name), validTags(c.Tags...), validDevices(c.Devices)); err != nil {
		return nil, err
	}
	size, err := sizeArgument(c.Size)
	if err != nil {
		return nil, err
	}
	layout, err := c.Layout.arguments()
	if err != nil {
		return nil, err
	}
	// --yes answers the question whether to wipe a signature found.
	args := []string{"lvcreate", "--yes", "--wipesignatures", "y", "--zero", "y", "--name", c.Name, "--size", size}
	args = append(args, layout...)
	for _, tag := range c.Tags {
		args = append(args, "--addtag", tag)
	}
	return append(append(args, "--", c.Group), c.Devices...), nil
}

func (l Layout) arguments() ([]string, error) {
	switch {
	case (l.Type == "" || l.Type == TypeLinear) && l.Stripes <= 1:
		return []string{"--type", TypeLinear}, nil
	case l.Type == TypeStriped && l.Stripes >= 2:
		return []string{"--type", TypeStriped, "--stripes", strconv.Itoa(l.Stripes)}, nil
	}
	return nil, fmt.Errorf("layout %q of %d stripes is %w", l.Type, l.Stripes, ErrInvalid)
}

// RemoveVolume removes a volume only if it carries all the tags, neither it nor its
// group is protected, and it has no thick snapshots, which LVM would remove with it.
// LVM itself checks that in the process that removes, under its lock. Otherwise the
// error says why: ErrVolumeNotFound, ErrGroupNotFound, ErrNotOurs, ErrProtected,
// ErrHasSnapshots or ErrInUse.
func (h *Host) RemoveVolume(ctx context.Context, group, name string, tags ...string) error {
	r := removal{group, name, tags, differs("lv_role", roleThickOrigin), h.whyKept, nil}
	if err := h.remove(ctx, r); err != nil {
		return fmt.Errorf("removing volume %q: %w", group+"/"+name, err)
	}
	return nil
}

// DiscardVolume is RemoveVolume, and LVM tells the disks below that can forget to forget
// what the volume had. It does so in the same process, after it has checked the
// conditions and while it holds its lock: nobody else could without destroying what has
// become protected, or is of a snapshot, in the last moment. Where a disk cannot, or
// fails to, nothing is the worse for it.
func (h *Host) DiscardVolume(ctx context.Context, group, name string, tags ...string) error {
	r := removal{group, name, tags, differs("lv_role", roleThickOrigin), h.whyKept, discarding}
	if err := h.remove(ctx, r); err != nil {
		return fmt.Errorf("removing volume %q: %w", group+"/"+name, err)
	}
	return nil
}

// discarding has LVM discard what it frees, whatever its own configuration says
// (lvm.conf(5), devices/issue_discards).
var discarding = []string{"--config", "devices/issue_discards=1"}

// A removal is of a volume that has all the tags and the role, and is not protected.
type removal struct {
	group, name string
	tags        []string
	role        string // the clause
	whyKept     func(ctx context.Context, group, name string, tags []string) error
	options     []string
}

// remove lets LVM itself check the conditions, in the process that removes, under its
// lock.
func (h *Host) remove(ctx context.Context, r removal) error {
	if err := errors.Join(ValidPair(r.group, r.name), validTags(r.tags...)); err != nil {
		return err
	}
	clauses := []string{differs("lv_tags", ProtectedTag), differs("vg_tags", ProtectedTag), r.role}
	for _, tag := range r.tags {
		clauses = append(clauses, equals("lv_tags", tag))
	}
	// --yes: an active volume is to be removed, too. One that is open never is.
	args := slices.Concat([]string{"lvremove", "--yes"}, r.options, []string{"--select", allOf(clauses...), "--", r.group + "/" + r.name})
	out, err := h.change(ctx, args...)
	if err == nil && !bytes.Contains(out, []byte("successfully removed")) {
		err = r.whyKept(ctx, r.group, r.name, r.tags)
	}
	return err
}

// whyKept finds out why LVM, which had found the volume, did not select it.
func (h *Host) whyKept(ctx context.Context, group, name string, tags []string) error {
	g, err := h.group(ctx, group, equals("lv_name", name))
	if err != nil {
		return err
	}
	v, ok := g.Volume(name)
	switch {
	case !ok:
		return nil // LVM had found it and now it is gone: removed, in words we do not know
	case v.Protected() || g.Protected():
		return ErrProtected
	}
	for _, tag := range tags {
		if !v.HasTag(tag) {
			return fmt.Errorf("%w: it has no tag %q", ErrNotOurs, tag)
		}
	}
	if v.HasSnapshots() {
		return ErrHasSnapshots
	}
	return errors.New("LVM kept it and does not say why")
}

// ExtendVolume makes a volume at least as large as size, with as many stripes as it
// has. A volume that is already that large stays as it is, and that is no error. One
// that has snapshots and is active is ErrHasSnapshots.
func (h *Host) ExtendVolume(ctx context.Context, group, name string, size capacity.Bytes) error {
	return h.ExtendVolumeOn(ctx, group, name, size, nil)
}

// ExtendVolumeOn is ExtendVolume by an LVM that sees these devices alone, which must be
// all physical volumes of the group; or every device when there are none. It waits for
// no other device, such as one that is suspended.
func (h *Host) ExtendVolumeOn(ctx context.Context, group, name string, size capacity.Bytes, members []string) error {
	err := ValidPair(group, name)
	argument, sizeErr := sizeArgument(size)
	if err := errors.Join(err, sizeErr, validDevices(members)); err != nil {
		return fmt.Errorf("extending volume \"%s/%s\": %w", group, name, err)
	}
	args := []string{"lvextend"}
	for _, member := range members {
		args = append(args, "--devices", member)
	}
	_, err = h.change(ctx, append(args, "--size", argument, "--", group+"/"+name)...)
	if err != nil && !errors.Is(err, errNotLarger) {
		return fmt.Errorf("extending volume %s/%s to %d bytes: %w", group, name, size, err)
	}
	return nil
}

// ChangeTags adds and removes tags of a volume. Tags that are already there, or
// already gone, are no error.
func (h *Host) ChangeTags(ctx context.Context, group, name string, add, del []string) error {
	if err := errors.Join(ValidPair(group, name), validTags(add...), validTags(del...)); err != nil {
		return fmt.Errorf("changing the tags of volume \"%s/%s\": %w", group, name, err)
	}
	args := []string{"lvchange"}
	for _, tag := range add {
		args = append(args, "--addtag", tag)
	}
	for _, tag := range del {
		args = append(args, "--deltag", tag)
	}
	if len(args) == 1 {
		return nil
	}
	if _, err := h.change(ctx, append(args, "--", group+"/"+name)...); err != nil {
		return fmt.Errorf("changing the tags of volume %s/%s: %w", group, name, err)
	}
	return nil
}

// ActivateVolume makes the device of a volume appear. An active volume stays as it
// is. ErrPartial says that not all of the volume is there.
func (h *Host) ActivateVolume(ctx context.Context, group, name string) error {
	if err := ValidPair(group, name); err != nil {
		return fmt.Errorf("activating volume \"%s/%s\": %w", group, name, err)
	}
	if _, err := h.change(ctx, "lvchange", "--activate", "y", "--", group+"/"+name); err != nil {
		return fmt.Errorf("activating volume %s/%s: %w", group, name, err)
	}
	return nil
}

// DeactivateVolume makes the device of a volume, and those of its snapshots, go away.
// One that is open is ErrInUse.
func (h *Host) DeactivateVolume(ctx context.Context, group, name string) error {
	if err := ValidPair(group, name); err != nil {
		return fmt.Errorf("deactivating volume \"%s/%s\": %w", group, name, err)
	}
	if _, err := h.change(ctx, "lvchange", "--activate", "n", "--", group+"/"+name); err != nil {
		return fmt.Errorf("deactivating volume %s/%s: %w", group, name, err)
	}
	return nil
}

// RefreshVolume has the device of an active volume, and of its snapshots, be as LVM's
// metadata say, and not suspended: a process that died may have left it so.
func (h *Host) RefreshVolume(ctx context.Context, group, name string) error {
	if err := ValidPair(group, name); err != nil {
		return fmt.Errorf("refreshing volume \"%s/%s\": %w", group, name, err)
	}
	if _, err := h.change(ctx, "lvchange", "--refresh", "--", group+"/"+name); err != nil {
		return fmt.Errorf("refreshing volume %s/%s: %w", group, name, err)
	}
	return nil
}

// MakeDevices makes those files of an active volume in /dev that are missing: without
// udev LVM makes them last, and whoever ended an lvcreate before that left a volume
// that is active and cannot be reached.
func (h *Host) MakeDevices(ctx context.Context, group, name string) error {
	if err := ValidPair(group, name); err != nil {
		return fmt.Errorf("making the device files of volume \"%s/%s\": %w", group, name, err)
	}
	if _, err := h.change(ctx, "vgmknodes", "--", group+"/"+name); err != nil {
		return fmt.Errorf("making the device files of volume %s/%s: %w", group, name, err)
	}
	return nil
}

// CreateGroup makes a volume group of blank devices. LVM is never told to go over a
// signature: it would ask, and the answer is no (ErrNotBlank). A group of that name
// is ErrExists, a device that is mounted or in a group is ErrInUse.
func (h *Host) CreateGroup(ctx context.Context, name string, devices []string) error {
	if err := validNewMembers(name, devices); err != nil {
		return fmt.Errorf("creating volume group %q: %w", name, err)
	}
	_, err := h.change(ctx, append([]string{"vgcreate", "--", name}, devices...)...)
	if errors.Is(err, errNameTaken) {
		// LVM looks at /dev/<name> first, which an existing group usually has.
		if _, lookErr := h.Group(ctx, name); lookErr == nil {
			err = ErrExists
		}
	}
	if err != nil {
		return fmt.Errorf("creating volume group %s of %d devices: %w", name, len(devices), err)
	}
	return nil
}

// ExtendGroup adds blank devices to a volume group, under the same rules as CreateGroup.
func (h *Host) ExtendGroup(ctx context.Context, name string, devices []string) error {
	if err := validNewMembers(name, devices); err != nil {
		return fmt.Errorf("extending volume group %q: %w", name, err)
	}
	if _, err := h.change(ctx, append([]string{"vgextend", "--", name}, devices...)...); err != nil {
		return fmt.Errorf("extending volume group %s with %d devices: %w", name, len(devices), err)
	}
	return nil
}

// ResizePhysicalVolume makes a physical volume fill its device, which has become
// larger. One that fills it already is no error. A device that became smaller is left to
// LVM's judgement, which refuses to lose anything.
func (h *Host) ResizePhysicalVolume(ctx context.Context, device string) error {
	if err := validDevices([]string{device}); err != nil {
		return fmt.Errorf("resizing physical volume %q: %w", device, err)
	}
	if _, err := h.change(ctx, "pvresize", "--", device); err != nil {
		return fmt.Errorf("resizing physical volume %s: %w", device, err)
	}
	return nil
}

func validNewMembers(group string, devices []string) error {
	if len(devices) == 0 {
		return fmt.Errorf("no devices is %w", ErrInvalid)
	}
	return errors.Join(ValidGroupName(group), validDevices(devices))
}
