package agent

import (
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
)

// A sighting is all that one look at the node saw.
type sighting struct {
	lvm    lvm.Report
	disks  []disk
	mounts []fileSystem
	// systems are the file systems on devices that nothing uses.
	systems []initplan.FileSystem
	// mounted has every path at which anything is mounted.
	mounted map[string]bool
	// occupied says why nothing can be mounted at paths of the spec.
	occupied map[string]string
	holdings holdings
	begun    changes
	// unfinished holds, by identity, the devices on which there is what was left when they
	// were being made what the spec asks for.
	unfinished map[string]bool
	// ids says who the devices are, or were when they were last seen, by path.
	ids map[string]string
	// listed holds what the device paths of the spec lead to.
	listed map[string]initplan.Device
	// listedFor says what the spec wants disks for, by kernel name.
	listedFor map[string]initplan.Objection
}

// groupNames returns the names of the groups, each once and in order.
func (s sighting) groupNames() []string {
	var names []string
	for _, g := range s.lvm.Groups {
		names = append(names, g.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ambiguous reports whether two groups have that name.
func (s sighting) ambiguous(group string) bool {
	count := 0
	for _, g := range s.lvm.Groups {
		if g.Name == group {
			count++
		}
	}
	return count > 1
}

func byName[T any](name func(T) string) func(a, b T) int {
	return func(a, b T) int { return strings.Compare(name(a), name(b)) }
}
