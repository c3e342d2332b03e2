package metrics

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestARegistryIsServedWithTheVersion(t *testing.T) {
	answer := httptest.NewRecorder()
	Handler(NewRegistry("v1.2.3")).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	for _, want := range []string{`open_local_build_info{version="v1.2.3"} 1`, "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(answer.Body.String(), want) {
			t.Errorf("no %q is served", want)
		}
	}
}

func TestGaugesHaveTheNamesAndLabelsOfDashboards(t *testing.T) {
	asked := 0
	snapshot := func() Snapshot {
		asked++
		return Snapshot{
			Groups:      []Group{{Node: "n", Name: "g", Total: 3, Used: 2}},
			MountPoints: []Whole{{Node: "n", Name: "/m", Type: "ssd", Total: 5, Bound: true}},
			Devices:     []Whole{{Node: "n", Name: "/dev/d", Type: "hdd", Total: 107374182400, Available: 7}},
			Volumes: slices.Values([]Volume{
				{Node: "n", Name: "pv", Type: "LVM", Claim: "c", Namespace: "ns", Status: "Bound", Storage: "g"}, {Node: `n\1`, Name: "\"\n"},
			}),
			Inline:    []Inline{{Pod: "p", Namespace: "ns", Node: "n", Group: "g", Name: "v"}},
			Allocated: map[string]int{"n": 4},
		}
	}
	var want strings.Builder
	for _, line := range []string{
		`local_allocated_num{nodename="n"} 4`,
		`local_device_available{name="/dev/d",nodename="n",type="hdd"} 7`,
		`local_device_bind{name="/dev/d",nodename="n"} 0`,
		`local_device_total{name="/dev/d",nodename="n",type="hdd"} 1.073741824e+11`,
		`local_inline_volume{nodename="n",pod_name="p",pod_namespace="ns",vgname="g",volume_name="v"} 1`,
		`local_local_pv{nodename="n",pv_name="pv",pv_type="LVM",pvc_name="c",pvc_ns="ns",status="Bound",storage_name="g"} 1`,
		`local_local_pv{nodename="n\\1",pv_name="\"\n",pv_type="",pvc_name="",pvc_ns="",status="",storage_name=""} 1`,
		`local_mount_point_available{name="/m",nodename="n",type="ssd"} 0`,
		`local_mount_point_bind{name="/m",nodename="n"} 1`,
		`local_mount_point_total{name="/m",nodename="n",type="ssd"} 5`,
		`local_volume_group_total{nodename="n",vgname="g"} 3`,
		`local_volume_group_used{nodename="n",vgname="g"} 2`,
	} {
		want.WriteString(line + "\n")
	}
	for name, given := range map[string]struct {
		accept     string
		compressed bool
	}{
		"as it is":              {"*/*", false},
		"compressed":            {"*/*", true},
		"to one who wants more": {"application/openmetrics-text;version=1.0.0,application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7", true},
	} {
		t.Run(name, func(t *testing.T) {
			asked = 0
			got := served(t, HandlerOf(NewRegistry("v1.2.3"), snapshot), given.accept, given.compressed)
			if !strings.Contains(got, `open_local_build_info{version="v1.2.3"} 1`) {
				t.Errorf("the registry is not served: %s", got)
			}
			var ours strings.Builder
			for line := range strings.Lines(got) {
				if strings.HasPrefix(line, "local_") {
					ours.WriteString(line)
				}
			}
			if ours.String() != want.String() {
				t.Errorf("got\n%s\nwant\n%s", ours.String(), want.String())
			}
			if asked != 1 {
				t.Errorf("one scrape asked %d times", asked)
			}
		})
	}
}

// served returns what the handler answers.
func served(t *testing.T, handler http.Handler, accept string, compressed bool) string {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	client := &http.Client{Transport: &http.Transport{DisableCompression: !compressed}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.Uncompressed != compressed || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("compressed: %v, of type %s: %v", answer.Uncompressed, answer.Header.Get("Content-Type"), err)
	}
	return string(text)
}
