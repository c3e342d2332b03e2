package driver

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/volume"
)

// NodeStageVolume implements csi.NodeServer: it mounts the volume's file system,
// once for all pods that use it. A block volume needs its device and nothing else.
func (n *Node) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	h, err := parseHanded(req.GetVolumeId(), "staging target path", req.GetStagingTargetPath(), req.GetVolumeCapability(), req.GetVolumeContext())
	if err != nil {
		return nil, err
	}
	if h.context.Kind == volume.MountPoint { // it is mounted, and shown to pods from there
		_, err := n.o.MountPoints.Find(ctx, h.ref())
		return &csi.NodeStageVolumeResponse{}, err
	}
	device, err := n.device(ctx, h)
	if err != nil || h.access.block {
		return &csi.NodeStageVolumeResponse{}, err
	}
	if err := n.stage(ctx, h, device); err != nil {
		return nil, fmt.Errorf("staging volume %s: %w", h.id, err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// stage runs no fsck: the kernel replays the journal when it mounts, and a file
// system that is damaged beyond that wants a person, not an automatic repair that
// may throw data away.
func (n *Node) stage(ctx context.Context, h handed, device located) error {
	if done, err := n.mounted(h.path, device.number); done || err != nil {
		return err
	}
	if err := n.prepare(ctx, h, device); err != nil {
		return err
	}
	options := h.access.options
	if h.access.readOnly && !slices.Contains(options, "ro") {
		options = append(options, "ro")
	}
	if h.shows() && h.access.fsType == volume.XFS {
		// The snapshot has the identity of its origin. Its log has nothing to recover:
		// the file system was at rest when the snapshot was made.
		options = append(options, "nouuid", "norecovery")
	}
	return n.o.Mounter.Mount(ctx, device.path, h.path, h.access.fsType, options)
}

// format makes the file system on a device that holds nothing at all. It never
// touches one that holds anything. The options come from a PersistentVolume, which
// anyone may have written.
func (n *Node) format(ctx context.Context, device, fsType string, options []string) error {
	have, err := n.o.Formatter.Signature(ctx, device)
	switch {
	case err != nil:
		return err
	case have == fsType:
		return nil
	case have != "":
		return fmt.Errorf("%w: %s holds %s, not %s", errFileSystem, device, have, fsType)
	}
	if err := volume.ValidMkfsOptions(fsType, options); err != nil {
		return err
	}
	return n.o.Formatter.Format(ctx, device, fsType, options...)
}

// prepare has the file system on the device, and makes it there where it may: once, and
// never on a disk of which nothing proves that it was given to the volume.
func (n *Node) prepare(ctx context.Context, h handed, device located) error {
	if h.shows() || device.given.Adopted || device.given.Formatted {
		return n.holds(ctx, device, h.access.fsType)
	}
	if err := n.format(ctx, device.path, h.access.fsType, h.context.MkfsOptions); err != nil || h.context.Kind != volume.Device {
		return err
	}
	return n.o.Devices.NoteFormatted(h.id)
}

// holds wants that file system on a device, and leaves the device as it is. One that had
// it and shows nothing is not the one that it was, or lost what may still be restored.
func (n *Node) holds(ctx context.Context, device located, fsType string) error {
	have, err := n.o.Formatter.Signature(ctx, device.path)
	switch {
	case err != nil, have == fsType:
		return err
	case have == "" && device.given.Formatted:
		return fmt.Errorf("%w: %s (%s) shows nothing, and the file system that was made on it is missing: restore the data, or delete the claim; if it may begin anew and empty, run mkfs.%s on the device by hand",
			errFileSystem, device.path, device.given.ID, fsType)
	}
	return fmt.Errorf("%w: %s holds %q, not %s", errFileSystem, device.path, have, fsType)
}

// NodeUnstageVolume implements csi.NodeServer.
func (n *Node) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := cmp.Or(volume.ValidID(req.GetVolumeId()), validPath("staging target path", req.GetStagingTargetPath())); err != nil {
		return nil, err
	}
	if err := n.o.Mounter.Unmount(ctx, req.GetStagingTargetPath()); err != nil {
		return nil, fmt.Errorf("unstaging volume %s: %w", req.GetVolumeId(), err)
	}
	if err := n.o.Throttler.Release(ctx, req.GetVolumeId()); err != nil {
		return nil, fmt.Errorf("unstaging volume %s: %w", req.GetVolumeId(), err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}
