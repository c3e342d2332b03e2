package provision

import (
	"fmt"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A Spec is a volume that shall exist.
type Spec struct {
	ID   string // the volume handle
	Kind volume.Kind
	// Group is where it was decided that the volume lies; empty lets this node choose.
	Group string
	// OnlyGroup is the only group that will do; empty means any that is managed.
	OnlyGroup string
	Size      capacity.Bytes // at least
	Limit     capacity.Bytes // at most; 0 is no limit
	Layout    capacity.Layout
	// Block volumes are handed out as they are, so they are zeroed first.
	Block bool
	Tags  []string // whose it is
	// Identity is who the device or file system is that it was decided the volume has, and
	// Path what that was called; both empty let this node choose.
	Identity, Path string
	// Media is what a device or file system that this node chooses must be made of; empty
	// means any.
	Media volume.Media
	// Wipe is what becomes of the data when the volume is removed; empty is as where
	// nobody said anything.
	Wipe volume.Wipe
	// Source is what the volume begins as; the zero Source is nothing.
	Source Source
}

// A Source is what a volume is copied from: a snapshot or a volume on this node.
type Source struct {
	Snapshot string // its handle; or
	Volume   string // its handle
	Group    string // where it is known to lie
	// Space is what may be taken at first for what is overwritten while a volume is
	// copied; zero is what the node thinks fit.
	Space capacity.Bytes
}

// Given reports whether there is a source at all.
func (s Source) Given() bool { return s.Snapshot != "" || s.Volume != "" }

func (s Spec) validate() error {
	if err := volume.ValidID(s.ID); err != nil {
		return err
	}
	_, forPod := volume.PodOf(s.Tags)
	switch {
	case volume.IsInline(s.ID) != forPod:
		return fmt.Errorf("%w volume %s: the handle of an inline volume goes with the pod that it is for", volume.ErrInvalid, s.ID)
	case s.Source.Snapshot != "" && s.Source.Volume != "":
		return fmt.Errorf("%w volume %s: it cannot be a copy of snapshot %s and of volume %s", volume.ErrInvalid, s.ID, s.Source.Snapshot, s.Source.Volume)
	case s.Source.Given() && forPod, s.Source.Volume == s.ID:
		return fmt.Errorf("%w volume %s: an inline volume cannot be a copy, and none of itself", volume.ErrInvalid, s.ID)
	case s.Size < 0, s.Limit < 0:
		return fmt.Errorf("%w size of volume %s: it is below zero", volume.ErrInvalid, s.ID)
	case s.Limit > 0 && s.Size > s.Limit:
		return fmt.Errorf("%w size of volume %s: at least %s is more than at most %s", volume.ErrInvalid, s.ID, s.Size, s.Limit)
	case s.Group != "" && s.OnlyGroup != "" && s.Group != s.OnlyGroup:
		return fmt.Errorf("%w volume group of volume %s: %s was decided on and only %s will do", volume.ErrInvalid, s.ID, s.Group, s.OnlyGroup)
	}
	if err := s.validateWords(); err != nil {
		return fmt.Errorf("%w volume %s: %w", volume.ErrInvalid, s.ID, err)
	}
	return nil
}

// validateWords checks what is said in words: tags, what the volume has for itself, and how
// that is wiped.
func (s Spec) validateWords() error {
	for _, tag := range s.Tags {
		if !volume.ValidTag(tag) {
			return fmt.Errorf("%q cannot be a tag", tag)
		}
	}
	if s.Identity != "" {
		if err := volume.ValidIdentity(s.Identity); err != nil {
			return err
		}
	}
	if s.Path != "" {
		if err := volume.ValidPath(s.Kind, s.Path); err != nil {
			return err
		}
	}
	if s.Wipe != "" {
		return volume.ValidWipe(s.Wipe)
	}
	return nil
}

// A Volume is one that exists.
type Volume struct {
	ID    string
	Group string
	Size  capacity.Bytes
	// Identity is who its device or file system is, and Path what that is called now.
	Identity, Path string
}

// A Removal names a volume that shall not exist.
type Removal struct {
	ID    string
	Kind  volume.Kind
	Group string // where it is known to lie
	// Proven says that a PersistentVolume names this handle and this group: the
	// proof for a volume that carries no tags, as the first open-local made them.
	Proven bool
	// Identity and Path are who its device or file system is, and what that was called, as
	// far as a PersistentVolume says so.
	Identity, Path string
}
