package driver

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// ControllerModifyVolume implements csi.ControllerServer: it changes the limits of a
// volume, in use or not. Its node keeps them with the volume, and from then on they
// count, whatever the PersistentVolume says.
func (c *Controller) ControllerModifyVolume(ctx context.Context, req *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	id := req.GetVolumeId()
	if err := volume.ValidID(id); err != nil {
		return nil, err
	}
	change, err := volume.ParseLimitChange(req.GetMutableParameters())
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", id, err)
	}
	place, err := c.o.Directory.Find(id)
	if err != nil {
		return nil, err
	}
	if (change == volume.LimitChange{}) {
		return &csi.ControllerModifyVolumeResponse{}, nil
	}
	node, err := c.o.Nodes.Connect(place.Node)
	if err != nil {
		return nil, fmt.Errorf("volume %s on node %s: %w", id, place.Node, err)
	}
	err = node.Modify(ctx, provision.Modification{
		ID: id, Kind: place.Kind, Group: place.Group, IOPS: change.IOPS, BPS: change.BPS, Proven: place.Proven,
	})
	if err != nil {
		return nil, fmt.Errorf("changing volume %s on node %s: %w", id, place.Node, err)
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}
