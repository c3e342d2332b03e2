// Package allocator decides how what is asked meets what a node has: where all
// the volumes of a pod go, how good a node is for them, or why it will not do.
// The scheduler's filter and score, the reservation and the node's own choice
// call the same functions, so they agree by construction. Decisions are values:
// there is no clock, client or log in here.
package allocator

import (
	"fmt"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A Preference says which of several groups or nodes that would do is better.
type Preference string

// The preferences.
const (
	Binpack Preference = "binpack" // the fullest, to keep large spaces whole
	Spread  Preference = "spread"  // the emptiest, to keep all even
)

// PreferenceNamed returns the preference of that name.
func PreferenceNamed(name string) (Preference, error) {
	switch prefer := Preference(name); prefer {
	case Binpack, Spread:
		return prefer, nil
	}
	return "", fmt.Errorf("scheduling strategy %q is none of [%s %s]", name, Binpack, Spread)
}

// Place finds a home on the node for every claim, all of them together, and
// returns the spots in the order of the claims. The node is unchanged. The only
// error it returns is a *Misfit.
func Place(node capacity.Node, claims []volume.Claim, prefer Preference) ([]capacity.Spot, error) {
	return NewPlanner(claims, prefer).Place(node, make([]capacity.Spot, 0, len(claims)))
}

// MaxScore is the best a node can be.
const MaxScore = 10

// Score says how good spots on the node are, from 0 to MaxScore, by how full the
// groups they lie in would be afterwards, taken together: what is used already
// counts, and so do the spots. Groups the spots do not touch have no part in it,
// so a full neighbour does not make an empty group look full. Of what is given whole
// counts how little is wasted, whatever the preference. Node is as it was before the spots
// were taken, which are those of the claims.
func Score(node capacity.Node, claims []volume.Claim, spots []capacity.Spot, prefer Preference) int64 {
	var used, size capacity.Bytes
	for i := range node.Groups {
		group := &node.Groups[i]
		var taken, asked capacity.Bytes
		for j := range spots {
			if spots[j].Group == group.Name {
				taken += spots[j].Size
				asked += claims[j].Size
			}
		}
		if taken > 0 {
			used += usedOf(group, group.Free, taken, asked, prefer)
			size += group.Size
		}
	}
	return score(used, size, prefer)
}

// usedOf returns how much of the group counts as used, which had so much left before a part
// of it was taken for claims that asked for so much.
func usedOf(group *capacity.Group, left, taken, asked capacity.Bytes, prefer Preference) capacity.Bytes {
	switch {
	case !group.Kind.Whole():
		return group.Size - left + taken
	case prefer == Spread:
		return group.Size - asked
	}
	return asked
}

// Score is Score for the claims at these positions among groups that have so much left;
// those that are Nowhere have no part in it. Of what is given whole counts how little is
// wasted, whatever the preference.
func (p *Planner) Score(groups []capacity.Group, left []capacity.Bytes, at []capacity.Position) int64 {
	p.groups = groups
	var used, size capacity.Bytes
	for i := range groups {
		var taken, asked capacity.Bytes
		for claim := range at {
			if int(at[claim]) == i {
				taken += p.costIn(claim, i)
				asked += p.claims[claim].Size
			}
		}
		if taken == 0 {
			continue
		}
		used += usedOf(&groups[i], left[i], taken, asked, p.prefer)
		size += groups[i].Size
	}
	return score(used, size, p.prefer)
}

func score(used, size capacity.Bytes, prefer Preference) int64 {
	if size <= 0 {
		return 0
	}
	full := min(1, float64(used)/float64(size))
	if prefer == Spread {
		full = 1 - full
	}
	return int64(full*MaxScore + 0.5)
}
