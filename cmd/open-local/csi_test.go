package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/volume"
)

func TestCSIOptionsReportEveryMistake(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string // what is said; none when all is well
	}{
		"a node as in the chart": {
			args: []string{"--mode=node", "--node-name=n1", "--host-root=/host", "--kubelet-dir=/var/lib/kubelet", "--node-api-address=:1736"},
		},
		"a controller as in the chart": {
			args: []string{"--mode=controller", "--endpoint=unix:///run/csi/csi.sock", "--extender-address=open-local-scheduler-extender.kube-system.svc:23443", "--node-api-port=1736"},
		},
		"the names of the first open-local": {
			args: []string{"--mode=node", "--nodeID=n1", "--drivername=local.csi.aliyun.com"},
		},
		"a node without a name":              {args: []string{"--mode=node", "--node-name="}, want: []string{"--node-name is required"}},
		"a controller without a socket":      {args: []string{"--mode=controller"}, want: []string{"--endpoint is required"}},
		"a socket that is no path":           {args: []string{"--node-name=n1", "--endpoint=tcp://:1"}, want: []string{`--endpoint "tcp://:1"`}},
		"a strategy nobody knows":            {args: []string{"--node-name=n1", "--scheduler-strategy=best"}, want: []string{`"best"`}},
		"several mistakes, all of them said": {args: []string{"--mode=both", "--driver=", "--node-name=n1", "--host-root=host", "--node-api-port=0", "--extender-address=x", "--node-grace=-1s"}, want: []string{`--mode "both"`, "--driver is empty", `--host-root "host"`, "--node-api-port 0", "--node-grace -1s", `--extender-address "x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := csiCommand()
			var o csiOptions
			cmd.ResetFlags()
			o.addFlags(cmd.Flags())
			if err := cmd.ParseFlags(test.args); err != nil {
				t.Fatal(err)
			}
			err := o.validate()
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v, want mistakes %q", err, test.want)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestTheSocketIsWhereTheKubeletLooks(t *testing.T) {
	o := csiOptions{driver: "local.csi.aliyun.com", kubeletDir: "/data/kubelet"}
	if got := o.socket(); got != "/data/kubelet/plugins/local.csi.aliyun.com/csi.sock" {
		t.Errorf("got %s", got)
	}
	o.endpoint = "unix:///run/csi/csi.sock"
	if got := o.socket(); got != "/run/csi/csi.sock" {
		t.Errorf("got %s", got)
	}
}

func TestWhatTheExtenderRefusesMeansTheSameToTheDriver(t *testing.T) {
	for _, test := range []struct {
		answer error
		want   error
	}{
		{reserve.ErrNoRoom, driver.ErrNoRoom},
		{reserve.ErrElsewhere, driver.ErrNoRoom},
		{reserve.ErrInvalid, volume.ErrInvalid},
		{reserve.ErrUnknown, driver.ErrUndecided},
		{reserve.ErrNotReady, driver.ErrUndecided},
		{errors.New("a bug"), driver.ErrUndecided},
	} {
		extender := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(reserve.StatusOf(test.answer))
			_, _ = fmt.Fprintf(w, `{"message":%q}`, test.answer)
		}))
		r := &reserver{reserve.New(extender.URL, nil)}
		_, err := r.Reserve(t.Context(), driver.Reservation{Namespace: "default", Claim: "data", Node: "n1"})
		extender.Close()
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.answer.Error()) {
			t.Errorf("%q became %q, want %q", test.answer, err, test.want)
		}
	}
}

func TestEveryAttemptIsGivenUpAlone(t *testing.T) {
	var asked []string
	extender := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Query().Get("attempt"))
		_, _ = fmt.Fprint(w, `{"node":"n1"}`)
	}))
	defer extender.Close()
	r := &reserver{reserve.New(extender.URL, nil)}
	want := driver.Reservation{Namespace: "default", Claim: "data", Volume: "local-1", Node: "n1"}
	first, err := r.Reserve(t.Context(), want)
	second, again := r.Reserve(t.Context(), want)
	if err := errors.Join(err, again, r.GiveUp(t.Context(), want, first)); err != nil {
		t.Fatal(err)
	}
	if first.Attempt == "" || first.Attempt == second.Attempt {
		t.Errorf("the attempts are %q and %q", first.Attempt, second.Attempt)
	}
	if want := []string{"POST " + first.Attempt, "POST " + second.Attempt, "DELETE " + first.Attempt}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// prober is a driver that answers Probe.
type prober struct {
	csi.IdentityClient
	ready bool
	err   error
}

func (p prober) Probe(context.Context, *csi.ProbeRequest, ...grpc.CallOption) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(p.ready)}, p.err
}

func TestHealthIsWhatProbeSays(t *testing.T) {
	for name, test := range map[string]struct {
		client  prober
		healthy bool // what /healthz and /readyz say
		ready   bool
	}{
		"a driver that is ready":        {prober{ready: true}, true, true},
		"a driver that is not yet":      {prober{}, true, false},
		"a driver that does not answer": {prober{err: errors.New("refused")}, false, false},
	} {
		for path, want := range map[string]bool{"healthz": test.healthy, "readyz": test.ready} {
			answer := httptest.NewRecorder()
			probe(test.client, path == "readyz")(answer, httptest.NewRequest(http.MethodGet, "/"+path, nil))
			if (answer.Code == http.StatusOK) != want {
				t.Errorf("%s: /%s answers %d", name, path, answer.Code)
			}
		}
	}
}
