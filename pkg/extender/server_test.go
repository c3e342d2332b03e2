package extender

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/extender/reserve"
	"github.com/open-local/open-local/pkg/metrics"
)

// serving returns the URL of the plain server.
func (w *world) serving() string {
	w.t.Helper()
	registry := metrics.NewRegistry("test")
	if err := w.s.Register(registry); err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewServer(w.s.Handler(w.ctx(), registry))
	w.t.Cleanup(server.Close)
	return server.URL
}

// call sends body, where there is one, and returns the status and the answer.
func call(t *testing.T, method, url string, body any) (int, []byte) {
	t.Helper()
	sent, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

func TestTheSchedulersWayThroughHTTP(t *testing.T) {
	w := newWorld(t, node("n1"), node("n2"), node("n3"), claim("a", 20*gib, "lvm"), pod("p", "a"),
		nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 10*gib)))
	url := w.serving()
	args := &extenderv1.ExtenderArgs{Pod: pod("p", "a"), NodeNames: &[]string{"n1", "n2", `n"3`}}
	status, answer := call(t, http.MethodPost, url+"/scheduler/predicates", args)
	var filtered extenderv1.ExtenderFilterResult
	if err := json.Unmarshal(answer, &filtered); err != nil || status != http.StatusOK {
		t.Fatalf("answered %d %s: %v", status, answer, err)
	}
	want := extenderv1.ExtenderFilterResult{
		NodeNames:   &[]string{"n1"},
		FailedNodes: extenderv1.FailedNodesMap{},
		FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{
			"n2": "vg pool: wants 20Gi, has 10Gi in all", `n"3`: noReport,
		},
	}
	if diff := cmp.Diff(want, filtered); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	args.NodeNames = &[]string{"n1"}
	status, answer = call(t, http.MethodPost, url+"/scheduler/priorities", args)
	if string(answer) != `[{"Host":"n1","Score":2}]` || status != http.StatusOK {
		t.Errorf("answered %d %s", status, answer)
	}
}

func TestWhatIsWrittenIsReadByTheScheduler(t *testing.T) {
	for name, result := range map[string]*extenderv1.ExtenderFilterResult{
		"nothing":  {},
		"no names": {NodeNames: &[]string{}},
		"all of it": {
			Nodes:                      &corev1.NodeList{Items: []corev1.Node{*node("n1")}},
			NodeNames:                  &[]string{"n1", "ünï", "\x01\"\\"},
			FailedNodes:                extenderv1.FailedNodesMap{"a": "b\n", "c": "d"},
			FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{"e": "<f>"},
			Error:                      `"quoted"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, written := encodeFilter(nil, result, nil)
			var got extenderv1.ExtenderFilterResult
			if err := json.Unmarshal(written, &got); err != nil || status != http.StatusOK {
				t.Fatalf("%d %s: %v", status, written, err)
			}
			standard, err := json.Marshal(result)
			if err != nil {
				t.Fatal(err)
			}
			var want extenderv1.ExtenderFilterResult
			if err := json.Unmarshal(standard, &want); err != nil {
				t.Fatal(err)
			}
			for _, reasons := range []*extenderv1.FailedNodesMap{&want.FailedNodes, &want.FailedAndUnresolvableNodes} {
				if *reasons == nil {
					*reasons = extenderv1.FailedNodesMap{}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnErrorIsShownToTheUserOfTheScheduler(t *testing.T) {
	status, answer := encodeFilter(nil, nil, errors.New("because"))
	if status != http.StatusOK || !strings.Contains(string(answer), `"Error":"because"`) {
		t.Errorf("answered %d %s", status, answer)
	}
	if status, _ := encodeScores(nil, nil, errors.New("because")); status != http.StatusInternalServerError {
		t.Errorf("answered %d", status)
	}
}

func TestNothingIsAnsweredBeforeTheCachesAreFilled(t *testing.T) {
	w := twoNodes(t, claim("a", 20*gib, "lvm"), pod("p", "a"))
	s, err := New(options(w), w.core, w.storage)
	if err != nil {
		t.Fatal(err)
	}
	w.s = s // never started
	url := w.serving()
	args := &extenderv1.ExtenderArgs{Pod: pod("p", "a"), NodeNames: &[]string{"n1"}}
	for path, want := range map[string]int{
		"POST /scheduler/predicates": 503,
		"POST /scheduler/priorities": 503,
		"GET /readyz":                503,
		"GET /healthz":               200,
		"GET /version":               200,
	} {
		method, path, _ := strings.Cut(path, " ")
		if status, answer := call(t, method, url+path, args); status != want {
			t.Errorf("%s answers %d %s, want %d", path, status, answer, want)
		}
	}
	if _, err := s.Reserve(w.ctx(), reserve.Request{}); reserve.StatusOf(err) != 503 {
		t.Errorf("reserve answers %v, want 503", err)
	}
}

func TestPathsThatAnybodyMayAsk(t *testing.T) {
	w := twoNodes(t)
	url := w.serving()
	for path, want := range map[string]string{"/version": "test", "/healthz": "ok", "/readyz": "ok"} {
		if status, answer := call(t, http.MethodGet, url+path, nil); status != http.StatusOK || string(answer) != want {
			t.Errorf("%s answers %d %s", path, status, answer)
		}
	}
	status, _ := call(t, http.MethodPost, url+"/apis/scheduling/default/persistentvolumeclaims/a?nodeName=n1", nil)
	if status != http.StatusNotFound {
		t.Errorf("a reservation without a certificate answers %d, want 404", status)
	}
	if status, answer := call(t, http.MethodPost, url+"/scheduler/predicates", "nonsense"); status != http.StatusBadRequest {
		t.Errorf("nonsense answers %d %s, want 400", status, answer)
	}
}

func TestMetrics(t *testing.T) {
	scratch := withInline(pod("scratch"), "s", "vgName", "pool", "size", "5Gi")
	scratch.Spec.NodeName = "n1"
	device := pv("disk", "n1", "", 50*gib)
	device.Spec.CSI.VolumeAttributes = map[string]string{"volumeType": "Device", "Device": "/dev/vdc"}
	storage := nls("n1", vg("pool", 100*gib, lv("a", 20*gib)))
	storage.Status.NodeStorageInfo.DeviceInfos = []v1alpha1.DeviceInfo{
		{Name: "/dev/vdc", MediaType: "ssd", Total: 100}, {Name: "/dev/vdd", MediaType: "hdd", Total: 200}, {Name: "/dev/vda"},
	}
	storage.Status.NodeStorageInfo.MountPoints = []v1alpha1.MountPoint{{Name: "/mnt/a", Device: "/dev/vdd1", Total: 50, Available: 40}}
	storage.Status.FilteredStorageInfo.Devices = []string{"/dev/vdc", "/dev/vdd"}
	storage.Status.FilteredStorageInfo.MountPoints = []string{"/mnt/a"}
	w := newWorld(t, node("n1"), storage, claim("a", 20*gib, "lvm"), pv("a", "n1", "pool", 20*gib), device, scratch)
	registry := metrics.NewRegistry("test")
	if err := w.s.Register(registry); err != nil {
		t.Fatal(err)
	}
	w.clock.Step(5 * time.Second)
	want := `
# HELP local_allocated_num Volumes on the node, those promised included.
# TYPE local_allocated_num gauge
local_allocated_num{nodename="n1"} 3
# HELP local_device_available Bytes of the managed device that can be handed out.
# TYPE local_device_available gauge
local_device_available{name="/dev/vdc",nodename="n1",type="ssd"} 0
local_device_available{name="/dev/vdd",nodename="n1",type="hdd"} 200
# HELP local_device_bind 1 when the managed device is a volume.
# TYPE local_device_bind gauge
local_device_bind{name="/dev/vdc",nodename="n1"} 1
local_device_bind{name="/dev/vdd",nodename="n1"} 0
# HELP local_device_total Size of the managed device in bytes.
# TYPE local_device_total gauge
local_device_total{name="/dev/vdc",nodename="n1",type="ssd"} 100
local_device_total{name="/dev/vdd",nodename="n1",type="hdd"} 200
# HELP local_inline_volume 1 for every inline volume of a pod on a node.
# TYPE local_inline_volume gauge
local_inline_volume{nodename="n1",pod_name="scratch",pod_namespace="default",vgname="pool",volume_name="s"} 1
# HELP local_local_pv 1 for every PersistentVolume of the driver.
# TYPE local_local_pv gauge
local_local_pv{nodename="n1",pv_name="local-uid-a",pv_type="LVM",pvc_name="a",pvc_ns="default",status="Bound",storage_name="pool"} 1
local_local_pv{nodename="n1",pv_name="local-uid-disk",pv_type="Device",pvc_name="disk",pvc_ns="default",status="Bound",storage_name="/dev/vdc"} 1
# HELP local_mount_point_available Bytes of the managed mount point that can be handed out.
# TYPE local_mount_point_available gauge
local_mount_point_available{name="/mnt/a",nodename="n1",type="hdd"} 40
# HELP local_mount_point_bind 1 when the managed mount point is a volume.
# TYPE local_mount_point_bind gauge
local_mount_point_bind{name="/mnt/a",nodename="n1"} 0
# HELP local_mount_point_total Size of the managed mount point in bytes.
# TYPE local_mount_point_total gauge
local_mount_point_total{name="/mnt/a",nodename="n1",type="hdd"} 50
# HELP local_volume_group_total Size of the managed volume group in bytes.
# TYPE local_volume_group_total gauge
local_volume_group_total{nodename="n1",vgname="pool"} 1.073741824e+11
# HELP local_volume_group_used Bytes of the managed volume group that are taken, promised, reserved or somebody else's.
# TYPE local_volume_group_used gauge
local_volume_group_used{nodename="n1",vgname="pool"} 2.68435456e+10
# HELP open_local_build_info 1, with the version of the running program.
# TYPE open_local_build_info gauge
open_local_build_info{version="test"} 1
# HELP open_local_scheduler_assumptions Volumes that are promised on a node and not known to exist.
# TYPE open_local_scheduler_assumptions gauge
open_local_scheduler_assumptions 0
# HELP open_local_scheduler_cache_age_seconds Time since the API server last said anything about objects of a kind.
# TYPE open_local_scheduler_cache_age_seconds gauge
open_local_scheduler_cache_age_seconds{cache="claims"} 5
open_local_scheduler_cache_age_seconds{cache="pods"} 5
open_local_scheduler_cache_age_seconds{cache="reports"} 5
open_local_scheduler_cache_age_seconds{cache="volumes"} 5
# HELP open_local_scheduler_expired_total What ended by itself because nobody said in time what became of it.
# TYPE open_local_scheduler_expired_total counter
open_local_scheduler_expired_total{what="assumption"} 0
open_local_scheduler_expired_total{what="hold"} 0
open_local_scheduler_expired_total{what="lingering"} 0
open_local_scheduler_expired_total{what="room"} 0
# HELP open_local_scheduler_holds Pods that room is held for on every node they may land on.
# TYPE open_local_scheduler_holds gauge
open_local_scheduler_holds 0
# HELP open_local_scheduler_nodes Nodes that have reported.
# TYPE open_local_scheduler_nodes gauge
open_local_scheduler_nodes 1
`
	var names []string
	for line := range strings.SplitSeq(want, "\n") {
		if name, typed := strings.CutPrefix(line, "# TYPE "); typed {
			names = append(names, strings.Fields(name)[0])
		}
	}
	server := httptest.NewServer(w.s.Handler(w.ctx(), registry))
	defer server.Close()
	if err := testutil.ScrapeAndCompare(server.URL+"/metrics", strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

// An authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// config returns both a server's and a client's configuration for one named name.
func (a *authority) config(t *testing.T, name string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

func TestReservationsOverTLS(t *testing.T) {
	w := twoNodes(t, claim("a", 30*gib, "lvm"))
	ca := newAuthority(t)
	o := options(w)
	o.ReserveTLS = ca.config(t, "extender")
	s, err := New(o, w.core, w.storage)
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	plain, secure := listen(t), listen(t)
	ctx, stop := context.WithCancel(w.ctx())
	stopped := make(chan error, 1)
	go func() {
		stopped <- s.Run(ctx, Listeners{Plain: plain, Secure: secure}, metrics.NewRegistry("test"), nil)
	}()
	w.until("it is ready", func() bool { return s.Ready() })
	w.watching()

	endpoint := "https://" + secure.Addr().String()
	request := reserve.Request{Namespace: "default", Claim: "a", Node: "n1", VolumeType: "LVM"}
	place, err := reserve.New(endpoint, ca.config(t, DefaultCaller)).Reserve(t.Context(), request)
	if want := (reserve.Place{Node: "n1", Group: "pool"}); err != nil || place != want {
		t.Errorf("got %+v and %v, want %+v", place, err, want)
	}
	request.Node = "n2"
	if _, err := reserve.New(endpoint, ca.config(t, DefaultCaller)).Reserve(t.Context(), request); err != nil {
		t.Errorf("a claim that has no node and moved: %v", err)
	}
	if _, err := reserve.New(endpoint, ca.config(t, "n1")).Reserve(t.Context(), request); err == nil || !strings.Contains(err.Error(), "this certificate may not reserve") {
		t.Errorf("a node's certificate: got %v", err)
	}
	if _, err := reserve.New(endpoint, newAuthority(t).config(t, DefaultCaller)).Reserve(t.Context(), request); !errors.Is(err, reserve.ErrNotReady) {
		t.Errorf("another authority's certificate: got %v", err)
	}
	request.Volume, request.Attempt = "local-uid-a", "second"
	if _, err := reserve.New(endpoint, ca.config(t, DefaultCaller)).Reserve(t.Context(), request); err != nil || w.stats().Promises != 1 {
		t.Errorf("another attempt: %v, and %d volumes are promised", err, w.stats().Promises)
	}
	if err := reserve.New(endpoint, ca.config(t, "n1")).GiveUp(t.Context(), request); err == nil || w.stats().Promises != 1 {
		t.Errorf("given up by a node's certificate: got %v", err)
	}
	if err := reserve.New(endpoint, ca.config(t, DefaultCaller)).GiveUp(t.Context(), request); err != nil || w.stats().Promises != 0 {
		t.Errorf("given up: %v, and %d volumes are promised", err, w.stats().Promises)
	}
	room := reserve.Room{Node: "n1", Group: "pool", Volume: "snap-1", Bytes: int64(20 * gib), New: true}
	if err := reserve.New(endpoint, ca.config(t, DefaultCaller)).Keep(t.Context(), room); err != nil || w.stats().Rooms != 1 {
		t.Errorf("room for a snapshot: %v, and %d rooms are kept", err, w.stats().Rooms)
	}
	if err := reserve.New(endpoint, ca.config(t, DefaultCaller)).GiveBack(t.Context(), room); err != nil || w.stats().Rooms != 0 {
		t.Errorf("room given back: %v, and %d rooms are kept", err, w.stats().Rooms)
	}
	if err := reserve.New(endpoint, ca.config(t, "n1")).Keep(t.Context(), room); err == nil || !strings.Contains(err.Error(), "this certificate may not reserve") {
		t.Errorf("room by a node's certificate: got %v", err)
	}
	room.Bytes = int64(200 * gib)
	if err := reserve.New(endpoint, ca.config(t, DefaultCaller)).Keep(t.Context(), room); !errors.Is(err, reserve.ErrNoRoom) || !strings.Contains(err.Error(), "wants 200Gi more") {
		t.Errorf("room that is not there: got %v", err)
	}
	nobody := ca.config(t, DefaultCaller)
	nobody.Certificates = nil
	if _, err := reserve.New(endpoint, nobody).Reserve(t.Context(), request); !errors.Is(err, reserve.ErrNotReady) {
		t.Errorf("no certificate: got %v", err)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOptionsAreCheckedAllAtOnce(t *testing.T) {
	_, err := New(Options{HoldWait: 3, HoldTimeout: 2, ReserveTLS: &tls.Config{MinVersion: tls.VersionTLS13}}, nil, nil)
	want := `configuring the scheduler extender: the driver's name is empty
the volume name prefix is empty
the snapshot name prefix is empty
scheduling strategy "" is none of [binpack spread]
the hold wait is 3ns, it must be from zero to below the hold timeout of 2ns
the name of the caller that may reserve is empty`
	if got := text(err); got != want {
		t.Errorf("got %s", got)
	}
}
