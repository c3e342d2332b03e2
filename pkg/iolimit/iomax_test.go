package iolimit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		want map[uint64]Line
		err  string
	}{
		"an empty file": {"", map[uint64]Line{}, ""},
		"each limit by itself": {
			"253:0 rbps=1 wbps=max riops=max wiops=max\n253:1 rbps=max wbps=2 riops=max wiops=max\n" +
				"253:2 rbps=max wbps=max riops=3 wiops=max\n253:3 rbps=max wbps=max riops=max wiops=4\n",
			map[uint64]Line{
				unix.Mkdev(253, 0): {ReadBPS: 1}, unix.Mkdev(253, 1): {WriteBPS: 2},
				unix.Mkdev(253, 2): {ReadIOPS: 3}, unix.Mkdev(253, 3): {WriteIOPS: 4},
			}, "",
		},
		"a minor number above 255": {"253:300 rbps=1 wbps=1 riops=1 wiops=1\n", map[uint64]Line{unix.Mkdev(253, 300): {1, 1, 1, 1}}, ""},
		"the largest numbers": {
			"4095:1048575 rbps=18446744073709551615 wbps=max riops=4294967294 wiops=max\n",
			map[uint64]Line{unix.Mkdev(4095, 1048575): {ReadBPS: 1<<64 - 1, ReadIOPS: 1<<32 - 2}}, "",
		},
		"no newline at the end":             {"8:0 rbps=1 wbps=max riops=max wiops=max", map[uint64]Line{unix.Mkdev(8, 0): {ReadBPS: 1}}, ""},
		"a limit is missing":                {"8:0 rbps=1 wbps=max riops=max\n", nil, "1 of 4 limits are missing"},
		"a limit that is not known":         {"8:0 rbps=1 wbps=max riops=max wiops=max ios=1\n", nil, `"ios=1" is not known`},
		"a limit twice":                     {"8:0 rbps=1 wbps=max riops=max wiops=max rbps=2\n", nil, "there twice"},
		"a device twice":                    {"8:0 rbps=1 wbps=max riops=max wiops=max\n8:0 rbps=1 wbps=max riops=max wiops=max\n", nil, "the device is there twice"},
		"a limit of nothing":                {"8:0 rbps=0 wbps=max riops=max wiops=max\n", nil, "a limit of nothing"},
		"a number below zero":               {"8:0 rbps=-1 wbps=max riops=max wiops=max\n", nil, "not a number"},
		"a number with a leading zero":      {"8:0 rbps=01 wbps=max riops=max wiops=max\n", nil, "not a number"},
		"a number that is too large":        {"8:0 rbps=18446744073709551616 wbps=max riops=max wiops=max\n", nil, "not a number"},
		"a device number without a minor":   {"8 rbps=1 wbps=max riops=max wiops=max\n", nil, "device number"},
		"a major number the kernel has not": {"4096:0 rbps=1 wbps=max riops=max wiops=max\n", nil, "device number"},
		"a device and nothing else":         {"8:0\n", nil, "not known"},
		"an empty line":                     {"\n", nil, "device number"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(tc.file))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("got %v, want an error with %q", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzParse checks that what is understood is understood again when it is written.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "8:0 rbps=1 wbps=max riops=max wiops=max\n", "253:300 wiops=4 riops=3 wbps=2 rbps=1", "8:0 rbps=max wbps=max riops=max wiops=max\n\n",
		"8:0:1 rbps=1 wbps=max riops=max wiops=max", "8:0 rbps= wbps=max riops=max wiops=max", ":", "8:0  rbps=1", "\x00", "8:0 =\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := Parse(data)
		if err != nil {
			return
		}
		var again strings.Builder
		for device, line := range lines {
			again.WriteString(line.format(device) + "\n")
		}
		got, err := Parse([]byte(again.String()))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(lines, got); diff != "" {
			t.Errorf("lines (-first +second):\n%s", diff)
		}
	})
}
