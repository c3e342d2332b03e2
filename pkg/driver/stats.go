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
	"github.com/open-local/open-local/pkg/health"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// meter is the part of devfile.Root that measures. It starts no process.
type meter interface {
	Size(path string) (capacity.Bytes, error)
	Usage(path string) (devfile.Usage, error)
}

// examiner says what is wrong with a volume in use: *health.Examiner.
type examiner interface {
	Examine(ctx context.Context, s health.Subject) health.Condition
}

// standing knows the logical volumes of this node: *provision.Standing.
type standing interface {
	Volume(id string) (lvm.Volume, bool)
}

// NodeGetVolumeStats implements csi.NodeServer.
func (n *Node) NodeGetVolumeStats(ctx context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
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
		return stats(nil, health.Condition{Reason: health.ReadError, Message: err.Error()}), nil //nolint:nilerr // the disk is dying
	case at.Device == 0:
		if above, err := n.o.Files.Look(filepath.Dir(path)); err != nil || above.FileSystem == at.FileSystem {
			return nil, fmt.Errorf("measuring volume %s: nothing is mounted at %s: %w", req.GetVolumeId(), path, fs.ErrNotExist)
		}
	}
	condition := n.condition(ctx, req.GetVolumeId(), path, at)
	usage, err := n.usage(path, at.Device != 0)
	if err != nil && !condition.Abnormal() {
		condition = health.Condition{Reason: health.ReadError, Message: err.Error()}
	}
	return stats(usage, condition), nil
}

// condition says what is wrong with the volume that is handed out at path.
func (n *Node) condition(ctx context.Context, id, path string, at devfile.File) health.Condition {
	s := health.Subject{Device: at.Device, Written: true}
	if at.Device == 0 {
		s.Device, s.Mount = at.FileSystem, path
	}
	if m, mounted, err := n.o.Formatter.IsMounted(path); err == nil && mounted {
		s.Written, s.FrozenFS = health.Access(m)
		s.FrozenFS = s.FrozenFS && s.Mount != ""
	}
	if v, known := n.o.Standing.Volume(id); known {
		is, err := n.o.Files.Look(lvm.DevicePath(v.Group, v.Name))
		if err == nil && is.Device != 0 && is.Device != s.Device {
			return health.Condition{Reason: health.AnotherDevice, Message: fmt.Sprintf("what is mounted at %s is another device than logical volume %s/%s", path, v.Group, v.Name)}
		}
	}
	return n.o.Examiner.Examine(ctx, s)
}

func (n *Node) usage(path string, block bool) ([]*csi.VolumeUsage, error) {
	if block {
		size, err := n.o.Meter.Size(path)
		if err != nil {
			return nil, err
		}
		return []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: int64(size)}}, nil
	}
	usage, err := n.o.Meter.Usage(path)
	if err != nil {
		return nil, err
	}
	return []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: int64(usage.Total), Used: int64(usage.Used), Available: int64(usage.Available)},
		{Unit: csi.VolumeUsage_INODES, Total: usage.TotalInodes, Used: usage.UsedInodes, Available: usage.FreeInodes},
	}, nil
}

// stats answers. That a volume cannot be measured any more is what the caller wants to
// know, not an error of the call; the kubelet looks at the condition only where there
// is some usage.
func stats(usage []*csi.VolumeUsage, condition health.Condition) *csi.NodeGetVolumeStatsResponse {
	if len(usage) == 0 {
		usage = []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES}}
	}
	message := condition.Message
	if !condition.Abnormal() {
		message = "the volume is well"
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: usage, VolumeCondition: &csi.VolumeCondition{Abnormal: condition.Abnormal(), Message: message}}
}
