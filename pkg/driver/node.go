package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
)

// activator makes the device of a logical volume appear: *lvm.Host.
type activator interface {
	ActivateVolume(ctx context.Context, group, name string) error
	MakeDevices(ctx context.Context, group, name string) error
}

// files tells what is at a path of the host, without any process: devfile.Root.
type files interface {
	Look(path string) (devfile.File, error)
}

// formatter puts file systems on devices. Signature returns what is on a device,
// or "" when there is nothing at all; Format refuses a device with anything on it.
type formatter interface {
	Signature(ctx context.Context, device string) (string, error)
	Format(ctx context.Context, device, fsType string, options ...string) error
	grower
}

// grower makes the file system that is mounted at target fill its device.
type grower interface {
	IsMounted(target string) (mounts.Mount, bool, error)
	Grow(ctx context.Context, device, target, fsType string) error
}

// mounter mounts and unmounts on the host, and never stacks mounts. Targets are
// made as they are needed. Unmount takes off all that is mounted at target, and is
// content when there is nothing; Remove deletes what Unmount left.
type mounter interface {
	Mount(ctx context.Context, device, target, fsType string, options []string) error
	BindMount(ctx context.Context, source, target string, options []string) error
	Unmount(ctx context.Context, target string) error
	Remove(target string) error
}

// NodeOptions configures a Node. All but Cluster must be set.
type NodeOptions struct {
	Name    string // of the node
	Driver  string // the driver's name, for tags
	Cluster string // the cluster's identity, for tags
	// KubeletDir is the kubelet's directory.
	KubeletDir string
	Inline     inlineVolumes
	LVM        activator
	// Devices and MountPoints find what volumes have for themselves.
	Devices     deviceFinder
	MountPoints mountPointFinder
	Files       files
	Formatter   formatter
	Mounter     mounter
	Meter       meter
	Throttler   throttler
	Events      events
	Examiner    examiner
	Standing    standing
}

// Node answers the calls of the kubelet.
type Node struct {
	csi.UnimplementedNodeServer
	o NodeOptions
}

// NewNode returns a Node.
func NewNode(o NodeOptions) *Node { return &Node{o: o} }

// NodeGetInfo implements csi.NodeServer.
func (n *Node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.o.Name, AccessibleTopology: topologyOf(n.o.Name)}, nil
}

// NodeGetCapabilities implements csi.NodeServer.
func (n *Node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, capability := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_VOLUME_CONDITION,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: capability}},
		})
	}
	return resp, nil
}

// handed is a volume that is handed out at a path.
type handed struct {
	id      string
	path    string // staging or target path
	access  access
	context volume.Context
}

// shows reports whether the volume has nothing of its own and shows a snapshot.
func (h handed) shows() bool { return h.context.Snapshot != "" }

// parseHanded reads what staging and publishing have in common.
func parseHanded(id, what, path string, capability *csi.VolumeCapability, attributes map[string]string) (handed, error) {
	h := handed{id: id, path: path}
	if err := cmp.Or(volume.ValidID(id), validPath(what, path)); err != nil {
		return h, err
	}
	if volume.IsInline(id) {
		return h, fmt.Errorf("%w volume %s: that is the handle of an inline volume, which no PersistentVolume can have", volume.ErrInvalid, id)
	}
	var err error
	h.context, err = volume.ParseContext(attributes)
	parse := parseAccess
	if h.shows() {
		parse = parseSharedAccess
	}
	var badAccess error
	if h.access, badAccess = parse(capability); badAccess != nil {
		return h, badAccess
	}
	h.access.readOnly = h.access.readOnly || h.shows()
	if err == nil {
		err = h.access.of(h.context.Kind)
	}
	return h, err
}

func validPath(what, path string) error {
	switch {
	case path == "":
		return fmt.Errorf("%w request: the %s is missing", volume.ErrInvalid, what)
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return fmt.Errorf("%w request: the %s %q is not absolute and clean", volume.ErrInvalid, what, path)
	}
	return nil
}

// mounted reports whether the file system of the device with that number is
// mounted at the directory path. Any other one there is errOther.
func (n *Node) mounted(path string, number uint64) (bool, error) {
	at, err := n.o.Files.Look(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking what is mounted: %w", err)
	case at.FileSystem == number:
		return true, nil
	}
	above, err := n.o.Files.Look(filepath.Dir(path))
	if err != nil {
		return false, fmt.Errorf("looking what is mounted: %w", err)
	}
	if above.FileSystem != at.FileSystem {
		return false, fmt.Errorf("%s: %w", path, errOther)
	}
	return false, nil
}
