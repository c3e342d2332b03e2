package hollow

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A Verdict is how what was promised compares with what nodes hold.
type Verdict struct {
	OverCommitted []string // groups of which more was promised than they have
	Lost          []string // volumes that were promised and are not where they should be
	Leaked        []string // volumes that nobody has a claim to
}

// place is a volume group of a node.
type place struct{ node, group string }

func (p place) String() string { return p.node + "/" + p.group }

// Judge compares the volumes of the cluster with what the nodes hold, while nothing
// happens to either.
func (f *Fleet) Judge(volumes []corev1.PersistentVolume) Verdict {
	var v Verdict
	promised := map[place]capacity.Bytes{}
	known := map[string]place{}
	for i := range volumes {
		pv := &volumes[i]
		if pv.Spec.CSI == nil {
			continue
		}
		at := placeOf(pv)
		size := pv.Spec.Capacity[corev1.ResourceStorage]
		promised[at] += capacity.Bytes(size.Value())
		known[pv.Spec.CSI.VolumeHandle] = at
	}
	for _, node := range f.nodes {
		v.judge(node, promised, known)
	}
	for id, at := range known {
		v.Lost = append(v.Lost, fmt.Sprintf("%s of %s", id, at))
	}
	slices.Sort(v.OverCommitted)
	slices.Sort(v.Lost)
	slices.Sort(v.Leaked)
	return v
}

// judge takes what the node holds out of known.
func (v *Verdict) judge(node *Node, promised map[place]capacity.Bytes, known map[string]place) {
	node.mu.Lock()
	defer node.mu.Unlock()
	for _, g := range node.groups {
		at := place{node.Name, g.name}
		if promised[at] > g.size || g.free() < 0 {
			v.OverCommitted = append(v.OverCommitted, fmt.Sprintf("%s: %s promised, %s held, has %s", at, promised[at], g.size-g.free(), g.size))
		}
		for id := range g.volumes {
			if known[id] == at {
				delete(known, id)
			} else {
				v.Leaked = append(v.Leaked, fmt.Sprintf("%s of %s", id, at))
			}
		}
	}
}

func placeOf(pv *corev1.PersistentVolume) place {
	at := place{group: pv.Spec.CSI.VolumeAttributes["vgName"]}
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return at
	}
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, match := range term.MatchExpressions {
			if match.Key == volume.TopologyKey && len(match.Values) == 1 {
				at.node = match.Values[0]
			}
		}
	}
	return at
}
