package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// directory knows where volumes are. What is remembered counts at once; the rest
// follows from what the cluster reports.
type directory interface {
	// Find returns where the volume is. ErrNoVolume says that it does not exist, and the
	// place, where there is one, where it was when its node left; ErrNodeUnavailable says
	// that this cannot be told now.
	Find(id string) (Place, error)
	Remember(id string, place Place)
	Forget(id string)
	// Volumes returns all there are, by their handles.
	Volumes() map[string]Place
}

// nodes knows the nodes of the cluster and reaches them.
type nodes interface {
	// Names returns all nodes that may have something to give, ordered.
	Names() []string
	// Capacity returns what the node still has to give, and false when that is
	// nothing or not known.
	Capacity(name string) (capacity.Node, bool)
	// Connect returns the node, or ErrNodeUnavailable.
	Connect(name string) (RemoteNode, error)
}

// RemoteNode does on one node what provision.Provisioner does.
type RemoteNode interface {
	Ensure(ctx context.Context, spec provision.Spec) (provision.Volume, error)
	Remove(ctx context.Context, r provision.Removal) error
	remoteChanges
	remoteSnapshots
}

// remoteChanges is what a node changes of a volume.
type remoteChanges interface {
	Grow(ctx context.Context, g provision.Growth) (capacity.Bytes, error)
	Modify(ctx context.Context, m provision.Modification) error
}

// remoteSnapshots is what a node does about snapshots.
type remoteSnapshots interface {
	Snapshot(ctx context.Context, spec provision.SnapshotSpec) (provision.Snapshot, error)
	RemoveSnapshot(ctx context.Context, r provision.SnapshotRemoval) error
}

// A Reservation is what the scheduler is asked: the claim shall lie on that node.
type Reservation struct {
	Namespace, Claim string
	Volume           string // its ID: a claim made anew has another
	Node             string
	Kind             volume.Kind
	Group            string // the only one that will do; empty means any
}

// A Decision is where on its node a volume was placed. What is empty the node decides.
type Decision struct {
	Group string // of a volume of type LVM
	// Identity is who the device or file system of a volume of another type is, and Path
	// what it is called.
	Identity, Path string
	Attempt        string // in which it was asked, for GiveUp
}

// reserver asks the scheduler where on the node a claim was placed, and to keep room until
// a report shows what was made. Errors: ErrNoRoom, ErrUndecided.
type reserver interface {
	Reserve(ctx context.Context, r Reservation) (Decision, error)
	// GiveUp ends what Reserve did: the node refused, and is at it no more.
	GiveUp(ctx context.Context, r Reservation, d Decision) error
	Keep(ctx context.Context, r Room) error
	GiveBack(ctx context.Context, r Room) error
}

// ControllerOptions configures a Controller. All but Reserver, Contents and LeftBehind
// must be set.
type ControllerOptions struct {
	Directory directory
	Nodes     nodes
	Snapshots snapshots
	// Contents is nil where nobody keeps what snapshots were made of.
	Contents contents
	// Reserver is nil where no scheduler extender runs; nodes then choose groups.
	Reserver reserver
	Prefer   allocator.Preference
	Driver   string // the driver's name, for tags
	Cluster  string // the cluster's identity, for tags
	// LeftBehind is told of every volume that counts as deleted because its node left the
	// cluster for good: its data is still on the disks of that node.
	LeftBehind func(ctx context.Context, id string, was Place)
}

// Controller answers the calls of csi-provisioner.
type Controller struct {
	csi.UnimplementedControllerServer
	o ControllerOptions
}

// NewController returns a Controller.
func NewController(o ControllerOptions) *Controller { return &Controller{o: o} }

// CreateVolume implements csi.ControllerServer.
func (c *Controller) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	w, err := parseCreate(req)
	if err != nil {
		return nil, err
	}
	place, err := c.create(ctx, w)
	if err != nil {
		return nil, err
	}
	c.o.Directory.Remember(w.id, place)
	made := describe(w.id, place)
	made.VolumeContext = w.context(place).Attributes()
	made.ContentSource = req.GetVolumeContentSource()
	return &csi.CreateVolumeResponse{Volume: made}, nil
}

// DeleteVolume implements csi.ControllerServer.
func (c *Controller) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if err := volume.ValidID(req.GetVolumeId()); err != nil {
		return nil, err
	}
	place, err := c.o.Directory.Find(req.GetVolumeId())
	if place.Snapshot != "" {
		err = nil // nothing is to be done on its node, wherever that is
	}
	if errors.Is(err, ErrNoVolume) {
		c.leaveBehind(ctx, req.GetVolumeId(), place)
		return &csi.DeleteVolumeResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := c.remove(ctx, req.GetVolumeId(), place); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *Controller) remove(ctx context.Context, id string, place Place) error {
	if place.Snapshot != "" { // nothing is the volume's own
		c.o.Directory.Forget(id)
		return nil
	}
	node, err := c.o.Nodes.Connect(place.Node)
	if err != nil {
		return err
	}
	if err := node.Remove(ctx, provision.Removal{
		ID: id, Kind: place.Kind, Group: place.Group, Proven: place.Proven, Identity: place.Identity, Path: place.Path,
	}); err != nil {
		return fmt.Errorf("removing volume %s from node %s: %w", id, place.Node, err)
	}
	c.o.Directory.Forget(id)
	return nil
}

// leaveBehind says of a volume that is gone with its node where it is.
func (c *Controller) leaveBehind(ctx context.Context, id string, was Place) {
	if was.Node == "" {
		return // nobody knows of such a volume
	}
	if c.o.LeftBehind != nil {
		c.o.LeftBehind(ctx, id, was)
	}
	c.o.Directory.Forget(id)
}

// describe says of a volume what is known of it without its claim.
func describe(id string, place Place) *csi.Volume {
	return &csi.Volume{
		VolumeId:           id,
		CapacityBytes:      int64(place.Size),
		VolumeContext:      volume.Context{Kind: place.Kind, Group: place.Group, Identity: place.Identity, Path: place.Path, Snapshot: place.Snapshot}.Attributes(),
		AccessibleTopology: []*csi.Topology{topologyOf(place.Node)},
	}
}

func topologyOf(node string) *csi.Topology {
	return &csi.Topology{Segments: map[string]string{volume.TopologyKey: node}}
}

// ValidateVolumeCapabilities implements csi.ControllerServer.
func (c *Controller) ValidateVolumeCapabilities(_ context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if err := volume.ValidID(req.GetVolumeId()); err != nil {
		return nil, err
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return nil, fmt.Errorf("%w request: the volume capabilities are missing", volume.ErrInvalid)
	}
	place, err := c.o.Directory.Find(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	err = checkAccesses(place.Kind, req.GetVolumeCapabilities())
	if err == nil && len(req.GetParameters()) > 0 {
		_, err = volume.ParseParameters(req.GetParameters())
	}
	if err == nil {
		_, err = volume.ParseLimitChange(req.GetMutableParameters())
	}
	if err != nil {
		// The volume is there and the question was understood: the answer is no.
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil //nolint:nilerr // see above
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext:      req.GetVolumeContext(),
		VolumeCapabilities: req.GetVolumeCapabilities(),
		Parameters:         req.GetParameters(),
		MutableParameters:  req.GetMutableParameters(),
	}}, nil
}

// GetCapacity implements csi.ControllerServer, from memory.
func (c *Controller) GetCapacity(_ context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	p := volume.Parameters{Kind: volume.LVM}
	if len(req.GetParameters()) > 0 {
		var err error
		if p, err = volume.ParseParameters(req.GetParameters()); err != nil {
			return nil, err
		}
	}
	names := c.o.Nodes.Names
	if node, limited := req.GetAccessibleTopology().GetSegments()[volume.TopologyKey]; limited {
		names = func() []string { return []string{node} }
	}
	var available, largest capacity.Bytes
	for _, name := range names() {
		node, _ := c.o.Nodes.Capacity(name)
		all, most := allocator.Room(node, p.Like())
		available += all
		largest = max(largest, most)
	}
	if req.GetVolumeCapabilities() != nil {
		if err := checkAccesses(p.Kind, req.GetVolumeCapabilities()); err != nil {
			available, largest = 0, 0
		}
	}
	return &csi.GetCapacityResponse{AvailableCapacity: int64(available), MaximumVolumeSize: wrapperspb.Int64(int64(largest))}, nil
}

// tokenPrefix begins the tokens of ListVolumes. What follows is the last volume of
// the page before, so volumes may come and go between two pages.
const tokenPrefix = "after:"

// ListVolumes implements csi.ControllerServer.
func (c *Controller) ListVolumes(_ context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	if req.GetMaxEntries() < 0 {
		return nil, fmt.Errorf("%w request: %d entries at most", volume.ErrInvalid, req.GetMaxEntries())
	}
	after, given := strings.CutPrefix(req.GetStartingToken(), tokenPrefix)
	if req.GetStartingToken() != "" && !given {
		return nil, fmt.Errorf("listing volumes: %w: %q", errBadToken, req.GetStartingToken())
	}
	return listVolumes(c.o.Directory.Volumes(), after, int(req.GetMaxEntries())), nil
}

// ControllerGetCapabilities implements csi.ControllerServer.
func (c *Controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	resp := &csi.ControllerGetCapabilitiesResponse{}
	for _, capability := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: capability}},
		})
	}
	return resp, nil
}
