package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/extender"
)

const gib = 1 << 30

// explained asks, through a server in the API server's place that knows one pod, and
// returns what was printed.
func explained(t *testing.T, args ...string) (string, error) {
	t.Helper()
	proxy := "/api/v1/namespaces/kube-system/services/http:open-local-scheduler-extender:23000/proxy" + extender.ExplainPath
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != proxy+"/default/db-0" {
			http.Error(w, "pod not known to "+r.URL.Path, http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(extender.Explanation{ // the reader finds out
			Pod:    "default/db-0",
			Claims: []extender.ExplainedClaim{{Name: "default/data-db-0", Size: 20 * gib, Media: "ssd", Layout: "linear"}},
			Nodes: []extender.ExplainedVerdict{
				{Node: "n1", Reason: "node has no NodeLocalStorage report", Final: true},
				{
					Node: "n2", Reason: "vg pool: wants 20Gi, 12Gi free",
					Groups: []extender.ExplainedGroup{{Name: "pool", Size: 100 * gib, Free: 12 * gib, Held: 8 * gib}},
				},
				{Node: "n3", Fits: true, Groups: []extender.ExplainedGroup{{Name: "pool", Size: 100 * gib, Free: 50 * gib}}},
			},
		})
	}))
	t.Cleanup(server.Close)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(`{"clusters":[{"name":"c","cluster":{"server":"`+server.URL+`"}}],`+
		`"contexts":[{"name":"c","context":{"cluster":"c"}}],"current-context":"c"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := rootCommand()
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{"explain", "pod", "--kubeconfig", config}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestExplainPrintsTheNearestNodesFirst(t *testing.T) {
	got, err := explained(t, "default/db-0")
	if err != nil {
		t.Fatal(err)
	}
	want := `Pod default/db-0

WANTS               SIZE   WHERE
default/data-db-0   20Gi   medium ssd, layout linear

1 of 3 nodes have room for all of it

NODE   ROOM                                  VOLUME GROUPS
n3     yes                                   pool: 50Gi of 100Gi free
n2     vg pool: wants 20Gi, 12Gi free        pool: 12Gi of 100Gi free, 8Gi held for other pods
n1     node has no NodeLocalStorage report   none
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
}

func TestExplainTellsWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"a name without a namespace": {[]string{"db-0"}, `pod "db-0" is not of the form NAMESPACE/NAME`},
		"a path":                     {[]string{"a/b/c"}, `pod "a/b/c" is not of the form NAMESPACE/NAME`},
		"a form nobody knows":        {[]string{"a/b", "-o", "yaml"}, `output "yaml" is not json`},
		"a pod that is not there":    {[]string{"default/nobody"}, "asking the scheduler extender about pod default/nobody: pod not known"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := explained(t, tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("printed %q, %v; want the error %q", out, err, tc.want)
			}
		})
	}
}
