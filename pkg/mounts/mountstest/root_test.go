//go:build root

package mountstest

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/mounts"
)

// These tests want root and two blank disks of at least 400 MiB in LAB_DISKS,
// separated by commas. They overwrite the disks.

func disks(t *testing.T) [2]string {
	t.Helper()
	all := strings.Split(os.Getenv("LAB_DISKS"), ",")
	if len(all) < 2 {
		t.Fatal("set LAB_DISKS to two blank disks that may be overwritten, such as /dev/ubdb,/dev/ubdc")
	}
	for _, disk := range all[:2] {
		run(t, "wipefs", "--all", "--quiet", disk)
		t.Cleanup(func() {
			if _, err := hostexec.OnHost("/").Run(context.Background(), "wipefs", "--all", "--quiet", disk); err != nil {
				t.Error(err)
			}
		})
	}
	return [2]string(all[:2])
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if _, err := hostexec.OnHost("/").Run(t.Context(), program, args...); err != nil {
		t.Fatal(err)
	}
}

// directory returns a directory in memory, under which all is unmounted afterwards.
func directory(t *testing.T) string {
	t.Helper()
	const dir = "/dev/shm/mountstest" // not where the disk of the machine is
	noError(t, os.Mkdir(dir, 0o700))
	t.Cleanup(func() {
		for range 64 {
			data, err := os.ReadFile("/proc/self/mountinfo")
			noError(t, err)
			all, err := mounts.ParseMountinfo(data)
			noError(t, err)
			left := 0
			for _, m := range all {
				if strings.HasPrefix(m.Target, dir+"/") {
					left++
					_ = unix.Unmount(m.Target, 0)
				}
			}
			if left == 0 {
				noError(t, os.RemoveAll(dir))
				return
			}
		}
		t.Errorf("something stays mounted under %s", dir)
	})
	return dir
}

func subject(t *testing.T, fsType string) Subject {
	t.Helper()
	devices := disks(t) // wiped after all is unmounted
	host := mounts.New(hostexec.OnHost("/"), "/")
	return Subject{Formatter: host, Mounter: host, Looker: host, Devices: devices, Dir: directory(t), FSType: fsType}
}

func TestTheRealThingPassesTheExamination(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs", "ext3"} {
		t.Run(fsType, func(t *testing.T) {
			Examine(t, func(t *testing.T) Subject { return subject(t, fsType) })
		})
	}
}

// partition writes a partition table of the oldest kind, with one partition of 20 MiB.
func partition(t *testing.T, disk string) {
	t.Helper()
	const sectors = 20 << 20 / 512
	table := make([]byte, 512)
	entry := table[446:]
	entry[4] = 0x83 // Linux
	binary.LittleEndian.PutUint32(entry[8:], sectors)
	binary.LittleEndian.PutUint32(entry[12:], sectors)
	copy(table[510:], "\x55\xaa")
	file, err := os.OpenFile(disk, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.Write(table)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestEveryKindOfOldDataIsSeenAndKept(t *testing.T) {
	s := subject(t, "ext4")
	device := s.Devices[0]
	for want, make := range map[string][]string{
		"swap":        {"mkswap", device},
		"LVM2_member": {"lvm", "pvcreate", device},
		"ext2":        {"mke2fs", "-q", "-t", "ext2", device},
	} {
		run(t, "wipefs", "--all", "--quiet", device)
		run(t, make[0], make[1:]...)
		s.wantSignature(t, device, want)
		wantError(t, s.Format(t.Context(), device, "ext4"), mounts.ErrNotBlank)
		s.wantSignature(t, device, want)
	}
	run(t, "wipefs", "--all", "--quiet", device)
	partition(t, device)
	s.wantSignature(t, device, "dos")
	wantError(t, s.Format(t.Context(), device, "ext4"), mounts.ErrNotBlank)
}

func TestABindCostsNoProcessAndNeitherDoesUnmounting(t *testing.T) {
	s := subject(t, "ext4")
	counter := hostexec.NewCounter(hostexec.OnHost("/"))
	host := mounts.New(counter, "/")
	staged, target := s.mounted(t), s.Dir+"/target"
	noError(t, host.BindMount(t.Context(), staged, target, []string{"ro"}))
	_, mounted, err := host.IsMounted(target)
	noError(t, err)
	if !mounted {
		t.Error("it is not mounted")
	}
	noError(t, host.Unmount(t.Context(), target))
	noError(t, host.Remove(target))
	if diff := cmp.Diff(map[string]int{}, counter.Runs()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	noError(t, host.Unmount(t.Context(), staged))
	noError(t, host.Mount(t.Context(), s.Devices[0], staged, "ext4", nil))
	if diff := cmp.Diff(map[string]int{"mount": 1}, counter.Runs()); diff != "" {
		t.Errorf("processes of mounting (-want +got):\n%s", diff)
	}
}

func TestAReadOnlyBindIsReadOnlyForEveryPeer(t *testing.T) {
	s := subject(t, "ext4")
	staged := s.mounted(t)
	// Two directories that propagate to each other, as the host's and ours do.
	here, there := s.Dir+"/here", s.Dir+"/there"
	noError(t, errors.Join(os.Mkdir(here, 0o700), os.Mkdir(there, 0o700)))
	noError(t, unix.Mount("tmpfs", here, "tmpfs", 0, ""))
	noError(t, unix.Mount("", here, "", unix.MS_SHARED, ""))
	noError(t, unix.Mount(here, there, "", unix.MS_BIND, ""))
	noError(t, s.BindMount(t.Context(), staged, here+"/target", []string{"ro"}))
	for _, target := range []string{here + "/target", there + "/target"} {
		if err := os.WriteFile(target+"/file", nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing below %s: %v", target, err)
		}
	}
	noError(t, os.WriteFile(staged+"/file", nil, 0o600))
	noError(t, s.Unmount(t.Context(), here+"/target"))
	s.wantMounted(t, there+"/target", false)
}

func TestAMountInUseStays(t *testing.T) {
	s := subject(t, "ext4")
	target := s.mounted(t)
	file, err := os.Create(target + "/file")
	noError(t, err)
	wantError(t, s.Unmount(t.Context(), target), mounts.ErrBusy)
	s.wantMounted(t, target, true)
	noError(t, file.Close())
	noError(t, s.Unmount(t.Context(), target))
}

func TestMountsThatSomeoneStackedAreAllTakenOff(t *testing.T) {
	s := subject(t, "ext4")
	target := s.mounted(t)
	for range 5 {
		noError(t, unix.Mount("/proc/self", target, "", unix.MS_BIND, ""))
	}
	noError(t, s.Unmount(t.Context(), target))
	s.wantMounted(t, target, false)
}

func TestATargetBehindALinkIsFound(t *testing.T) {
	s := subject(t, "ext4")
	noError(t, errors.Join(os.Mkdir(s.Dir+"/real", 0o700), os.Symlink("real", s.Dir+"/link")))
	noError(t, s.Format(t.Context(), s.Devices[0], "ext4"))
	noError(t, s.Mount(t.Context(), s.Devices[0], s.Dir+"/link/target", "ext4", nil))
	noError(t, s.Mount(t.Context(), s.Devices[0], s.Dir+"/link/target", "ext4", nil))
	s.wantMounted(t, s.Dir+"/real/target", true)
	s.wantMounted(t, s.Dir+"/link/target", true)
	noError(t, s.Unmount(t.Context(), s.Dir+"/link/target"))
	s.wantMounted(t, s.Dir+"/real/target", false)
}

func TestATargetThatIsNotEmptyStays(t *testing.T) {
	s := subject(t, "ext4")
	noError(t, os.Mkdir(s.Dir+"/target", 0o700))
	noError(t, os.WriteFile(s.Dir+"/target/data", nil, 0o600))
	if err := s.Remove(s.Dir + "/target"); err == nil {
		t.Error("a directory with data was removed")
	}
	if _, err := os.Stat(s.Dir + "/target/data"); err != nil {
		t.Error(err)
	}
}

func TestAFileSystemGrowsWithItsDevice(t *testing.T) {
	for _, fsType := range []string{"ext4", "ext3", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			s := subject(t, fsType)
			counter := hostexec.NewCounter(hostexec.OnHost("/"))
			host := mounts.New(counter, "/")
			run(t, "lvm", "vgcreate", "mountstest", s.Devices[0], s.Devices[1])
			defer run(t, "lvm", "vgremove", "--yes", "--force", "mountstest")
			run(t, "lvm", "lvcreate", "--yes", "--size", "320m", "--name", "data", "mountstest")
			s.Formatter, s.Devices[0] = host, "/dev/mountstest/data"
			before := uint64(0)
			ExamineGrowth(t, s, func() {
				run(t, "lvm", "lvextend", "--size", "420m", "mountstest/data")
				before = total(t, s.Dir+"/staged")
			}, func(target string) int64 { return int64(total(t, target)) })
			if before == 0 {
				t.Fatal("it was not extended")
			}
			for program, times := range counter.Runs() {
				if strings.HasPrefix(program, "mkfs") || program == "blkid" || program == "mount" {
					continue
				}
				if times != 1 {
					t.Errorf("%s ran %d times, wanted is once: the rest had nothing to do", program, times)
				}
			}
		})
	}
}

func TestAFileSystemIsMadeWithEveryOption(t *testing.T) {
	for options, fsType := range map[string]string{
		"-m 5 -i 16384 -I 256 -b 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard,stride=16,stripe_width=64 -O metadata_csum,^huge_file": "ext4",
		"-b 1024 -N 4096 -O dir_index": "ext3",
		"-b size=4096 -i size=512,maxpct=10 -m reflink=0,bigtime=1 -n size=8192 -d su=65536,sw=2 -l size=67108864 -K": "xfs",
		"-n 16384 -m single -d single -O no-holes -K":                                                                 "btrfs",
	} {
		t.Run(fsType, func(t *testing.T) {
			s := subject(t, fsType)
			noError(t, s.Format(t.Context(), s.Devices[0], fsType, strings.Fields(options)...))
			noError(t, s.Mount(t.Context(), s.Devices[0], s.Dir+"/target", fsType, nil))
			noError(t, s.Unmount(t.Context(), s.Dir+"/target"))
		})
	}
}

func TestTheSmallestFileSystems(t *testing.T) {
	for fsType, size := range map[string]string{"ext4": "4m", "ext3": "4m", "xfs": "300m", "btrfs": "112m"} {
		t.Run(fsType, func(t *testing.T) {
			s := subject(t, fsType)
			run(t, "lvm", "vgcreate", "mountstest", s.Devices[0])
			defer run(t, "lvm", "vgremove", "--yes", "--force", "mountstest")
			run(t, "lvm", "lvcreate", "--yes", "--size", size, "--name", "data", "mountstest")
			noError(t, s.Format(t.Context(), "/dev/mountstest/data", fsType))
			noError(t, s.Mount(t.Context(), "/dev/mountstest/data", s.Dir+"/target", fsType, nil))
			noError(t, os.WriteFile(s.Dir+"/target/file", make([]byte, 1<<20), 0o600))
			noError(t, s.Unmount(t.Context(), s.Dir+"/target"))
		})
	}
}

func total(t *testing.T, path string) uint64 {
	t.Helper()
	var s unix.Statfs_t
	noError(t, unix.Statfs(path, &s))
	return s.Blocks * uint64(s.Bsize)
}

// container makes the host's root appear below dir the way it does in our pod: what
// is mounted on the host shows there, and the other way round.
func container(t *testing.T, dir string) (root string) {
	t.Helper()
	// A parent of its own that propagates nothing: else the tree would hold itself
	// again and again.
	noError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	noError(t, unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	root = dir + "/host"
	noError(t, os.Mkdir(root, 0o700))
	noError(t, unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, ""))
	t.Cleanup(func() {
		noError(t, unix.Mount("", root, "", unix.MS_PRIVATE|unix.MS_REC, ""))
		noError(t, unix.Unmount(root, unix.MNT_DETACH))
		noError(t, unix.Unmount(dir, unix.MNT_DETACH))
	})
	return root
}

func TestFromAContainerTheHostIsMountedOn(t *testing.T) {
	s := subject(t, "ext4")
	noError(t, os.Mkdir(s.Dir+"/container", 0o700))
	root := container(t, s.Dir+"/container")
	h, target := mounts.New(hostexec.OnHost(root), root), s.Dir+"/target"
	noError(t, h.Format(t.Context(), s.Devices[0], "ext4"))
	for range 2 {
		noError(t, h.Mount(t.Context(), s.Devices[0], target, "ext4", nil))
		noError(t, h.BindMount(t.Context(), target, target+"-pod", []string{"ro"}))
		noError(t, h.BindMount(t.Context(), s.Devices[0], target+"-block", nil))
	}
	m, mounted, err := h.IsMounted(target)
	noError(t, err)
	if !mounted || m.Target != target || m.Source != s.Devices[0] {
		t.Errorf("seen from the container: %v, %+v", mounted, m)
	}
	// s itself is on the host.
	if m := s.wantMounted(t, target, true); m.Source != s.Devices[0] {
		t.Errorf("seen from the host: %+v", m)
	}
	if err := os.WriteFile(target+"-pod/file", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing through the read-only bind on the host: %v", err)
	}
	for _, path := range []string{target + "-block", target + "-pod", target} {
		s.wantMounted(t, path, true)
		noError(t, h.Unmount(t.Context(), path))
		s.wantMounted(t, path, false)
		noError(t, h.Remove(path))
	}
}
