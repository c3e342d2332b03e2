package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/volume"
)

// NodePublishVolume implements csi.NodeServer: it shows the staged file system, or
// the device, at the path where the pod will see it.
func (n *Node) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if volume.SaysInline(req.GetVolumeContext()) {
		if err := n.publishInline(ctx, req); err != nil {
			return nil, fmt.Errorf("publishing volume %s: %w", req.GetVolumeId(), err)
		}
		return &csi.NodePublishVolumeResponse{}, nil
	}
	h, err := parseHanded(req.GetVolumeId(), "target path", req.GetTargetPath(), req.GetVolumeCapability(), req.GetVolumeContext())
	if err != nil {
		return nil, err
	}
	if err := n.publish(ctx, h, req); err != nil {
		return nil, fmt.Errorf("publishing volume %s: %w", h.id, err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (n *Node) publish(ctx context.Context, h handed, req *csi.NodePublishVolumeRequest) error {
	var options []string
	if req.GetReadonly() || h.access.readOnly {
		options = []string{"ro"}
	}
	if h.context.Kind == volume.MountPoint {
		return n.publishMountPoint(ctx, h, options, req.GetVolumeContext())
	}
	device, err := n.device(ctx, h)
	if err != nil {
		return err
	}
	if err := n.throttle(ctx, h.id, device.path, h.context.Limits, req.GetVolumeContext()); err != nil {
		return err
	}
	if h.access.block {
		return n.publishBlock(ctx, h, device, options)
	}
	return n.publishMount(ctx, h, req.GetStagingTargetPath(), device.number, options)
}

func (n *Node) publishMount(ctx context.Context, h handed, staging string, number uint64, options []string) error {
	if staging == "" {
		return fmt.Errorf("no staging target path: %w", errNotStaged)
	}
	// What is at the staging path may be the bare directory, on the node's own disk.
	switch at, err := n.o.Files.Look(staging); {
	case errors.Is(err, fs.ErrNotExist), err == nil && at.FileSystem != number:
		return fmt.Errorf("%s: %w", staging, errNotStaged)
	case err != nil:
		return err
	}
	if done, err := n.mounted(h.path, number); done || err != nil {
		return err
	}
	return n.o.Mounter.BindMount(ctx, staging, h.path, options)
}

func (n *Node) publishBlock(ctx context.Context, h handed, device located, options []string) error {
	switch at, err := n.o.Files.Look(h.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case at.Device == device.number:
		return nil // a second mount would only stack on the first
	case at.Device != 0, at.Dir:
		return fmt.Errorf("%s: %w", h.path, errOther)
	}
	return n.o.Mounter.BindMount(ctx, device.path, h.path, options)
}

// NodeUnpublishVolume implements csi.NodeServer. An inline volume ends with it.
func (n *Node) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := cmp.Or(volume.ValidID(req.GetVolumeId()), validPath("target path", req.GetTargetPath())); err != nil {
		return nil, err
	}
	if err := n.o.Mounter.Unmount(ctx, req.GetTargetPath()); err != nil {
		return nil, fmt.Errorf("unpublishing volume %s: %w", req.GetVolumeId(), err)
	}
	if err := n.o.Mounter.Remove(req.GetTargetPath()); err != nil {
		return nil, fmt.Errorf("unpublishing volume %s: %w", req.GetVolumeId(), err)
	}
	if err := n.unpublishInline(ctx, req.GetVolumeId(), req.GetTargetPath()); err != nil {
		return nil, fmt.Errorf("unpublishing volume %s: %w", req.GetVolumeId(), err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}
