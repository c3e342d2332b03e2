package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

func TestAnAuthoritysCertificatesAreGoodForTheirHostsOnly(t *testing.T) {
	ca, err := NewAuthority("lab")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewAuthority("lab")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(Subject{Name: "api", Group: "system:masters", Hosts: []string{"10.99.0.1", "kubernetes"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
		t.Fatalf("certificate and key: %v", err)
	}
	block, _ := pem.Decode(pair.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "api" || cert.Subject.Organization[0] != "system:masters" {
		t.Errorf("the certificate is for %s", cert.Subject)
	}
	for name, test := range map[string]struct {
		authority *Authority
		host      string
		good      bool
	}{
		"its address":             {ca, "10.99.0.1", true},
		"its name":                {ca, "kubernetes", true},
		"another address":         {ca, "10.99.0.2", false},
		"another lab's authority": {other, "kubernetes", false},
	} {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(test.authority.Cert)
			_, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: test.host})
			if (err == nil) != test.good {
				t.Errorf("got %v, want good %t", err, test.good)
			}
		})
	}
}

func TestAClientCannotServe(t *testing.T) {
	ca, err := NewAuthority("lab")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(Subject{Name: "front-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pair.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Cert)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a client's certificate is good for a server")
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
}

func TestTokensDiffer(t *testing.T) {
	if one, two := Token(), Token(); one == two || len(one) < 20 {
		t.Errorf("tokens of %d characters, the same: %t", len(one), one == two)
	}
}
