package lvm

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
)

const (
	maxName = 127 // NAME_LEN of LVM, less the final zero
	// maxDeviceName is the longest name device-mapper takes. It is made of group
	// and volume, joined by a hyphen, with each hyphen of theirs doubled.
	maxDeviceName = 127
	// maxPair bounds group and volume together; LVM keeps some room for the names
	// of a volume's hidden layers.
	maxPair = 124
	maxTag  = 1024
)

var (
	nameAlphabet = regexp.MustCompile(`^[A-Za-z0-9+_.][A-Za-z0-9+_.-]*$`)
	tagAlphabet  = regexp.MustCompile(`^[A-Za-z0-9_+./=!:&#][A-Za-z0-9_+./=!:&#-]*$`)
	// deviceAlphabet is what names under /dev are made of. A comma or a space in
	// one would mean something to a program we pass it to.
	deviceAlphabet = regexp.MustCompile(`^/dev/[A-Za-z0-9+_.:@/-]+$`)

	reservedPrefixes = []string{"snapshot", "pvmove"}
	reservedParts    = []string{
		"_cdata", "_cmeta", "_corig", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
		"_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
	}
)

// Tag is one of LVM's tags, as ValidTag wants it. It is a string by another name,
// so that lists of tags need no conversion.
type Tag = string

// ValidGroupName tells whether LVM takes name for a volume group.
func ValidGroupName(name string) error {
	switch {
	case !nameAlphabet.MatchString(name) || name == "." || name == "..":
		return fmt.Errorf("name %q is %w: letters, digits and +_.- only, and no hyphen first", name, ErrInvalid)
	case len(name) > maxName:
		return fmt.Errorf("name %q is %w: longer than %d", name, ErrInvalid, maxName)
	}
	return nil
}

// ValidName tells whether LVM takes name for a logical volume. Such a name is good
// for a volume group, too; ValidGroupName allows a few more.
func ValidName(name string) error {
	if err := ValidGroupName(name); err != nil {
		return err
	}
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return fmt.Errorf("name %q is %w: LVM reserves names that start with %q", name, ErrInvalid, prefix)
		}
	}
	for _, part := range reservedParts {
		if strings.Contains(name, part) {
			return fmt.Errorf("name %q is %w: LVM reserves names with %q in them", name, ErrInvalid, part)
		}
	}
	return nil
}

// ValidPair tells whether LVM takes name for a logical volume of group.
func ValidPair(group, name string) error {
	if err := ValidGroupName(group); err != nil {
		return fmt.Errorf("volume group: %w", err)
	}
	if err := ValidName(name); err != nil {
		return fmt.Errorf("logical volume: %w", err)
	}
	device := len(group) + 1 + len(name) + strings.Count(group, "-") + strings.Count(name, "-")
	if len(group)+len(name) > maxPair || device > maxDeviceName {
		return fmt.Errorf("name \"%s/%s\" is %w: too long for the device-mapper", group, name, ErrInvalid)
	}
	return nil
}

// ValidTag tells whether LVM takes tag.
func ValidTag(tag string) error {
	if len(tag) > maxTag || !tagAlphabet.MatchString(tag) {
		return fmt.Errorf("tag %q is %w: up to %d letters, digits and _+.-/=!:&#, and no hyphen first", tag, ErrInvalid, maxTag)
	}
	return nil
}

func validTags(tags ...string) error {
	for _, tag := range tags {
		if err := ValidTag(tag); err != nil {
			return err
		}
	}
	return nil
}

// validDevices refuses paths that are not plain names under /dev, and the same
// path twice: LVM initialises a disk that is named twice before it fails.
func validDevices(devices []string) error {
	seen := make(map[string]bool, len(devices))
	for _, device := range devices {
		switch {
		case !deviceAlphabet.MatchString(device) || path.Clean(device) != device:
			return fmt.Errorf("device %q is %w: not a plain path under /dev", device, ErrInvalid)
		case seen[device]:
			return fmt.Errorf("device %q is %w: named twice", device, ErrInvalid)
		}
		seen[device] = true
	}
	return nil
}

// sector is what LVM wants a size in bytes to be a multiple of. Rounding up to
// extents is LVM's own.
const sector = 512

// sizeArgument spells a size for --size.
func sizeArgument(size capacity.Bytes) (string, error) {
	if size <= 0 || size > math.MaxInt64-sector {
		return "", fmt.Errorf("size %d is %w", size, ErrInvalid)
	}
	return strconv.FormatInt(int64(size.Extents(sector)), 10) + "b", nil
}
