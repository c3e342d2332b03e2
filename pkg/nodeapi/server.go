// Package nodeapi is how the CSI controller has a node make and remove volumes: a
// gRPC service with mutual TLS, the server that runs on every node, and the pool
// of clients for the controller. Errors mean the same on both sides. It does not
// know how a volume is made, or when one should be.
package nodeapi

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/nodeapi/nodepb"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/rpc"
	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	// DefaultClientName is the common name of the only certificate that may call.
	DefaultClientName = "open-local-csi-controller"
	// DefaultServerName is what the certificates of all nodes prove.
	DefaultServerName = "open-local-node"

	maxMessage = 256 << 10 // bytes; a request is about one
	pingEvery  = 30 * time.Second
	pingWait   = 10 * time.Second
)

// volumes is the part of *provision.Provisioner that is served.
type volumes interface {
	Ensure(ctx context.Context, spec provision.Spec) (provision.Volume, error)
	Remove(ctx context.Context, r provision.Removal) error
	changes
	snapshots
}

// changes is what changes a volume.
type changes interface {
	Grow(ctx context.Context, g provision.Growth) (capacity.Bytes, error)
	Modify(ctx context.Context, m provision.Modification) error
}

// snapshots is what there is about snapshots.
type snapshots interface {
	Snapshot(ctx context.Context, spec provision.SnapshotSpec) (provision.Snapshot, error)
	RemoveSnapshot(ctx context.Context, r provision.SnapshotRemoval) error
}

// NewServer returns a server of v for clients that prove the name clientName. The
// interceptors stand around its own and see the codes of errors.
func NewServer(v volumes, config *tls.Config, clientName string, interceptors ...grpc.UnaryServerInterceptor) *grpc.Server {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(config)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingWait}),
		grpc.ChainUnaryInterceptor(append(interceptors, rpc.Recover, rpc.Log, onlyFor(clientName), encode)...),
	)
	nodepb.RegisterNodeServer(server, &service{volumes: v})
	return server
}

// onlyFor refuses callers with any other name, whoever signed their certificate.
func onlyFor(clientName string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		name := ""
		if caller, ok := peer.FromContext(ctx); ok {
			if info, ok := caller.AuthInfo.(credentials.TLSInfo); ok {
				name = tlsfiles.PeerName(info.State)
			}
		}
		if name == "" || name != clientName {
			return nil, status.Errorf(codes.PermissionDenied, "the certificate is for %q, not %q", name, clientName)
		}
		return handler(ctx, req)
	}
}

type service struct {
	nodepb.UnimplementedNodeServer
	volumes volumes
}

// CreateVolume implements nodepb.NodeServer.
func (s *service) CreateVolume(ctx context.Context, req *nodepb.CreateVolumeRequest) (*nodepb.CreateVolumeResponse, error) {
	vol, err := s.volumes.Ensure(ctx, provision.Spec{
		ID:        req.GetId(),
		Kind:      volume.Kind(req.GetKind()),
		Group:     req.GetGroup(),
		OnlyGroup: req.GetOnlyGroup(),
		Size:      capacity.Bytes(req.GetRequiredBytes()),
		Limit:     capacity.Bytes(req.GetLimitBytes()),
		Layout:    capacity.Layout(req.GetLayout()),
		Block:     req.GetBlock(),
		Tags:      req.GetTags(),
		Source: provision.Source{
			Snapshot: req.GetSourceSnapshot(), Volume: req.GetSourceVolume(), Group: req.GetSourceGroup(), Space: capacity.Bytes(req.GetSourceSpaceBytes()),
		},
		Identity: req.GetIdentity(),
		Path:     req.GetPath(),
		Media:    volume.Media(req.GetMedia()),
		Wipe:     volume.Wipe(req.GetWipe()),
	})
	if err != nil {
		return nil, err
	}
	return &nodepb.CreateVolumeResponse{Group: vol.Group, SizeBytes: int64(vol.Size), Identity: vol.Identity, Path: vol.Path}, nil
}

// DeleteVolume implements nodepb.NodeServer.
func (s *service) DeleteVolume(ctx context.Context, req *nodepb.DeleteVolumeRequest) (*nodepb.DeleteVolumeResponse, error) {
	err := s.volumes.Remove(ctx, provision.Removal{
		ID:       req.GetId(),
		Kind:     volume.Kind(req.GetKind()),
		Group:    req.GetGroup(),
		Proven:   req.GetInPersistentVolume(),
		Identity: req.GetIdentity(),
		Path:     req.GetPath(),
	})
	if err != nil {
		return nil, err
	}
	return &nodepb.DeleteVolumeResponse{}, nil
}

// ExpandVolume implements nodepb.NodeServer.
func (s *service) ExpandVolume(ctx context.Context, req *nodepb.ExpandVolumeRequest) (*nodepb.ExpandVolumeResponse, error) {
	size, err := s.volumes.Grow(ctx, provision.Growth{
		ID: req.GetId(), Kind: volume.Kind(req.GetKind()), Group: req.GetGroup(),
		Size: capacity.Bytes(req.GetRequiredBytes()), Limit: capacity.Bytes(req.GetLimitBytes()), Proven: req.GetInPersistentVolume(),
	})
	if err != nil {
		return nil, err
	}
	return &nodepb.ExpandVolumeResponse{SizeBytes: int64(size)}, nil
}

// ModifyVolume implements nodepb.NodeServer.
func (s *service) ModifyVolume(ctx context.Context, req *nodepb.ModifyVolumeRequest) (*nodepb.ModifyVolumeResponse, error) {
	err := s.volumes.Modify(ctx, provision.Modification{
		ID: req.GetId(), Kind: volume.Kind(req.GetKind()), Group: req.GetGroup(),
		IOPS: req.Iops, BPS: req.Bps, Proven: req.GetInPersistentVolume(), //nolint:protogetter // not set is not zero
	})
	if err != nil {
		return nil, err
	}
	return &nodepb.ModifyVolumeResponse{}, nil
}

// CreateSnapshot implements nodepb.NodeServer.
func (s *service) CreateSnapshot(ctx context.Context, req *nodepb.CreateSnapshotRequest) (*nodepb.CreateSnapshotResponse, error) {
	snapshot, err := s.volumes.Snapshot(ctx, provision.SnapshotSpec{
		ID: req.GetId(), Volume: req.GetVolume(), Kind: volume.Kind(req.GetKind()), Group: req.GetGroup(),
		Space: capacity.Bytes(req.GetSpaceBytes()), Step: capacity.Bytes(req.GetStepBytes()), Threshold: int(req.GetThresholdPercent()),
		ReadOnly: req.GetReadOnly(), Tags: req.GetTags(),
	})
	if err != nil {
		return nil, err
	}
	return &nodepb.CreateSnapshotResponse{
		Volume: snapshot.Volume, Group: snapshot.Group, SizeBytes: int64(snapshot.Size), CreatedUnixNano: snapshot.Created.UnixNano(),
	}, nil
}

// DeleteSnapshot implements nodepb.NodeServer.
func (s *service) DeleteSnapshot(ctx context.Context, req *nodepb.DeleteSnapshotRequest) (*nodepb.DeleteSnapshotResponse, error) {
	err := s.volumes.RemoveSnapshot(ctx, provision.SnapshotRemoval{ID: req.GetId(), Kind: volume.Kind(req.GetKind()), Group: req.GetGroup()})
	if err != nil {
		return nil, err
	}
	return &nodepb.DeleteSnapshotResponse{}, nil
}
