package driver

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// access is how a volume is to be used.
type access struct {
	block    bool
	readOnly bool // whoever uses it
	// shared says on how many nodes at once it is to be used, where that is more than
	// one: only what shows a snapshot may be asked for so, and lies on one node still.
	shared  string
	fsType  string
	options []string // of mount(8)
}

// modes are the ways to use a volume that one node can offer, and whether they
// only read.
var modes = map[csi.VolumeCapability_AccessMode_Mode]bool{
	csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER:        false,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER: false,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:  false,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:   true,
}

// smallest is what a file system needs at least, in bytes, where that is more than
// one extent.
var smallest = map[string]capacity.Bytes{
	volume.Btrfs: 109 * capacity.MiB, // mkfs.btrfs with its metadata twice
	volume.XFS:   300 * capacity.MiB, // mkfs.xfs since xfsprogs 5.19
}

// parseAccess reads one capability of a volume that is used on one node at a time.
// Every error is volume.ErrInvalid.
func parseAccess(capability *csi.VolumeCapability) (access, error) {
	a, err := parseSharedAccess(capability)
	if err != nil {
		return access{}, err
	}
	return a, a.onOneNode()
}

// parseSharedAccess reads one capability, also one that asks for more nodes than one.
func parseSharedAccess(capability *csi.VolumeCapability) (access, error) {
	if capability == nil {
		return access{}, fmt.Errorf("%w request: the volume capability is missing", volume.ErrInvalid)
	}
	mode := capability.GetAccessMode().GetMode()
	readOnly, known := modes[mode]
	a := access{readOnly: readOnly}
	switch {
	case !known && mode == csi.VolumeCapability_AccessMode_UNKNOWN:
		return access{}, fmt.Errorf("%w access mode %s", volume.ErrInvalid, mode)
	case !known:
		a.shared, a.readOnly = mode.String(), true
	}
	switch {
	case capability.GetBlock() != nil:
		a.block = true
		return a, nil
	case capability.GetMount() == nil:
		return access{}, fmt.Errorf("%w volume capability: neither mount nor block", volume.ErrInvalid)
	}
	mount := capability.GetMount()
	if mount.GetVolumeMountGroup() != "" {
		return access{}, fmt.Errorf("%w volume capability: kubelet sets the group of files, the driver does not", volume.ErrInvalid)
	}
	fsType := mount.GetFsType()
	if fsType == "" {
		fsType = volume.DefaultFS
	}
	if err := volume.ValidFSType(fsType); err != nil {
		return access{}, fmt.Errorf("%w file system type: %w", volume.ErrInvalid, err)
	}
	a.fsType, a.options = fsType, slices.Clone(mount.GetMountFlags())
	return a, nil
}

// onOneNode is volume.ErrInvalid if a is for several nodes.
func (a access) onOneNode() error {
	if a.shared == "" {
		return nil
	}
	return fmt.Errorf("%w access mode %s: a local volume can be used on one node at a time", volume.ErrInvalid, a.shared)
}

// checkAccesses tells why a volume of the kind cannot be used in all of these ways, on one
// node at a time, or nil.
func checkAccesses(kind volume.Kind, capabilities []*csi.VolumeCapability) error {
	a, err := parseSharedAccesses(capabilities)
	if err != nil {
		return err
	}
	return cmp.Or(a.of(kind), a.onOneNode())
}

// parseSharedAccesses reads all the ways in which one volume is to be used. They must
// agree on whether it is a device or a file system, and on which.
func parseSharedAccesses(capabilities []*csi.VolumeCapability) (access, error) {
	if len(capabilities) == 0 {
		return access{}, fmt.Errorf("%w request: the volume capabilities are missing", volume.ErrInvalid)
	}
	var first access
	for i, capability := range capabilities {
		a, err := parseSharedAccess(capability)
		switch {
		case err != nil:
			return access{}, err
		case i == 0:
			first = a
		case a.block != first.block || a.fsType != first.fsType:
			return access{}, fmt.Errorf("%w volume capabilities: one volume cannot be both %s and %s", volume.ErrInvalid, first, a)
		}
		if a.shared != "" {
			first.shared, first.readOnly = a.shared, true
		}
	}
	return first, nil
}

// String says what a volume is to be.
func (a access) String() string {
	if a.block {
		return "a block device"
	}
	return a.fsType
}

// parseLimited reads the parameters of a StorageClass and those of a
// VolumeAttributesClass, which win.
func parseLimited(parameters, mutable map[string]string) (volume.Parameters, error) {
	p, err := volume.ParseParameters(parameters)
	if err != nil {
		return p, err
	}
	change, err := volume.ParseLimitChange(mutable)
	p.Limits = change.Of(p.Limits)
	return p, err
}

// of is volume.ErrInvalid if volumes of the kind cannot be used so.
func (a access) of(kind volume.Kind) error {
	switch {
	case kind == volume.MountPoint && a.block:
		return fmt.Errorf("%w volume capability: a volume of type MountPoint is a file system that is mounted on its node and cannot be a block device; a volume of type Device can", volume.ErrInvalid)
	case kind == volume.MountPoint && len(a.options) > 0:
		return fmt.Errorf("%w volume capability: the file system of a volume of type MountPoint is mounted already, by its node; %q of mountOptions cannot be given to it", volume.ErrInvalid, a.options)
	}
	return nil
}
