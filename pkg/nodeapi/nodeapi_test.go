package nodeapi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/nodeapi"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/tlsfiles/tlstest"
	"github.com/open-local/open-local/pkg/volume"
)

// node answers what it is told to, and remembers what it was asked.
type node struct {
	spec    provision.Spec
	removal provision.Removal
	asked   any // by any other call
	shot    provision.Snapshot
	vol     provision.Volume
	err     error
	panics  bool
}

func (n *node) Ensure(_ context.Context, spec provision.Spec) (provision.Volume, error) {
	if n.panics {
		panic("a bug")
	}
	n.spec = spec
	return n.vol, n.err
}

func (n *node) Remove(_ context.Context, r provision.Removal) error {
	n.removal = r
	return n.err
}

func (n *node) Grow(_ context.Context, g provision.Growth) (capacity.Bytes, error) {
	n.asked = g
	return n.vol.Size, n.err
}

func (n *node) Modify(_ context.Context, m provision.Modification) error {
	n.asked = m
	return n.err
}

func (n *node) Snapshot(_ context.Context, spec provision.SnapshotSpec) (provision.Snapshot, error) {
	n.asked = spec
	return n.shot, n.err
}

func (n *node) RemoveSnapshot(_ context.Context, r provision.SnapshotRemoval) error {
	n.asked = r
	return n.err
}

// serve returns a client that calls as name.
func serve(t *testing.T, n *node, name string) *nodeapi.Client {
	t.Helper()
	dir, ca := t.TempDir(), tlstest.NewAuthority(t)
	server, client := ca.Write(t, dir, nodeapi.DefaultServerName, ca), ca.Write(t, dir, name, ca)
	serving, err := tlsfiles.Server(server.Cert, server.Key, server.CA)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	grpcServer := nodeapi.NewServer(n, serving, nodeapi.DefaultClientName)
	go func() { _ = grpcServer.Serve(listener) }()
	t.Cleanup(grpcServer.Stop)

	calling, err := tlsfiles.Client(client.Cert, client.Key, client.CA, nodeapi.DefaultServerName)
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, listener.Addr().String(), calling)
}

func dial(t *testing.T, address string, config *tls.Config) *nodeapi.Client {
	t.Helper()
	pool := nodeapi.NewPool(config)
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := pool.Node(address)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestWhatIsAskedArrivesWhole(t *testing.T) {
	want := provision.Spec{
		ID: "local-1", Kind: volume.LVM, Group: "pool", OnlyGroup: "pool", Size: capacity.GiB, Limit: 2 * capacity.GiB,
		Layout: capacity.Linear, Block: true, Tags: []string{"a", "b"},
		Source: provision.Source{Snapshot: "snap-1", Volume: "local-0", Group: "pool", Space: 7},
	}
	n := &node{vol: provision.Volume{ID: "local-1", Group: "pool", Size: capacity.GiB + 1}}
	client := serve(t, n, nodeapi.DefaultClientName)
	got, err := client.Ensure(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, n.spec); diff != "" {
		t.Errorf("spec (-asked +arrived):\n%s", diff)
	}
	if diff := cmp.Diff(n.vol, got); diff != "" {
		t.Errorf("volume (-made +answered):\n%s", diff)
	}
	removal := provision.Removal{ID: "local-1", Kind: volume.LVM, Group: "pool", Proven: true}
	if err := client.Remove(t.Context(), removal); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(removal, n.removal); diff != "" {
		t.Errorf("removal (-asked +arrived):\n%s", diff)
	}
}

func TestEveryCallArrivesWhole(t *testing.T) {
	n := &node{
		vol:  provision.Volume{Size: 3 * capacity.GiB},
		shot: provision.Snapshot{ID: "snap-1", Volume: "local-1", Group: "pool", Size: capacity.GiB, Created: time.Unix(7, 9)},
	}
	client := serve(t, n, nodeapi.DefaultClientName)
	limit, none := int64(1024), int64(0)
	for name, tc := range map[string]struct {
		ask  any
		want any
	}{
		"growing": {
			ask: provision.Growth{ID: "local-1", Kind: volume.LVM, Group: "pool", Size: 2 * capacity.GiB, Limit: 3 * capacity.GiB, Proven: true}, want: n.vol.Size,
		},
		"changing one limit, and taking off the other": {
			ask: provision.Modification{ID: "local-1", Kind: volume.LVM, Group: "pool", IOPS: &limit, BPS: &none, Proven: true},
		},
		"changing one limit, and leaving the other": {
			ask: provision.Modification{ID: "local-1", Kind: volume.LVM, Group: "pool", BPS: &limit},
		},
		"a snapshot": {
			ask: provision.SnapshotSpec{
				ID: "snap-1", Volume: "local-1", Kind: volume.LVM, Group: "pool", Space: 4 * capacity.GiB, Step: capacity.GiB, Threshold: 50,
				ReadOnly: true, Tags: []string{"a"},
			},
			want: n.shot,
		},
		"removing a snapshot": {ask: provision.SnapshotRemoval{ID: "snap-1", Kind: volume.LVM, Group: "pool"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got any
			var err error
			switch ask := tc.ask.(type) {
			case provision.Growth:
				got, err = client.Grow(t.Context(), ask)
			case provision.Modification:
				err = client.Modify(t.Context(), ask)
			case provision.SnapshotSpec:
				got, err = client.Snapshot(t.Context(), ask)
			case provision.SnapshotRemoval:
				err = client.RemoveSnapshot(t.Context(), ask)
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.ask, n.asked); diff != "" {
				t.Errorf("request (-asked +arrived):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsMeanTheSameOnBothSides(t *testing.T) {
	n := &node{}
	client := serve(t, n, nodeapi.DefaultClientName)
	kinds := []error{
		volume.ErrInvalid, provision.ErrConflict, provision.ErrBusy, provision.ErrOutOfRange, provision.ErrUnmanaged,
		provision.ErrNotReady, lvm.ErrNoSpace, lvm.ErrVolumeNotFound, lvm.ErrGroupNotFound, lvm.ErrInUse, lvm.ErrHasSnapshots,
		lvm.ErrNotOurs, lvm.ErrProtected, lvm.ErrPartial, lvm.ErrExported, context.DeadlineExceeded, context.Canceled,
	}
	for _, kind := range kinds {
		n.err = fmt.Errorf("removing volume pool/data: %w", kind)
		err := client.Remove(t.Context(), provision.Removal{ID: "data"})
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), n.err.Error()) {
			t.Errorf("%q arrives as %q", n.err, err)
		}
		for _, other := range kinds {
			if errors.Is(err, other) && !errors.Is(kind, other) {
				t.Errorf("%q arrives as %q, too", kind, other)
			}
		}
	}
	n.err = errors.New("something else")
	if err := client.Remove(t.Context(), provision.Removal{ID: "data"}); err == nil || errors.Unwrap(err) != nil {
		t.Errorf("an error of no kind arrives as %#v", err)
	}
}

func TestAPanicIsOneFailedCall(t *testing.T) {
	n := &node{panics: true}
	client := serve(t, n, nodeapi.DefaultClientName)
	if _, err := client.Ensure(t.Context(), provision.Spec{}); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Fatalf("got %v", err)
	}
	n.panics = false
	if _, err := client.Ensure(t.Context(), provision.Spec{}); err != nil {
		t.Fatalf("after the panic: %v", err)
	}
}

func TestOnlyTheControllerMayCall(t *testing.T) {
	n := &node{}
	client := serve(t, n, "open-local-node") // a node's own certificate, of the same authority
	err := client.Remove(t.Context(), provision.Removal{ID: "data"})
	if err == nil || !strings.Contains(err.Error(), `the certificate is for "open-local-node"`) {
		t.Fatalf("got %v", err)
	}
	if n.removal.ID != "" {
		t.Error("the call reached the node's volumes")
	}
}

func TestANodeThatIsDownIsUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = dial(t, address, &tls.Config{MinVersion: tls.VersionTLS13}).Ensure(t.Context(), provision.Spec{})
	if !errors.Is(err, nodeapi.ErrUnreachable) {
		t.Fatalf("got %v, want ErrUnreachable", err)
	}
}
