package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// A SnapshotPlace is where a snapshot is, and what it is of.
type SnapshotPlace struct {
	Node, Group string
	Kind        volume.Kind
	Volume      string         // the handle of the volume it is of
	Size        capacity.Bytes // what a volume made of it needs at least
	Space       capacity.Bytes // what it takes itself
	Created     time.Time      // zero where that is not known
	// ReadOnly says that a volume made of it shows the snapshot itself; ShownBy names
	// the PersistentVolumes that do.
	ReadOnly bool
	ShownBy  []string
	// Lost says that it ran full.
	Lost bool
}

// snapshots knows where snapshots are. What is remembered counts at once; the rest
// follows from what nodes report.
type snapshots interface {
	// FindSnapshot returns where the snapshot is, or ErrNoSnapshot; ShownBy is told in
	// any case.
	FindSnapshot(id string) (SnapshotPlace, error)
	RememberSnapshot(id string, place SnapshotPlace)
	ForgetSnapshot(id string)
	// Snapshots returns all there are, by their handles.
	Snapshots() map[string]SnapshotPlace
}

// contents knows what snapshots were made of that no report shows.
type contents interface {
	// SourceOf returns the handle of the volume, or "".
	SourceOf(ctx context.Context, id string) (string, error)
}

// Keys that csi-snapshotter adds with --extra-create-metadata.
const (
	keySnapshotName      = "csi.storage.k8s.io/volumesnapshot/name"
	keySnapshotNamespace = "csi.storage.k8s.io/volumesnapshot/namespace"
)

// CreateSnapshot implements csi.ControllerServer.
func (c *Controller) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	id, of := req.GetName(), req.GetSourceVolumeId()
	if err := errors.Join(volume.ValidID(id), volume.ValidID(of)); err != nil {
		return nil, err
	}
	policy, err := volume.ParseSnapshotParameters(req.GetParameters())
	if err != nil {
		return nil, err
	}
	have, err := c.o.Snapshots.FindSnapshot(id)
	if err == nil && have.Volume != of {
		return nil, fmt.Errorf("snapshot %s of volume %s: it is there and of volume %s: %w", id, of, have.Volume, provision.ErrConflict)
	}
	at, err := c.o.Directory.Find(of)
	switch {
	case err != nil:
		return nil, fmt.Errorf("making snapshot %s: %w", id, err)
	case at.Snapshot != "":
		return nil, fmt.Errorf("%w snapshot %s: volume %s shows snapshot %s itself; make one of what that is of", volume.ErrInvalid, id, of, at.Snapshot)
	}
	node, err := c.o.Nodes.Connect(at.Node)
	if err != nil {
		return nil, fmt.Errorf("making snapshot %s of volume %s: %w", id, of, err)
	}
	if have.Volume == "" {
		if policy.Space, err = c.keepForSnapshot(ctx, id, at, policy); err != nil {
			return nil, fmt.Errorf("making snapshot %s of volume %s on node %s: %w", id, of, at.Node, err)
		}
	}
	tags := volume.OwnerTags(c.o.Driver, c.o.Cluster, "", "")
	if name := req.GetParameters()[keySnapshotName]; name != "" {
		tags = append(tags, volume.VolumeSnapshotTag(req.GetParameters()[keySnapshotNamespace], name))
	}
	made, err := node.Snapshot(ctx, provision.SnapshotSpec{
		ID: id, Volume: of, Kind: at.Kind, Group: at.Group,
		Space: policy.Space, Step: policy.Step, Threshold: policy.Threshold, ReadOnly: policy.ReadOnly, Tags: tags,
	})
	if err != nil {
		return nil, fmt.Errorf("making snapshot %s of volume %s on node %s: %w", id, of, at.Node, err)
	}
	place := SnapshotPlace{
		Node: at.Node, Group: made.Group, Kind: at.Kind, Volume: made.Volume,
		Size: made.Size, Space: min(policy.Space, made.Size), Created: made.Created, ReadOnly: policy.ReadOnly,
	}
	c.o.Snapshots.RememberSnapshot(id, place)
	return &csi.CreateSnapshotResponse{Snapshot: describeSnapshot(id, place)}, nil
}

func describeSnapshot(id string, place SnapshotPlace) *csi.Snapshot {
	s := &csi.Snapshot{SnapshotId: id, SourceVolumeId: place.Volume, SizeBytes: int64(place.Size), ReadyToUse: !place.Lost}
	if !place.Created.IsZero() {
		s.CreationTime = timestamppb.New(place.Created)
	}
	return s
}

// DeleteSnapshot implements csi.ControllerServer. It needs nothing but the handle.
func (c *Controller) DeleteSnapshot(ctx context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	id := req.GetSnapshotId()
	if err := volume.ValidID(id); err != nil {
		return nil, err
	}
	at, err := c.o.Snapshots.FindSnapshot(id)
	if len(at.ShownBy) > 0 {
		return nil, fmt.Errorf("deleting snapshot %s: delete the claims of these PersistentVolumes first: %s: %w", id, strings.Join(at.ShownBy, ", "), errShown)
	}
	if errors.Is(err, ErrNoSnapshot) {
		at, err = c.besideItsSource(ctx, id)
	}
	switch {
	case errors.Is(err, ErrNoVolume), errors.Is(err, ErrNoSnapshot):
		return &csi.DeleteSnapshotResponse{}, nil
	case err != nil:
		return nil, fmt.Errorf("deleting snapshot %s: %w", id, err)
	}
	node, err := c.o.Nodes.Connect(at.Node)
	if err != nil {
		return nil, fmt.Errorf("deleting snapshot %s: %w", id, err)
	}
	if err := node.RemoveSnapshot(ctx, provision.SnapshotRemoval{ID: id, Kind: at.Kind, Group: at.Group}); err != nil {
		return nil, fmt.Errorf("deleting snapshot %s from node %s: %w", id, at.Node, err)
	}
	c.o.Snapshots.ForgetSnapshot(id)
	return &csi.DeleteSnapshotResponse{}, nil
}

// besideItsSource returns where a snapshot must be that no report shows, because it
// was made just before this process began: where the volume is that it is of.
func (c *Controller) besideItsSource(ctx context.Context, id string) (SnapshotPlace, error) {
	if c.o.Contents == nil {
		return SnapshotPlace{}, ErrNoSnapshot
	}
	of, err := c.o.Contents.SourceOf(ctx, id)
	if err != nil {
		return SnapshotPlace{}, err
	}
	if of == "" {
		return SnapshotPlace{}, ErrNoSnapshot
	}
	at, err := c.o.Directory.Find(of)
	return SnapshotPlace{Node: at.Node, Group: at.Group, Kind: at.Kind, Volume: of}, err
}

// ListSnapshots implements csi.ControllerServer.
func (c *Controller) ListSnapshots(_ context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	if req.GetMaxEntries() < 0 {
		return nil, fmt.Errorf("%w request: %d entries at most", volume.ErrInvalid, req.GetMaxEntries())
	}
	after, given := strings.CutPrefix(req.GetStartingToken(), tokenPrefix)
	if req.GetStartingToken() != "" && !given {
		return nil, fmt.Errorf("listing snapshots: %w: %q", errBadToken, req.GetStartingToken())
	}
	places := c.o.Snapshots.Snapshots()
	maps.DeleteFunc(places, func(id string, place SnapshotPlace) bool {
		return id <= after && given ||
			req.GetSnapshotId() != "" && id != req.GetSnapshotId() ||
			req.GetSourceVolumeId() != "" && place.Volume != req.GetSourceVolumeId()
	})
	ids := slices.Sorted(maps.Keys(places))
	resp := &csi.ListSnapshotsResponse{}
	if n := int(req.GetMaxEntries()); n > 0 && len(ids) > n {
		ids = ids[:n]
		resp.NextToken = tokenPrefix + ids[n-1]
	}
	for _, id := range ids {
		resp.Entries = append(resp.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: describeSnapshot(id, places[id])})
	}
	return resp, nil
}
