package metrics

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// HandlerOf serves the registry's metrics and those of a Snapshot. A registry has all its
// metrics in memory when it is asked, a kilobyte each, and clusters have hundreds of
// thousands of volumes; so those of the Snapshot are written one by one, behind the others.
func HandlerOf(registry *prometheus.Registry, snapshot func() Snapshot) http.Handler {
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
			rest := &text{bufio.NewWriter(answer)}
			snapshot().write(rest)
			_ = rest.w.Flush() // who asks has gone
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

// text writes in the text format of Prometheus. Its writer keeps the first error.
type text struct{ w *bufio.Writer }

// escaped are the characters of a label's value that are not written as they are.
var escaped = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (t *text) say(parts ...string) {
	for _, part := range parts {
		_, _ = t.w.WriteString(part) // the writer keeps the error
	}
}

func (t *text) head(name, help string) {
	t.say("# HELP ", name, " ", help, "\n# TYPE ", name, " gauge\n")
}

func (t *text) gauge(name string, labels, values []string, value float64) {
	t.say(name)
	before := "{"
	for i, label := range labels {
		t.say(before, label, `="`, escaped.Replace(values[i]), `"`)
		before = ","
	}
	t.say("} ")
	_, _ = t.w.Write(strconv.AppendFloat(t.w.AvailableBuffer(), value, 'g', -1, 64)) // as above
	t.say("\n")
}
