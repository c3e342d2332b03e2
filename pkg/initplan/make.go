package initplan

import (
	"path"
	"slices"
	"strings"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/volume"
)

// Make returns the steps that bring the node nearer to the spec, and a problem
// for whatever they leave undone. Both are in the order of the spec.
//
// A group is made from those of its devices that are blank; the others are
// problems and are added when they become blank. It is not made at all
// while that could give two groups one name: when a device is a physical volume
// whose group was not found, or when an earlier report had the group and a
// device is missing now. A group that is there is only ever extended, whoever made it.
func Make(spec v1alpha1.StorageSpec, seen Node) ([]Step, []Problem) {
	p := planner{seen: seen, wanted: merge(spec.ResourceToBeInited.VGs), mounts: spec.ResourceToBeInited.MountPoints}
	p.claims = p.claim()
	for _, wipe := range spec.ResourceToBeInited.Wipe {
		p.wipe(wipe)
	}
	for _, want := range p.wanted {
		p.group(want)
	}
	p.adopted(spec.ListConfig.VGs)
	for _, mount := range p.mounts {
		p.mountPoint(mount)
	}
	return p.steps, p.problems
}

// DevicesToInspect returns the paths of the spec whose devices Make has to know,
// each once and only those that are fit to be looked up.
func DevicesToInspect(spec v1alpha1.StorageSpec) []string {
	var paths []string
	add := func(device string) {
		if validPath(device) && !slices.Contains(paths, device) {
			paths = append(paths, device)
		}
	}
	for _, want := range spec.ResourceToBeInited.VGs {
		for _, device := range want.Devices {
			add(device)
		}
	}
	for _, mount := range spec.ResourceToBeInited.MountPoints {
		add(mount.Device)
	}
	return paths
}

// A want is a volume group that the spec asks for.
type want struct {
	name    string
	devices []string
}

// merge joins entries for the same group, for a list can name it twice.
func merge(entries []v1alpha1.VGToBeInited) []want {
	var wants []want
	for _, entry := range entries {
		i := slices.IndexFunc(wants, func(w want) bool { return w.name == entry.Name })
		if i < 0 {
			wants, i = append(wants, want{name: entry.Name}), len(wants)
		}
		wants[i].devices = append(wants[i].devices, entry.Devices...)
	}
	return wants
}

// planner is one run of Make.
type planner struct {
	seen   Node
	wanted []want
	mounts []v1alpha1.MountPointToBeInited
	claims map[string][]string // by resolved device, what it is listed for

	steps    []Step
	problems []Problem
}

// claim finds what each device is listed for, by any of its paths.
func (p *planner) claim() map[string][]string {
	claims := map[string][]string{}
	add := func(device, what string) {
		resolved := p.seen.Devices[device].Resolved
		if resolved != "" && !slices.Contains(claims[resolved], what) {
			claims[resolved] = append(claims[resolved], what)
		}
	}
	for _, w := range p.wanted {
		for _, device := range w.devices {
			add(device, "volume group "+w.name)
		}
	}
	for _, m := range p.mounts {
		add(m.Device, "mount point "+m.Path)
	}
	return claims
}

func (p *planner) problem(reason, object, format string, args ...any) {
	p.problems = append(p.problems, groupProblem(reason, object, format, args...))
}

// group plans for one group of the spec.
func (p *planner) group(w want) {
	if err := volume.ValidGroup(w.name); err != nil {
		p.problem(InvalidGroupName, w.name, "volume group %.40q was not made: %v", w.name, err)
		return
	}
	if !p.touchable(w.name) {
		return
	}
	exists := slices.ContainsFunc(p.seen.Groups, func(g Group) bool { return g.Name == w.name })
	if len(w.devices) == 0 && !exists {
		p.problem(NoDevices, w.name, "volume group %s was not made: the spec lists no device for it", w.name)
		return
	}
	blank, doubtful := p.blank(w)
	switch known := slices.Contains(p.seen.Known, w.name); {
	case exists && len(blank) > 0:
		p.steps = append(p.steps, ExtendGroup{Group: w.name, Devices: blank})
		p.grow(w.name)
	case exists:
		p.grow(w.name)
	case doubtful && known:
		p.problem(GroupMissing, w.name, "volume group %s was here and is not found; it is not made anew while a device on its list is missing or in doubt (take that device off the list if the group is not to come back)", w.name)
	case len(blank) == 0:
	case doubtful:
		p.problem(GroupMissing, w.name, "volume group %s was not made from %s: a group of that name may return with the devices that are in doubt",
			w.name, strings.Join(blank, ", "))
	default:
		p.steps = append(p.steps, CreateGroup{Group: w.name, Devices: blank})
	}
}

// touchable reports whether the group of that name may be changed, or is not there.
func (p *planner) touchable(name string) bool {
	found := 0
	for _, g := range p.seen.Groups {
		if g.Name != name {
			continue
		}
		found++
		switch {
		case found > 1:
			p.problem(GroupAmbiguous, name, "volume group %s is left alone: two groups have that name", name)
			return false
		case g.Exported:
			p.problem(GroupExported, name, "volume group %s is left alone: it is exported", name)
			return false
		case g.Partial:
			p.partial(g)
			return false
		}
	}
	return true
}

// partial says what is missing of a group. Nothing is removed from it: the disk may come
// back, and what lies on the others is well.
func (p *planner) partial(g Group) {
	p.problem(GroupPartial, g.Name, "volume group %s is left alone, and nothing new is put there: it lacks %s", g.Name, strings.Join(g.Missing, " and "))
}

// grow plans for disks of a group that have become larger.
func (p *planner) grow(name string) {
	for _, g := range p.seen.Groups {
		if g.Name != name {
			continue
		}
		for _, device := range g.Grown {
			p.steps = append(p.steps, GrowDevice{Group: name, Device: device})
		}
	}
}

// adopted says what is wrong with groups that are managed as they are. A bad list is a
// problem that others tell of.
func (p *planner) adopted(list v1alpha1.Selection) {
	selector, _ := NewSelector("listConfig.vgs", list)
	for _, g := range p.seen.Groups {
		isWanted := slices.ContainsFunc(p.wanted, func(w want) bool { return w.name == g.Name })
		if g.Partial && !isWanted && selector.Matches(g.Name) {
			p.partial(g)
		}
	}
}

// blank returns the devices of w to make a group from or to add to it, each
// once. doubtful is true when another device leaves it open whether a group of
// that name exists already.
func (p *planner) blank(w want) (blank []string, doubtful bool) {
	var taken []string // resolved
	for _, listed := range w.devices {
		if !validPath(listed) {
			p.problem(InvalidDevicePath, listed, "device %.80q of volume group %s was not touched: it is no plain path below /dev", listed, w.name)
			continue
		}
		device := p.seen.Devices[listed]
		if device.Resolved != "" {
			if slices.Contains(taken, device.Resolved) {
				continue // the same device by another name
			}
			taken = append(taken, device.Resolved)
		}
		switch problem, usable := p.judge(w.name, listed, device); {
		case usable:
			blank = append(blank, listed)
		case problem != nil:
			p.problems = append(p.problems, *problem)
			doubtful = doubtful || device.Orphan || problem.Reason == DeviceMissing && slices.Contains(p.seen.Known, w.name)
		}
	}
	return blank, doubtful
}

// judge says whether device, which the spec lists for group, can be taken. No
// problem and not usable means that it is in the group already.
func (p *planner) judge(group, listed string, device Device) (problem *Problem, usable bool) {
	because := func(reason, format string, args ...any) (*Problem, bool) {
		pr := groupProblem(reason, listed, "device %s was not added to volume group %s: "+format, append([]any{listed, group}, args...)...)
		return &pr, false
	}
	if device.Resolved == "" {
		return because(DeviceMissing, "the node has no such device")
	}
	switch owner := p.owner(device.Resolved); owner {
	case group:
		return nil, false
	case "":
	default:
		return because(InOtherGroup, "it is a physical volume of volume group %s", owner)
	}
	if others := p.claims[device.Resolved]; len(others) > 1 {
		return because(DeviceListedTwice, "it is listed for %s", strings.Join(others, " and "))
	}
	if device.Orphan {
		return because(OrphanPV, "it is a physical volume of no group that could be found; if nothing on it is needed, say so in resourceToBeInited.wipe")
	}
	if len(device.Objections) > 0 {
		first := device.Objections[0]
		return because(first.Reason, "it %s", first.Message)
	}
	return nil, true
}

// owner returns the group of which the device is a physical volume, or "".
func (p *planner) owner(resolved string) string {
	for _, g := range p.seen.Groups {
		if slices.Contains(g.Devices, resolved) {
			return g.Name
		}
	}
	return ""
}

// validPath reports whether the spec may name a device so: a plain path below
// /dev, which no tool can take for an option or for something else.
func validPath(device string) bool {
	return len(device) <= 4096 && strings.HasPrefix(device, "/dev/") && path.Clean(device) == device &&
		!strings.ContainsFunc(device, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd })
}
