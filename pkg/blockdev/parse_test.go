package blockdev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
)

const mib = capacity.MiB

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func ubd(name string, size capacity.Bytes, minor uint32) Device {
	return Device{Path: "/dev/" + name, KernelName: name, Type: "disk", Size: size, Major: 98, Minor: minor}
}

func on(d Device, parents ...string) Device {
	d.Parents = parents
	return d
}

func below(d Device, children ...string) Device {
	d.Children = children
	return d
}

func TestParseLsblk(t *testing.T) {
	part := func(name string, size capacity.Bytes, minor uint32) Device {
		d := on(ubd(name, size, minor), "ubdb")
		d.Type = "part"
		return d
	}
	volume := func(kernelName, name string, size capacity.Bytes, minor uint32, parents ...string) Device {
		return on(Device{Path: "/dev/mapper/" + name, KernelName: kernelName, Type: "lvm", Size: size, Major: 254, Minor: minor}, parents...)
	}
	for name, want := range map[string][]Device{
		"lsblk-2.38-blank.json": {ubd("ubdb", 600*mib, 16), ubd("ubdc", 200*mib, 32), ubd("ubdd", 200*mib, 48)},
		"lsblk-2.38-used.json": {
			volume("dm-0", "share-str", 16*mib, 0, "ubdc", "ubdd"),
			volume("dm-1", "share-a--b", 8*mib, 1, "ubdc"),
			{Path: "/dev/loop0", KernelName: "loop0", Type: "loop", Size: 10 * mib, ReadOnly: true, Major: 7},
			below(ubd("ubdb", 600*mib, 16), "ubdb1", "ubdb2"),
			part("ubdb1", 19*mib, 17),
			part("ubdb2", 20*mib, 18),
			below(ubd("ubdc", 200*mib, 32), "dm-0", "dm-1"),
			below(ubd("ubdd", 200*mib, 48), "dm-0"),
		},
		"lsblk-2.38-zram.json": {
			{Path: "/dev/vda", KernelName: "vda", Type: "disk", Size: 256 * capacity.GiB, Rotational: true, Major: 254},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseLsblk(testdata(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("devices (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIdentityAndHintsAreKept(t *testing.T) {
	got, err := ParseLsblk([]byte(`{"blockdevices": [{"name":"sda", "kname":"sda", "path":"/dev/sda", "type":"disk", "size":1048576, "ro":false,
		"rota":true, "fstype":"xfs", "pttype":"gpt", "wwn":"0x5000c500a1b2c3d4", "serial":"ZA1", "model":"ST4000NM  ", "maj:min":"  8:0"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{{
		Path: "/dev/sda", KernelName: "sda", Type: "disk", Size: mib, Rotational: true, FSType: "xfs", PartitionTable: "gpt",
		WWN: "0x5000c500a1b2c3d4", Serial: "ZA1", Model: "ST4000NM", Major: 8,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if media := got[0].MediaType(); media != "hdd" {
		t.Errorf("a disk that rotates is %q", media)
	}
	if media := (Device{}).MediaType(); media != "ssd" {
		t.Errorf("a disk that does not rotate is %q", media)
	}
}

func TestAZramIsNoDiskWhateverLsblkSays(t *testing.T) {
	data := strings.Replace(string(testdata(t, "lsblk-2.38-zram.json")), `"size": 0`, `"size": 4096`, 1)
	got, err := ParseLsblk([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[1].KernelName != "zram0" || got[1].Type != "ram" {
		t.Errorf("devices %+v", got)
	}
}

func TestAFieldOfLsblkThatDoesNotParseIsNamed(t *testing.T) {
	good := string(testdata(t, "lsblk-2.38-blank.json"))
	for name, tc := range map[string]struct{ old, new, names string }{
		"a missing size":     {`"size": 629145600,`, ``, `device "ubdb": field size is missing`},
		"a null size":        {`"size": 629145600`, `"size": null`, `device "ubdb": field size is missing`},
		"a size as text":     {`"size": 629145600`, `"size": "600M"`, `size`},
		"a negative size":    {`"size": 629145600`, `"size": -1`, `device "ubdb": field size is -1`},
		"a missing flag":     {`"ro": false,`, ``, `device "ubdb": field ro is missing`},
		"a flag as a number": {`"rota": false`, `"rota": 0`, `rota`},
		"a bad number":       {`"98:16"`, `"98"`, `device "ubdb": field maj:min`},
		"a missing name":     {`"kname": "ubdb",`, ``, `field kname is missing`},
		"another document":   {`"blockdevices"`, `"devices"`, `no blockdevices`},
		"half a document":    {good[len(good)/2:], ``, `unexpected end`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, tc.old, tc.new, 1)
			if bad == good {
				t.Fatalf("%q is not in the fixture", tc.old)
			}
			devices, err := ParseLsblk([]byte(bad))
			if err == nil || !strings.Contains(err.Error(), tc.names) || devices != nil {
				t.Errorf("got %v and %v, want an error with %q", devices, err, tc.names)
			}
		})
	}
}

func TestParseWipefs(t *testing.T) {
	for name, want := range map[string][]Signature{
		"wipefs-2.38-blank.json": nil,
		"wipefs-2.38-ext4.json":  {{Type: "ext4", Offset: 0x438, UUID: "00533b83-648a-4c95-8c74-c5fc5a30a763"}},
		"wipefs-2.38-gpt.json":   {{Type: "gpt", Offset: 0x200}, {Type: "gpt", Offset: 0x257ffe00}, {Type: "PMBR", Offset: 0x1fe}},
		"wipefs-2.38-lvm.json":   {{Type: "LVM2_member", Offset: 0x218, UUID: "hujXpQ-Quh1-16hu-23GN-Z3ka-Gdcp-5spONI"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseWipefs(testdata(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("signatures (-want +got):\n%s", diff)
			}
		})
	}
	for _, bad := range []string{`{}`, `null`, `[`, `{"signatures": [{"offset": "0x1"}]}`, `{"signatures": [{"type": "ext4"}]}`, `{"signatures": [{"type": "ext4", "offset": "far"}]}`} {
		if got, err := ParseWipefs([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, got)
		}
	}
}

func FuzzParseLsblk(f *testing.F) {
	for _, name := range []string{"lsblk-2.38-blank.json", "lsblk-2.38-used.json", "lsblk-2.38-zram.json"} {
		f.Add(testdata(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, err := ParseLsblk(data)
		if err != nil && devices != nil {
			t.Errorf("devices came with the error: %+v", devices)
		}
		seen := map[string]bool{}
		for _, d := range devices {
			if d.KernelName == "" || d.Size <= 0 || seen[d.KernelName] {
				t.Errorf("device %+v", d)
			}
			seen[d.KernelName] = true
		}
	})
}

func FuzzParseWipefs(f *testing.F) {
	for _, name := range []string{"wipefs-2.38-blank.json", "wipefs-2.38-ext4.json", "wipefs-2.38-gpt.json"} {
		f.Add(testdata(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		signatures, err := ParseWipefs(data)
		for _, s := range signatures {
			if s.Type == "" || err != nil {
				t.Errorf("signature %+v, error %v", s, err)
			}
		}
	})
}
