package tlsfiles

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// paths are the three files of one side.
type paths struct{ cert, key, ca string }

// write makes, or replaces, the files of one side: a certificate of a for name,
// and trusted as the authority.
func (a authority) write(t *testing.T, dir, name string, trusted authority) paths {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := paths{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"), filepath.Join(dir, name+".ca")}
	writePEM(t, p.cert, "CERTIFICATE", der)
	writePEM(t, p.key, "PRIVATE KEY", keyDER)
	writePEM(t, p.ca, "CERTIFICATE", trusted.cert.Raw)
	return p
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// echo serves PeerName of every client until the test ends.
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
				_, _ = io.WriteString(conn, PeerName(conn.ConnectionState()))
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

func sides(t *testing.T, server, client paths, serverName string) (string, *tls.Config) {
	t.Helper()
	serving, err := Server(server.cert, server.key, server.ca)
	if err != nil {
		t.Fatal(err)
	}
	calling, err := Client(client.cert, client.key, client.ca, serverName)
	if err != nil {
		t.Fatal(err)
	}
	return echo(t, serving), calling
}

func TestTheServerKnowsWhoCalls(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	address, calling := sides(t, ca.write(t, dir, "node", ca), ca.write(t, dir, "controller", ca), "node")
	name, err := call(address, calling)
	if err != nil || name != "controller" {
		t.Fatalf("the server saw %q, %v; want controller", name, err)
	}
}

func TestBothSidesRefuseStrangers(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	for name, test := range map[string]struct {
		server, client authority
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
			address, calling := sides(t, test.server.write(t, dir, "node", ca), test.client.write(t, dir, "controller", ca), test.serverName)
			if _, err := call(address, calling); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestAClientWithoutCertificateIsRefused(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	address, calling := sides(t, ca.write(t, dir, "node", ca), ca.write(t, dir, "controller", ca), "node")
	calling.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	if _, err := call(address, calling); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Fatalf("got %v, want certificate required", err)
	}
}

func TestRotatedFilesAreUsedWithoutARestart(t *testing.T) {
	dir, old, fresh := t.TempDir(), newAuthority(t), newAuthority(t)
	server, client := old.write(t, dir, "node", old), old.write(t, dir, "controller", old)
	address, calling := sides(t, server, client, "node")
	if _, err := call(address, calling); err != nil {
		t.Fatal(err)
	}

	fresh.write(t, dir, "node", fresh)
	if _, err := call(address, calling); err == nil {
		t.Fatal("a client that trusts the old authority spoke to a server of the new one")
	}
	fresh.write(t, dir, "controller", fresh)
	if name, err := call(address, calling); err != nil || name != "controller" {
		t.Fatalf("after both sides were renewed: %q, %v", name, err)
	}
}

func TestHalfWrittenFilesLeaveThePreviousOnesInUse(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	server, client := ca.write(t, dir, "node", ca), ca.write(t, dir, "controller", ca)
	address, calling := sides(t, server, client, "node")
	for _, path := range []string{server.cert, server.key, server.ca, client.cert} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := call(address, calling); err != nil {
			t.Fatalf("with a broken %s: %v", filepath.Base(path), err)
		}
	}
}

func TestWhatCannotWorkIsRefusedAtTheStart(t *testing.T) {
	dir, ca, other := t.TempDir(), newAuthority(t), newAuthority(t)
	good, bad := ca.write(t, dir, "node", ca), other.write(t, dir, "other", ca)
	for name, err := range map[string]error{
		"a missing file":                second(Server(good.cert, good.key, filepath.Join(dir, "none"))),
		"a file that is not named":      second(Server(good.cert, good.key, "")),
		"a key of another certificate":  second(Server(good.cert, bad.key, good.ca)),
		"an authority that is a key":    second(Client(good.cert, good.key, good.key, "node")),
		"a client without server name":  second(Client(good.cert, good.key, good.ca, "")),
		"a certificate that is missing": second(Client("", good.key, good.ca, "node")),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func second(_ *tls.Config, err error) error { return err }
