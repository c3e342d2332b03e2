package volume

import (
	"fmt"
	"strings"
)

// Keys of a PersistentVolume's volumeAttributes. The first two stand in volumes
// made by any version.
const (
	keyKind  = "volumeType"
	keyGroup = "vgName"
	keyIOPS  = "iops"
	keyBPS   = "bps"
)

// A Context is what a PersistentVolume remembers of its volume, for calls that
// carry no StorageClass.
type Context struct {
	Kind  Kind
	Group string // of an LVM volume
	IOPS  int64  // 0 is unlimited
	BPS   int64  // 0 is unlimited
}

// Attributes returns c as the volumeAttributes of a PersistentVolume.
func (c Context) Attributes() map[string]string {
	attributes := map[string]string{keyKind: string(c.Kind)}
	if c.Group != "" {
		attributes[keyGroup] = c.Group
	}
	if c.IOPS > 0 {
		attributes[keyIOPS] = formatLimit(c.IOPS)
	}
	if c.BPS > 0 {
		attributes[keyBPS] = formatLimit(c.BPS)
	}
	return attributes
}

// ParseContext reads the volumeAttributes of a PersistentVolume. Keys it does not
// know are left alone: they come from csi-provisioner, from kubelet and from
// other versions, and the volume exists whatever they say. A value it does
// know and cannot read is ErrInvalid.
func ParseContext(attributes map[string]string) (Context, error) {
	var c Context
	for key, set := range map[string]func(string) error{
		keyKind:  func(value string) error { return oneOf(&c.Kind, value, LVM, MountPoint, Device) },
		keyGroup: func(value string) error { c.Group = value; return ValidGroup(value) },
		keyIOPS:  func(value string) error { return setLimit(&c.IOPS, value) },
		keyBPS:   func(value string) error { return setLimit(&c.BPS, value) },
	} {
		value, given := attributes[key]
		if !given || (value == "" && key != keyKind) {
			continue
		}
		if err := set(strings.TrimSpace(value)); err != nil {
			return Context{}, fmt.Errorf("%w volume attribute %q: %w", ErrInvalid, key, err)
		}
	}
	switch {
	case c.Kind == "":
		return Context{}, fmt.Errorf("%w volume attributes: %q is missing", ErrInvalid, keyKind)
	case c.Kind == LVM && c.Group == "":
		return Context{}, fmt.Errorf("%w volume attributes: %q is missing for a volume of type LVM", ErrInvalid, keyGroup)
	}
	return c, nil
}
