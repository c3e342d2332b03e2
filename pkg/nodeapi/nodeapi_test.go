package nodeapi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

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
