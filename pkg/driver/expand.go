package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// ControllerExpandVolume implements csi.ControllerServer.
//
// That there is no room is OutOfRange: csi-resizer takes ResourceExhausted for a call
// that may still be under way, and would not let the claim ask for less.
func (c *Controller) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	growth, block, err := parseExpand(req)
	if err != nil {
		return nil, err
	}
	place, err := c.o.Directory.Find(growth.ID)
	if err != nil {
		return nil, err
	}
	if place.Snapshot != "" {
		return nil, fmt.Errorf("expanding volume %s to %s: %w: it shows snapshot %s itself", growth.ID, growth.Size, provision.ErrOutOfRange, place.Snapshot)
	}
	growth.Kind, growth.Group, growth.Proven = place.Kind, place.Group, place.Proven
	size, err := c.grow(ctx, growth, place)
	if errors.Is(err, lvm.ErrNoSpace) || errors.Is(err, ErrNoRoom) {
		err = fmt.Errorf("%w: %w", provision.ErrOutOfRange, err)
	}
	if err != nil {
		return nil, fmt.Errorf("expanding volume %s to %s on node %s: %w", growth.ID, growth.Size, place.Node, err)
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: int64(size), NodeExpansionRequired: !block}, nil
}

func parseExpand(req *csi.ControllerExpandVolumeRequest) (growth provision.Growth, block bool, err error) {
	growth = provision.Growth{
		ID: req.GetVolumeId(), Size: capacity.Bytes(req.GetCapacityRange().GetRequiredBytes()), Limit: capacity.Bytes(req.GetCapacityRange().GetLimitBytes()),
	}
	if err := volume.ValidID(growth.ID); err != nil {
		return growth, false, err
	}
	if growth.Size <= 0 || growth.Limit < 0 || growth.Limit > 0 && growth.Size > growth.Limit {
		return growth, false, fmt.Errorf("%w capacity range: at least %s, at most %s", volume.ErrInvalid, growth.Size, growth.Limit)
	}
	if req.GetVolumeCapability() == nil {
		return growth, false, nil
	}
	a, err := parseAccess(req.GetVolumeCapability())
	return growth, a.block, err
}

// grow asks the scheduler for the room and then the node, unless its report says already
// that there is none: the node does not know what is reserved, and asking LVM would cost
// it a process.
func (c *Controller) grow(ctx context.Context, growth provision.Growth, place Place) (capacity.Bytes, error) {
	if node, known := c.o.Nodes.Capacity(place.Node); known {
		more := growth.Size - place.Size
		group := node.Group(place.Group)
		if group != nil && group.Trouble == "" && place.Size > 0 && more > 0 && more.Extents(group.Extent) > group.Free {
			return 0, fmt.Errorf("wants %s more, %s free in volume group %s: %w", more, group.Free, place.Group, lvm.ErrNoSpace)
		}
	}
	remote, err := c.o.Nodes.Connect(place.Node)
	if err != nil {
		return 0, err
	}
	if err := c.keep(ctx, Room{Node: place.Node, Group: place.Group, Name: volume.NameOf(growth.ID), Size: growth.Size}); err != nil {
		return 0, err
	}
	return remote.Grow(ctx, growth)
}

// NodeExpandVolume implements csi.NodeServer: it makes the file system of a staged
// volume as large as its device. A block volume is its device, which has grown.
func (n *Node) NodeExpandVolume(ctx context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if err := volume.ValidID(req.GetVolumeId()); err != nil {
		return nil, err
	}
	if req.GetVolumePath() == "" {
		return nil, fmt.Errorf("%w request: the volume path is missing", volume.ErrInvalid)
	}
	size, err := n.expand(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("expanding volume %s: %w", req.GetVolumeId(), err)
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: int64(size)}, nil
}

func (n *Node) expand(ctx context.Context, req *csi.NodeExpandVolumeRequest) (capacity.Bytes, error) {
	at, err := n.o.Files.Look(req.GetVolumePath())
	if err != nil {
		return 0, err
	}
	if at.Device != 0 || req.GetVolumeCapability().GetBlock() != nil {
		return n.expanded(req, req.GetVolumePath())
	}
	// The file system is that of the staging path; the volume path may show it read-only.
	target := cmp.Or(req.GetStagingTargetPath(), req.GetVolumePath())
	mounted, found, err := n.o.Formatter.IsMounted(target)
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, fmt.Errorf("%s: %w", target, errNotStaged)
	case slices.Contains(mounted.Super, "ro"):
		return 0, fmt.Errorf("%s is mounted read-only and can grow only when it is mounted to be written: %w", target, errReadOnly)
	}
	size, err := n.expanded(req, mounted.Source)
	if err != nil {
		return 0, err
	}
	return size, n.o.Formatter.Grow(ctx, mounted.Source, target, mounted.FSType)
}

// expanded returns the size of the device, which the node's API has made as large as
// it shall be.
func (n *Node) expanded(req *csi.NodeExpandVolumeRequest, device string) (capacity.Bytes, error) {
	size, err := n.o.Meter.Size(device)
	if wanted := capacity.Bytes(req.GetCapacityRange().GetRequiredBytes()); err == nil && size < wanted {
		return 0, fmt.Errorf("%w: %s has %s, wanted are %s, and a device is made larger by the controller first", provision.ErrOutOfRange, device, size, wanted)
	}
	return size, err
}
