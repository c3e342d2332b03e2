package reserve

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// extender answers everything with the status and the body.
func extender(t *testing.T, status int, body string) (*Client, *http.Request) {
	t.Helper()
	var got http.Request
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = *r
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	config := server.Client().Transport.(*http.Transport).TLSClientConfig
	return New(server.URL+"/", config), &got
}

var request = Request{Namespace: "default", Claim: "data-0", Node: "n1", VolumeType: "LVM", Group: "pool"}

func TestAPlaceIsAskedForAndRead(t *testing.T) {
	client, got := extender(t, http.StatusOK, `{"node":"n1","vgName":"pool","volumeType":"LVM","persistentVolumeClaim":"default/data-0"}`)
	place, err := client.Reserve(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Place{Node: "n1", Group: "pool"}); place != want {
		t.Errorf("got %+v, want %+v", place, want)
	}
	if got.Method != http.MethodPost || got.URL.RequestURI() != "/apis/scheduling/default/persistentvolumeclaims/data-0?nodeName=n1&vgName=pool&volumeType=LVM" {
		t.Errorf("asked %s %s", got.Method, got.URL.RequestURI())
	}
}

func TestAPlaceIsGivenUpInTheAttemptInWhichItWasAskedFor(t *testing.T) {
	client, got := extender(t, http.StatusOK, `{}`)
	asked := request
	asked.Volume, asked.Attempt = "local-1", "first"
	if err := client.GiveUp(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	const where = "/apis/scheduling/default/persistentvolumeclaims/data-0?attempt=first&nodeName=n1&vgName=pool&volume=local-1&volumeType=LVM"
	if got.Method != http.MethodDelete || got.URL.RequestURI() != where {
		t.Errorf("asked %s %s", got.Method, got.URL.RequestURI())
	}
	client, _ = extender(t, http.StatusServiceUnavailable, `{"message":"caches"}`)
	if err := client.GiveUp(t.Context(), asked); !errors.Is(err, ErrNotReady) || err.Error() != `giving up the place of claim default/data-0 on node "n1": the scheduler extender cannot answer now: caches` {
		t.Errorf("got %v", err)
	}
}

func TestRefusalsCanBeToldApart(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
		text   string
	}{
		"no room": {
			507, `{"message":"vg pool: wants 20Gi, 12Gi free"}`, ErrNoRoom,
			`reserving a place for claim default/data-0 on node "n1": no room on the node: vg pool: wants 20Gi, 12Gi free`,
		},
		"not ready":      {503, `{"message":"caches"}`, ErrNotReady, `reserving a place for claim default/data-0 on node "n1": the scheduler extender cannot answer now: caches`},
		"unknown":        {404, `{"message":"gone"}`, ErrUnknown, `reserving a place for claim default/data-0 on node "n1": no such claim: gone`},
		"elsewhere":      {409, `{"message":"n2"}`, ErrElsewhere, `reserving a place for claim default/data-0 on node "n1": the volume has its place on another node: n2`},
		"invalid":        {422, `{"message":"bad"}`, ErrInvalid, `reserving a place for claim default/data-0 on node "n1": invalid claim: bad`},
		"anything else":  {500, `oops`, nil, `reserving a place for claim default/data-0 on node "n1": the extender answered Internal Server Error: "oops"`},
		"another's page": {507, `<html>`, ErrNoRoom, `reserving a place for claim default/data-0 on node "n1": no room on the node: "<html>"`},
		"another node":   {200, `{"node":"n2"}`, ErrElsewhere, `reserving a place for claim default/data-0 on node "n1": the volume has its place on another node: the answer is for node "n2"`},
		"no JSON":        {200, `x`, nil, `reserving a place for claim default/data-0 on node "n1": reading the answer "x": invalid character 'x' looking for beginning of value`},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := extender(t, test.status, test.body)
			_, err := client.Reserve(t.Context(), request)
			if err == nil || err.Error() != test.text {
				t.Errorf("got %v, want %s", err, test.text)
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v is not %v", err, test.want)
			}
			if test.want != nil && test.status != 200 && StatusOf(err) != test.status {
				t.Errorf("%v has status %d, want %d", err, StatusOf(err), test.status)
			}
		})
	}
}

func TestAnExtenderThatIsAwayIsNotReady(t *testing.T) {
	_, err := New("https://127.0.0.1:1", &tls.Config{MinVersion: tls.VersionTLS13}).Reserve(t.Context(), request)
	if !errors.Is(err, ErrNotReady) {
		t.Errorf("got %v, want ErrNotReady", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	client, _ := extender(t, 200, "")
	if _, err := client.Reserve(gone, request); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestAConnectionThatDiedIsNotUsedAgain(t *testing.T) {
	var first atomic.Value // the connection that dies
	over := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(nil, r.RemoteAddr); first.Load() == r.RemoteAddr {
			<-over // no answer, and no end
		}
		_, _ = w.Write([]byte(`{"node":"n1","vgName":"pool"}`))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	client := New(server.URL, server.Client().Transport.(*http.Transport).TLSClientConfig)
	for _, tc := range []struct {
		patience time.Duration
		want     error
	}{{100 * time.Millisecond, ErrNotReady}, {10 * time.Second, nil}} {
		ctx, cancel := context.WithTimeout(t.Context(), tc.patience)
		_, err := client.Reserve(ctx, request)
		cancel()
		if !errors.Is(err, tc.want) {
			t.Fatalf("got %v, want %v", err, tc.want)
		}
	}
}
