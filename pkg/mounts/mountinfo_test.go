package mounts

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const lines = `16 1 0:15 / / rw,relatime shared:1 - hostfs /dev/root rw,/
17 16 0:5 / /dev rw,relatime shared:2 - devtmpfs devtmpfs rw,mode=755
40 22 254:3 / /run/with\040blank rw,noatime shared:9 master:2 - ext4 /dev/mapper/share-data ro,errors=remount-ro
41 17 0:5 /dm-3 /pods/back\134slash ro - devtmpfs devtmpfs rw
`

func TestParseMountinfo(t *testing.T) {
	got, err := ParseMountinfo([]byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{Target: "/", Source: "/dev/root", Root: "/", FSType: "hostfs", Options: []string{"rw", "relatime"}, Super: []string{"rw", "/"}, Minor: 15},
		{Target: "/dev", Source: "devtmpfs", Root: "/", FSType: "devtmpfs", Options: []string{"rw", "relatime"}, Super: []string{"rw", "mode=755"}, Minor: 5},
		{
			Target: "/run/with blank", Source: "/dev/mapper/share-data", Root: "/", FSType: "ext4", Options: []string{"rw", "noatime"},
			Super: []string{"ro", "errors=remount-ro"}, Major: 254, Minor: 3,
		},
		{Target: `/pods/back\slash`, Source: "devtmpfs", Root: "/dm-3", FSType: "devtmpfs", Options: []string{"ro"}, Super: []string{"rw"}, Minor: 5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	for i, readOnly := range []bool{false, false, true, true} {
		if got[i].ReadOnly() != readOnly {
			t.Errorf("%s is read-only: %v", got[i].Target, !readOnly)
		}
	}
}

func TestTheMountsOfThisMachineParse(t *testing.T) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	all, err := ParseMountinfo(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Count(string(data), "\n"); len(all) != want || want == 0 {
		t.Errorf("%d mounts of %d lines", len(all), want)
	}
}

func TestALineThatDoesNotParseIsAnError(t *testing.T) {
	for _, line := range []string{
		"nonsense", "16 1 0:15 / / rw,relatime shared:1 hostfs /dev/root rw", "16 1 0:15 / / rw - hostfs /dev/root",
		"16 1 15 / / rw - hostfs /dev/root rw", "16 1 a:b / / rw - hostfs /dev/root rw", "16 1 0:-1 / / rw - hostfs /dev/root rw", "16 1 0:15 / - x y z",
	} {
		if got, err := ParseMountinfo([]byte(lines + line + "\n")); err == nil || got != nil {
			t.Errorf("%q was read as %+v", line, got)
		}
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add([]byte(lines))
	f.Add([]byte(`1 1 0:1 \ \777 \04 - a b\0401 c`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := ParseMountinfo(data)
		if err != nil && all != nil {
			t.Errorf("mounts came with the error: %+v", all)
		}
		if count := strings.Count(string(data), "\n") + 1; len(all) > count {
			t.Errorf("%d mounts of %d lines", len(all), count)
		}
	})
}
