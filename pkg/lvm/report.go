package lvm

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// What is asked of LVM about each kind of row. The parser wants every one of them.
const (
	groupColumns    = "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_partial,vg_missing_pv_count,vg_exported,vg_tags"
	physicalColumns = "pv_name,pv_uuid,pv_size,pv_free,pv_missing,pv_allocatable,vg_name"
	volumeColumns   = "lv_name,vg_name,lv_uuid,lv_size,lv_tags,lv_layout,lv_role,lv_attr,lv_active,lv_device_open," +
		"origin,pool_lv,data_percent,lv_kernel_major,lv_kernel_minor,lv_health_status,lv_time"
	segmentColumns = "lv_uuid,segtype,stripes"
)

// reportConfig fixes what the host's lvm.conf could change in a report.
const reportConfig = `report{compact_output=0 compact_output_cols="" list_item_separator="," binary_values_as_numeric=0 time_format="%Y-%m-%d %T %z"}`

// reportArguments is the command whose output ParseReport reads; volumeSelection
// narrows the volumes in it.
func reportArguments(volumeSelection string) []string {
	args := []string{
		"fullreport", "--config", reportConfig, "--reportformat", "json", "--units", "b", "--nosuffix",
		"--configreport", "vg", "--options", groupColumns,
		"--configreport", "pv", "--options", physicalColumns,
		"--configreport", "pvseg", "--options", ",", // nothing
		"--configreport", "lv", "--options", volumeColumns,
	}
	if volumeSelection != "" {
		args = append(args, "--select", volumeSelection)
	}
	args = append(args, "--configreport", "seg", "--options", segmentColumns)
	if volumeSelection != "" {
		args = append(args, "--select", volumeSelection)
	}
	return args
}

// Report asks LVM for all it knows. A report that is not complete is an error.
func (h *Host) Report(ctx context.Context) (Report, error) {
	out, err := h.read(ctx, reportArguments("")...)
	if errors.Is(err, ErrNotFound) {
		// A group went away between being listed and being read. Once is bad luck.
		out, err = h.read(ctx, reportArguments("")...)
	}
	if err != nil {
		return Report{}, fmt.Errorf("asking LVM for its report: %w", err)
	}
	return ParseReport(out)
}

// Group asks LVM for one volume group.
func (h *Host) Group(ctx context.Context, group string) (Group, error) {
	return h.group(ctx, group, "")
}

// Volume asks LVM for one logical volume. Both ErrGroupNotFound and
// ErrVolumeNotFound are an ErrNotFound.
func (h *Host) Volume(ctx context.Context, group, name string) (Volume, error) {
	if err := ValidPair(group, name); err != nil {
		return Volume{}, fmt.Errorf("looking for a volume: %w", err)
	}
	g, err := h.group(ctx, group, equals("lv_name", name))
	if err != nil {
		return Volume{}, err
	}
	v, ok := g.Volume(name)
	if !ok {
		return Volume{}, fmt.Errorf("looking for volume %s/%s: %w", group, name, ErrVolumeNotFound)
	}
	return v, nil
}

func (h *Host) group(ctx context.Context, group, volumeSelection string) (Group, error) {
	if err := ValidGroupName(group); err != nil {
		return Group{}, fmt.Errorf("looking for a volume group: %w", err)
	}
	out, err := h.read(ctx, append(reportArguments(volumeSelection), "--", group)...)
	if err != nil {
		return Group{}, fmt.Errorf("looking at volume group %s: %w", group, err)
	}
	report, err := ParseReport(out)
	if err != nil {
		return Group{}, err
	}
	if len(report.Groups) != 1 || report.Groups[0].Name != group {
		return Group{}, fmt.Errorf("looking at volume group %s: LVM reported %d groups instead", group, len(report.Groups))
	}
	return report.Groups[0], nil
}

// equals is a clause of --select. Values are names or tags that were found valid,
// so they hold no quotes.
func equals(field, value string) string { return field + `="` + value + `"` }

func differs(field, value string) string { return field + `!="` + value + `"` }

func allOf(clauses ...string) string { return strings.Join(clauses, " && ") }
