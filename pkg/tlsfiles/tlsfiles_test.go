package tlsfiles_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/tlsfiles/tlstest"
)

// echo serves the PeerName of every client until the test ends.
func echo(t *testing.T, config *tls.Config) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if conn := conn.(*tls.Conn); conn.HandshakeContext(context.Background()) == nil {
				_, _ = io.WriteString(conn, tlsfiles.PeerName(conn.ConnectionState()))
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// call returns how the server named us.
func call(address string, config *tls.Config) (string, error) {
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: config}).Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	said, err := io.ReadAll(conn)
	return string(said), err
}

func sides(t *testing.T, server, client tlstest.Files, serverName string) (string, *tls.Config) {
	t.Helper()
	serving, err := tlsfiles.Server(server.Cert, server.Key, server.CA)
	if err != nil {
		t.Fatal(err)
	}
	calling, err := tlsfiles.Client(client.Cert, client.Key, client.CA, serverName)
	if err != nil {
		t.Fatal(err)
	}
	return echo(t, serving), calling
}

func TestTheServerKnowsWhoCalls(t *testing.T) {
	dir, ca := t.TempDir(), tlstest.NewAuthority(t)
	address, calling := sides(t, ca.Write(t, dir, "node", ca), ca.Write(t, dir, "controller", ca), "node")
	name, err := call(address, calling)
	if err != nil || name != "controller" {
		t.Fatalf("the server saw %q, %v; want controller", name, err)
	}
}

func TestBothSidesRefuseStrangers(t *testing.T) {
	ca, stranger := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	for name, test := range map[string]struct {
		server, client tlstest.Authority
		serverName     string
		want           string
	}{
		"a client of another authority":        {ca, stranger, "node", "remote error: tls"},
		"a server of another authority":        {stranger, ca, "node", "unknown authority"},
		"a server that proves another name":    {ca, ca, "elsewhere", "not elsewhere"},
		"strangers that agree with each other": {stranger, stranger, "node", "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			address, calling := sides(t, test.server.Write(t, dir, "node", ca), test.client.Write(t, dir, "controller", ca), test.serverName)
			if _, err := call(address, calling); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestAClientWithoutCertificateIsRefused(t *testing.T) {
	dir, ca := t.TempDir(), tlstest.NewAuthority(t)
	address, calling := sides(t, ca.Write(t, dir, "node", ca), ca.Write(t, dir, "controller", ca), "node")
	calling.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	if _, err := call(address, calling); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Fatalf("got %v, want certificate required", err)
	}
}

func TestRotatedFilesAreUsedWithoutARestart(t *testing.T) {
	dir, old, fresh := t.TempDir(), tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	server, client := old.Write(t, dir, "node", old), old.Write(t, dir, "controller", old)
	address, calling := sides(t, server, client, "node")
	if _, err := call(address, calling); err != nil {
		t.Fatal(err)
	}

	fresh.Write(t, dir, "node", fresh)
	if _, err := call(address, calling); err == nil {
		t.Fatal("a client that trusts the old authority spoke to a server of the new one")
	}
	fresh.Write(t, dir, "controller", fresh)
	if name, err := call(address, calling); err != nil || name != "controller" {
		t.Fatalf("after both sides were renewed: %q, %v", name, err)
	}
}

func TestHalfWrittenFilesLeaveThePreviousOnesInUse(t *testing.T) {
	dir, ca := t.TempDir(), tlstest.NewAuthority(t)
	server, client := ca.Write(t, dir, "node", ca), ca.Write(t, dir, "controller", ca)
	address, calling := sides(t, server, client, "node")
	for _, path := range []string{server.Cert, server.Key, server.CA, client.Cert} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := call(address, calling); err != nil {
			t.Fatalf("with a broken %s: %v", filepath.Base(path), err)
		}
	}
}

func TestWhatCannotWorkIsRefusedAtTheStart(t *testing.T) {
	dir, ca, other := t.TempDir(), tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	good, bad := ca.Write(t, dir, "node", ca), other.Write(t, dir, "other", ca)
	for name, err := range map[string]error{
		"a missing file":                second(tlsfiles.Server(good.Cert, good.Key, filepath.Join(dir, "none"))),
		"a file that is not named":      second(tlsfiles.Server(good.Cert, good.Key, "")),
		"a key of another certificate":  second(tlsfiles.Server(good.Cert, bad.Key, good.CA)),
		"an authority that is a key":    second(tlsfiles.Client(good.Cert, good.Key, good.Key, "node")),
		"a client without server name":  second(tlsfiles.Client(good.Cert, good.Key, good.CA, "")),
		"a certificate that is missing": second(tlsfiles.Client("", good.Key, good.CA, "node")),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func second(_ *tls.Config, err error) error { return err }
