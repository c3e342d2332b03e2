package extender

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// An AntiAffinity keeps pods away from nodes with free storage of types that they do not
// ask for. The zero value does nothing.
type AntiAffinity []aversion

// An aversion is how much better a node is that has nothing of the type.
type aversion struct {
	kind   volume.Kind
	weight int64
}

// defaultWeight is that of a type without one.
const defaultWeight = 5

// ParseAntiAffinity reads types with weights, such as "MountPoint=5,LVM=3".
func ParseAntiAffinity(text string) (AntiAffinity, error) {
	var all AntiAffinity
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		name, number, given := strings.Cut(entry, "=")
		a := aversion{kind: volume.Kind(strings.TrimSpace(name)), weight: defaultWeight}
		if !slices.Contains([]volume.Kind{volume.LVM, volume.MountPoint, volume.Device}, a.kind) {
			return nil, fmt.Errorf("node anti-affinity %q: the type is none of [%s %s %s]", entry, volume.LVM, volume.MountPoint, volume.Device)
		}
		if given {
			weight, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
			if err != nil || weight < 1 || weight > allocator.MaxScore {
				return nil, fmt.Errorf("node anti-affinity %q: the weight is no number from 1 to %d", entry, allocator.MaxScore)
			}
			a.weight = weight
		}
		if slices.ContainsFunc(all, func(other aversion) bool { return other.kind == a.kind }) {
			return nil, fmt.Errorf("node anti-affinity %q: the type is there twice", entry)
		}
		all = append(all, a)
	}
	return all, nil
}

// beside returns what of it concerns a pod with these claims.
func (a AntiAffinity) beside(claims []volume.Claim) AntiAffinity {
	if len(claims) == 0 {
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(a aversion) bool {
		return slices.ContainsFunc(claims, func(c volume.Claim) bool { return kindOf(c.Kind) == a.kind })
	})
}

// score returns the weights of the types that the node has nothing of, at most MaxScore.
func (a AntiAffinity) score(view *ledger.View) int64 {
	var sum int64
	for _, aversion := range a {
		if !offers(view, aversion.kind) {
			sum += aversion.weight
		}
	}
	return min(sum, allocator.MaxScore)
}

// offers reports whether the node has anything of the type to give.
func offers(view *ledger.View, kind volume.Kind) bool {
	for i := range view.Groups {
		g := &view.Groups[i]
		if kindOf(g.Kind) == kind && g.Trouble == "" && view.Free[i] > 0 {
			return true
		}
	}
	return false
}

// kindOf returns the type of volumes in groups of a kind.
func kindOf(kind capacity.Kind) volume.Kind {
	if kind == capacity.Cut {
		return volume.LVM
	}
	return volume.Kind(kind)
}
