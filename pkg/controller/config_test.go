package controller

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// selecting returns a spec that can be told from others by name.
func selecting(groups ...string) v1alpha1.StorageSpec {
	return v1alpha1.StorageSpec{ListConfig: v1alpha1.ListConfig{VGs: v1alpha1.Selection{Include: groups}}}
}

func matching(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

func entryFor(selector *metav1.LabelSelector, groups ...string) v1alpha1.NodeConfig {
	return v1alpha1.NodeConfig{Selector: selector, StorageSpec: selecting(groups...)}
}

func TestSpecFor(t *testing.T) {
	full := selecting("global")
	full.SPDKConfig.DeviceType = "aio"
	full.ResourceToBeInited.VGs = []v1alpha1.VGToBeInited{{Name: "global", Devices: []string{"/dev/vdc"}}}
	bad := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Resembles"}}}
	invalid := matching("a", "not a label value!")

	for name, test := range map[string]struct {
		entries  []v1alpha1.NodeConfig
		node     labels.Set
		want     v1alpha1.StorageSpec
		mistakes []string
	}{
		"without entries the global config holds": {want: full},
		"an entry that does not match changes nothing": {
			entries: []v1alpha1.NodeConfig{entryFor(matching("disk", "fast"), "fast")},
			node:    labels.Set{"disk": "slow"}, want: full,
		},
		"a matching entry replaces all three blocks": {
			entries: []v1alpha1.NodeConfig{entryFor(matching("disk", "fast"), "fast")},
			node:    labels.Set{"disk": "fast"}, want: selecting("fast"),
		},
		"the last matching entry wins": {
			entries: []v1alpha1.NodeConfig{
				entryFor(matching("disk", "fast"), "first"), entryFor(matching("zone", "a"), "second"), entryFor(matching("zone", "b"), "third"),
			},
			node: labels.Set{"disk": "fast", "zone": "a"}, want: selecting("second"),
		},
		"an empty selector matches every node": {
			entries: []v1alpha1.NodeConfig{entryFor(&metav1.LabelSelector{}, "all")},
			want:    selecting("all"),
		},
		"no selector matches nothing and is a mistake": {
			entries: []v1alpha1.NodeConfig{entryFor(nil, "none")},
			want:    full, mistakes: []string{"NoSelector"},
		},
		"a bad selector matches nothing and the others hold": {
			entries: []v1alpha1.NodeConfig{entryFor(matching("zone", "a"), "good"), entryFor(bad, "bad"), entryFor(invalid, "bad")},
			node:    labels.Set{"zone": "a", "a": "x"}, want: selecting("good"), mistakes: []string{"BadSelector", "BadSelector"},
		},
		"a bad expression is a mistake and is handed on": {
			entries: []v1alpha1.NodeConfig{entryFor(matching("zone", "a"), "[", "good")},
			node:    labels.Set{"zone": "a"}, want: selecting("[", "good"), mistakes: []string{"BadExpression"},
		},
		"a mistake is told though no node is selected": {
			entries: []v1alpha1.NodeConfig{entryFor(matching("zone", "nowhere"), "[")},
			want:    full, mistakes: []string{"BadExpression"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, mistakes := parse(v1alpha1.NodeLocalStorageInitConfigSpec{GlobalConfig: full, NodesConfig: test.entries})
			want := v1alpha1.NodeLocalStorageSpec{NodeName: "n1", StorageSpec: test.want}
			if diff := cmp.Diff(want, cfg.specFor("n1", test.node)); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			var reasons []string
			for _, m := range mistakes {
				if !strings.Contains(m.message, "nodesConfig[") {
					t.Errorf("message %q does not say where", m.message)
				}
				reasons = append(reasons, m.reason)
			}
			if diff := cmp.Diff(test.mistakes, reasons); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpecForSharesNothing(t *testing.T) {
	cfg, _ := parse(v1alpha1.NodeLocalStorageInitConfigSpec{GlobalConfig: selecting("global")})
	cfg.specFor("n1", nil).ListConfig.VGs.Include[0] = "changed"
	if got := cfg.specFor("n2", nil).ListConfig.VGs.Include[0]; got != "global" {
		t.Errorf("the spec of one node changed that of another to %q", got)
	}
}
