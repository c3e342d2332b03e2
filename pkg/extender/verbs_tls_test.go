package extender

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	restclient "k8s.io/client-go/rest"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/metrics"
	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/tlsfiles/tlstest"
)

// asker is a client made as kube-scheduler makes one of an extender's tlsConfig.
func asker(t *testing.T, config restclient.TLSClientConfig) *http.Client {
	t.Helper()
	config.ServerName = "open-local-scheduler-extender"
	transport, err := restclient.TransportFor(&restclient.Config{TLSClientConfig: config})
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: transport}
}

// ask has the pod filtered, and returns the status and the nodes that fit.
func ask(t *testing.T, client *http.Client, endpoint, name string) (int, string) {
	t.Helper()
	body, err := json.Marshal(extenderv1.ExtenderArgs{Pod: pod(name, name), NodeNames: &[]string{"n1", "n2"}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Post(endpoint+"/scheduler/predicates", "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	var result extenderv1.ExtenderFilterResult
	if err := json.NewDecoder(response.Body).Decode(&result); err != nil || result.NodeNames == nil {
		return response.StatusCode, ""
	}
	return response.StatusCode, strings.Join(*result.NodeNames, " ")
}

func TestTheSchedulerAsksOverTLS(t *testing.T) {
	for name, test := range map[string]struct {
		caller string         // whose certificate is asked for
		want   map[string]int // status by what is shown; 0 is no connection
	}{
		"anyone may ask": {"", map[string]int{"the scheduler's": 200, "a node's": 200, "none": 200, "another authority's": 200, "another authority": 0}},
		"only the scheduler may": {
			"open-local-scheduler",
			map[string]int{"the scheduler's": 200, "a node's": 403, "none": 0, "another authority's": 0, "another authority": 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoNodes(t, claim("a", 30*gib, "lvm"), pod("a", "a"))
			ours, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
			mine := ours.Write(t, t.TempDir(), "open-local-scheduler-extender", ours)
			o := options(w)
			serve := tlsfiles.ServerForAll
			if o.VerbsCaller = test.caller; test.caller != "" {
				serve = tlsfiles.Server
			}
			var err error
			if o.VerbsTLS, err = serve(mine.Cert, mine.Key, mine.CA); err != nil {
				t.Fatal(err)
			}
			if w.s, err = New(o, w.core, w.storage); err != nil {
				t.Fatal(err)
			}
			plain, verbs := listen(t), listen(t)
			ctx, stop := context.WithCancel(w.ctx())
			stopped := make(chan error, 1)
			go func() {
				stopped <- w.s.Run(ctx, Listeners{Plain: plain, Verbs: verbs}, metrics.NewRegistry("test"), nil)
			}()
			w.until("it is ready", func() bool { return w.s.Ready() })
			w.watching()

			shown := map[string]restclient.TLSClientConfig{"none": {CAFile: mine.CA}}
			for what, at := range map[string]tlstest.Files{
				"the scheduler's":     ours.Write(t, t.TempDir(), "open-local-scheduler", ours),
				"a node's":            ours.Write(t, t.TempDir(), "open-local-node", ours),
				"another authority's": other.Write(t, t.TempDir(), "open-local-scheduler", ours),
				"another authority":   ours.Write(t, t.TempDir(), "open-local-scheduler", other),
			} {
				shown[what] = restclient.TLSClientConfig{CAFile: at.CA, CertFile: at.Cert, KeyFile: at.Key}
			}
			for what, config := range shown {
				status, fit := ask(t, asker(t, config), "https://"+verbs.Addr().String(), "a")
				if status != test.want[what] || status == 200 && fit != "n1 n2" {
					t.Errorf("with %s: %d, %s; want %d", what, status, fit, test.want[what])
				}
			}
			if status, _ := ask(t, http.DefaultClient, "http://"+plain.Addr().String(), "a"); status != http.StatusNotFound {
				t.Errorf("without TLS it answers %d", status)
			}
			stop()
			if err := <-stopped; err != nil {
				t.Errorf("stopped with %v", err)
			}
		})
	}
}
