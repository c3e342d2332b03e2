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
	collector := NewStorage(func() Snapshot {
		asked++
		return Snapshot{
			Groups:      []Group{{Node: "n", Name: "g", Total: 3, Used: 2}},
			MountPoints: []Whole{{Node: "n", Name: "/m", Type: "ssd", Total: 5, Bound: true}},
			Devices:     []Whole{{Node: "n", Name: "/dev/d", Type: "hdd", Total: 7, Available: 7}},
			Inline:      []Inline{{Pod: "p", Namespace: "ns", Node: "n", Group: "g", Name: "v"}},
			Allocated:   map[string]int{"n": 4},
		}
	})
	var want strings.Builder
	for _, line := range []string{
		`local_allocated_num{nodename="n"} 4`,
		`local_device_available{name="/dev/d",nodename="n",type="hdd"} 7`,
		`local_device_bind{name="/dev/d",nodename="n"} 0`,
		`local_device_total{name="/dev/d",nodename="n",type="hdd"} 7`,
		`local_inline_volume{nodename="n",pod_name="p",pod_namespace="ns",vgname="g",volume_name="v"} 1`,
		`local_mount_point_available{name="/m",nodename="n",type="ssd"} 0`,
		`local_mount_point_bind{name="/m",nodename="n"} 1`,
		`local_mount_point_total{name="/m",nodename="n",type="ssd"} 5`,
		`local_volume_group_total{nodename="n",vgname="g"} 3`,
		`local_volume_group_used{nodename="n",vgname="g"} 2`,
		`local_local_pv{nodename="n",pv_name="pv",pv_type="LVM",pvc_name="c",pvc_ns="ns",status="Bound",storage_name="g"} 1`,
		`local_local_pv{nodename="n\\1",pv_name="\"\n",pv_type="",pvc_name="",pvc_ns="",status="",storage_name=""} 1`,
	} {
		want.WriteString(line + "\n")
	}
	registry := NewRegistry("test")
	registry.MustRegister(collector)
	volumes := []Volume{{Node: "n", Name: "pv", Type: "LVM", Claim: "c", Namespace: "ns", Status: "Bound", Storage: "g"}, {Node: `n\1`, Name: "\"\n"}}
	server := httptest.NewServer(HandlerOf(registry, slices.Values(volumes)))
	defer server.Close()
	answer, err := http.Get(server.URL) // which asks for gzip
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(answer.Body)
	if err != nil || !answer.Uncompressed {
		t.Fatalf("it was compressed: %v, %v", answer.Uncompressed, err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "local_") {
			got.WriteString(line)
		}
	}
	if got.String() != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want.String())
	}
	if asked != 1 {
		t.Errorf("one scrape asked %d times", asked)
	}
}
