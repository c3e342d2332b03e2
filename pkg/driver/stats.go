package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/volume"
)

// meter is the part of devfile.Root that measures. It starts no process.
type meter interface {
	Alive(number uint64) bool
	Size(path string) (capacity.Bytes, error)
	Usage(path string) (devfile.Usage, error)
}

// NodeGetVolumeStats implements csi.NodeServer.
func (n *Node) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	path := req.GetVolumePath()
	if err := volume.ValidID(req.GetVolumeId()); err != nil {
		return nil, err
	}
	if path == "" {
		return nil, fmt.Errorf("%w request: the volume path is missing", volume.ErrInvalid)
	}
	at, err := n.o.Files.Look(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("measuring volume %s: %w", req.GetVolumeId(), err)
	case err != nil:
		return abnormal(err), nil // such as an input/output error: the disk is dying
	case at.Device != 0:
		return n.blockStats(path, at.Device), nil
	}
	if above, err := n.o.Files.Look(filepath.Dir(path)); err != nil || above.FileSystem == at.FileSystem {
		return nil, fmt.Errorf("measuring volume %s: nothing is mounted at %s: %w", req.GetVolumeId(), path, fs.ErrNotExist)
	}
	return n.mountStats(path, at.FileSystem), nil
}

func (n *Node) blockStats(path string, number uint64) *csi.NodeGetVolumeStatsResponse {
	size, err := n.o.Meter.Size(path)
	switch {
	case !n.o.Meter.Alive(number):
		return abnormal(fmt.Errorf("the device below %s is gone", path))
	case err != nil:
		return abnormal(err)
	}
	return healthy(&csi.VolumeUsage{Unit: csi.VolumeUsage_BYTES, Total: int64(size)})
}

func (n *Node) mountStats(path string, number uint64) *csi.NodeGetVolumeStatsResponse {
	usage, err := n.o.Meter.Usage(path)
	switch {
	case !n.o.Meter.Alive(number):
		return abnormal(fmt.Errorf("the device below %s is gone", path))
	case err != nil:
		return abnormal(err)
	}
	return healthy(
		&csi.VolumeUsage{Unit: csi.VolumeUsage_BYTES, Total: int64(usage.Total), Used: int64(usage.Used), Available: int64(usage.Available)},
		&csi.VolumeUsage{Unit: csi.VolumeUsage_INODES, Total: usage.TotalInodes, Used: usage.UsedInodes, Available: usage.FreeInodes},
	)
}

func healthy(usage ...*csi.VolumeUsage) *csi.NodeGetVolumeStatsResponse {
	return &csi.NodeGetVolumeStatsResponse{Usage: usage, VolumeCondition: &csi.VolumeCondition{Message: "the volume is well"}}
}

// abnormal answers a call about a volume that cannot be measured any more: that is
// what the caller wants to know, not an error of the call. The kubelet looks at the
// condition only where there is some usage.
func abnormal(cause error) *csi.NodeGetVolumeStatsResponse {
	return &csi.NodeGetVolumeStatsResponse{
		Usage:           []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES}},
		VolumeCondition: &csi.VolumeCondition{Abnormal: true, Message: cause.Error()},
	}
}
