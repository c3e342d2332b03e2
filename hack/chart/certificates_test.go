package chart

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// secretNames are the Secrets that the chart makes, the authority's first.
var secretNames = []string{"open-local-ca", "open-local-agent-tls", "open-local-csi-controller-tls", "open-local-scheduler-extender-tls"}

func TestCertificatesProveWhatTheyAreFor(t *testing.T) {
	all := install(t, nil)
	for _, test := range []struct {
		secret, subject string
		usage           x509.ExtKeyUsage
		names           []string
	}{
		{"open-local-agent-tls", "open-local-node", x509.ExtKeyUsageServerAuth, []string{"open-local-node"}},
		{"open-local-csi-controller-tls", "open-local-csi-controller", x509.ExtKeyUsageClientAuth, []string{""}},
		{"open-local-scheduler-extender-tls", "open-local-scheduler-extender", x509.ExtKeyUsageServerAuth, []string{
			"open-local-scheduler-extender", "open-local-scheduler-extender.kube-system",
			"open-local-scheduler-extender.kube-system.svc", "open-local-scheduler-extender.kube-system.svc.cluster.local",
		}},
	} {
		t.Run(test.secret, func(t *testing.T) {
			secret := get[*corev1.Secret](t, all, test.secret)
			cert := certificate(t, secret.Data)
			if cert.Subject.CommonName != test.subject {
				t.Errorf("it is made for %q, want %q", cert.Subject.CommonName, test.subject)
			}
			for _, name := range test.names {
				if err := verify(secret.Data["ca.crt"], cert, name, test.usage); err != nil {
					t.Errorf("for %q: %v", name, err)
				}
			}
			if left := time.Until(cert.NotAfter); left < 3649*24*time.Hour {
				t.Errorf("it is valid for %v only", left)
			}
			if err := verify(secret.Data["ca.crt"], cert, "somebody.else", test.usage); err == nil {
				t.Error("it is good for a name that is not its own")
			}
		})
	}
}

// afterwards is the cluster as an install leaves it, less the Secrets named.
func afterwards(all objects, without ...string) cluster {
	var c cluster
	for _, o := range all {
		if secret, ok := o.(*corev1.Secret); ok && !slices.Contains(without, secret.Name) {
			c.objects = append(c.objects, runtime.Object(secret))
		}
	}
	return c
}

func TestAnUpgradeKeepsTheCertificates(t *testing.T) {
	for name, test := range map[string]struct {
		deleted []string
		renewed []string
	}{
		"everything is kept":                       {nil, nil},
		"a deleted certificate is made again":      {[]string{secretNames[2]}, []string{secretNames[2]}},
		"without its authority nothing is trusted": {[]string{secretNames[0]}, secretNames},
	} {
		t.Run(name, func(t *testing.T) {
			before := install(t, nil)
			after := afterwards(before, test.deleted...).install(t, nil)
			for _, name := range secretNames {
				was, is := get[*corev1.Secret](t, before, name).Data, get[*corev1.Secret](t, after, name).Data
				if same := cmp.Equal(was, is); same == slices.Contains(test.renewed, name) {
					t.Errorf("%s is the same: %v", name, same)
				}
				if name == secretNames[0] {
					continue
				}
				if err := verify(get[*corev1.Secret](t, after, secretNames[0]).Data["tls.crt"], certificate(t, is), "", x509.ExtKeyUsageAny); err != nil {
					t.Errorf("%s after the upgrade: %v", name, err)
				}
			}
		})
	}
}

func TestNoPodHoldsTheKeyOfTheAuthority(t *testing.T) {
	mounted := map[string][]string{}
	collect := func(owner string, pod corev1.PodSpec) {
		for _, volume := range pod.Volumes {
			if volume.Secret != nil {
				mounted[owner] = append(mounted[owner], volume.Secret.SecretName)
			}
		}
	}
	all := install(t, nil)
	for _, o := range all {
		switch w := o.(type) {
		case *appsv1.Deployment:
			collect(w.Name, w.Spec.Template.Spec)
		case *appsv1.DaemonSet:
			collect(w.Name, w.Spec.Template.Spec)
		}
	}
	want := map[string][]string{
		"open-local-agent":              {"open-local-agent-tls"},
		"open-local-csi-controller":     {"open-local-csi-controller-tls"},
		"open-local-scheduler-extender": {"open-local-scheduler-extender-tls"},
	}
	if diff := cmp.Diff(want, mounted); diff != "" {
		t.Errorf("Secrets in pods (-want +got):\n%s", diff)
	}
	authority := get[*corev1.Secret](t, all, secretNames[0]).Data["tls.key"]
	for _, name := range secretNames[1:] {
		if cmp.Equal(authority, get[*corev1.Secret](t, all, name).Data["tls.key"]) {
			t.Errorf("%s holds the key of the authority", name)
		}
	}
}

func TestOtherModesMakeNoCertificates(t *testing.T) {
	for _, mode := range []string{"cert-manager", "existing"} {
		if made := names[*corev1.Secret](install(t, values{"certificates": values{"mode": mode}})); len(made) != 0 {
			t.Errorf("mode %s makes %q", mode, made)
		}
	}
}

func certificate(t *testing.T, data map[string][]byte) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
	if err != nil {
		t.Fatalf("the key does not belong to the certificate: %v", err)
	}
	block, _ := pem.Decode(data["tls.crt"])
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if pair.PrivateKey == nil {
		t.Fatal("there is no key")
	}
	return cert
}

func verify(authority []byte, cert *x509.Certificate, name string, usage x509.ExtKeyUsage) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}
