package allocator

import (
	"fmt"

	"github.com/open-local/open-local/pkg/capacity"
)

// A Misfit says why the claims of a pod have no place on a node. It speaks of the
// first claim that found none, after the pickier and the larger had theirs.
type Misfit struct {
	Claim string // the claim's name; empty when the pod has no other
	Kind  capacity.Kind
	Group string // the group that came nearest; empty when none was eligible
	Asked string // the group the claim insists on, if it does
	Media capacity.Media
	// WholeDisk says that the claim wants no partition.
	WholeDisk bool
	Wants     capacity.Bytes // what the claim takes of Group
	Free      capacity.Bytes // what Group has left for it
	Size      capacity.Bytes // all that Group could ever give
	Held      capacity.Bytes // of Group, for other pods that are being placed; it may come free soon

	Stripes bool   // Group has room, but not equal parts of it on two or more disks
	Trouble string // why nothing new may be put in Group; empty when it is well
	Unsure  bool   // true when there were too many claims and groups to try all ways
	Final   bool   // true when it would not fit if all volumes of ours were gone
}

// Error returns a reason short enough for an event, with the numbers in it. Nodes
// alike give the same words, so that the scheduler can count them.
func (m *Misfit) Error() string {
	if m.Unsure {
		return m.because() + "; not all ways to place so many volumes were tried"
	}
	return m.because()
}

// word is what Group is.
func (m *Misfit) word() string {
	if m.Kind == capacity.Cut {
		return "vg"
	}
	return m.Kind.String()
}

func (m *Misfit) held() string {
	if m.Held <= 0 {
		return ""
	}
	return fmt.Sprintf(", %s held for pods that are being placed", m.Held)
}

func (m *Misfit) because() string {
	wants := "wants " + m.Wants.String()
	if m.Claim != "" {
		wants += " more for " + m.Claim
	}
	switch {
	case m.Trouble != "":
		return fmt.Sprintf("%s %s: %s: %s, %s free%s", m.word(), m.Group, m.Trouble, wants, m.Free, m.held())
	case m.Stripes:
		return fmt.Sprintf("vg %s: %s in equal parts on two or more disks; no two are sure to have the room, %s free in all%s", m.Group, wants, m.Free, m.held())
	case m.Kind.Whole() && m.Group != "" && m.Wants <= m.Size && m.Free < m.Size:
		return fmt.Sprintf("%s %s: %s, has %s and belongs to another volume%s", m.word(), m.Group, wants, m.Size, m.held())
	case m.Group != "" && m.Size < m.Wants:
		return fmt.Sprintf("%s %s: %s, has %s in all", m.word(), m.Group, wants, m.Size)
	case m.Group != "":
		return fmt.Sprintf("%s %s: %s, %s free%s", m.word(), m.Group, wants, m.Free, m.held())
	}
	return fmt.Sprintf("no managed %s: %s, 0 free", m.none(), wants)
}

// none names what the node has not.
func (m *Misfit) none() string {
	what := m.Kind.String()
	if m.Asked != "" {
		what += fmt.Sprintf(" %q", m.Asked)
	}
	if m.Media != "" {
		what += " on " + string(m.Media)
	}
	switch {
	case m.WholeDisk && m.Kind == capacity.MountPoint:
		what += " that is on a whole disk"
	case m.WholeDisk:
		what += " that is a whole disk"
	}
	return what
}

// explain says why the claim, at this point, has no group. It names the eligible
// group with the most room.
func (p *Planner) explain(claim int) *Misfit {
	c := &p.claims[claim]
	m := &Misfit{Kind: c.Kind, Asked: c.Group, Media: c.Media, WholeDisk: c.WholeDisk, Wants: c.Size, Final: true}
	if len(p.claims) > 1 {
		m.Claim = c.Name
	}
	nearest := -1
	for group := range p.groups {
		if !eligible(c, &p.groups[group]) {
			continue
		}
		m.Final = m.Final && (p.groups[group].Trouble != "" || !p.holds(claim, group))
		if nearest < 0 || p.nearer(claim, group, nearest) {
			nearest = group
		}
	}
	if nearest >= 0 {
		g := &p.groups[nearest]
		m.Group, m.Free, m.Size, m.Trouble = g.Name, p.free[nearest], g.Size, g.Trouble
		if !g.Kind.Whole() {
			m.Wants = p.costIn(claim, nearest)
		}
		m.Stripes = m.Trouble == "" && m.Wants <= m.Free && !g.Kind.Whole()
	}
	return m
}

// nearer reports whether group a came nearer to holding the claim than b: a group
// in good order before one in trouble, then one that is large enough before one that
// never could, then the one with more room.
func (p *Planner) nearer(claim, a, b int) bool {
	if wellA, wellB := p.groups[a].Trouble == "", p.groups[b].Trouble == ""; wellA != wellB {
		return wellA
	}
	if holdsA, holdsB := p.holds(claim, a), p.holds(claim, b); holdsA != holdsB {
		return holdsA
	}
	if liesA, liesB := p.lies(claim, a), p.lies(claim, b); liesA != liesB {
		return liesA
	}
	return p.free[a] > p.free[b]
}

// holds reports whether the group is large enough for the claim when empty.
func (p *Planner) holds(claim, group int) bool {
	g := &p.groups[group]
	if g.Kind.Whole() {
		return p.claims[claim].Size <= g.Size
	}
	return p.costIn(claim, group) <= g.Size && (p.claims[claim].Layout != capacity.Striped || g.Disks.Count() > 1)
}
