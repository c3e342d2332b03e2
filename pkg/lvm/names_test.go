package lvm

import (
	"errors"
	"strings"
	"testing"
	"testing/quick"

	"github.com/open-local/open-local/pkg/capacity"
)

// What LVM itself says to such names is a test of package lvmtest.
func TestValidNames(t *testing.T) {
	for _, tc := range []struct {
		name          string
		group, volume bool
	}{
		{"local-c7ea5b0e-7a7d-4d0a-8a52-0d8c8e8d1c11", true, true},
		{"csi-" + strings.Repeat("0a", 32), true, true},
		{"open-local-pool-0", true, true},
		{"a", true, true},
		{"_", true, true},
		{"+a.b", true, true},
		{"...", true, true},
		{strings.Repeat("n", 127), true, true},
		{strings.Repeat("n", 128), false, false},
		{"", false, false},
		{".", false, false},
		{"..", false, false},
		{"-a", false, false},
		{"--help", false, false},
		{"a b", false, false},
		{"a\n", false, false},
		{"a\x00", false, false},
		{"a/b", false, false},
		{"a:b", false, false},
		{"@a", false, false},
		{"$(reboot)", false, false},
		{"ä", false, false},
		{"snapshots", true, false},
		{"my-snapshot", true, true},
		{"pvmove0", true, false},
		{"x_tdata", true, false},
		{"x_rimage_0", true, false},
		{"x_timage_0", true, true},
	} {
		if err := ValidGroupName(tc.name); (err == nil) != tc.group || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("group %q: got %v, want valid: %v", tc.name, err, tc.group)
		}
		if err := ValidName(tc.name); (err == nil) != tc.volume || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("volume %q: got %v, want valid: %v", tc.name, err, tc.volume)
		}
	}
}

func TestValidPair(t *testing.T) {
	n, h := strings.Repeat("n", 200), strings.Repeat("-", 200)
	for _, tc := range []struct {
		group, name string
		ok          bool
	}{
		{"share", "data", true},
		{"share", n[:119], true},
		{"share", n[:120], false},
		{n[:62], n[:62], true},
		{n[:62], n[:63], false},
		{"share", n[:101] + h[:10], true},
		{"share", n[:102] + h[:10], false},
		{"s" + h[:10], n[:105], true},
		{"s" + h[:10], n[:106], false},
		{"-g", "data", false},
		{"share", "-n", false},
	} {
		if err := ValidPair(tc.group, tc.name); (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q and %q: got %v, want valid: %v", tc.group, tc.name, err, tc.ok)
		}
	}
}

func TestAnArgumentOfOursIsNeverAnOptionOrAnotherSelection(t *testing.T) {
	harmless := func(s string) bool {
		bad := strings.HasPrefix(s, "-") || strings.ContainsAny(s, "\"'`\\$ \t\n,@(){}|<>*?;")
		return !bad || ValidGroupName(s) != nil && ValidName(s) != nil && ValidTag(s) != nil && validDevices([]string{s}) != nil
	}
	for _, s := range []string{`a" || lv_name="b`, "-a", "a,b", "@a", "a b", "a\n", "/dev/a b", "/dev/a,b", "/dev/a\n"} {
		if !harmless(s) {
			t.Errorf("%q is taken for a name, a tag or a device", s)
		}
	}
	if err := quick.Check(harmless, &quick.Config{MaxCount: 10_000}); err != nil {
		t.Error(err)
	}
}

func TestValidTag(t *testing.T) {
	for tag, ok := range map[string]bool{
		"a": true, "io.k8s/claim=ns/name": true, "A_+.-/=!:&#z": true, "#1": true, strings.Repeat("t", 1024): true,
		"": false, "-a": false, "@a": false, "a b": false, "a,b": false, `a"b`: false, "ä": false, strings.Repeat("t", 1025): false,
	} {
		if err := ValidTag(tag); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("tag %q: got %v, want valid: %v", tag, err, ok)
		}
	}
}

func TestValidDevices(t *testing.T) {
	for _, tc := range []struct {
		devices []string
		ok      bool
	}{
		{[]string{"/dev/sdb"}, true},
		{[]string{"/dev/disk/by-id/wwn-0x5000c500a1b2c3d4", "/dev/mapper/a+b", "/dev/nvme0n1"}, true},
		{[]string{"/dev/disk/by-path/pci-0000:00:1f.2-ata-1@x"}, true},
		{nil, true},
		{[]string{"sdb"}, false},
		{[]string{"/etc/passwd"}, false},
		{[]string{"/dev/../etc/passwd"}, false},
		{[]string{"/dev//sdb"}, false},
		{[]string{"/dev/"}, false},
		{[]string{"/dev/sdb,c"}, false},
		{[]string{"/dev/s db"}, false},
		{[]string{""}, false},
		{[]string{"/dev/sdb", "/dev/sdb"}, false},
	} {
		if err := validDevices(tc.devices); (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("devices %q: got %v, want valid: %v", tc.devices, err, tc.ok)
		}
	}
}

func TestSizeArgument(t *testing.T) {
	for size, want := range map[capacity.Bytes]string{
		1: "512b", 512: "512b", 513: "1024b", 100_000_000: "100000256b", capacity.GiB: "1073741824b",
		0: "", -1: "", 1<<63 - 1: "", 1<<63 - 513: "9223372036854775296b",
	} {
		got, err := sizeArgument(size)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes: got %q, %v, want %q", size, got, err, want)
		}
	}
}
