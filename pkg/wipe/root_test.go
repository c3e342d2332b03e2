//go:build root

package wipe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/hostexec"
)

// These tests want root, LVM, blank disks in LAB_DISKS and two in LAB_SCSI_DISKS,
// separated by commas. They overwrite the disks.

type lab struct {
	*testing.T
	disk string
}

func newLab(t *testing.T) lab {
	t.Helper()
	disks := strings.Split(os.Getenv("LAB_SCSI_DISKS"), ",")
	if len(disks) < 2 {
		t.Fatal("set LAB_SCSI_DISKS to SCSI disks that may be overwritten, such as /dev/sda,/dev/sdb")
	}
	l := lab{t, disks[0]}
	l.Cleanup(func() {
		if err := New(hostexec.OnHost("/"), "/").Wipe(context.Background(), l.order(l.disk, Zero), quietly); err != nil {
			t.Error(err)
		}
	})
	return l
}

func quietly(capacity.Bytes, capacity.Bytes) {}

func (l lab) run(program string, args ...string) {
	l.Helper()
	if _, err := hostexec.OnHost("/").Run(l.Context(), program, args...); err != nil {
		l.Fatal(err)
	}
}

func (l lab) afterwards(program string, args ...string) {
	l.Cleanup(func() {
		if _, err := hostexec.OnHost("/").Run(context.Background(), program, args...); err != nil {
			l.Error(err)
		}
	})
}

func (l lab) order(path string, method Method) Order {
	l.Helper()
	file, err := devfile.Root("/").Look(path)
	if err != nil {
		l.Fatal(err)
	}
	return Order{Path: path, Major: unix.Major(file.Device), Minor: unix.Minor(file.Device), Method: method}
}

func (l lab) wipe(order Order) error {
	return New(hostexec.OnHost("/"), "/").Wipe(l.Context(), order, quietly)
}

// sum is what is on a device, to the last byte.
func (l lab) sum(path string) string {
	l.Helper()
	file, err := os.Open(path)
	if err != nil {
		l.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		l.Fatal(err)
	}
	return string(sum.Sum(nil))
}

// fill writes the same over the whole device.
func (l lab) fill(path string) {
	l.Helper()
	size, err := devfile.Root("/").Size(path)
	if err != nil {
		l.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		l.Fatal(err)
	}
	_, err = file.Write(bytes.Repeat([]byte("secret "), int(size)/7+1)[:size])
	if err := errors.Join(err, file.Close()); err != nil {
		l.Fatal(err)
	}
}

func (l lab) objections(path string) []blockdev.Objection {
	l.Helper()
	evidence, err := blockdev.New(hostexec.OnHost("/"), "/").Inspect(l.Context(), path)
	if err != nil {
		l.Fatal(err)
	}
	return blockdev.Objections(evidence)
}

// partitioned makes a table and two file systems on it.
func (l lab) partitioned() {
	devtest.GPT(l.T, l.disk, devtest.Partition{From: 8, To: 30}, devtest.Partition{From: 30, To: 56})
	l.run("blockdev", "--rereadpt", l.disk)
	l.run("mkfs.ext4", "-q", l.disk+"1")
	l.run("mkswap", l.disk+"2")
}

func TestWhateverIsOnADeviceGoes(t *testing.T) {
	for name, make := range map[string]func(l lab){
		"ext4":                          func(l lab) { l.run("mkfs.ext4", "-q", l.disk) },
		"ext2":                          func(l lab) { l.run("mkfs.ext2", "-q", l.disk) },
		"btrfs":                         func(l lab) { l.run("mkfs.btrfs", "-q", "--mixed", l.disk) },
		"swap":                          func(l lab) { l.run("mkswap", l.disk) },
		"a partition table":             func(l lab) { devtest.GPT(l.T, l.disk) },
		"partitions and what they hold": func(l lab) { l.partitioned() },
		"a physical volume":             func(l lab) { l.run("lvm", "pvcreate", l.disk) },
		"a volume group that nobody finds": func(l lab) {
			l.run("lvm", "vgcreate", "wipetest", l.disk)
			l.run("lvm", "vgexport", "wipetest")
		},
		"bytes that nobody knows": func(l lab) { l.fill(l.disk) },
		"nothing":                 func(lab) {},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			make(l)
			if err := l.wipe(l.order(l.disk, None)); err != nil {
				t.Fatal(err)
			}
			if got := l.objections(l.disk); len(got) > 0 {
				t.Errorf("it is not blank: %+v", got)
			}
			if left, err := filepath.Glob(l.disk + "?"); err != nil || len(left) > 0 {
				t.Errorf("the kernel still has %q, %v", left, err)
			}
		})
	}
}

func TestATableThatIsMadeAgainBringsNothingBack(t *testing.T) {
	l := newLab(t)
	l.partitioned()
	if err := l.wipe(l.order(l.disk, None)); err != nil {
		t.Fatal(err)
	}
	devtest.GPT(t, l.disk, devtest.Partition{From: 8, To: 30})
	l.run("blockdev", "--rereadpt", l.disk)
	// What lies between the ends stays with that method, but nobody takes it for more than data.
	if got := l.objections(l.disk + "1"); len(got) != 1 || got[0].Reason != blockdev.HasData {
		t.Errorf("against the partition is %+v", got)
	}
}

func TestHowMuchOfADeviceGoes(t *testing.T) {
	for method, want := range map[Method]bool{None: false, Zero: true} { // that no byte is left
		t.Run(string(method), func(t *testing.T) {
			l := newLab(t)
			l.fill(l.disk)
			if err := l.wipe(l.order(l.disk, method)); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(l.disk)
			if err != nil {
				t.Fatal(err)
			}
			if got := !bytes.Contains(content, []byte("secret")); got != want {
				t.Errorf("no byte is left: %t, want %t", got, want)
			}
			for name, end := range map[string][]byte{"start": content[:edge], "end": content[len(content)-int(edge):]} {
				if !bytes.Equal(end, make([]byte, edge)) {
					t.Errorf("its %s is not all zeros", name)
				}
			}
		})
	}
}

func TestADiskThatCanIsToldToForget(t *testing.T) {
	l := newLab(t)
	l.fill(l.disk)
	if err := l.wipe(l.order(l.disk, Discard)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(l.disk)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte("secret")) { // this disk shows zeros then
		t.Error("something is left on it")
	}
	cannot, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	l.run("mkfs.ext4", "-q", cannot)
	if err := l.wipe(l.order(cannot, Discard)); err != nil {
		t.Errorf("a disk that may not be able to: %v", err)
	}
}

func TestWhatIsLeftAlone(t *testing.T) {
	mounted := func(l lab, device string) {
		dir := l.TempDir()
		l.run("mount", device, dir)
		l.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	}
	for name, tc := range map[string]struct {
		make func(l lab)
		edit func(*Order)
		want error
	}{
		"a file system that is mounted": {make: func(l lab) {
			l.run("mkfs.ext2", "-q", l.disk)
			mounted(l, l.disk)
			l.run("sync")
		}, want: ErrInUse},
		"a disk of which a partition is mounted": {make: func(l lab) {
			l.partitioned()
			mounted(l, l.disk+"1")
			l.run("sync")
		}, want: ErrInUse},
		"swap that is swapped to": {make: func(l lab) {
			l.run("mkswap", l.disk)
			l.run("swapon", l.disk)
			l.afterwards("swapoff", l.disk)
		}, want: ErrInUse},
		"a physical volume with a volume that is active": {make: func(l lab) {
			l.run("lvm", "vgcreate", "wipetest", l.disk)
			l.run("lvm", "lvcreate", "--yes", "--size", "8m", "--name", "data", "wipetest")
			l.afterwards("lvm", "vgremove", "--yes", "--force", "wipetest")
		}, want: ErrInUse},
		"a disk that is read-only": {make: func(l lab) {
			l.run("mkfs.ext4", "-q", l.disk)
			l.run("blockdev", "--setro", l.disk)
			l.afterwards("blockdev", "--setrw", l.disk)
		}, want: ErrInUse},
		"another device than was meant": {
			make: func(l lab) { l.run("mkfs.ext4", "-q", l.disk) }, edit: func(o *Order) { o.Minor += 16 }, want: devfile.ErrAnotherDevice,
		},
		"other contents than were meant": {
			make: func(l lab) { l.run("mkfs.ext4", "-q", l.disk) }, edit: func(o *Order) { o.Contents = "0123456789abcdef" }, want: ErrChanged,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			tc.make(l)
			order := l.order(l.disk, Zero)
			if tc.edit != nil {
				tc.edit(&order)
			}
			order.Begin = func() error {
				t.Error("it was told that it begins")
				return nil
			}
			before := l.sum(l.disk)
			if err := l.wipe(order); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if l.sum(l.disk) != before {
				t.Error("something on it is not as it was")
			}
		})
	}
}

// TestAWipeSaysThatItBeginsBeforeItDoesAndAfterAllElse looks at the device when it is told.
func TestAWipeSaysThatItBeginsBeforeItDoesAndAfterAllElse(t *testing.T) {
	errNo := errors.New("no")
	for name, tc := range map[string]struct {
		stopped bool
		answer  error
		told    int
		want    error
	}{
		"it may":                      {false, nil, 1, nil},
		"it may not":                  {false, errNo, 1, errNo},
		"it is to stop before it can": {true, nil, 0, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.partitioned()
			before, told := l.sum(l.disk), 0
			order := l.order(l.disk, Zero)
			order.Begin = func() error {
				told++
				if l.sum(l.disk) != before {
					t.Error("something was destroyed before it was told")
				}
				if file, err := os.OpenFile(l.disk, os.O_RDONLY|unix.O_EXCL, 0); !errors.Is(err, unix.EBUSY) {
					t.Errorf("somebody else has the device alone: %v, %v", file, err)
				}
				return tc.answer
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if tc.stopped {
				stop()
			}
			if err := New(hostexec.OnHost("/"), "/").Wipe(ctx, order, quietly); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if told != tc.told {
				t.Errorf("it was told %d times, want %d", told, tc.told)
			}
			if isAsBefore := l.sum(l.disk) == before; isAsBefore != (tc.want != nil) {
				t.Errorf("it is as before: %t", isAsBefore)
			}
		})
	}
}

func TestContentsChangeWithAnyUseAndAreWipedWhenTheyDidNot(t *testing.T) {
	l := newLab(t)
	l.partitioned()
	devices := blockdev.New(hostexec.OnHost("/"), "/")
	contents := func() string {
		evidence, err := devices.Inspect(t.Context(), l.disk)
		if err != nil {
			t.Fatal(err)
		}
		is, err := devices.Contents(evidence)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	before := contents()
	dir := t.TempDir()
	l.run("mount", l.disk+"1", dir)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("data"), 0o600), unix.Unmount(dir, 0)); err != nil {
		t.Fatal(err)
	}
	after := contents()
	if before == after {
		t.Fatal("a partition was used, and the contents are the same")
	}
	order := l.order(l.disk, Discard)
	order.Contents = before
	if err := l.wipe(order); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v, want ErrChanged", err)
	}
	order.Contents = after
	if err := l.wipe(order); err != nil {
		t.Fatal(err)
	}
	if err := l.wipe(order); !errors.Is(err, ErrChanged) {
		t.Errorf("a second time: got %v, want ErrChanged", err)
	}
}
