//go:build root

package agent

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// victim is a disk that somebody has put something on.
type victim struct {
	*testing.T
	disk string
	size int64
}

func (v victim) run(program string, args ...string) { v.Helper(); runOnHost(v.T, program, args...) }

func (v victim) afterwards(program string, args ...string) {
	v.Cleanup(func() { runOnHost(v.T, program, args...) })
}

// write puts bytes on the disk, as what a program would recognise; before the end if at
// is negative.
func (v victim) write(at int64, content string) {
	v.Helper()
	if at < 0 {
		at += v.size
	}
	file, err := os.OpenFile(v.disk, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		v.Fatal(err)
	}
	_, err = file.WriteAt([]byte(content), at)
	if err := errors.Join(err, file.Close()); err != nil {
		v.Fatal(err)
	}
}

// sum is what is on the disk, to the last byte.
func (v victim) sum() string {
	v.Helper()
	file, err := os.Open(v.disk)
	if err != nil {
		v.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli)) // a machine that is simulated is slow
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{file}, make([]byte, 4<<20)); err != nil {
		v.Fatal(err)
	}
	return string(sum.Sum(nil))
}

func le(width int, value uint64) string {
	b := binary.LittleEndian.AppendUint64(nil, value)
	return string(b[:width])
}

func be(width int, value uint64) string {
	b := binary.BigEndian.AppendUint64(nil, value)
	return string(b[8-width:])
}

// bytesAt is a state that is a few bytes at a place.
func bytesAt(at int64, content string) func(victim) {
	return func(v victim) { v.write(at, content) }
}

// noise is two MiB in which nobody finds anything.
func noise() string {
	b, state := make([]byte, 2<<20), uint32(1)
	for i := range b {
		state ^= state << 13
		state ^= state >> 17
		state ^= state << 5
		b[i] = byte(state)
	}
	return string(b)
}

// partitioned makes a table, of one partition or none.
func partitioned(partitions ...devtest.Partition) func(victim) {
	return func(v victim) {
		devtest.GPT(v.T, v.disk, partitions...)
		v.run("blockdev", "--rereadpt", v.disk)
	}
}

var onePartition = devtest.Partition{From: 8, To: 30}

// hostile are states of a disk in which nobody may touch it, whatever the spec asks for
// short of naming what is on it.
var hostile = map[string]func(v victim){
	"ext2":                   func(v victim) { v.run("mkfs.ext2", "-q", v.disk) },
	"ext3":                   func(v victim) { v.run("mkfs.ext3", "-q", v.disk) },
	"ext4":                   func(v victim) { v.run("mkfs.ext4", "-q", v.disk) },
	"an ext4 journal device": func(v victim) { v.run("mke2fs", "-q", "-O", "journal_dev", v.disk) },
	"btrfs":                  func(v victim) { v.run("mkfs.btrfs", "-q", "--mixed", v.disk) },
	"xfs":                    func(v victim) { v.run("mkfs.xfs", "-q", "--unsupported", v.disk) },
	"swap":                   func(v victim) { v.run("mkswap", v.disk) },
	"a physical volume":      func(v victim) { v.run("lvm", "pvcreate", v.disk) },
	"a volume group that was exported": func(v victim) {
		v.run("lvm", "vgcreate", "victim", v.disk)
		v.run("lvm", "vgexport", "victim")
		v.afterwards("lvm", "vgremove", "victim")
		v.afterwards("lvm", "vgimport", "victim")
	},
	"a volume group with a volume": func(v victim) {
		v.run("lvm", "vgcreate", "victim", v.disk)
		v.run("lvm", "lvcreate", "--yes", "--size", "8m", "--name", "data", "victim")
		v.afterwards("lvm", "vgremove", "--yes", "--force", "victim")
	},
	"a volume group at rest": func(v victim) {
		v.run("lvm", "vgcreate", "victim", v.disk)
		v.run("lvm", "lvcreate", "--yes", "--activate", "n", "--zero", "n", "--size", "8m", "--name", "data", "victim")
		v.afterwards("lvm", "vgremove", "--yes", "--force", "victim")
	},
	"a table of no partitions (gpt)":   partitioned(),
	"a table of no partitions (msdos)": bytesAt(440, le(4, 0x1b2c3d4a)+strings.Repeat("\x00", 66)+"\x55\xaa"),
	"a table of no partitions (mac)": func(v victim) {
		v.write(0, "ER"+be(2, 512)+be(4, uint64(v.size/512)))
		v.write(512, "PM"+be(2, 0)+be(4, 1)+be(4, 1)+be(4, 63)+"Apple"+strings.Repeat("\x00", 27)+"Apple_partition_map")
	},
	"a table of no partitions (sun)": bytesAt(508, be(2, 0xdabe)+be(2, 0xdabe)), // all words of 16 bits together are 0
	"a table of no partitions (dvh)": func(v victim) {
		const magic = 0x0be5a941
		v.write(0, be(4, magic))
		v.write(504, be(4, 1<<32-magic)) // all words of 32 bits together are 0
	},
	"a gpt of which only the second copy is left": func(v victim) {
		partitioned()(v)
		v.write(0, strings.Repeat("\x00", 1<<20))
	},
	"a gpt of which only the first copy is left": func(v victim) {
		partitioned()(v)
		v.write(-1<<20, strings.Repeat("\x00", 1<<20))
	},
	"a mount point's file system of ours, for another path": func(v victim) {
		v.run("mkfs.ext4", "-q", "-U", initplan.FileSystemUUID("n1", "/mnt/open-local/another"), v.disk)
	},
	"a mount point's file system of ours, of another node": func(v victim) {
		v.run("mkfs.ext4", "-q", "-U", initplan.FileSystemUUID("n2", "/mnt/open-local/victim"), v.disk)
	},
	"a file system of which only the first block is left": func(v victim) {
		v.run("mkfs.ext4", "-q", v.disk)
		v.write(4096, strings.Repeat("\x00", 32<<20))
	},
	"partitions": func(v victim) {
		partitioned(onePartition)(v)
	},
	"a partition in a volume group": func(v victim) {
		partitioned(onePartition)(v)
		v.run("wipefs", "--all", "--quiet", v.disk+"1") // of what an earlier state left there
		v.run("lvm", "vgcreate", "victim", v.disk+"1")
		v.afterwards("lvm", "vgremove", "victim")
	},
	"a partition table whose partitions the kernel has forgotten": func(v victim) {
		partitioned(onePartition)(v)
		v.run("partx", "--delete", v.disk)
	},
	"LUKS 1":                    bytesAt(0, "LUKS\xba\xbe"+be(2, 1)+strings.Repeat("\x00", 160)+"5cf21111-0000-4000-8000-000000000000"),
	"LUKS 2":                    bytesAt(0, "LUKS\xba\xbe"+be(2, 2)+be(8, 16384)),
	"an array, as of old":       bytesAt(-64<<10, le(4, 0xa92b4efc)+le(4, 0)+le(4, 90)+le(4, 0)),
	"an array":                  bytesAt(4096, le(4, 0xa92b4efc)+le(4, 1)+strings.Repeat("\x00", 136)+le(8, 8)),
	"an array at the end":       bytesAt(-8192, le(4, 0xa92b4efc)+le(4, 1)+strings.Repeat("\x00", 136)+le(8, (64<<20-8192)/512)),
	"bcache":                    bytesAt(4096, le(8, 0)+le(8, 8)+le(8, 1)+"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
	"DM integrity":              bytesAt(0, "integrt\x00"+le(4, 1)),
	"DM verity":                 bytesAt(0, "verity\x00\x00"+le(4, 1)+le(4, 1)),
	"a DM snapshot":             bytesAt(0, "SnAp"+le(4, 1)+le(4, 1)),
	"VDO":                       bytesAt(0, "dmvdo001"),
	"a volume of the first LVM": bytesAt(0, "HM"+le(2, 1)),
	"ISO 9660":                  bytesAt(0x8000, "\x01CD001\x01\x00"+strings.Repeat(" ", 64)),
	"squashfs":                  bytesAt(0, "hsqs"+strings.Repeat("\x00", 24)+le(2, 4)),
	"cramfs":                    bytesAt(0, le(4, 0x28cd3d45)+le(4, 4096)+le(4, 1)+le(4, 0)+"Compressed ROMFS"),
	"romfs":                     bytesAt(0, "-rom1fs-"+be(4, 4096)),
	"GFS2":                      bytesAt(0x10000, be(4, 0x01161970)+be(4, 1)+strings.Repeat("\x00", 16)+be(4, 1801)+be(4, 1900)),
	"OCFS2":                     bytesAt(0x1000, "OCFSV2"),
	"f2fs":                      bytesAt(0x400, le(4, 0xF2F52010)+le(2, 1)+le(2, 16)),
	"erofs":                     bytesAt(0x400, le(4, 0xE0F5E1E2)),
	"UBI":                       bytesAt(0, "UBI#\x01"),
	"UBIFS":                     bytesAt(0, le(4, 0x06101831)),
	"zonefs":                    bytesAt(0, "SFOZ"),
	"VMFS":                      bytesAt(0x200000, le(4, 0x2fabf15e)),
	"a member of VMFS":          bytesAt(0x100000, le(4, 0xc001d00d)),
	"Intel RAID at the end":     bytesAt(-1024, "Intel Raid ISM Cfg Sig. 1.0.00"),
	"DDF RAID at the end":       bytesAt(-512, be(4, 0xDE11DE11)+strings.Repeat("\x00", 28)+"01.02.00"),
	"NVIDIA RAID at the end":    bytesAt(-1024, "NVIDIA  "),
	"ZFS": func(v victim) {
		for i := range int64(16) {
			v.write(128<<10+i<<10, le(8, 0x00bab10c))
			v.write(384<<10+i<<10, le(8, 0x00bab10c))
		}
	},
	"ZFS, of which only what is at the end is left": func(v victim) {
		for i := range int64(16) {
			v.write(-384<<10+i<<10, le(8, 0x00bab10c))
			v.write(-128<<10+i<<10, le(8, 0x00bab10c))
		}
	},
	"FAT": func(v victim) {
		v.write(0, "\xeb\x3c\x90mkfs.fat"+le(2, 512)+"\x04"+le(2, 1)+"\x02"+le(2, 512)+le(2, 0)+"\xf8"+le(2, 128)+le(2, 32)+le(2, 64)+
			le(4, 0)+le(4, 131072)+"\x80\x00\x29"+le(4, 0x12345678)+"NO NAME    FAT16   ")
		v.write(510, "\x55\xaa")
	},
	"NTFS": func(v victim) {
		const records = 4 * 8 * 512 // of the master file table: sector size, sectors of a cluster, its cluster
		v.write(0, "\xeb\x52\x90NTFS    "+le(2, 512)+"\x08"+strings.Repeat("\x00", 7)+"\xf8"+strings.Repeat("\x00", 18)+
			le(8, 131071)+le(8, 4)+le(8, 2)+"\xf6\x00\x00\x00\x01\x00\x00\x00"+le(8, 0x1234567890))
		v.write(510, "\x55\xaa")
		v.write(records, "FILE")
		v.write(records+3<<10, "FILE")
	},
	"ReiserFS":            bytesAt(0x10000, le(4, 16384)+le(4, 100)+le(4, 100)+le(4, 18)+strings.Repeat("\x00", 28)+le(2, 4096)+strings.Repeat("\x00", 6)+"ReIsEr2Fs"),
	"JFS":                 bytesAt(0x8000, "JFS1"+le(4, 1)+le(8, 0)+le(4, 4096)+le(2, 12)+le(2, 3)+le(4, 512)+le(2, 9)),
	"HFS+":                bytesAt(0x400, "H+"+be(2, 4)+strings.Repeat("\x00", 36)+be(4, 4096)),
	"BFS":                 bytesAt(0, "\xce\xfa\xad\x1b"),
	"Ceph":                bytesAt(0, "bluestore block device\n"),
	"a hibernated system": bytesAt(4096-10, "S1SUSPEND\x00"),
	"LSI RAID at the end": bytesAt(-512, "$XIDE$"),
	"a minix file system": bytesAt(0x400, le(2, 64)+le(2, 64)+le(2, 1)+le(2, 1)+le(2, 7)+le(2, 0)+le(4, 0x10081c00)+le(2, 0x138f)+le(2, 1)),

	"a database that has the disk for itself":             bytesAt(0, "page 1 of a database"),
	"something in its first MiB that nothing recognises":  bytesAt(1<<20-8, "a byte"),
	"something in its last MiB that nothing recognises":   bytesAt(-1<<20, "a byte"),
	"something in its last bytes that nothing recognises": bytesAt(-8, "the end."),
	"encrypted without a heading":                         bytesAt(0, noise()),
	"a file system whose signature was taken away": func(v victim) {
		v.run("mkfs.ext4", "-q", v.disk)
		v.run("wipefs", "--all", "--quiet", v.disk)
	},
	"a physical volume whose label was taken away": func(v victim) {
		v.run("lvm", "vgcreate", "victim", v.disk)
		v.run("lvm", "vgremove", "victim")
		v.run("lvm", "pvremove", v.disk)
	},

	"mounted": func(v victim) {
		v.run("mkfs.ext2", "-q", v.disk)
		dir := v.TempDir()
		v.run("mount", "-o", "ro", v.disk, dir)
		v.afterwards("umount", dir)
	},
	"swapped to": func(v victim) {
		v.run("mkswap", v.disk)
		v.run("swapon", v.disk)
		v.afterwards("swapoff", v.disk)
	},
	"held by another device": func(v victim) {
		v.run("dmsetup", "create", "victim", "--table", "0 2048 linear "+v.disk+" 0")
		v.afterwards("dmsetup", "remove", "victim")
	},
	"read-only": func(v victim) {
		v.run("blockdev", "--setro", v.disk)
		v.afterwards("blockdev", "--setrw", v.disk)
	},
}

// TestADestroyersTable asks for a group, a mount point and a volume on a disk in each
// of these states, and wants every byte of it to stay.
func TestADestroyersTable(t *testing.T) {
	disk := scsiDisks(t)[0]
	size, err := devfile.Root("/").Size(disk)
	if err != nil {
		t.Fatal(err)
	}
	runner := hostexec.OnHost("/")
	id := ""
	all, err := blockdev.New(runner, "/").Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Path == disk {
			id = d.ID
		}
	}
	book := exclusive.NewBook(t.TempDir())
	host := Host{Groups: lvm.New(runner), Devices: blockdev.New(runner, "/"), Wiper: wipe.New(runner, "/"), Mounts: mounts.New(runner, "/"), Book: book, Begun: begun.New(t.TempDir())}
	specs := map[string]v1alpha1.ResourceToBeInited{
		"a group, with a leave to wipe something else": {
			VGs:  []v1alpha1.VGToBeInited{{Name: "of-the-victim", Devices: []string{disk}}},
			Wipe: []v1alpha1.DeviceToBeWiped{{ID: id, Contents: "0123456789abcdef"}},
		},
		"a mount point": {MountPoints: []v1alpha1.MountPointToBeInited{{Path: "/mnt/open-local/victim", Device: disk}}},
	}
	for state, make := range hostile {
		t.Run(state, func(t *testing.T) {
			v := victim{t, disk, int64(size)}
			v.Cleanup(v.clean)
			make(v)
			before := v.sum()
			for what, spec := range specs {
				steps, problems := planOf(t, host, spec)
				if len(steps) > 0 {
					t.Errorf("for %s it is planned to %s", what, steps)
				}
				if len(problems) == 0 {
					t.Errorf("that it is not used for %s nobody is told", what)
				}
			}
			whole := &exclusive.Devices{Book: book, Host: blockdev.New(runner, "/"), Wiper: wipe.New(runner, "/"), Zero: exclusive.ZeroOn("/")}
			if _, err := whole.Take(t.Context(), exclusive.Want{Volume: "v", ID: id, Block: true}, nil); !errors.Is(err, exclusive.ErrNotFit) {
				t.Errorf("taking it for a volume: %v, want ErrNotFit", err)
			}
			if v.sum() != before {
				t.Error("something on it is not as it was")
			}
		})
	}
}

// planOf returns what an agent with that spec would do now.
func planOf(t *testing.T, host Host, spec v1alpha1.ResourceToBeInited) ([]initplan.Step, []initplan.Problem) {
	t.Helper()
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "first"}}
	nls.Spec.ListConfig.Devices.Include = []string{".*"}
	nls.Spec.ResourceToBeInited = spec
	a, err := New(Options{Node: "n1", Driver: volume.DefaultDriver, HostRoot: "/", Interval: time.Hour, Heartbeat: time.Hour},
		host, fake.NewSimpleClientset(nls), record.NewFakeRecorder(1), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	steps, problems, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return steps, problems
}

// clean makes the disk blank for the next.
func (v victim) clean() {
	left, _ := filepath.Glob(v.disk + "?")
	for _, path := range append(left, v.disk) {
		runOnHost(v.T, "wipefs", "--all", "--force", "--quiet", path)
	}
	devtest.Blank(v.T, v.disk)
	runOnHost(v.T, "blockdev", "--rereadpt", v.disk)
}
