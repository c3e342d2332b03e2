//go:build root

package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/mounts"
)

// These tests want root, a device-mapper with flakey, mkfs of ext4 and xfs, a blank
// disk of at least 400 MiB in LAB_DISKS and one that can be taken out in
// LAB_SCSI_DISKS. They overwrite the disks.

const (
	driver = "local.csi.aliyun.com"
	mapper = "pool-local--a" // what LVM calls volume local-a of group pool
	volume = "local-a"
)

// bench is a mapped device as LVM would have made it, over another, and a Watcher of it.
type bench struct {
	t       *testing.T
	kubelet string
	size    string // in sectors
	under   string // the device under the one that plays the disk
	watcher *Watcher
	told    []string
}

func (b *bench) Abnormal(volume, reason, _ string) { b.told = append(b.told, volume+" "+reason) }

func (b *bench) Normal(volume, _ string) { b.told = append(b.told, volume+" is well") }

func (b *bench) Handle(name string) (string, bool) { return name, name == volume }

func (b *bench) run(argv ...string) {
	b.t.Helper()
	if _, err := hostexec.OnHost("/").Run(context.Background(), argv[0], argv[1:]...); err != nil {
		b.t.Fatal(err)
	}
}

func firstOf(t *testing.T, variable string) string {
	t.Helper()
	disk, _, _ := strings.Cut(os.Getenv(variable), ",")
	if disk == "" {
		t.Fatalf("set %s to a disk that may be overwritten", variable)
	}
	return disk
}

func newBench(t *testing.T, under string, size int) *bench {
	t.Helper()
	b := &bench{t: t, kubelet: t.TempDir(), size: strconv.Itoa(size / 512), under: under}
	b.run("dmsetup", "create", "disk", "--table", b.table("linear", under))
	b.run("dmsetup", "create", mapper, "--uuid", "LVM-test", "--table", b.table("linear", "/dev/mapper/disk"))
	t.Cleanup(func() { b.run("dmsetup", "remove", "--retry", mapper); b.run("dmsetup", "remove", "--retry", "disk") })
	runner := hostexec.NewCounter(hostexec.OnHost("/"))
	t.Cleanup(func() {
		if runs := runner.Runs(); len(runs) > 0 {
			t.Errorf("looking started %v", runs)
		}
	})
	var err error
	root := devfile.Root("/")
	b.watcher, err = NewWatcher(Options{
		Examiner: NewExaminer(root, clock.RealClock{}), Mounts: mounts.New(runner, "/"), Devices: root, Known: b, Teller: b,
		KubeletDir: b.kubelet, Driver: driver, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// table is one line of device-mapper's: all of a device lies on another.
func (b *bench) table(kind, on string, more ...string) string {
	return strings.Join(append([]string{"0", b.size, kind, on, "0"}, more...), " ")
}

// mount makes a file system and mounts it where the kubelet has ours staged.
func (b *bench) mount(fsType string, options string) string {
	b.t.Helper()
	staging := filepath.Join(b.kubelet, "plugins/kubernetes.io/csi", driver, "0/globalmount")
	if err := os.MkdirAll(staging, 0o750); err != nil {
		b.t.Fatal(err)
	}
	// What ext4 would do later in the background must not meet the errors to come.
	how := map[string][]string{"ext4": {"-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, "xfs": {"-f"}}[fsType]
	b.run(append(append([]string{"mkfs." + fsType, "-q"}, how...), "/dev/mapper/"+mapper)...)
	b.run("mount", "-t", fsType, "-o", options, "/dev/mapper/"+mapper, staging)
	b.t.Cleanup(func() { b.run("umount", staging) })
	return staging
}

// replace gives the device that plays the disk another table.
func (b *bench) replace(table string) {
	b.t.Helper()
	b.run("dmsetup", "suspend", "--noflush", "--nolockfs", "disk")
	b.run("dmsetup", "reload", "disk", "--table", table)
	b.run("dmsetup", "resume", "disk")
}

// wantTold looks and checks what is said then.
func (b *bench) wantTold(when string, want ...string) {
	b.t.Helper()
	b.told = nil
	began := time.Now()
	if err := b.watcher.Look(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("%s: told %q after %.1f s", when, b.told, time.Since(began).Seconds())
	if diff := cmp.Diff(want, b.told); diff != "" {
		b.t.Errorf("%s: told (-want +got):\n%s", when, diff)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// kernelName returns the name that the kernel has for the device, such as dm-1.
func (b *bench) kernelName() string {
	b.t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat("/dev/mapper/"+mapper, &stat); err != nil {
		b.t.Fatal(err)
	}
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev)))
	if err != nil {
		b.t.Fatal(err)
	}
	return filepath.Base(link)
}

func TestASuspendedVolumeIsSeen(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	b.mount("ext4", "rw")
	b.wantTold("well")
	b.run("dmsetup", "suspend", mapper)
	b.wantTold("suspended", volume+" "+Suspended)
	b.wantTold("still suspended")
	b.run("dmsetup", "resume", mapper)
	b.wantTold("resumed", volume+" is well")
}

func TestAVolumeThatReturnsErrorsIsSeen(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	// Nothing of it may want to write while the disk returns errors.
	b.mount("ext4", "noatime,commit=300")
	b.wantTold("well")
	// Down for a minute out of each minute, after which nothing is read or written.
	b.replace(b.table("flakey", b.under, "0", "60"))
	b.wantTold("the disk returns errors", volume+" "+ReadError)
	b.replace(b.table("linear", b.under))
	b.wantTold("the disk works again", volume+" is well")
}

func TestAFileSystemThatGaveUpIsSeen(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	dir, err := os.Open(b.mount("xfs", "rw"))
	if err != nil {
		t.Fatal(err)
	}
	b.wantTold("well")
	// It does this by itself when it cannot write its log.
	const goingDown, withoutLog = 0x8004587D, 2 // XFS_IOC_GOINGDOWN
	if err := errors.Join(unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, withoutLog), dir.Close()); err != nil {
		t.Fatal(err)
	}
	b.wantTold("xfs has shut down", volume+" "+ReadError)
}

func TestErrorsInAFileSystemAreSeen(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	// Kernels before 6.12 turn the file system read-only at errors=remount-ro, and it
	// shows; later ones, and 6.1 with what was taken over from them, do and it does not.
	b.mount("ext4", "errors=continue")
	b.wantTold("well")
	facts := filepath.Join("/sys/fs/ext4", b.kernelName())
	if err := os.WriteFile(filepath.Join(facts, "trigger_fs_error"), []byte("a test"), 0); err != nil {
		t.Fatal(err)
	}
	// Newer kernels count it a moment later.
	for began := time.Now(); read(t, filepath.Join(facts, "errors_count")) == "0" && time.Since(began) < 10*time.Second; {
		runtime.Gosched()
	}
	b.wantTold("an error was found", volume+" "+FileSystemErrors)
}

func TestAFileSystemThatTurnedReadOnlyIsSeen(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	staging := b.mount("ext4", "rw")
	pod := filepath.Join(b.kubelet, "pods/1/volumes/kubernetes.io~csi", volume, "mount")
	if err := os.MkdirAll(pod, 0o750); err != nil {
		t.Fatal(err)
	}
	b.run("mount", "--bind", staging, pod)
	t.Cleanup(func() { b.run("umount", pod) })
	b.wantTold("well")
	b.run("mount", "-o", "remount,ro", staging)
	b.wantTold("read-only below a mount that is not", volume+" "+FileSystemReadOnly)
	b.run("mount", "-o", "remount,rw", staging)
	b.wantTold("it can be written to", volume+" is well")
}

func TestAReadOnlyDeviceIsSeen(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	b.mount("ext4", "rw")
	b.wantTold("well")
	b.run("dmsetup", "suspend", mapper)
	b.run("dmsetup", "reload", mapper, "--readonly", "--table", b.table("linear", "/dev/mapper/disk"))
	b.run("dmsetup", "resume", mapper)
	b.wantTold("the device is read-only", volume+" "+DeviceReadOnly)
	b.run("dmsetup", "suspend", mapper)
	b.run("dmsetup", "reload", mapper, "--table", b.table("linear", "/dev/mapper/disk"))
	b.run("dmsetup", "resume", mapper)
	b.wantTold("it can be written to", volume+" is well")
}

func TestADiskThatDoesNotAnswerIsSeen(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	b.mount("ext4", "rw")
	b.wantTold("well")
	b.run("dmsetup", "suspend", "--nolockfs", "disk")
	b.wantTold("the disk does not answer", volume+" "+NotAnswering)
	b.wantTold("it still does not")
	b.run("dmsetup", "resume", "disk")
	b.wantTold("it answers", volume+" is well")
}

func TestADiskThatIsTakenOutIsSeen(t *testing.T) {
	disk := firstOf(t, "LAB_SCSI_DISKS")
	b := newBench(t, disk, 48<<20)
	b.mount("ext4", "rw")
	b.wantTold("well")
	if err := os.WriteFile(filepath.Join("/sys/block", filepath.Base(disk), "device/delete"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	b.wantTold("the disk is taken out", volume+" "+ReadError)
}

func TestABlockVolumeIsLookedAtToo(t *testing.T) {
	b := newBench(t, firstOf(t, "LAB_DISKS"), 400<<20)
	target := filepath.Join(b.kubelet, "plugins/kubernetes.io/csi", driver, "published")
	if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o750), os.WriteFile(target, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	b.run("mount", "--bind", filepath.Join("/dev", b.kernelName()), target)
	t.Cleanup(func() { b.run("umount", target) })
	b.wantTold("well")
	b.replace(b.table("flakey", b.under, "0", "60"))
	b.wantTold("the disk returns errors", volume+" "+ReadError)
	b.replace(b.table("linear", b.under))
	b.wantTold("the disk works again", volume+" is well")
}
