package controller

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

// Reasons of the events on a NodeLocalStorageInitConfig.
const (
	reasonBadSelector   = "BadSelector"
	reasonNoSelector    = "NoSelector"
	reasonBadExpression = initplan.BadExpression
)

// A config is a NodeLocalStorageInitConfig with its selectors parsed.
type config struct {
	global  v1alpha1.StorageSpec
	entries []entry
}

// An entry of nodesConfig.
type entry struct {
	selects labels.Selector
	spec    v1alpha1.StorageSpec
}

// A mistake is something in a config that cannot be meant.
type mistake struct{ reason, message string }

// parse reads a config. An entry whose selector cannot be read selects nothing;
// that and every bad regular expression is a mistake, and all the rest holds.
func parse(spec v1alpha1.NodeLocalStorageInitConfigSpec) (config, []mistake) {
	c := config{global: spec.GlobalConfig}
	mistakes := expressions("globalConfig", spec.GlobalConfig)
	for i, from := range spec.NodesConfig {
		where := fmt.Sprintf("nodesConfig[%d]", i)
		mistakes = append(mistakes, expressions(where, from.StorageSpec)...)
		if from.Selector == nil {
			mistakes = append(mistakes, mistake{reasonNoSelector, where + " has no selector and so is for no node; {} would be for every node"})
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(from.Selector)
		if err != nil {
			mistakes = append(mistakes, mistake{reasonBadSelector, fmt.Sprintf("%s is for no node: reading its selector: %v", where, err)})
			continue
		}
		c.entries = append(c.entries, entry{selects: selector, spec: from.StorageSpec})
	}
	return c, mistakes
}

func expressions(where string, spec v1alpha1.StorageSpec) []mistake {
	var mistakes []mistake
	_, problems := initplan.NewSelectors(spec.ListConfig)
	for _, problem := range problems {
		mistakes = append(mistakes, mistake{reasonBadExpression, where + "." + problem.Message})
	}
	return mistakes
}

// specFor returns what the disks of the node with that name and labels are for:
// the global configuration, or all of the last entry that selects the node.
func (c config) specFor(name string, node labels.Set) v1alpha1.NodeLocalStorageSpec {
	spec := c.global
	for _, e := range c.entries {
		if e.selects.Matches(node) {
			spec = e.spec
		}
	}
	return v1alpha1.NodeLocalStorageSpec{NodeName: name, StorageSpec: *spec.DeepCopy()}
}
