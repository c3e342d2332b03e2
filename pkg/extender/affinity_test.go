package extender

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/open-local/open-local/pkg/volume"
)

func TestParseAntiAffinity(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "[]",
		"MountPoint=5,LVM=3":   "[{MountPoint 5} {LVM 3}]",
		" Device , LVM = 10, ": "[{Device 5} {LVM 10}]",
		"lvm=3":                `node anti-affinity "lvm=3": the type is none of [LVM MountPoint Device]`,
		"LVM=0":                `node anti-affinity "LVM=0": the weight is no number from 1 to 10`,
		"LVM=11":               `node anti-affinity "LVM=11": the weight is no number from 1 to 10`,
		"LVM=much":             `node anti-affinity "LVM=much": the weight is no number from 1 to 10`,
		"LVM,Device=3,LVM=1":   `node anti-affinity "LVM=1": the type is there twice`,
	} {
		all, err := ParseAntiAffinity(text)
		got := fmt.Sprint(all)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
}

// TestTheExamplesOfAntiAffinity reads the second table of docs/scoring.md.
func TestTheExamplesOfAntiAffinity(t *testing.T) {
	page, err := os.ReadFile("../../docs/scoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| anti-affinity |")
	if !found {
		t.Fatal("the page has no table of anti-affinity")
	}
	examples := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 6 && !strings.Contains(line, "--") {
			examples++
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			t.Run(line, func(t *testing.T) { antiAffine(t, cells[1:5]) })
		}
	}
	if examples < 8 {
		t.Errorf("the table has %d examples", examples)
	}
}

func antiAffine(t *testing.T, cells []string) {
	averse, err := ParseAntiAffinity(cells[0])
	if err != nil {
		t.Fatal(err)
	}
	storage := nls("n1")
	if cells[2] == "LVM" {
		storage = nls("n1", vg("pool", 100*gib))
	}
	p, c := pod("p"), claim("a", 50*gib, "lvm")
	if cells[1] != "none" {
		p = pod("p", "a")
	}
	w := newWorld(t, node("n1"), storage, c, p)
	w.s.o.AntiAffinity = averse
	scores, err := w.s.Prioritize(w.ctx(), &extenderv1.ExtenderArgs{Pod: p, NodeNames: &[]string{"n1"}})
	if err != nil {
		t.Fatal(err)
	}
	got := extenderv1.HostPriority{Host: "n1"} // a node without a score counts as zero
	for _, score := range *scores {
		got = score
	}
	if got.Host != "n1" || fmt.Sprint(got.Score) != cells[3] {
		t.Errorf("scores are %v", *scores)
	}
}

func TestAPodWithoutVolumesIsKeptFromNodesWithRoom(t *testing.T) {
	full := vg("pool", 100*gib, lv("x", 100*gib))
	broken := vg("pool", 100*gib)
	broken.Condition = "DiskFault"
	w := newWorld(t, node("n1"), node("n2"), node("n3"), node("n4"), pod("p"),
		nls("n1", vg("pool", 100*gib)), nls("n2", full), nls("n3", broken))
	w.s.o.AntiAffinity = AntiAffinity{{volume.LVM, 6}}
	other := &corev1.Pod{}
	for _, p := range []*corev1.Pod{pod("p"), other} {
		scores, err := w.s.Prioritize(w.ctx(), &extenderv1.ExtenderArgs{Pod: p, NodeNames: &[]string{"n1", "n2", "n3", "n4"}})
		if err != nil {
			t.Fatal(err)
		}
		want := extenderv1.HostPriorityList{{Host: "n1", Score: 0}, {Host: "n2", Score: 6}, {Host: "n3", Score: 6}, {Host: "n4", Score: 6}}
		if diff := cmp.Diff(want, *scores); diff != "" {
			t.Errorf("scores (-want +got):\n%s", diff)
		}
	}
}
