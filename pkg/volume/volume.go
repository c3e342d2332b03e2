// Package volume describes what is asked of open-local: the parameters of a
// StorageClass, the context a PersistentVolume carries, and the names by which
// one volume is known to Kubernetes and to LVM. Everything from outside is
// parsed here, once, into types. It knows no API client, no disk and no time.
package volume

import (
	"errors"

	"github.com/open-local/open-local/pkg/capacity"
)

// ErrInvalid is wrapped by every error that means the request itself is wrong:
// repeating it cannot help.
var ErrInvalid = errors.New("invalid")

// DefaultDriver is the name of the CSI driver unless a flag says otherwise.
const DefaultDriver = "local.csi.aliyun.com"

// TopologyKey is the topology segment in which every volume lies; its value is
// the node's name.
const TopologyKey = "kubernetes.io/hostname"

// DefaultGroup is the volume group that the shipped configuration creates.
const DefaultGroup = "open-local-pool-0"

// A Kind is the volumeType of a StorageClass.
type Kind string

// The kinds of volumes. The words are those of the volumeType parameter.
const (
	LVM        Kind = "LVM"
	MountPoint Kind = "MountPoint"
	Device     Kind = "Device"
)

// Lies returns how volumes of that type lie in what they are made of.
func (k Kind) Lies() capacity.Kind {
	switch k {
	case MountPoint:
		return capacity.MountPoint
	case Device:
		return capacity.Device
	}
	return capacity.Cut
}

// A Media is the mediaType of a StorageClass: what the disk below is made of.
type Media = capacity.Media

// The media types. The empty Media means any.
const (
	SSD Media = "ssd"
	HDD Media = "hdd"
)

// File systems a volume may have.
const (
	Ext3        = "ext3"
	Ext4        = "ext4"
	XFS         = "xfs"
	Btrfs       = "btrfs"
	DefaultFS   = Ext4
	kubeletKeys = "csi.storage.k8s.io/" // keys that the sidecars add
)

// FileSystems returns the file systems that a volume may have.
func FileSystems() []string { return []string{Ext4, Ext3, XFS, Btrfs} }

// A Claim is one volume that a pod wants, reduced to what placing it needs.
type Claim struct {
	// Volume is the name by which the volume is counted, everywhere and once:
	// the name of the logical volume.
	Volume string
	// Name is what a person calls it: "namespace/claim", or "namespace/pod:volume"
	// for an inline volume.
	Name string
	// Size is what was asked, in bytes, before rounding to extents.
	Size capacity.Bytes
	// Kind is how it lies in its group: cut from a volume group, or all of a disk or a
	// file system.
	Kind capacity.Kind
	// Group names the only volume group that will do; empty means any managed.
	Group string
	// Media is what the disks must be made of; empty means any.
	Media  Media
	Layout capacity.Layout
	// WholeDisk says that no partition will do, and nothing on one, because the IO of the
	// volume is limited.
	WholeDisk bool
	// Node is the only node that will do, because what the volume is made from lies
	// there; empty means any.
	Node string
}

// TakesNothing reports whether the volume will show what lies on its node and have
// nothing of its own: then no size is asked.
func (c *Claim) TakesNothing() bool { return c.Size == 0 && c.Node != "" }
