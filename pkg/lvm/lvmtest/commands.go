package lvmtest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
)

// command is one of LVM's: which options it takes, and what it does.
type command struct {
	valued, plain []string
	atLeast       int // positional arguments
	run           func(*Fake, line) (string, *failure)
}

var commands = map[string]command{
	"fullreport": {
		valued: []string{"--config", "--reportformat", "--units", "--configreport", "--options", "--select"},
		plain:  []string{"--nosuffix"},
		run:    (*Fake).fullreport,
	},
	"lvcreate": {
		valued: []string{"--wipesignatures", "--zero", "--name", "--size", "--type", "--stripes", "--addtag", "--chunksize", "--permission"},
		plain:  []string{"--yes", "--snapshot"}, atLeast: 1,
		run: (*Fake).lvcreate,
	},
	"lvremove":  {valued: []string{"--select", "--config"}, plain: []string{"--yes"}, run: (*Fake).lvremove},
	"lvextend":  {valued: []string{"--size", "--devices"}, run: (*Fake).lvextend},
	"lvchange":  {valued: []string{"--addtag", "--deltag", "--activate"}, plain: []string{"--refresh"}, run: (*Fake).lvchange},
	"vgcreate":  {atLeast: 2, run: (*Fake).vgcreate},
	"vgextend":  {atLeast: 2, run: (*Fake).vgextend},
	"vgchange":  {valued: []string{"--addtag", "--deltag"}, atLeast: 1, run: (*Fake).vgchange},
	"pvcreate":  {atLeast: 1, run: (*Fake).pvcreate},
	"pvremove":  {atLeast: 1, run: (*Fake).pvremove},
	"pvresize":  {atLeast: 1, run: (*Fake).pvresize},
	"vgmknodes": {run: (*Fake).vgmknodes},
	"vgremove":  {plain: []string{"--yes"}, atLeast: 1, run: (*Fake).vgremove},
}

// line is a parsed command line. Options are in the order given.
type line struct {
	options    []option
	positional []string
}

type option struct{ name, value string }

func (l line) all(name string) []string {
	var values []string
	for _, o := range l.options {
		if o.name == name {
			values = append(values, o.value)
		}
	}
	return values
}

func (l line) last(name string) string {
	values := l.all(name)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

func (l line) has(name string) bool { return len(l.all(name)) > 0 }

func parse(c command, args []string) (line, *failure) {
	var l line
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			l.positional = append(l.positional, args[i+1:]...)
			i = len(args)
		case slices.Contains(c.valued, arg) && i+1 < len(args):
			i++
			l.options = append(l.options, option{arg, args[i]})
		case slices.Contains(c.plain, arg):
			l.options = append(l.options, option{arg, ""})
		case strings.HasPrefix(arg, "-"):
			return line{}, &failure{3, fmt.Sprintf("unrecognized option '%s'\n  Error during parsing of command line.", arg)}
		default:
			l.positional = append(l.positional, arg)
		}
	}
	if len(l.positional) < c.atLeast {
		return line{}, &failure{3, "No command with matching syntax recognised."}
	}
	return l, nil
}

// reach finds the group and the volume of a positional "group/name".
func (f *Fake) reach(l line) (*group, *logical, *failure) {
	if len(l.positional) != 1 {
		return nil, nil, &failure{3, "Please provide a logical volume path."}
	}
	groupName, name, _ := strings.Cut(l.positional[0], "/")
	g, problem := f.usable(groupName)
	if problem != nil {
		return nil, nil, problem
	}
	v := g.volumes[name]
	if v == nil {
		return nil, nil, failed("Failed to find logical volume %q", groupName+"/"+name)
	}
	return g, v, nil
}

// visible finds a group that has at least one disk left.
func (f *Fake) visible(name string) (*group, *failure) {
	g := f.groups[name]
	if g == nil || len(g.missing()) == len(g.pvs) {
		return nil, failed("Volume group %q not found\n  Cannot process volume group %s", name, name)
	}
	return g, nil
}

// usable finds a group that may be changed, if only to remove from it.
func (f *Fake) usable(name string) (*group, *failure) {
	g, problem := f.visible(name)
	if problem == nil && g.exported {
		return nil, failed("Volume group %s is exported", name)
	}
	return g, problem
}

// whole refuses what LVM refuses in a group that lacks disks.
func (g *group) whole() *failure {
	if len(g.missing()) == 0 {
		return nil
	}
	return failed("Cannot change VG %s while PVs are missing.\n  See vgreduce --removemissing and vgextend --restoremissing.\n"+
		"  Cannot process volume group %s", g.name, g.name)
}

// seenBy refuses what LVM refuses when it was told of some devices only, and the group
// has others.
func (g *group) seenBy(devices []string) *failure {
	for _, pv := range g.pvs {
		if len(devices) > 0 && !slices.Contains(devices, pv.disk.path) {
			return failed("Cannot change VG %s while PVs are missing.\n  Cannot process volume group %s", g.name, g.name)
		}
	}
	return nil
}

func (f *Fake) lvcreate(l line) (string, *failure) {
	if l.has("--snapshot") {
		return f.snapshot(l)
	}
	g, problem := f.usable(l.positional[0])
	if problem != nil {
		return "", problem
	}
	if problem := g.whole(); problem != nil {
		return "", problem
	}
	v := &logical{name: l.last("--name"), tags: withTags(nil, l.all("--addtag")), stripes: 1}
	if l.last("--type") == "striped" {
		v.stripes, _ = strconv.Atoi(l.last("--stripes"))
	}
	return f.add(g, v, l.last("--size"), l.positional[1:])
}

// add puts a new volume into its group.
func (f *Fake) add(g *group, v *logical, size string, devices []string) (string, *failure) {
	extents, problem := extentsOf(size, v.stripes)
	if problem != nil {
		return "", problem
	}
	if g.volumes[v.name] != nil {
		return "", failed("Logical Volume %q already exists in volume group %q", v.name, g.name)
	}
	allowed, problem := g.allowed(devices)
	if problem != nil {
		return "", problem
	}
	if v.stripes > len(allowed) {
		return "", failed("Number of stripes (%d) must not exceed number of physical volumes (%d)", v.stripes, len(allowed))
	}
	if free := g.free(); extents > free {
		return "", failed("Volume group %q has insufficient free space (%d extents): %d required.", g.name, free, extents)
	}
	if v.segments, problem = allocate(allowed, v.name, extents, v.stripes); problem != nil {
		return "", problem
	}
	v.uuid, v.minor = f.uuid(), f.serial
	g.volumes[v.name] = v
	return fmt.Sprintf("  Logical volume %q created.\n", v.name), nil
}

func (f *Fake) lvextend(l line) (string, *failure) {
	g, v, problem := f.reach(l)
	if problem != nil {
		return "", problem
	}
	if problem := g.whole(); problem != nil {
		return "", problem
	}
	if problem := g.seenBy(l.all("--devices")); problem != nil {
		return "", problem
	}
	if !v.inactive && len(g.snapshotsOf(v)) > 0 {
		return "", failed("Snapshot origin volumes can be resized only while inactive: try lvchange -an.")
	}
	want, problem := extentsOf(l.last("--size"), v.stripes)
	want, have := v.atMost(want), v.extents()
	switch {
	case problem != nil:
		return "", problem
	case want == have:
		return "", failed("New size (%d extents) matches existing size (%d extents).", want, have)
	case want < have:
		return "", failed("New size given (%d extents) not larger than existing size (%d extents)", want, have)
	case want-have > g.free():
		return "", failed("Insufficient free space: %d extents needed, but only %d available", want-have, g.free())
	}
	more, problem := allocate(g.pvs, v.name, want-have, v.stripes)
	if problem != nil {
		return "", problem
	}
	v.segments = append(v.segments, more...)
	return fmt.Sprintf("  Logical volume %s/%s successfully resized.\n", g.name, v.name), nil
}

func (f *Fake) lvremove(l line) (string, *failure) {
	const discards = "devices/issue_discards=1"
	if config := l.last("--config"); config != "" && config != discards {
		return "", failed("Configuration setting %q unknown.", config)
	}
	if len(l.positional) == 1 && !strings.Contains(l.positional[0], "/") {
		return f.lvremoveOf(l)
	}
	g, v, problem := f.reach(l)
	if problem != nil {
		return "", problem
	}
	before := maps.Clone(g.volumes)
	said, problem := g.removeSelected(v, l.last("--select"))
	f.discard(l, g, before)
	return said, problem
}

// discard notes what was removed with an order to discard it.
func (f *Fake) discard(l line, g *group, before map[string]*logical) {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if g.volumes[name] == nil && l.last("--config") != "" {
			f.discarded = append(f.discarded, g.name+"/"+name)
		}
	}
}

func (f *Fake) lvchange(l line) (string, *failure) {
	g, v, problem := f.reach(l)
	if problem != nil {
		return "", problem
	}
	if l.last("--activate") == "y" {
		if v.partial() {
			return "", failed("Refusing activation of partial LV %s/%s.  Use '--activationmode partial' to override.", g.name, v.name)
		}
		for _, with := range g.activeWith(v) {
			with.inactive = false
		}
		return "", nil
	}
	if l.last("--activate") == "n" {
		return "", g.deactivate(v)
	}
	v.tags = l.tags(v.tags)
	return fmt.Sprintf("  Logical volume %s/%s changed.\n", g.name, v.name), nil
}

func (f *Fake) vgmknodes(l line) (string, *failure) {
	_, v, problem := f.reach(l)
	if problem != nil {
		return "", problem
	}
	v.unlinked = false
	return "", nil
}

func (f *Fake) vgcreate(l line) (string, *failure) {
	name, devices := l.positional[0], l.positional[1:]
	if g := f.groups[name]; g != nil {
		if len(g.volumes) > 0 {
			return "", &failure{3, fmt.Sprintf("/dev/%s: already exists in filesystem\n  Run `vgcreate --help' for more information.", name)}
		}
		return "", failed("A volume group called %s already exists.", name)
	}
	g := &group{name: name, uuid: f.uuid(), volumes: map[string]*logical{}}
	if problem := f.join(g, devices); problem != nil {
		return "", problem
	}
	f.groups[name] = g
	return fmt.Sprintf("  Volume group %q successfully created\n", name), nil
}

func (f *Fake) vgextend(l line) (string, *failure) {
	g, problem := f.usable(l.positional[0])
	if problem != nil {
		return "", problem
	}
	if problem := f.join(g, l.positional[1:]); problem != nil {
		return "", problem
	}
	return fmt.Sprintf("  Volume group %q successfully extended\n", g.name), nil
}

func (f *Fake) vgchange(l line) (string, *failure) {
	g, problem := f.usable(l.positional[0])
	if problem != nil {
		return "", problem
	}
	g.tags = l.tags(g.tags)
	return fmt.Sprintf("  Volume group %q successfully changed\n", g.name), nil
}

func (f *Fake) vgremove(l line) (string, *failure) {
	g, problem := f.usable(l.positional[0])
	if problem != nil {
		return "", problem
	}
	for _, pv := range g.pvs {
		pv.disk.pv = &physical{disk: pv.disk, uuid: pv.uuid}
	}
	delete(f.groups, g.name)
	return fmt.Sprintf("  Volume group %q successfully removed\n", g.name), nil
}

var byteSize = regexp.MustCompile(`^([0-9]+)b$`)

// extentsOf reads a --size and rounds it up as LVM does, to extents and stripes.
func extentsOf(size string, stripes int) (int64, *failure) {
	match := byteSize.FindStringSubmatch(size)
	if match == nil {
		return 0, &failure{3, fmt.Sprintf("Invalid argument for --size: %s\n  Error during parsing of command line.", size)}
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil || n%512 != 0 || n == 0 {
		return 0, &failure{3, fmt.Sprintf("Size is not a multiple of 512. Try using %d or %d.\n  Invalid argument for --size: %s", n/512*512, n/512*512+512, size)}
	}
	extents := int64(capacity.Bytes(n).Extents(extent) / extent)
	if rest := extents % int64(stripes); rest != 0 {
		extents += int64(stripes) - rest
	}
	return extents, nil
}

// tags returns what l makes of some tags.
func (l line) tags(have []string) []string {
	return slices.DeleteFunc(withTags(have, l.all("--addtag")), func(tag string) bool {
		return slices.Contains(l.all("--deltag"), tag)
	})
}

func withTags(tags, more []string) []string {
	tags = append(slices.Clone(tags), more...)
	slices.Sort(tags)
	return slices.Compact(tags)
}
