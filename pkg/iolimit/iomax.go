package iolimit

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/volume"
)

// A Line is what one line of io.max holds a device to. Zero is unlimited, which the
// kernel calls "max".
type Line struct {
	ReadBPS, WriteBPS   uint64 // bytes a second
	ReadIOPS, WriteIOPS uint64 // operations a second
}

// unlimited is the kernel's word for no limit.
const unlimited = "max"

// format writes a line for the device of that number, as the kernel reads it.
func (l Line) format(device uint64) string {
	return fmt.Sprintf("%d:%d rbps=%s wbps=%s riops=%s wiops=%s", unix.Major(device), unix.Minor(device),
		formatValue(l.ReadBPS), formatValue(l.WriteBPS), formatValue(l.ReadIOPS), formatValue(l.WriteIOPS))
}

// limits returns the limits that the line holds reads and writes to: the tighter of both
// where somebody else has made them differ.
func (l Line) limits() volume.Limits {
	tightest := func(a, b uint64) int64 {
		return tighter(int64(min(a, math.MaxInt64)), int64(min(b, math.MaxInt64)))
	}
	return volume.Limits{BPS: tightest(l.ReadBPS, l.WriteBPS), IOPS: tightest(l.ReadIOPS, l.WriteIOPS)}
}

func formatValue(limit uint64) string {
	if limit == 0 {
		return unlimited
	}
	return strconv.FormatUint(limit, 10)
}

// Parse reads a whole io.max file: what each device, by its number, is held to.
// Anything that the kernel does not write is an error.
func Parse(data []byte) (map[uint64]Line, error) {
	lines := map[uint64]Line{}
	for text := range strings.Lines(string(data)) {
		device, line, err := parseLine(strings.TrimSuffix(text, "\n"))
		if err != nil {
			return nil, fmt.Errorf("parsing io.max: line %.100q: %w", text, err)
		}
		if _, twice := lines[device]; twice {
			return nil, fmt.Errorf("parsing io.max: line %.100q: the device is there twice", text)
		}
		lines[device] = line
	}
	return lines, nil
}

// parseLine reads "253:7 rbps=1048576 wbps=max riops=max wiops=100".
func parseLine(text string) (device uint64, line Line, err error) {
	number, rest, _ := strings.Cut(text, " ")
	if device, err = parseDevice(number); err != nil {
		return 0, Line{}, err
	}
	fields := map[string]*uint64{"rbps": &line.ReadBPS, "wbps": &line.WriteBPS, "riops": &line.ReadIOPS, "wiops": &line.WriteIOPS}
	for part := range strings.SplitSeq(rest, " ") {
		key, value, _ := strings.Cut(part, "=")
		into, known := fields[key]
		if !known {
			return 0, Line{}, fmt.Errorf("%q is not known, or there twice", part)
		}
		delete(fields, key)
		if *into, err = parseValue(value); err != nil {
			return 0, Line{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	if len(fields) > 0 {
		return 0, Line{}, fmt.Errorf("%d of 4 limits are missing", len(fields))
	}
	return device, line, nil
}

// parseDevice reads "253:300". The kernel has 12 bits for the major number and 20
// for the minor.
func parseDevice(text string) (uint64, error) {
	first, second, _ := strings.Cut(text, ":")
	major, err := parseDigits(first, 1<<12-1)
	if err != nil {
		return 0, fmt.Errorf("device number %q: %w", text, err)
	}
	minor, err := parseDigits(second, 1<<20-1)
	if err != nil {
		return 0, fmt.Errorf("device number %q: %w", text, err)
	}
	return unix.Mkdev(uint32(major), uint32(minor)), nil
}

func parseValue(text string) (uint64, error) {
	if text == unlimited {
		return 0, nil
	}
	limit, err := parseDigits(text, math.MaxUint64)
	if err == nil && limit == 0 {
		err = fmt.Errorf("a limit of nothing")
	}
	return limit, err
}

// parseDigits reads a number spelt as the kernel spells it.
func parseDigits(text string, most uint64) (uint64, error) {
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil || value > most || strconv.FormatUint(value, 10) != text {
		return 0, fmt.Errorf("%q is not a number up to %d", text, most)
	}
	return value, nil
}
