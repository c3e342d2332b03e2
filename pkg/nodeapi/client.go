package nodeapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/nodeapi/nodepb"
	"github.com/open-local/open-local/pkg/provision"
)

const (
	// callTimeout ends calls whose caller set no end.
	callTimeout = 2 * time.Minute
	// idleAfter is when an unused connection to a node is closed.
	idleAfter = 5 * time.Minute
)

// Pool holds at most one connection to each node.
type Pool struct {
	config *tls.Config

	mu    sync.Mutex // guards conns
	conns map[string]*grpc.ClientConn
}

// NewPool returns a pool that connects with config.
func NewPool(config *tls.Config) *Pool {
	return &Pool{config: config, conns: map[string]*grpc.ClientConn{}}
}

// Node returns the client for the node at address, host:port. It does not connect
// yet.
func (p *Pool) Node(address string) (*Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	conn, ok := p.conns[address]
	if !ok {
		var err error
		conn, err = grpc.NewClient("passthrough:///"+address,
			grpc.WithTransportCredentials(credentials.NewTLS(p.config)),
			grpc.WithIdleTimeout(idleAfter),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingWait}),
			// A node that comes back is wanted at once; there are never many.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
				MinConnectTimeout: 5 * time.Second,
			}),
		)
		if err != nil {
			return nil, fmt.Errorf("preparing to call the node at %s: %w", address, err)
		}
		p.conns[address] = conn
	}
	return &Client{address: address, api: nodepb.NewNodeClient(conn)}, nil
}

// Close closes all connections.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for address, conn := range p.conns {
		errs = append(errs, conn.Close())
		delete(p.conns, address)
	}
	return errors.Join(errs...)
}

// Client makes and removes volumes on one node. Its methods mean what those of
// provision.Provisioner mean, and fail with the same errors or ErrUnreachable.
type Client struct {
	address string
	api     nodepb.NodeClient
}

// Ensure makes spec's volume exist on the node and returns it.
func (c *Client) Ensure(ctx context.Context, spec provision.Spec) (provision.Volume, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	resp, err := c.api.CreateVolume(ctx, &nodepb.CreateVolumeRequest{
		Id:            spec.ID,
		Kind:          string(spec.Kind),
		Group:         spec.Group,
		OnlyGroup:     spec.OnlyGroup,
		RequiredBytes: int64(spec.Size),
		LimitBytes:    int64(spec.Limit),
		Layout:        string(spec.Layout),
		Block:         spec.Block,
		Tags:          spec.Tags,

		SourceSnapshot: spec.Source.Snapshot,
		SourceVolume:   spec.Source.Volume,
		SourceGroup:    spec.Source.Group,

		SourceSpaceBytes: int64(spec.Source.Space),
		Identity:         spec.Identity,
		Path:             spec.Path,
		Media:            string(spec.Media),
		Wipe:             string(spec.Wipe),
	})
	if err != nil {
		return provision.Volume{}, decode(c.address, err)
	}
	return provision.Volume{
		ID: spec.ID, Group: resp.GetGroup(), Size: capacity.Bytes(resp.GetSizeBytes()), Identity: resp.GetIdentity(), Path: resp.GetPath(),
	}, nil
}

// Remove makes the volume not exist on the node.
func (c *Client) Remove(ctx context.Context, r provision.Removal) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	_, err := c.api.DeleteVolume(ctx, &nodepb.DeleteVolumeRequest{
		Id: r.ID, Kind: string(r.Kind), Group: r.Group, InPersistentVolume: r.Proven, Identity: r.Identity, Path: r.Path,
	})
	return decode(c.address, err)
}

// Grow makes the volume on the node at least as large as asked.
func (c *Client) Grow(ctx context.Context, g provision.Growth) (capacity.Bytes, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	resp, err := c.api.ExpandVolume(ctx, &nodepb.ExpandVolumeRequest{
		Id: g.ID, Kind: string(g.Kind), Group: g.Group,
		RequiredBytes: int64(g.Size), LimitBytes: int64(g.Limit), InPersistentVolume: g.Proven,
	})
	return capacity.Bytes(resp.GetSizeBytes()), decode(c.address, err)
}

// Modify changes the limits of the volume on the node.
func (c *Client) Modify(ctx context.Context, m provision.Modification) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	_, err := c.api.ModifyVolume(ctx, &nodepb.ModifyVolumeRequest{
		Id: m.ID, Kind: string(m.Kind), Group: m.Group, Iops: m.IOPS, Bps: m.BPS, InPersistentVolume: m.Proven,
	})
	return decode(c.address, err)
}

// Snapshot makes the snapshot exist on the node and returns it.
func (c *Client) Snapshot(ctx context.Context, spec provision.SnapshotSpec) (provision.Snapshot, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	resp, err := c.api.CreateSnapshot(ctx, &nodepb.CreateSnapshotRequest{
		Id: spec.ID, Kind: string(spec.Kind), Volume: spec.Volume, Group: spec.Group,
		SpaceBytes: int64(spec.Space), StepBytes: int64(spec.Step), ThresholdPercent: int32(spec.Threshold),
		ReadOnly: spec.ReadOnly, Tags: spec.Tags,
	})
	if err != nil {
		return provision.Snapshot{}, decode(c.address, err)
	}
	return provision.Snapshot{
		ID: spec.ID, Volume: resp.GetVolume(), Group: resp.GetGroup(),
		Size: capacity.Bytes(resp.GetSizeBytes()), Created: time.Unix(0, resp.GetCreatedUnixNano()),
	}, nil
}

// RemoveSnapshot makes the snapshot not exist on the node.
func (c *Client) RemoveSnapshot(ctx context.Context, r provision.SnapshotRemoval) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	_, err := c.api.DeleteSnapshot(ctx, &nodepb.DeleteSnapshotRequest{Id: r.ID, Kind: string(r.Kind), Group: r.Group})
	return decode(c.address, err)
}

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, limited := ctx.Deadline(); limited {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, callTimeout)
}
