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

	keySnapshot    = "csi.aliyun.com/snapshot"
	keyMkfsOptions = "mkfsOptions"
)

// A Context is what a PersistentVolume remembers of its volume, for calls that
// carry no StorageClass.
type Context struct {
	Kind  Kind
	Group string // of an LVM volume
	// Snapshot is the handle of the snapshot that a volume shows which has nothing of
	// its own; or empty.
	Snapshot string
	// MkfsOptions are arguments for mkfs, yet to be seen by ValidMkfsOptions.
	MkfsOptions []string
	Limits
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
	if c.Snapshot != "" {
		attributes[keySnapshot] = c.Snapshot
	}
	if len(c.MkfsOptions) > 0 {
		attributes[keyMkfsOptions] = strings.Join(c.MkfsOptions, " ")
	}
	return attributes
}

// contextFields holds every key that ParseContext knows, in the order in which they
// are read: of several mistakes the first here is the one reported.
var contextFields = []struct {
	key string
	set func(c *Context, value string) error
}{
	{keyKind, func(c *Context, value string) error { return oneOf(&c.Kind, value, LVM, MountPoint, Device) }},
	{keyGroup, func(c *Context, value string) error { c.Group = value; return ValidGroup(value) }},
	{keyIOPS, func(c *Context, value string) error { return setLimit(&c.IOPS, value) }},
	{keyBPS, func(c *Context, value string) error { return setLimit(&c.BPS, value) }},
	{keySnapshot, func(c *Context, value string) error { c.Snapshot = value; return ValidID(value) }},
	{keyMkfsOptions, func(c *Context, value string) error { c.MkfsOptions = strings.Fields(value); return nil }},
}

// ParseContext reads the volumeAttributes of a PersistentVolume. Keys it does not
// know are left alone: they come from csi-provisioner, from kubelet and from
// other versions, and the volume exists whatever they say. A value it does
// know and cannot read is ErrInvalid.
func ParseContext(given map[string]string) (Context, error) {
	var c Context
	for _, field := range contextFields {
		value := strings.TrimSpace(given[field.key])
		if value == "" {
			continue // left out, or left empty by an earlier version
		}
		if err := field.set(&c, value); err != nil {
			return Context{}, fmt.Errorf("%w volume attribute %q: %w", ErrInvalid, field.key, err)
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
