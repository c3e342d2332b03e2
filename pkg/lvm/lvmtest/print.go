package lvmtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// fullreport prints the columns it is asked for, and fails at one it does not have.
func (f *Fake) fullreport(l line) (string, *failure) {
	wanted, selection := map[string][]string{}, ""
	for report, i := "", 0; i < len(l.options); i++ {
		switch o := l.options[i]; o.name {
		case "--configreport":
			report = o.value
		case "--options":
			wanted[report] = strings.FieldsFunc(o.value, func(r rune) bool { return r == ',' })
		case "--select":
			selection = o.value
		}
	}
	groups := slices.Sorted(maps.Keys(f.groups))
	if len(l.positional) > 0 {
		if _, problem := f.visible(l.positional[0]); problem != nil {
			return "", problem
		}
		groups = l.positional[:1]
	}
	sections := []map[string][]map[string]string{}
	for _, name := range groups {
		if g, problem := f.visible(name); problem == nil {
			section, problem := g.rows(selection)
			if problem != nil {
				return "", problem
			}
			sections = append(sections, section)
		}
	}
	if orphans := f.orphans(); len(orphans) > 0 && len(l.positional) == 0 {
		sections = append(sections, map[string][]map[string]string{"pv": orphans})
	}
	for _, section := range sections {
		if problem := narrow(section, wanted); problem != nil {
			return "", problem
		}
	}
	out, err := json.Marshal(map[string]any{"report": sections})
	if err != nil {
		return "", failed("Internal error: %v", err)
	}
	return string(out), nil
}

// narrow leaves of each row the columns wanted of its kind.
func narrow(section map[string][]map[string]string, wanted map[string][]string) *failure {
	for kind, rows := range section {
		for i, row := range rows {
			narrowed := map[string]string{}
			for _, column := range wanted[kind] {
				value, ok := row[column]
				if !ok {
					return &failure{3, fmt.Sprintf("Unrecognised field: %s", column)}
				}
				narrowed[column] = value
			}
			rows[i] = narrowed
		}
	}
	return nil
}

func (g *group) rows(selection string) (map[string][]map[string]string, *failure) {
	missing := len(g.missing())
	section := map[string][]map[string]string{
		"vg": {{
			"vg_name": g.name, "vg_uuid": g.uuid, "vg_size": bytesOf(g.total()), "vg_free": bytesOf(g.free()),
			"vg_extent_size": bytesOf(1), "vg_partial": when(missing > 0, "partial"), "vg_missing_pv_count": strconv.Itoa(missing),
			"vg_exported": when(g.exported, "exported"), "vg_tags": strings.Join(g.tags, ","),
		}},
		"lv": {}, "seg": {},
	}
	for _, pv := range g.pvs {
		section["pv"] = append(section["pv"], pv.row())
	}
	for _, name := range slices.Sorted(maps.Keys(g.volumes)) {
		v := g.volumes[name]
		selected, problem := selects(selection, g, v)
		if problem != nil {
			return nil, problem
		}
		if selected {
			section["lv"] = append(section["lv"], v.row(g))
			section["seg"] = append(section["seg"], v.segmentRows()...)
		}
	}
	return section, nil
}

func (p *physical) row() map[string]string {
	row := map[string]string{
		"pv_name": p.disk.path, "pv_uuid": p.uuid, "pv_size": bytesOf(p.total), "pv_free": bytesOf(p.free()),
		"pv_missing": when(p.disk.lost, "missing"), "pv_allocatable": when(p.group != nil, "allocatable"), "vg_name": "",
	}
	if p.disk.lost {
		row["pv_name"] = "[unknown]"
	}
	if p.group == nil {
		row["pv_size"] = fmt.Sprint(int64(p.disk.size))
		row["pv_free"] = row["pv_size"]
	} else {
		row["vg_name"] = p.group.name
	}
	return row
}

func (f *Fake) orphans() []map[string]string {
	var rows []map[string]string
	for _, path := range slices.Sorted(maps.Keys(f.disks)) {
		if d := f.disks[path]; d.pv != nil && d.pv.group == nil && !d.lost {
			rows = append(rows, d.pv.row())
		}
	}
	return rows
}

func (v *logical) kind() string {
	if v.stripes > 1 {
		return "striped"
	}
	return "linear"
}

// role is LVM's: whether v is, or has, a snapshot.
func (v *logical) role(g *group) string {
	switch {
	case v.origin != "":
		return "public,snapshot,thicksnapshot"
	case len(g.snapshotsOf(v)) > 0:
		return "public,origin,thickorigin"
	}
	return "public"
}

func (v *logical) attr(g *group) string {
	attr := []byte("-wi-a-----")
	switch v.role(g) {
	case "public,snapshot,thicksnapshot":
		attr[0], attr[6] = 's', 's'
	case "public,origin,thickorigin":
		attr[0], attr[6] = 'o', 's'
	}
	if v.readOnly {
		attr[1] = 'r'
	}
	if v.invalid {
		attr[4] = 'I'
	}
	if v.inactive {
		attr[4] = '-'
	}
	if v.holders > 0 {
		attr[5] = 'o'
	}
	if v.partial() {
		attr[8] = 'p'
	}
	return string(attr)
}

// Made is when every volume of a Fake was made, as LVM prints it.
const Made = "2026-01-02 04:04:05 +0100"

func (v *logical) row(g *group) map[string]string {
	row := map[string]string{
		"lv_name": v.name, "vg_name": g.name, "lv_uuid": v.uuid, "lv_size": bytesOf(v.extents()), "lv_tags": strings.Join(v.tags, ","),
		"lv_layout": v.kind(), "lv_role": v.role(g), "lv_attr": v.attr(g), "lv_active": when(!v.inactive, "active"),
		"lv_device_open": when(v.holders > 0, "open"), "origin": v.origin, "pool_lv": "", "data_percent": v.percent(),
		"lv_kernel_major": "254", "lv_kernel_minor": strconv.Itoa(v.minor), "lv_health_status": when(v.partial(), "partial"), "lv_time": Made,
	}
	if v.inactive {
		row["data_percent"] = ""
		row["lv_device_open"], row["lv_kernel_major"], row["lv_kernel_minor"] = "unknown", "-1", "-1"
	}
	return row
}

func (v *logical) segmentRows() []map[string]string {
	rows := make([]map[string]string, len(v.segments))
	for i, s := range v.segments {
		rows[i] = map[string]string{"lv_uuid": v.uuid, "segtype": v.kind(), "stripes": strconv.Itoa(len(s.on))}
	}
	return rows
}

func when(yes bool, word string) string {
	if yes {
		return word
	}
	return ""
}

var clause = regexp.MustCompile(`^(\w+)(!?=)"([^"]*)"$`)

// selects evaluates a --select: clauses joined by &&, each a field that has, or
// does not have, a value.
func selects(selection string, g *group, v *logical) (bool, *failure) {
	if selection == "" {
		return true, nil
	}
	fields := map[string][]string{
		"lv_name": {v.name}, "lv_tags": v.tags, "vg_tags": g.tags, "lv_role": strings.Split(v.role(g), ","),
	}
	for text := range strings.SplitSeq(selection, " && ") {
		match := clause.FindStringSubmatch(text)
		if match == nil {
			return false, &failure{3, "Selection syntax error at '" + text + "'."}
		}
		values, ok := fields[match[1]]
		if !ok {
			return false, &failure{3, "Unrecognised selection field: " + match[1]}
		}
		if slices.Contains(values, match[3]) != (match[2] == "=") {
			return false, nil
		}
	}
	return true, nil
}
