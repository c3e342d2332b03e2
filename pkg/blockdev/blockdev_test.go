package blockdev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/hostexec"
)

func TestObjections(t *testing.T) {
	blank := Evidence{Path: "/dev/sdb", Resolved: "/dev/sdb", Exists: true, IsBlock: true, KernelName: "sdb", Type: "disk", Size: mib}
	for name, tc := range map[string]struct {
		with func(*Evidence)
		want []Objection
	}{
		"a blank disk":        {func(*Evidence) {}, nil},
		"a blank partition":   {func(e *Evidence) { e.Type = "part" }, nil},
		"a blank crypt":       {func(e *Evidence) { e.Type = "crypt" }, nil},
		"nothing":             {func(e *Evidence) { *e = Evidence{Path: "/dev/sdb"} }, []Objection{{NotFound, "does not exist"}}},
		"a file":              {func(e *Evidence) { *e = Evidence{Exists: true} }, []Objection{{NotABlock, "is not a block device"}}},
		"a loop device":       {func(e *Evidence) { e.Type = "loop" }, []Objection{{WrongType, "is a loop device"}}},
		"an optical drive":    {func(e *Evidence) { e.Type, e.ReadOnly = "rom", true }, []Objection{{WrongType, "is an optical drive"}, {IsReadOnly, "is read-only"}}},
		"a RAM disk":          {func(e *Evidence) { e.Type = "ram" }, []Objection{{WrongType, "is in memory"}}},
		"a logical volume":    {func(e *Evidence) { e.Type = "lvm" }, []Objection{{WrongType, "is a logical volume"}}},
		"a read-only disk":    {func(e *Evidence) { e.ReadOnly = true }, []Objection{{IsReadOnly, "is read-only"}}},
		"a disk without size": {func(e *Evidence) { e.Size = 0 }, []Objection{{IsEmpty, "has no size"}}},
		"a partitioned disk": {
			func(e *Evidence) {
				e.Partitions, e.Signatures = []string{"sdb1", "sdb2"}, []Signature{{Type: "gpt"}, {Type: "gpt"}, {Type: "PMBR"}}
			},
			[]Objection{{HasPartitions, "has partitions: sdb1, sdb2"}, {HasSignature, "carries gpt, PMBR"}},
		},
		"many partitions": {
			func(e *Evidence) { e.Partitions = []string{"1", "2", "3", "4", "5", "6", "7"} },
			[]Objection{{HasPartitions, "has partitions: 1, 2, 3, 4, 5 and 2 more"}},
		},
		"a physical volume in use": {
			func(e *Evidence) {
				e.Holders, e.Busy, e.Signatures = []string{"dm-0"}, true, []Signature{{Type: "LVM2_member"}}
			},
			[]Objection{{HasHolder, "is part of dm-0"}, {HasSignature, "carries LVM2_member"}, {IsInUse, "is in use"}},
		},
		"a mounted disk": {
			func(e *Evidence) {
				e.Mountpoints, e.Busy, e.Signatures = []string{"/var"}, true, []Signature{{Type: "ext4"}}
			},
			[]Objection{{IsMounted, "is mounted at /var"}, {HasSignature, "carries ext4"}, {IsInUse, "is in use"}},
		},
		"the root disk": {
			func(e *Evidence) {
				e.IsRoot, e.Mountpoints, e.Partitions, e.Busy = true, []string{"/", "/boot"}, []string{"sdb1"}, true
			},
			[]Objection{
				{IsRoot, "holds the root file system"}, {IsMounted, "is mounted at /, /boot"},
				{HasPartitions, "has partitions: sdb1"}, {IsInUse, "is in use"},
			},
		},
		"swap": {
			func(e *Evidence) { e.Swap, e.Busy, e.Signatures = true, true, []Signature{{Type: "swap"}} },
			[]Objection{{IsSwap, "is used as swap space"}, {HasSignature, "carries swap"}, {IsInUse, "is in use"}},
		},
		"a disk with data that nothing recognises": {
			func(e *Evidence) { e.Data = "in its first MiB" },
			[]Objection{{HasData, "holds data that nothing recognises in its first MiB"}},
		},
		"a disk that someone holds": {func(e *Evidence) { e.Busy = true }, []Objection{{IsInUse, "is in use"}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := blank
			tc.with(&e)
			if diff := cmp.Diff(tc.want, Objections(e)); diff != "" {
				t.Errorf("objections (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoEvidenceIsNoProof(t *testing.T) {
	if len(Objections(Evidence{})) == 0 {
		t.Error("nothing is known of a device, and it is blank")
	}
}

func TestValidPath(t *testing.T) {
	for path, ok := range map[string]bool{
		"/dev/sdb": true, "/dev/nvme0n1": true, "/dev/mapper/a--b-c": true, "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4": true,
		"/dev/disk/by-path/pci-0000:00:1f.2-ata-1@x+y": true,
		"": false, "sdb": false, "/dev": false, "/dev/": false, "/dev/sdb/": false, "/dev//sdb": false, "/dev/./sdb": false,
		"/dev/../etc/passwd": false, "/etc/passwd": false, "/device/sdb": false, "/dev/sd b": false, "/dev/sdb\n": false,
		"/dev/sdb,c": false, "/dev/$(reboot)": false, "/dev/`x`": false, "/dev/ä": false, "/dev/\x00": false, "-o": false,
	} {
		if err := ValidPath(path); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalidPath) {
			t.Errorf("%q: got %v, want valid: %v", path, err, ok)
		}
	}
}

// tree makes files, and symbolic links where the content starts with "->".
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		var err error
		if len(content) > 2 && content[:2] == "->" {
			err = os.Symlink(content[2:], path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// noProgram is a host on which no program may run.
var noProgram = hostexec.RunnerFunc(func(_ context.Context, name string, _ ...string) ([]byte, error) {
	return nil, errors.New(name + " was run")
})

func TestAPathThatLeadsToNoDeviceIsToldWithoutAProgram(t *testing.T) {
	h := New(noProgram, tree(t, map[string]string{
		"dev/file": "", "dev/link": "->/dev/file", "dev/broken": "->/dev/gone", "dev/up": "->../etc/passwd", "etc/passwd": "",
	}))
	for path, want := range map[string]Evidence{
		"/dev/gone":      {Path: "/dev/gone", Resolved: "/dev/gone"},
		"/dev/broken":    {Path: "/dev/broken", Resolved: "/dev/gone"},
		"/dev/file":      {Path: "/dev/file", Resolved: "/dev/file", Exists: true},
		"/dev/link":      {Path: "/dev/link", Resolved: "/dev/file", Exists: true},
		"/dev/file/more": {Path: "/dev/file/more", Resolved: "/dev/file/more"},
	} {
		got, err := h.Inspect(t.Context(), path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	for _, path := range []string{"/dev/up", "/etc/passwd", "/dev/../etc/passwd", ""} {
		if _, err := h.Inspect(t.Context(), path); !errors.Is(err, ErrInvalidPath) {
			t.Errorf("%q: got %v, want ErrInvalidPath", path, err)
		}
	}
}

const sysDisk = "sys/devices/virtual/block/"

// sysfs is a disk sdb with a partition, on which lies a volume.
func sysfs() map[string]string {
	return map[string]string{
		"sys/dev/block/8:16": "->../../devices/virtual/block/sdb", "sys/dev/block/8:17": "->../../devices/virtual/block/sdb/sdb1",
		"sys/dev/block/253:0": "->../../devices/virtual/block/dm-0",

		sysDisk + "sdb/dev": "8:16\n", sysDisk + "sdb/size": "409600\n", sysDisk + "sdb/ro": "0\n", sysDisk + "sdb/queue/rotational": "1\n",
		sysDisk + "sdb/sdb1/dev": "8:17\n", sysDisk + "sdb/sdb1/size": "2048\n", sysDisk + "sdb/sdb1/ro": "1\n",
		sysDisk + "sdb/sdb1/partition": "1\n", sysDisk + "sdb/sdb1/holders/dm-0": "->../../../dm-0",
		sysDisk + "dm-0/dev": "253:0\n", sysDisk + "dm-0/size": "1024\n", sysDisk + "dm-0/ro": "0\n", sysDisk + "dm-0/dm/uuid": "LVM-xyz\n",
		sysDisk + "dm-0/queue/rotational": "0\n",

		"proc/1/mountinfo": "16 1 0:5 / /dev rw - devtmpfs udev rw\n17 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n18 1 253:0 /sub /mnt rw - ext4 /dev/mapper/vg-root rw\n",
	}
}

// kernelSays fills in all that the kernel knows.
func kernelSays(h *Host, e *Evidence) error {
	used, err := h.uses()
	return errors.Join(err, h.kernelSays(e, used))
}

func TestWhatTheKernelSaysOfADevice(t *testing.T) {
	h := New(noProgram, tree(t, sysfs()))
	for name, want := range map[string]Evidence{
		"a disk": {
			Major: 8, Minor: 16, KernelName: "sdb", Type: "disk", Size: 200 * mib, Rotational: true, Partitions: []string{"sdb1"},
			Mountpoints: []string{"/", "/mnt"}, IsRoot: true,
		},
		"a partition": {
			Major: 8, Minor: 17, KernelName: "sdb1", Type: "part", Size: mib, ReadOnly: true, Rotational: true, Holders: []string{"dm-0"},
			Mountpoints: []string{"/", "/mnt"}, IsRoot: true,
		},
		"a volume": {
			Major: 253, KernelName: "dm-0", Type: "lvm", Size: mib / 2, Mountpoints: []string{"/", "/mnt"}, IsRoot: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Evidence{Major: want.Major, Minor: want.Minor}
			if err := kernelSays(h, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("evidence (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatCannotBeReadIsAnErrorAndNoEvidence(t *testing.T) {
	for name, spoil := range map[string]func(map[string]string){
		"a size that is no number":     func(files map[string]string) { files[sysDisk+"sdb/size"] = "big" },
		"no flag for read-only":        func(files map[string]string) { delete(files, sysDisk+"sdb/ro") },
		"mounts that cannot be parsed": func(files map[string]string) { files["proc/1/mountinfo"] = "nonsense\n" },
		"no mounts":                    func(files map[string]string) { delete(files, "proc/1/mountinfo") },
		"a holder that leads nowhere":  func(files map[string]string) { files[sysDisk+"sdb/holders/dm-9"] = "->../../dm-9" },
		"a circle of holders":          func(files map[string]string) { files[sysDisk+"dm-0/holders/sdb"] = "->../../sdb" },
	} {
		t.Run(name, func(t *testing.T) {
			files := sysfs()
			spoil(files)
			h, e := New(noProgram, tree(t, files)), Evidence{Major: 8, Minor: 16}
			if err := kernelSays(h, &e); err == nil {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestKindOfDevice(t *testing.T) {
	for name, want := range map[string]string{
		"sda": "disk", "nvme0n1": "disk", "vda": "disk", "ubdb": "disk", "loop0": "loop", "sr0": "rom", "ram1": "ram", "zram0": "ram",
		"md127": "raid", "srx": "disk", "mdx0": "disk", "loopback": "disk",
	} {
		if got := kindOfName(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for uuid, want := range map[string]string{"LVM-x": "lvm", "CRYPT-LUKS2-x": "crypt", "mpath-3600": "mpath", "": "dm", "other": "dm"} {
		root := tree(t, map[string]string{"dm-0/dm/uuid": uuid})
		if got, err := kind(filepath.Join(root, "dm-0")); err != nil || got != want {
			t.Errorf("a mapped device with UUID %q is %q (%v), want %q", uuid, got, err, want)
		}
	}
}

func TestDevicesKnowWhatTheyAreUsedFor(t *testing.T) {
	counter := hostexec.NewCounter(hostexec.RunnerFunc(func(context.Context, string, ...string) ([]byte, error) {
		return testdata(t, "lsblk-2.38-used.json"), nil
	}))
	root := tree(t, map[string]string{"proc/1/mountinfo": "1 1 254:0 / / rw - ext4 /dev/mapper/share-str rw\n2 1 98:17 / /boot rw - ext4 /dev/ubdb1 rw\n"})
	devices, err := New(counter, root).Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type use struct {
		Mountpoints []string
		IsRoot      bool
	}
	got := map[string]use{}
	for _, d := range devices {
		if d.IsRoot || d.Mountpoints != nil {
			got[d.KernelName] = use{d.Mountpoints, d.IsRoot}
		}
	}
	want := map[string]use{
		"dm-0": {[]string{"/"}, true}, "ubdc": {nil, true}, "ubdd": {nil, true}, "ubdb1": {[]string{"/boot"}, false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices in use (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"lsblk": 1}, counter.Runs()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestAListThatFailsIsAnError(t *testing.T) {
	root := tree(t, map[string]string{"proc/1/mountinfo": ""})
	if devices, err := New(noProgram, root).Devices(t.Context()); err == nil {
		t.Errorf("got %+v", devices)
	}
}

func TestParseSwaps(t *testing.T) {
	got := parseSwaps("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/ubdf                               partition\t204796\t\t0\t\t-2\n/swap\\040file file 1 0 -3\n")
	if diff := cmp.Diff([]string{"/dev/ubdf"}, got); diff != "" {
		t.Errorf("swap devices (-want +got):\n%s", diff)
	}
}

func TestNumbersOfDevicesAreTheKernels(t *testing.T) {
	d := Device{Major: 259, Minor: 1048575}
	if n := numberOf(&d); unix.Major(n) != d.Major || unix.Minor(n) != d.Minor {
		t.Errorf("%d:%d became %d:%d", d.Major, d.Minor, unix.Major(n), unix.Minor(n))
	}
}

func TestOneByteAgainAndAgainIsNoData(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		want    bool
	}{
		"nothing":                         {"", true},
		"zeros":                           {strings.Repeat("\x00", 200<<10), true},
		"ones":                            {strings.Repeat("\xff", 200<<10), true},
		"the last of many bytes differs":  {strings.Repeat("\x00", 200<<10) + "\x01", false},
		"the first of many bytes differs": {"\x01" + strings.Repeat("\x00", 200<<10), false},
		"one piece differs from another":  {strings.Repeat("\x00", 64<<10) + strings.Repeat("\xff", 64<<10), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := isUniform(strings.NewReader(tc.content)); err != nil || got != tc.want {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
	if got, err := isUniform(iotest.ErrReader(errors.New("a bad sector"))); err == nil {
		t.Errorf("what cannot be read is uniform: %v", got)
	}
}

// TestWhatCannotBeReadIsNotBlank asks for data where there is none to be read.
func TestWhatCannotBeReadIsNotBlank(t *testing.T) {
	h := New(noProgram, tree(t, map[string]string{"dev/sdb": strings.Repeat("\x00", 3<<20)}))
	if got := h.data(Evidence{Resolved: "/dev/sdb"}); got != "" {
		t.Errorf("zeros are data %q", got)
	}
	if got := h.data(Evidence{Resolved: "/dev/sdc"}); got == "" {
		t.Error("nothing can be read, and that is proven to be nothing")
	}
}
