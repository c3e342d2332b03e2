package metrics

import (
	"bufio"
	"compress/gzip"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// A Volume is a PersistentVolume of ours.
type Volume struct {
	Node, Name, Type, Claim, Namespace, Status, Storage string
}

// HandlerOf serves the registry's metrics and those of volumes. A registry has all its
// metrics in memory when it is asked, a kilobyte each, and clusters have hundreds of
// thousands of volumes; so these are written one by one, behind the others.
func HandlerOf(registry *prometheus.Registry, volumes iter.Seq[Volume]) http.Handler {
	others := Handler(registry)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain := r.Clone(r.Context())
		plain.Header.Set("Accept", "text/plain") // there is one form for what follows
		plain.Header.Del("Accept-Encoding")
		answer := &appended{ResponseWriter: w, to: w, status: http.StatusOK}
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			small := gzip.NewWriter(w)
			defer small.Close() //nolint:errcheck // who asks has gone
			answer.to = small
		}
		others.ServeHTTP(answer, plain)
		if answer.status == http.StatusOK {
			_ = writeVolumes(answer, volumes) // who asks has gone
		}
	})
}

// appended is an answer to which more is written.
type appended struct {
	http.ResponseWriter
	to     io.Writer
	status int
}

func (a *appended) Write(text []byte) (int, error) { return a.to.Write(text) }

func (a *appended) WriteHeader(status int) {
	a.status = status
	a.Header().Del("Content-Length")
	a.ResponseWriter.WriteHeader(status)
}

const volumesName = "local_local_pv"

// escaped are the characters of a label's value that are not written as they are.
var escaped = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// writeVolumes writes the gauges of volumes in the text format of Prometheus.
func writeVolumes(to io.Writer, volumes iter.Seq[Volume]) error {
	w := bufio.NewWriter(to)
	say := func(parts ...string) {
		for _, part := range parts {
			_, _ = w.WriteString(part) // Flush returns the first error
		}
	}
	first := true
	for v := range volumes {
		if first {
			say("# HELP ", volumesName, " 1 for every PersistentVolume of the driver.\n# TYPE ", volumesName, " gauge\n")
			first = false
		}
		say(volumesName)
		before := "{"
		for _, label := range [...][2]string{
			{"nodename", v.Node}, {"pv_name", v.Name}, {"pv_type", v.Type}, {"pvc_name", v.Claim}, {"pvc_ns", v.Namespace},
			{"status", v.Status}, {"storage_name", v.Storage},
		} {
			say(before, label[0], `="`, escaped.Replace(label[1]), `"`)
			before = ","
		}
		say("} 1\n")
	}
	return w.Flush()
}
