package extender

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

func TestExplainSaysForEveryNodeWhatWasWantedAndWhatIsThere(t *testing.T) {
	w := newWorld(t, node("n1"), node("n2"), node("n3"), node("n4"),
		nls("n1", vg("pool", 100*gib)), nls("n2", vg("pool", 30*gib, lv("x", 18*gib))), nls("n3", vg("pool", 10*gib)),
		claim("data", 20*gib, "lvm"), pod("p", "data"), claim("other", 90*gib, "lvm"), pod("q", "other"))
	w.mustFit(pod("q", "other"), "n1", "n1") // q holds most of n1
	said, err := w.s.Explain("default", "p")
	if err != nil {
		t.Fatal(err)
	}
	want := &Explanation{
		Pod:    "default/p",
		Claims: []ExplainedClaim{{Name: "default/data", Size: 20 * gib, Layout: "linear"}},
		Nodes: []ExplainedVerdict{
			{
				Node: "n1", Reason: "vg pool: wants 20Gi, 10Gi free",
				Groups: []ExplainedGroup{{Name: "pool", Size: 100 * gib, Free: 10 * gib, Held: 90 * gib}},
			},
			{
				Node: "n2", Reason: "vg pool: wants 20Gi, 12Gi free",
				Groups: []ExplainedGroup{{Name: "pool", Size: 30 * gib, Free: 12 * gib}},
			},
			{
				Node: "n3", Reason: "vg pool: wants 20Gi, has 10Gi in all", Final: true,
				Groups: []ExplainedGroup{{Name: "pool", Size: 10 * gib, Free: 10 * gib}},
			},
			{Node: "n4", Reason: "node has no NodeLocalStorage report", Final: true},
		},
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("explanation (-want +got):\n%s", diff)
	}
	w.deletePod("q")
	w.until("room on n1", func() bool {
		said, err = w.s.Explain("default", "p")
		return err == nil && said.Nodes[0].Fits && said.Nodes[0].Reason == ""
	})
	if holds := w.stats().Holds; holds != 0 {
		t.Errorf("explaining left %d holds", holds)
	}
}

func TestExplainSaysWhatHoldsForAllNodes(t *testing.T) {
	bad := pod("bad")
	bad.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: options(&world{}).Driver, VolumeAttributes: map[string]string{"vgName": "pool", "size": "much"},
	}}}}
	over := pod("over", "data")
	over.Status.Phase = corev1.PodSucceeded
	w := newWorld(t, node("n1"), nls("n1", vg("pool", 100*gib)), claim("data", gib, "lvm"),
		bad, over, pod("none"), bound(claim("made", gib, "lvm")), pod("has", "made"), pod("early", "missing"))
	for name, want := range map[string]string{
		"bad":  `no node will do: volume "v" of the pod: invalid inline volume attribute "size": "much" is not a size such as 1Gi`,
		"over": "the pod has ended",
		"none": "no volume of local.csi.aliyun.com is to be placed for the pod: it has none, or those that it has are made already",
		"has":  "no volume of local.csi.aliyun.com is to be placed for the pod: it has none, or those that it has are made already",
	} {
		said, err := w.s.Explain("default", name)
		if err != nil || said.Note != want || len(said.Nodes) > 0 {
			t.Errorf("%s: %+v, %v; want the note %q", name, said, err, want)
		}
	}
	if _, err := w.s.Explain("default", "early"); err == nil || !strings.Contains(err.Error(), "claim default/missing") {
		t.Errorf("a claim that is not there yet: %v", err)
	}
	if _, err := w.s.Explain("default", "nobody"); !errors.Is(err, errNoPod) {
		t.Errorf("no pod: %v", err)
	}
}

func TestExplainIsServed(t *testing.T) {
	w := twoNodes(t, claim("a", 20*gib, "lvm"), pod("p", "a"))
	handler := w.s.Handler(w.ctx(), prometheus.NewRegistry())
	get := func(path string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		return answer
	}
	answer := get(ExplainPath + "/default/p")
	var said Explanation
	if err := json.Unmarshal(answer.Body.Bytes(), &said); err != nil || answer.Code != http.StatusOK || len(said.Nodes) != 2 {
		t.Errorf("answered %d %s: %v", answer.Code, answer.Body, err)
	}
	if answer := get(ExplainPath + "/default/nobody"); answer.Code != http.StatusNotFound || answer.Body.String() != "pod default/nobody: no such pod" {
		t.Errorf("answered %d %s", answer.Code, answer.Body)
	}
}
