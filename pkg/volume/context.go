package volume

import (
	"fmt"
	"path"
	"strings"
	"unicode"
)

// Keys of a PersistentVolume's volumeAttributes. The first two stand in volumes
// made by any version; so does the type as a key, MountPoint or Device, whose value is a
// path.
const (
	keyKind  = "volumeType"
	keyGroup = "vgName"
	keyIOPS  = "iops"
	keyBPS   = "bps"

	keySnapshot    = "csi.aliyun.com/snapshot"
	keyMkfsOptions = "mkfsOptions"
	keyIdentity    = "csi.aliyun.com/identity"
)

// A Context is what a PersistentVolume remembers of its volume, for calls that
// carry no StorageClass.
type Context struct {
	Kind  Kind
	Group string // of an LVM volume
	// Path is what the device of a Device volume was called when it was given to it, or
	// where the file system of a MountPoint volume is mounted. Identity is who the device or
	// file system is; it is empty in volumes of the first open-local.
	Path, Identity string
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
	if c.Path != "" {
		attributes[string(c.Kind)] = c.Path
	}
	if c.Identity != "" {
		attributes[keyIdentity] = c.Identity
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
	{string(MountPoint), func(c *Context, value string) error { return setPath(c, MountPoint, value) }},
	{string(Device), func(c *Context, value string) error { return setPath(c, Device, value) }},
	{keyIdentity, func(c *Context, value string) error { c.Identity = value; return ValidIdentity(value) }},
	{keyIOPS, func(c *Context, value string) error { return setLimit(&c.IOPS, value) }},
	{keyBPS, func(c *Context, value string) error { return setLimit(&c.BPS, value) }},
	{keySnapshot, func(c *Context, value string) error { c.Snapshot = value; return ValidID(value) }},
	{keyMkfsOptions, func(c *Context, value string) error { c.MkfsOptions = strings.Fields(value); return nil }},
}

// setPath reads where a volume of the kind is. The other kind's key is none of its
// business.
func setPath(c *Context, kind Kind, value string) error {
	if c.Kind != kind {
		return nil
	}
	c.Path = value
	return ValidPath(kind, value)
}

// ValidPath reports why the path cannot be that of a device or of a mount point, or nil.
func ValidPath(kind Kind, value string) error {
	switch {
	case !path.IsAbs(value) || path.Clean(value) != value || value == "/" || len(value) > maxPath:
		return fmt.Errorf("%.60q is not an absolute, clean path below /", value)
	case kind == Device && !strings.HasPrefix(value, "/dev/"):
		return fmt.Errorf("%q is not below /dev", value)
	case strings.ContainsFunc(value, unicode.IsControl):
		return fmt.Errorf("%q has a control character", value)
	}
	return nil
}

// maxPath is the longest path that Linux takes, in bytes, with its last zero.
const maxPath = 4095

// ValidIdentity reports why value cannot be who a device or a file system is, or nil.
func ValidIdentity(value string) error {
	if value == "" || len(value) > maxIdentity || strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return fmt.Errorf("%.60q cannot be who a device or file system is", value)
	}
	return nil
}

// maxIdentity is more than any identity has, in bytes.
const maxIdentity = 512

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
