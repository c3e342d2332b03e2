package driver

import (
	"context"
	"fmt"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/open-local/open-local/pkg/rpc"
)

// Services are what a server serves. Controller and Node may be nil.
type Services struct {
	Identity   *Identity
	Controller *Controller
	Node       *Node
}

// NewServer returns a gRPC server of the services. The interceptors stand around
// its own and see the codes of errors.
func NewServer(services Services, interceptors ...grpc.UnaryServerInterceptor) *grpc.Server {
	guard := &guard{busy: map[string]bool{}}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(
		append(interceptors, rpc.Recover, rpc.Log, codeOf.Interceptor, guard.intercept)...))
	csi.RegisterIdentityServer(server, services.Identity)
	if services.Controller != nil {
		csi.RegisterControllerServer(server, services.Controller)
	}
	if services.Node != nil {
		csi.RegisterNodeServer(server, services.Node)
	}
	return server
}

// guard refuses a call that changes a volume while another one does, so that calls
// never queue behind a slow one.
type guard struct {
	mu   sync.Mutex // guards busy
	busy map[string]bool
}

// changing returns what a call changes, or "". Pods that use the same volume are
// published apart from each other.
func changing(req any) string {
	switch req := req.(type) {
	case *csi.CreateVolumeRequest:
		return "controller " + req.GetName()
	case *csi.DeleteVolumeRequest:
		return "controller " + req.GetVolumeId()
	case *csi.ControllerExpandVolumeRequest:
		return "controller " + req.GetVolumeId()
	case *csi.ControllerModifyVolumeRequest:
		return "controller " + req.GetVolumeId()
	case *csi.CreateSnapshotRequest:
		return "controller " + req.GetName()
	case *csi.DeleteSnapshotRequest:
		return "controller " + req.GetSnapshotId()
	case *csi.NodeExpandVolumeRequest:
		return "node " + req.GetVolumeId()
	case *csi.NodeStageVolumeRequest:
		return "node " + req.GetVolumeId()
	case *csi.NodeUnstageVolumeRequest:
		return "node " + req.GetVolumeId()
	case *csi.NodePublishVolumeRequest:
		return "target " + req.GetTargetPath()
	case *csi.NodeUnpublishVolumeRequest:
		return "target " + req.GetTargetPath()
	}
	return ""
}

func (g *guard) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	what := changing(req)
	if what == "" {
		return handler(ctx, req)
	}
	if !g.begin(what) {
		return nil, fmt.Errorf("volume %s: %w", rpc.Volume(req), errInFlight)
	}
	defer g.end(what)
	return handler(ctx, req)
}

func (g *guard) begin(what string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[what] {
		return false
	}
	g.busy[what] = true
	return true
}

func (g *guard) end(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.busy, what)
}
