package lvm

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
)

// roleThickSnapshot is LVM's word for a snapshot with a copy-on-write space.
const roleThickSnapshot = "thicksnapshot"

// IsSnapshot reports whether v is a thick snapshot.
func (v Volume) IsSnapshot() bool {
	return slices.Contains(strings.Split(v.Role, ","), roleThickSnapshot)
}

// Invalid reports whether v is a snapshot that is lost because its space ran full.
// Nothing can be read of it any more.
func (v Volume) Invalid() bool { return len(v.Attr) > 4 && (v.Attr[4] == 'I' || v.Attr[4] == 'S') }

// CreateSnapshot describes a new thick snapshot.
type CreateSnapshot struct {
	Group, Origin, Name string
	// Size is the space for what is overwritten in the origin. LVM rounds it up to
	// whole extents, and gives no more than capacity.SnapshotSpace.
	Size capacity.Bytes
	// ReadOnly has the kernel refuse to write to it, whoever tries.
	ReadOnly bool
	Tags     []string
}

// CreateSnapshot makes a snapshot in one process. A file system that is mounted is
// consistent in it: the kernel brings it to rest meanwhile. Errors to ask about:
// ErrExists, ErrNoSpace, ErrVolumeNotFound, ErrGroupNotFound, ErrPartial.
func (h *Host) CreateSnapshot(ctx context.Context, c CreateSnapshot) error {
	size, err := sizeArgument(c.Size)
	if err := errors.Join(ValidPair(c.Group, c.Origin), ValidPair(c.Group, c.Name), validTags(c.Tags...), err); err != nil {
		return fmt.Errorf("creating snapshot \"%s/%s\": %w", c.Group, c.Name, err)
	}
	args := []string{"lvcreate", "--yes", "--snapshot", "--chunksize", fmt.Sprintf("%db", capacity.SnapshotChunk), "--name", c.Name, "--size", size}
	if c.ReadOnly {
		args = append(args, "--permission", "r")
	}
	for _, tag := range c.Tags {
		args = append(args, "--addtag", tag)
	}
	if _, err := h.change(ctx, append(args, "--", c.Group+"/"+c.Origin)...); err != nil {
		return fmt.Errorf("creating snapshot %s/%s of volume %s with %d bytes: %w", c.Group, c.Name, c.Origin, c.Size, err)
	}
	return nil
}

// RemoveSnapshot removes a thick snapshot only if it carries all the tags, and neither
// it nor its group is protected. LVM itself checks that, as for RemoveVolume, whose
// errors it shares; a volume that is no snapshot is ErrNotOurs. The space for what was
// overwritten is discarded as DiscardVolume does.
func (h *Host) RemoveSnapshot(ctx context.Context, group, name string, tags ...string) error {
	r := removal{group, name, tags, equals("lv_role", roleThickSnapshot), h.whySnapshotKept, discarding}
	if err := h.remove(ctx, r); err != nil {
		return fmt.Errorf("removing snapshot %q: %w", group+"/"+name, err)
	}
	return nil
}

func (h *Host) whySnapshotKept(ctx context.Context, group, name string, tags []string) error {
	v, err := h.Volume(ctx, group, name)
	switch {
	case errors.Is(err, ErrVolumeNotFound):
		return nil // as in whyKept
	case err != nil:
		return err
	case !v.IsSnapshot():
		return fmt.Errorf("%w: it is no snapshot", ErrNotOurs)
	}
	return h.whyKept(ctx, group, name, tags)
}

// RemoveUnused removes and discards, in one process, every volume of the group that
// carries all the tags, of which there must be one, does not carry the tag but, and has
// no thick snapshots; protected ones stay. It returns the names of those removed. After
// an error about one, others may be gone.
func (h *Host) RemoveUnused(ctx context.Context, group, but string, tags ...string) ([]string, error) {
	err := errors.Join(ValidGroupName(group), validTags(but), validTags(tags...))
	if err == nil && len(tags) == 0 {
		err = fmt.Errorf("no tag is %w: it would be every volume", ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("removing unused volumes of group %q: %w", group, err)
	}
	clauses := []string{
		differs("lv_tags", ProtectedTag),
		differs("vg_tags", ProtectedTag),
		differs("lv_role", roleThickOrigin),
		differs("lv_tags", but),
	}
	for _, tag := range tags {
		clauses = append(clauses, equals("lv_tags", tag))
	}
	args := slices.Concat([]string{"lvremove", "--yes"}, discarding, []string{"--select", allOf(clauses...), "--", group})
	out, err := h.change(ctx, args...)
	var removed []string
	for _, match := range removedVolume.FindAllSubmatch(out, -1) {
		removed = append(removed, string(match[1]))
	}
	if err != nil {
		return nil, fmt.Errorf("removing unused volumes of group %s with the tags %q: %w", group, tags, err)
	}
	return removed, nil
}

// removedVolume is what LVM says of each volume that it removed.
var removedVolume = regexp.MustCompile(`Logical volume "([^"]+)" successfully removed`)
