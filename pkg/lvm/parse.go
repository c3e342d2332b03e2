package lvm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-local/open-local/pkg/capacity"
)

// section is what a full report says about one group, or about the physical
// volumes that are in none. LVM prints every value as a string.
type section struct {
	Groups   []map[string]string `json:"vg"`
	Physical []map[string]string `json:"pv"`
	Volumes  []map[string]string `json:"lv"`
	Segments []map[string]string `json:"seg"`
}

type segment struct {
	kind    string
	stripes int
}

// ParseReport reads what "lvm fullreport" printed. A field that is missing or does
// not parse is an error that names it, never a zero.
func ParseReport(data []byte) (Report, error) {
	var doc struct {
		Report []section `json:"report"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return Report{}, fmt.Errorf("parsing LVM's report: %w", err)
	}
	if doc.Report == nil {
		return Report{}, errors.New("parsing LVM's report: it has no report in it")
	}
	var report Report
	for _, s := range doc.Report {
		if err := s.into(&report); err != nil {
			return Report{}, fmt.Errorf("parsing LVM's report: %w", err)
		}
	}
	report.sort()
	return report, nil
}

// sort makes reports comparable: LVM's order is that in which it found the disks.
func (r *Report) sort() {
	byDevice := func(a, b PhysicalVolume) int {
		return cmp.Or(strings.Compare(a.Device, b.Device), strings.Compare(a.UUID, b.UUID))
	}
	slices.SortFunc(r.Orphans, byDevice)
	slices.SortFunc(r.Groups, func(a, b Group) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID))
	})
	for _, group := range r.Groups {
		slices.SortFunc(group.PhysicalVolumes, byDevice)
		slices.SortFunc(group.Volumes, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	}
}

func (s *section) into(report *Report) error {
	physical, err := s.physicalVolumes()
	if err != nil {
		return err
	}
	switch {
	case len(s.Groups) == 0 && len(s.Volumes) == 0:
		report.Orphans = append(report.Orphans, physical...)
		return nil
	case len(s.Groups) != 1:
		return fmt.Errorf("%d groups and %d volumes in one section", len(s.Groups), len(s.Volumes))
	}
	group, err := parseGroup(s.Groups[0])
	if err != nil {
		return err
	}
	group.PhysicalVolumes = physical
	if group.Volumes, err = s.volumes(); err != nil {
		return err
	}
	report.Groups = append(report.Groups, group)
	return nil
}

func parseGroup(cells map[string]string) (Group, error) {
	r := &row{kind: "volume group", name: cells["vg_name"], cells: cells}
	group := Group{
		Name:       r.nonEmpty("vg_name"),
		UUID:       r.text("vg_uuid"),
		Size:       r.bytes("vg_size"),
		Free:       r.bytes("vg_free"),
		Extent:     r.bytes("vg_extent_size"),
		Partial:    r.flag("vg_partial", "partial"),
		MissingPVs: r.number("vg_missing_pv_count"),
		Exported:   r.flag("vg_exported", "exported"),
		Tags:       r.list("vg_tags"),
	}
	return group, r.err
}

func (s *section) physicalVolumes() ([]PhysicalVolume, error) {
	var all []PhysicalVolume
	for _, cells := range s.Physical {
		r := &row{kind: "physical volume", name: cells["pv_name"], cells: cells}
		pv := PhysicalVolume{
			Device:      r.nonEmpty("pv_name"),
			UUID:        r.text("pv_uuid"),
			Size:        r.bytes("pv_size"),
			Free:        r.bytes("pv_free"),
			Missing:     r.flag("pv_missing", "missing"),
			Allocatable: r.flag("pv_allocatable", "allocatable"),
		}
		if r.err != nil {
			return nil, r.err
		}
		if !strings.HasPrefix(pv.Device, "/") {
			pv.Device = "" // LVM writes "[unknown]"
		}
		all = append(all, pv)
	}
	return all, nil
}

func (s *section) volumes() ([]Volume, error) {
	segments, err := s.segments()
	if err != nil {
		return nil, err
	}
	var all []Volume
	for _, cells := range s.Volumes {
		if strings.HasPrefix(cells["lv_name"], "[") {
			continue // part of a pool or mirror
		}
		v, err := parseVolume(cells)
		if err != nil {
			return nil, err
		}
		first, ok := segments[v.UUID]
		if !ok {
			return nil, fmt.Errorf("volume %s/%s has no segment", v.Group, v.Name)
		}
		v.SegType, v.Stripes = first.kind, first.stripes
		all = append(all, v)
	}
	return all, nil
}

func parseVolume(cells map[string]string) (Volume, error) {
	r := &row{kind: "logical volume", name: cells["lv_name"], cells: cells}
	v := Volume{
		Name:        r.nonEmpty("lv_name"),
		Group:       r.nonEmpty("vg_name"),
		UUID:        r.text("lv_uuid"),
		Size:        r.bytes("lv_size"),
		Tags:        r.list("lv_tags"),
		Layout:      r.text("lv_layout"),
		Role:        r.text("lv_role"),
		Attr:        r.text("lv_attr"),
		Active:      r.known("lv_active"),
		Open:        r.known("lv_device_open"),
		Origin:      r.text("origin"),
		Pool:        r.text("pool_lv"),
		DataPercent: r.percent("data_percent"),
		KernelMajor: r.number("lv_kernel_major"),
		KernelMinor: r.number("lv_kernel_minor"),
		Health:      r.text("lv_health_status"),
		Made:        r.time("lv_time"),
	}
	if len(v.Attr) < 2 {
		r.fail("lv_attr", errors.New("too short"))
		return Volume{}, r.err
	}
	// The second letter: w(riteable), r(ead-only), R(ead-only though not so in the metadata).
	v.ReadOnly = v.Attr[1] == 'r' || v.Attr[1] == 'R'
	return v, r.err
}

func (s *section) segments() (map[string]segment, error) {
	first := make(map[string]segment, len(s.Segments))
	for _, cells := range s.Segments {
		r := &row{kind: "segment of volume", name: cells["lv_uuid"], cells: cells}
		uuid, seg := r.nonEmpty("lv_uuid"), segment{kind: r.text("segtype"), stripes: r.number("stripes")}
		if r.err != nil {
			return nil, r.err
		}
		if _, seen := first[uuid]; !seen {
			first[uuid] = seg
		}
	}
	return first, nil
}

// row reads the cells of one row and remembers the first that is wrong.
type row struct {
	kind, name string
	cells      map[string]string
	err        error
}

func (r *row) fail(column string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s %q: field %s is %q: %w", r.kind, r.name, column, r.cells[column], err)
	}
}

func (r *row) text(column string) string {
	value, ok := r.cells[column]
	if !ok {
		r.fail(column, errors.New("missing"))
	}
	return value
}

// nonEmpty is a text that cannot be empty.
func (r *row) nonEmpty(column string) string {
	value := r.text(column)
	if value == "" {
		r.fail(column, errors.New("empty"))
	}
	return value
}

func (r *row) bytes(column string) capacity.Bytes {
	n, err := strconv.ParseInt(r.text(column), 10, 64)
	switch {
	case err != nil:
		r.fail(column, err)
	case n < 0:
		r.fail(column, errors.New("negative"))
	}
	return capacity.Bytes(n)
}

func (r *row) number(column string) int {
	n, err := strconv.Atoi(r.text(column))
	if err != nil {
		r.fail(column, err)
	}
	return n
}

// timeLayout is what reportConfig has LVM write.
const timeLayout = "2006-01-02 15:04:05 -0700"

// time is a cell that is empty where LVM does not know. It is for people and decides
// nothing: a report without it is whole.
func (r *row) time(column string) time.Time {
	value := r.cells[column]
	if value == "" {
		return time.Time{}
	}
	at, err := time.Parse(timeLayout, value)
	if err != nil {
		r.fail(column, err)
	}
	return at.UTC()
}

// flag is a cell that holds one word or nothing.
func (r *row) flag(column, word string) bool {
	value := r.text(column)
	if value != "" && value != word {
		r.fail(column, fmt.Errorf("neither empty nor %q", word))
	}
	return value == word
}

// known is a cell that is empty for no, and "unknown" where LVM could not ask.
func (r *row) known(column string) bool {
	value := r.text(column)
	return value != "" && value != "unknown"
}

func (r *row) list(column string) []string {
	value := r.text(column)
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}

func (r *row) percent(column string) *float64 {
	value := r.text(column)
	if value == "" {
		return nil
	}
	p, err := strconv.ParseFloat(value, 64)
	if err != nil {
		r.fail(column, err)
	}
	return &p
}
