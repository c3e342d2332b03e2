package provision

import (
	"context"
	"fmt"
	"slices"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/volume"
)

// An Offer is a device, or a mounted file system, that this node may give to a volume.
type Offer struct {
	Identity string // who it is
	Path     string // what it is called, or where it is mounted
	Size     capacity.Bytes
	Media    volume.Media // empty where that is not known
}

// offers says what this node may give: *directory.Own. Not knowing yet is ErrNotReady.
type offers interface {
	Offers(kind volume.Kind) ([]Offer, error)
}

// book tells what volumes have: *exclusive.Book.
type book interface {
	Get(volume string) (exclusive.Record, bool, error)
	List() ([]exclusive.Record, error)
}

// chooser finds what a volume of one type gets.
type chooser struct {
	kind   volume.Kind
	offers offers
	book   book
	prefer allocator.Preference
}

// candidates returns what may be given to a volume, the best first: the one that was
// decided on, where there was a decision.
func (c chooser) candidates(spec Spec) ([]Offer, error) {
	all, err := c.offers.Offers(c.kind)
	if err != nil {
		return nil, err
	}
	if spec.Identity != "" || spec.Path != "" {
		at := slices.IndexFunc(all, func(o Offer) bool {
			return o.Identity == spec.Identity || spec.Identity == "" && o.Path == spec.Path
		})
		if at < 0 {
			return nil, fmt.Errorf("volume %s: %s %s %s is not offered by this node: %w", spec.ID, c.kind, spec.Path, spec.Identity, ErrNoDevice)
		}
		return all[at : at+1], nil
	}
	records, err := c.book.List()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(slices.Clone(all), func(o Offer) bool {
		return spec.Limit > 0 && o.Size > spec.Limit ||
			slices.ContainsFunc(records, func(r exclusive.Record) bool { return r.ID == o.Identity })
	})
	return c.order(spec, all)
}

// order puts those that will do in the order in which the allocator would have them.
func (c chooser) order(spec Spec, all []Offer) ([]Offer, error) {
	kind := spec.Kind.Lies()
	node := capacity.Node{}
	for _, o := range all {
		node.Groups = append(node.Groups, capacity.Group{Name: o.Path, Kind: kind, Size: o.Size, Free: o.Size, Media: o.Media})
	}
	claims := []volume.Claim{{Volume: volume.NameOf(spec.ID), Name: spec.ID, Size: spec.Size, Kind: kind, Media: spec.Media}}
	var ordered []Offer
	for range all {
		spots, err := allocator.Place(node, claims, c.prefer)
		if err != nil {
			if len(ordered) == 0 {
				return nil, fmt.Errorf("choosing for volume %s: %w: %w", spec.ID, ErrNoDevice, err)
			}
			break
		}
		ordered = append(ordered, all[slices.IndexFunc(all, func(o Offer) bool { return o.Path == spots[0].Group })])
		node.Group(spots[0].Group).Free = 0
	}
	if len(ordered) == 0 {
		return nil, fmt.Errorf("choosing for volume %s: %w: no %s is offered", spec.ID, ErrNoDevice, c.kind)
	}
	return ordered, nil
}

// accept says why a volume that stands is not the one wanted, or nil.
func (c chooser) accept(spec Spec, have exclusive.Record) error {
	switch {
	case have.Kind != c.kind, have.Adopted:
		return fmt.Errorf("volume %s: it has %s %s: %w", spec.ID, have.Kind, have.Path, ErrConflict)
	case have.Size < spec.Size, spec.Limit > 0 && have.Size > spec.Limit:
		return fmt.Errorf("volume %s: %s %s has %s, wanted are at least %s and at most %s: %w",
			spec.ID, have.Kind, have.Path, have.Size, spec.Size, limitString(spec.Limit), ErrConflict)
	case have.Block != spec.Block:
		return fmt.Errorf("volume %s: %s %s was given as a block device, or was not, and now it is the other way round: %w", spec.ID, have.Kind, have.Path, ErrConflict)
	}
	return nil
}

// check refuses what no volume of these types can be.
func (c chooser) check(spec Spec) error {
	switch _, forPod := volume.PodOf(spec.Tags); {
	case spec.Source.Given():
		return fmt.Errorf("%w volume %s: a volume of type %s cannot begin as a copy", volume.ErrInvalid, spec.ID, c.kind)
	case forPod:
		return fmt.Errorf("%w volume %s: an inline volume cannot be of type %s", volume.ErrInvalid, spec.ID, c.kind)
	case spec.Group != "" || spec.OnlyGroup != "":
		return fmt.Errorf("%w volume %s: a volume of type %s lies in no volume group", volume.ErrInvalid, spec.ID, c.kind)
	}
	return nil
}

// of implements Whole.
func (c chooser) of() volume.Kind { return c.kind }

// grow refuses: all there is of a device is the volume's already.
func (c chooser) grow(_ context.Context, g Growth) (capacity.Bytes, error) {
	return 0, c.never(g.ID, "grow: it has all of what it is on")
}

// modify refuses.
func (c chooser) modify(_ context.Context, m Modification) error {
	return c.never(m.ID, "get other limits; those of its StorageClass hold")
}

// snapshot refuses.
func (c chooser) snapshot(_ context.Context, spec SnapshotSpec) (Snapshot, error) { //nolint:unparam // as kind has it
	return Snapshot{}, c.never(spec.Volume, "have snapshots; logical volumes can")
}

// removeSnapshot has nothing to remove.
func (c chooser) removeSnapshot(context.Context, SnapshotRemoval) error { return nil }

func (c chooser) never(id, what string) error {
	return fmt.Errorf("%w request for volume %s: a volume of type %s cannot %s", volume.ErrInvalid, id, c.kind, what)
}
