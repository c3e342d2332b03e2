//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// schedulerAsksOverTLS has the cluster's own kube-scheduler ask with a certificate, as
// docs/install.md tells, and everybody else as well.
func schedulerAsksOverTLS(b *bench) {
	before, err := b.plane.SchedulerConfig()
	b.must(err, "reading what kube-scheduler is told")
	b.afterwards(func(ctx context.Context) {
		said, err := b.install(ctx)
		b.must(err, "having the extender answer without TLS again: %s", said)
	})
	b.afterwards(func(ctx context.Context) {
		b.must(b.plane.ConfigureScheduler(ctx, before), "having kube-scheduler ask without TLS again")
	})
	said, err := b.install(b.Context(), "scheduler.tls.enabled=true", "scheduler.tls.clientCertificates=true")
	b.must(err, "having the extender answer over TLS: %s", said)
	scheduler := b.secret("open-local-scheduler-tls")
	b.must(b.plane.ConfigureScheduler(b.Context(), b.overTLS(before, scheduler)), "having kube-scheduler ask over TLS")

	// Published capacity has room for each of the claims on each node. That two of them do
	// not fit together, and how all others do, only the extender can have said.
	b.addClaims(claim("small", "open-local-lvm", "2500Mi"), claim("large", "open-local-lvm", "3500Mi"))
	b.addClaims(claim("one", "open-local-lvm", "3500Mi"), claim("other", "open-local-lvm", "3500Mi"))
	b.addPods(pod("fits", forever, mounting("small", "large")), pod("refused", forever, mounting("one", "other")))
	b.wantRunning("fits")
	b.wantEvent("refused", "FailedScheduling", "wants 3500Mi more for "+b.ns+"/")

	asked := strings.Replace(`{"Pod": {"metadata": {"namespace": "NS", "name": "asked", "uid": "1"}}, "NodeNames": ["n1"]}`, "NS", b.ns, 1)
	verbs, plain := "https://extender:23444/scheduler/predicates", "http://extender:23000"
	for who, shown := range map[string]map[string][]byte{"the scheduler": scheduler, "a node": b.secret("open-local-agent-tls"), "anybody": nil} {
		// Whoever shows no certificate gets no connection.
		want := map[string]string{"the scheduler": "200 ", "a node": "403 ", "anybody": `Post "` + verbs + `": `}[who]
		if got := b.ask(b.extender(scheduler["ca.crt"], shown), http.MethodPost, verbs, asked); !strings.Contains(got, want) {
			b.Errorf("%s was answered %q, want %q", who, got, want)
		}
	}
	anybody := b.extender(scheduler["ca.crt"], nil)
	for _, question := range []struct{ method, path, want string }{
		{http.MethodPost, "/scheduler/predicates", "404 "},
		{http.MethodPost, "/scheduler/priorities", "404 "},
		{http.MethodGet, "/healthz", "200 "},
		{http.MethodGet, "/metrics", "open_local_scheduler_nodes"},
		{http.MethodGet, "/scheduler/explain/" + b.ns + "/refused", "wants 3500Mi more"},
	} {
		if got := b.ask(anybody, question.method, plain+question.path, asked); !strings.Contains(got, question.want) {
			b.Errorf("%s %s without TLS was answered %.200q, want %q", question.method, question.path, got, question.want)
		}
	}
}

// secret returns what is in a Secret of open-local.
func (b *bench) secret(name string) map[string][]byte {
	b.Helper()
	s, err := b.kube.CoreV1().Secrets(installedIn).Get(b.Context(), name, metav1.GetOptions{})
	b.must(err, "reading Secret %s", name)
	return s.Data
}

// overTLS puts the files of the Secret where kube-scheduler can read them, and returns
// its configuration with the lines of docs/install.md.
func (b *bench) overTLS(config string, secret map[string][]byte) string {
	b.Helper()
	dir := filepath.Join(b.plane.Dir(), "pki", "open-local")
	b.must(os.MkdirAll(dir, 0o700), "making a directory for certificates")
	for _, name := range []string{"ca.crt", corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		b.must(os.WriteFile(filepath.Join(dir, name), secret[name], 0o600), "writing %s", name)
	}
	told := strings.Replace(config, "- urlPrefix: http://open-local-scheduler-extender.kube-system:23000/scheduler\n",
		`- urlPrefix: https://open-local-scheduler-extender.kube-system:23444/scheduler
  enableHTTPS: true
  tlsConfig:
    serverName: open-local-scheduler-extender
    caFile: DIR/ca.crt
    certFile: DIR/tls.crt
    keyFile: DIR/tls.key
`, 1)
	if told == config {
		b.Fatalf("kube-scheduler does not ask the extender: %s", config)
	}
	return strings.ReplaceAll(told, "DIR", dir)
}

// extender returns a client that reaches the Service of the extender under any name,
// trusts the authority, and shows the certificate, if any.
func (b *bench) extender(authority []byte, shown map[string][]byte) *http.Client {
	b.Helper()
	service, err := b.kube.CoreV1().Services(installedIn).Get(b.Context(), lease, metav1.GetOptions{})
	b.must(err, "reading the Service of the extender")
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "open-local-scheduler-extender", RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(authority)
	if shown != nil {
		pair, err := tls.X509KeyPair(shown[corev1.TLSCertKey], shown[corev1.TLSPrivateKeyKey])
		b.must(err, "reading a certificate")
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return b.plane.Dial(ctx, network, net.JoinHostPort(service.Spec.ClusterIP, port))
		},
	}}
}

// ask returns the status and the text of the answer, or why there is none.
func (b *bench) ask(client *http.Client, method, url, body string) string {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), method, url, strings.NewReader(body))
	b.must(err, "asking for %s", url)
	answer, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	b.must(err, "reading the answer of %s", url)
	return answer.Status + " " + string(text)
}
