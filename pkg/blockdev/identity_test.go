package blockdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/hostexec"
)

func TestWhoADeviceIs(t *testing.T) {
	const at = "sys/devices/x/"
	tests := map[string]struct {
		device Device // 8:0, as lsblk lists it
		files  map[string]string
		want   string
	}{
		"a SCSI disk is its WWN": {
			Device{KernelName: "sda", Type: "disk"}, map[string]string{"device/wwid": "naa.5000c500a1b2c3d4\n", "device/vpd_pg80": "\x00\x80\x00\x04ZA17"},
			"wwn-0x5000c500a1b2c3d4",
		},
		"what the kernel says comes before what udev says": {
			Device{KernelName: "sda", Type: "disk", WWN: "0x1"}, map[string]string{"device/wwid": "naa.5000c500a1b2c3d4\n"}, "wwn-0x5000c500a1b2c3d4",
		},
		"a disk whose WWN only udev knows": {Device{KernelName: "sda", Type: "disk", WWN: "0x5000c500a1b2c3d4"}, nil, "wwn-0x5000c500a1b2c3d4"},
		"an ATA disk that names itself": {
			Device{KernelName: "sda", Type: "disk"}, map[string]string{"device/wwid": "t10.ATA     SAMSUNG MZ7       S1/2  \n"}, "scsi-t10.ATA_SAMSUNG_MZ7_S1_2",
		},
		"an NVMe namespace": {
			Device{KernelName: "nvme0n1", Type: "disk"}, map[string]string{"wwid": "eui.0025385b71b0a3c1\n", "device/serial": "S4EW  \n"}, "nvme-eui.0025385b71b0a3c1",
		},
		"a virtio disk is its serial number":         {Device{KernelName: "vdb", Type: "disk"}, map[string]string{"serial": "disk-7\n"}, "serial-disk-7"},
		"a disk of a driver that knows of no number": {Device{KernelName: "ubdb", Type: "disk"}, map[string]string{"serial": "(null)\n"}, ""},
		"a SCSI disk with a serial number alone": {
			Device{KernelName: "sda", Type: "disk", Model: "VIRTUAL"}, map[string]string{"device/vpd_pg80": "\x00\x80\x00\x06 ZA 17"}, "serial-VIRTUAL_ZA_17",
		},
		"a page of nothing is no serial number":             {Device{KernelName: "sda", Type: "disk"}, map[string]string{"device/vpd_pg80": "\x00\x80\x00\x00"}, ""},
		"a multipath device":                                {Device{KernelName: "dm-0", Type: "mpath"}, map[string]string{"dm/uuid": "mpath-3600a0b80\n"}, "dm-uuid-mpath-3600a0b80"},
		"a mapped device without a UUID":                    {Device{KernelName: "dm-0", Type: "dm"}, map[string]string{"dm/uuid": "\n"}, ""},
		"a plain disk of a machine that gives it no number": {Device{KernelName: "vdb", Type: "disk"}, map[string]string{"size": "8\n"}, ""},
		"a logical volume is no disk":                       {Device{KernelName: "dm-0", Type: "lvm"}, map[string]string{"dm/uuid": "LVM-abc\n"}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"sys/dev/block/8:0": "->../../devices/x", at + "dev": "8:0\n"}
			for file, content := range tc.files {
				if !filepath.IsAbs(file) {
					file = at + file
				}
				files[file] = content
			}
			devices := []Device{tc.device}
			devices[0].Major = 8
			New(noProgram, tree(t, files)).identify(devices)
			if devices[0].ID != tc.want {
				t.Errorf("got %q, want %q", devices[0].ID, tc.want)
			}
		})
	}
}

func TestWhoAnArrayIs(t *testing.T) {
	const (
		at      = "sys/devices/x/"
		kernels = "7dd8a1d3-01b8-5c32-a5b2-0d39f5e1c604\n"
		zeros   = "00000000-0000-0000-0000-000000000000\n"
		udevs   = "S:disk/by-id/x\nE:MD_UUID=7dd8a1d3:01b85c32:a5b20d39:f5e1c604\n"
	)
	oldest := "md-uuid-7dd8a1d3-01b8-5c32-a5b2-0d39f5e1c604" // of a machine that begins with the highest byte
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		oldest = "md-uuid-d3a1d87d-325c-b801-390d-b2a504c6e1f5"
	}
	tests := map[string]struct {
		uuid, version, udev string
		want                string
	}{
		"as the kernel spells it":                                  {kernels, "1.2\n", "", "md-uuid-7dd8a1d3-01b8-5c32-a5b2-0d39f5e1c604"},
		"the kernel comes before udev":                             {kernels, "1.2\n", "E:MD_UUID=11111111:22222222:33333333:44444444\n", "md-uuid-7dd8a1d3-01b8-5c32-a5b2-0d39f5e1c604"},
		"an old kernel that does not say it changes nothing":       {"", "1.2\n", udevs, "md-uuid-7dd8a1d3-01b8-5c32-a5b2-0d39f5e1c604"},
		"nor does it with metadata at the end of the disks":        {"", "1.0\n", udevs, "md-uuid-7dd8a1d3-01b8-5c32-a5b2-0d39f5e1c604"},
		"the oldest metadata has numbers in the machine's order":   {"", "0.90\n", udevs, oldest},
		"an array managed from outside is what mdadm calls it":     {zeros, "external:/md127/0\n", udevs, "md-uuid-7dd8a1d3:01b85c32:a5b20d39:f5e1c604"},
		"nor is it spelt otherwise by an old kernel":               {"", "external:/md127/0\n", udevs, "md-uuid-7dd8a1d3:01b85c32:a5b20d39:f5e1c604"},
		"a container is what mdadm calls it":                       {zeros, "external:imsm\n", udevs, "md-uuid-7dd8a1d3:01b85c32:a5b20d39:f5e1c604"},
		"zeros are nobody, and udev has not looked":                {zeros, "external:/md127/0\n", "", ""},
		"an array that was built without metadata is nobody":       {zeros, "none\n", "E:MD_UUID=00000000:00000000:00000000:00000000\n", ""},
		"what is no UUID is left as it is":                         {"", "1.2\n", "E:MD_UUID=5cf2:11\n", "md-uuid-5cf2:11"},
		"a UUID of five groups is none of mdadm and left as it is": {"", "1.2\n", "E:MD_UUID=7dd8a1d3:01b85c32:a5b20d39:f5e1c604:00000001\n", "md-uuid-7dd8a1d3:01b85c32:a5b20d39:f5e1c604:00000001"},
		"groups that are no numbers are left as they are":          {"", "1.2\n", "E:MD_UUID=7dd8a1d3:01b85c32:a5b20d39:f5e1c6xy\n", "md-uuid-7dd8a1d3:01b85c32:a5b20d39:f5e1c6xy"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"sys/dev/block/8:0": "->../../devices/x", at + "dev": "8:0\n", at + "md/metadata_version": tc.version}
			if tc.uuid != "" {
				files[at+"md/uuid"] = tc.uuid
			}
			if tc.udev != "" {
				files["run/udev/data/b8:0"] = tc.udev
			}
			devices := []Device{{KernelName: "md126", Type: "raid1", Major: 8}}
			New(noProgram, tree(t, files)).identify(devices)
			if devices[0].ID != tc.want {
				t.Errorf("got %q, want %q", devices[0].ID, tc.want)
			}
		})
	}
}

func TestAPartitionIsItsUUIDOnItsDisk(t *testing.T) {
	h := New(noProgram, tree(t, map[string]string{
		"sys/dev/block/8:0": "->../../devices/sda", "sys/devices/sda/device/wwid": "naa.1\n",
		"sys/dev/block/8:1": "->../../devices/sda/sda1", "sys/devices/sda/sda1/dev": "8:1\n",
		"sys/dev/block/8:2": "->../../devices/sda/sda2", "sys/devices/sda/sda2/dev": "8:2\n",
		"sys/dev/block/98:17": "->../../devices/ubdb/ubdb1", "sys/devices/ubdb/ubdb1/dev": "98:17\n",
	}))
	devices := []Device{
		{KernelName: "sda", Type: "disk", Major: 8}, {KernelName: "sda1", Type: "part", Major: 8, Minor: 1, PartUUID: "aa-01", Parents: []string{"sda"}},
		{KernelName: "sda2", Type: "part", Major: 8, Minor: 2, Parents: []string{"sda"}},
		{KernelName: "ubdb1", Type: "part", Major: 98, Minor: 17, PartUUID: "bb", Parents: []string{"ubdb"}},
	}
	h.identify(devices)
	got := map[string]string{}
	for _, d := range devices {
		got[d.KernelName] = d.ID
	}
	want := map[string]string{"sda": "wwn-0x1", "sda1": "wwn-0x1-partuuid-aa-01", "sda2": "", "ubdb1": "partuuid-bb"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
}

func TestSignaturesAreRememberedWhileNothingIsWritten(t *testing.T) {
	files := map[string]string{
		"sys/sdb/queue/iostats": "1\n", "sys/sdb/diskseq": "7\n", "sys/sdb/size": "2048\n", "sys/sdb/stat": "1 0 8 2 3 0 24 1 0 1 1 0 0 0 0 0 0\n",
		"sys/sdb/sdb1/partition": "1\n", "sys/sdb/sdb1/size": "1024\n", "sys/sdb/sdb1/stat": "1 0 8 2 0 0 0 0 0 1 1 0 0 0 0 0 0\n",
	}
	root := tree(t, files)
	disk, part := filepath.Join(root, "sys/sdb"), filepath.Join(root, "sys/sdb/sdb1")
	var m memory
	seen := []Signature{{Type: "ext4"}}
	m.remember(1, content{stamp: writes(disk), signatures: seen, contents: "3f2a"})
	m.remember(2, content{stamp: writes(part)})
	for _, change := range []struct {
		file, content string
		disk, part    bool // still known
	}{
		{"sys/sdb/stat", "9 9 999 9 3 0 24 1 0 9 9 0 0 0 0 5 5\n", true, true}, // read, and flushed
		{"sys/sdb/stat", "1 0 8 2 4 0 32 1 0 1 1 0 0 0 0 0 0\n", false, false}, // written
		{"sys/sdb/stat", "1 0 8 2 3 0 24 1 0 1 1 1 0 8 0 0 0\n", false, false}, // discarded
		{"sys/sdb/diskseq", "8\n", false, false},                               // another disk
		{"sys/sdb/size", "4096\n", false, true},
		{"sys/sdb/queue/iostats", "0\n", false, false}, // not counted any more
	} {
		path := filepath.Join(root, change.file)
		if err := os.WriteFile(path, []byte(change.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, knownDisk := m.recall(1, writes(disk))
		if _, knownPart := m.recall(2, writes(part)); knownDisk != change.disk || knownPart != change.part {
			t.Errorf("after %s became %q: disk known %t, partition known %t", change.file, change.content, knownDisk, knownPart)
		}
		if knownDisk && (!cmp.Equal(seen, got.signatures) || got.contents != "3f2a") {
			t.Errorf("remembered %+v", got)
		}
		if err := os.WriteFile(path, []byte(files[change.file]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.keep(map[uint64]bool{2: true})
	if _, known := m.recall(1, writes(disk)); known {
		t.Error("a device that is gone is remembered")
	}
}

// everything is to be looked at.
func everything(Device) bool { return false }

func TestASurveyTellsOfEachDeviceAndFailsForNone(t *testing.T) {
	files := maps.Clone(sysfs())
	files["dev/sdb"], files["dev/gone"] = "", "->/dev/sdz"
	counter := hostexec.NewCounter(hostexec.RunnerFunc(func(context.Context, string, ...string) ([]byte, error) { return nil, nil }))
	found, err := New(counter, tree(t, files)).Survey(t.Context(), []Device{
		{KernelName: "sdb", Path: "/dev/sdb", Major: 8, Minor: 16}, {KernelName: "gone", Path: "/dev/gone"}, {KernelName: "odd", Path: "/dev/../etc"},
	}, everything)
	if err != nil {
		t.Fatal(err)
	}
	if got := Objections(found["sdb"].Evidence); len(got) != 1 || got[0].Reason != NotABlock {
		t.Errorf("a file: %+v", found["sdb"])
	}
	if got := Objections(found["gone"].Evidence); len(got) != 1 || got[0].Reason != NotFound {
		t.Errorf("nothing: %+v", found["gone"])
	}
	if found["odd"].Err == nil {
		t.Errorf("no path of a device: %+v", found["odd"])
	}
	if runs := counter.Total(); runs != 0 {
		t.Errorf("%d programs ran", runs)
	}
}

func TestADiskThatTheKernelGaveUpIsFailing(t *testing.T) {
	for state, want := range map[string]string{
		"running\n": "", "live\n": "", "blocked\n": "", "offline\n": "offline", "transport-offline\n": "transport-offline", "dead\n": "dead",
	} {
		got, err := failing(tree(t, map[string]string{"device/state": state}))
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v", state, got, err)
		}
	}
	if got, err := failing(t.TempDir()); got != "" || err != nil {
		t.Errorf("no state: got %q, %v", got, err)
	}
	got := Objections(Evidence{Exists: true, IsBlock: true, Type: "disk", Size: mib, Failing: "offline"})
	if diff := cmp.Diff([]Objection{{IsFailing, "is failing: the kernel calls it offline"}}, got); diff != "" {
		t.Errorf("objections (-want +got):\n%s", diff)
	}
}

func TestATableThatMakesNoSenseGivesNoUUID(t *testing.T) {
	disk := func(edit func(b []byte)) *bytes.Reader {
		b := make([]byte, 8192)
		b[510], b[511], b[450] = 0x55, 0xaa, 0xee
		copy(b[512:], "EFI PART")
		b[512+72], b[512+80], b[512+84] = 2, 4, 128
		for i := range 16 {
			b[1024+128+16+i] = byte(i + 1)
		}
		edit(b)
		return bytes.NewReader(b)
	}
	for name, tc := range map[string]struct {
		edit   func(b []byte)
		number int
		want   string
	}{
		"a partition":                     {func([]byte) {}, 2, "04030201-0605-0807-090a-0b0c0d0e0f10"},
		"one that the table does not use": {func([]byte) {}, 1, ""},
		"one past the table":              {func([]byte) {}, 5, ""},
		"one of no number":                {func([]byte) {}, 0, ""},
		"a header of something else":      {func(b []byte) { b[512] = 'X' }, 2, ""},
		"entries of no size":              {func(b []byte) { b[512+84] = 0 }, 2, ""},
		"entries of a huge size":          {func(b []byte) { b[512+87] = 0xff }, 2, ""},
		"a table far away":                {func(b []byte) { b[512+79] = 0xff }, 2, ""},
		"no table":                        {func(b []byte) { b[511] = 0 }, 2, ""},
		"an old table":                    {func(b []byte) { b[450], b[440] = 0x83, 0x2a }, 2, "0000002a-02"},
		"an old table without a number":   {func(b []byte) { b[450] = 0x83 }, 2, ""},
	} {
		if got, err := partUUID(disk(tc.edit), 512, tc.number); got != tc.want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tc.want)
		}
	}
	if got, err := partUUID(disk(func(b []byte) { b[512+73] = 9 }), 512, 2); err == nil {
		t.Errorf("a table beyond the end: got %q", got)
	}
}
