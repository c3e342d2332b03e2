// Package tlsfiles makes TLS configurations for mutual authentication from
// files, and looks at the files again for every handshake, so that a renewed
// certificate or authority is used without a restart. It knows PEM files and
// nothing of where they come from or who may do what; PeerName tells a server who
// is calling.
package tlsfiles

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"

	"k8s.io/klog/v2"
)

// Server returns the configuration of a server that proves itself with the
// certificate and accepts only clients with a certificate of the authority.
func Server(certFile, keyFile, caFile string) (*tls.Config, error) {
	return server(certFile, keyFile, caFile, tls.RequireAndVerifyClientCert)
}

// ServerForAll is Server for clients that need prove nothing.
func ServerForAll(certFile, keyFile, caFile string) (*tls.Config, error) {
	return server(certFile, keyFile, caFile, tls.NoClientCert)
}

func server(certFile, keyFile, caFile string, clients tls.ClientAuthType) (*tls.Config, error) {
	files, err := open(certFile, keyFile, caFile)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		now := files.current(hello.Context())
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			NextProtos:   []string{"h2", "http/1.1"},
			Certificates: []tls.Certificate{now.cert},
			ClientAuth:   clients,
			ClientCAs:    now.ca,
			// A resumed session would outlive the authority it was accepted under.
			SessionTicketsDisabled: true,
		}, nil
	}
	return config, nil
}

// Client returns the configuration of a client that proves itself with the
// certificate and talks only to servers whose certificate is of the authority
// and names serverName.
func Client(certFile, keyFile, caFile, serverName string) (*tls.Config, error) {
	if serverName == "" {
		return nil, errors.New("a TLS client needs the name that its server proves")
	}
	files, err := open(certFile, keyFile, caFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		GetClientCertificate: func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &files.current(request.Context()).cert, nil
		},
		// crypto/tls reads RootCAs once, so the same verification happens below
		// with the authority of this moment.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies chain and name
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyServer(state, files.current(context.Background()).ca, serverName)
		},
	}, nil
}

func verifyServer(state tls.ConnectionState, ca *x509.CertPool, serverName string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	options := x509.VerifyOptions{
		Roots:         ca,
		DNSName:       serverName,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, cert := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}

// PeerName returns the common name of the certificate that the other side proved
// to own, or "" when it proved none.
func PeerName(state tls.ConnectionState) string {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].Subject.CommonName
}

// material is what three files say. It does not change.
type material struct {
	cert tls.Certificate
	ca   *x509.CertPool
}

// files remembers what the files said when they last made sense.
type files struct {
	paths [3]string // certificate, key, authority

	mu       sync.Mutex // guards the fields below
	contents [3][]byte  // what was last looked at, good or bad
	good     *material
}

func open(certFile, keyFile, caFile string) (*files, error) {
	f := &files{paths: [3]string{certFile, keyFile, caFile}}
	contents, err := f.read()
	if err != nil {
		return nil, err
	}
	if f.good, err = parse(contents); err != nil {
		return nil, fmt.Errorf("reading %s, %s and %s: %w", certFile, keyFile, caFile, err)
	}
	f.contents = contents
	return f, nil
}

// current returns what the files say now. While they make no sense, because
// somebody is in the middle of replacing them, it is what they said before.
func (f *files) current(ctx context.Context) *material {
	contents, err := f.read()

	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.seen(contents) {
		return f.good
	}
	if err == nil {
		f.contents = contents
		var fresh *material
		if fresh, err = parse(contents); err == nil {
			f.good = fresh
			return f.good
		}
	}
	klog.FromContext(ctx).Error(err, "Keeping the previous TLS certificate", "certificate", f.paths[0])
	return f.good
}

// seen reports whether contents are those last looked at. f.mu is held.
func (f *files) seen(contents [3][]byte) bool {
	for i := range contents {
		if !bytes.Equal(contents[i], f.contents[i]) {
			return false
		}
	}
	return true
}

func (f *files) read() (contents [3][]byte, err error) {
	for i, path := range f.paths {
		if path == "" {
			return contents, fmt.Errorf("the file of the TLS %s is not named", [...]string{"certificate", "key", "authority"}[i])
		}
		if contents[i], err = os.ReadFile(path); err != nil {
			return contents, err
		}
	}
	return contents, nil
}

func parse(contents [3][]byte) (*material, error) {
	cert, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, err
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(contents[2]) {
		return nil, errors.New("the authority holds no certificate")
	}
	return &material{cert: cert, ca: ca}, nil
}
