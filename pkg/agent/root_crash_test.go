//go:build root

package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/initplan"
)

var errDied = errors.New("the process died")

// A mortalProcess runs the host's programs until one is to be its last.
type mortalProcess struct {
	isLast func(name string, args []string) bool
	last   func(ctx context.Context, name string, args []string) // what becomes of that one

	once sync.Once
	died chan struct{}
}

func (p *mortalProcess) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	select {
	case <-p.died:
		return nil, errDied
	default:
	}
	if !p.isLast(name, args) {
		return hostexec.OnHost("/").Run(ctx, name, args...)
	}
	p.once.Do(func() {
		p.last(ctx, name, args)
		close(p.died)
	})
	return nil, errDied
}

// dieAt has an agent at work until the first program of that name, and subcommand if any,
// becomes its last.
func (n *realNode) dieAt(program string, last func(ctx context.Context, name string, args []string)) {
	n.t.Helper()
	p := &mortalProcess{last: last, died: make(chan struct{}), isLast: func(name string, args []string) bool {
		return strings.HasPrefix(strings.Join(append([]string{name}, args...), " "), program)
	}}
	n.start(p)
	select {
	case <-p.died:
	case <-time.After(30 * time.Second):
		n.t.Fatalf("in half a minute nobody ran %s", program)
	}
	n.stop()
}

// whole runs a program to its end, of which the agent that asked for it never hears.
func whole(ctx context.Context, name string, args []string) {
	_, _ = hostexec.OnHost("/").Run(ctx, name, args...)
}

func never(context.Context, string, []string) {}

// wantNothingBegun checks that nothing is remembered to have been begun, once that what
// was done is reported.
func (n *realNode) wantNothingBegun() {
	n.t.Helper()
	n.stop()
	left, err := begun.New("/").List()
	if err != nil || slices.ContainsFunc(left, func(c begun.Change) bool { return c.Done == nil }) {
		n.t.Errorf("it is remembered that %+v was begun, %v", left, err)
	}
}

// sumOf is what is on a disk.
func sumOf(t *testing.T, disk string) string {
	t.Helper()
	return runOnHost(t, "sha256sum", disk)
}

// TestARealVgcreateThatIsCutShortIsFinished kills vgcreate and vgextend where there is a
// physical volume already and no group has it.
func TestARealVgcreateThatIsCutShortIsFinished(t *testing.T) {
	disks := strings.Split(os.Getenv("LAB_DISKS"), ",")
	first, second, bystander := disks[0], disks[1], scsiDisks(t)[0]
	half := func(ctx context.Context, _ string, args []string) {
		devices := args[slices.Index(args, "--")+2:]
		if _, err := hostexec.OnHost("/").Run(ctx, "lvm", append([]string{"pvcreate", "--"}, devices...)...); err != nil {
			t.Errorf("half a vgcreate: %v", err)
		}
	}
	for _, tc := range []struct {
		name, program string
		last          func(context.Context, string, []string)
		stands        bool
	}{
		{"before vgcreate", "lvm vgcreate", never, false},
		{"within vgcreate", "lvm vgcreate", half, false},
		{"after vgcreate", "lvm vgcreate", whole, false},
		{"within vgextend", "lvm vgextend", half, true},
		{"after vgextend", "lvm vgextend", whole, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			devtest.Blank(t, first, second)
			t.Cleanup(func() {
				runOnHost(t, "lvm", "vgremove", "--force", "--yes", realGroup)
				devtest.Blank(t, first, second)
			})
			before := sumOf(t, bystander)
			if tc.stands {
				runOnHost(t, "lvm", "vgcreate", realGroup, first)
			}
			n := newIdleNode(t, func(nls *v1alpha1.NodeLocalStorage) {
				nls.Spec.ListConfig.VGs.Include = []string{realGroup}
				nls.Spec.ResourceToBeInited.VGs = []v1alpha1.VGToBeInited{{Name: realGroup, Devices: []string{first, second}}}
			})
			n.dieAt(tc.program, tc.last)
			n.start(hostexec.OnHost("/"))
			n.wantReport("a group of both disks", func(s v1alpha1.NodeLocalStorageStatus) bool {
				g, ok := reportedGroup(s)
				return ok && len(g.PhysicalVolumes) == 2 && g.Condition == v1alpha1.StorageReady && !hasCondition(s, initplan.OrphanPV, "")
			})
			n.wantNothingBegun()
			if sumOf(t, bystander) != before {
				t.Error("another disk was written to")
			}
		})
	}
}

// TestAPhysicalVolumeThatSomebodyElseMadeIsLeftAlone is the same without the agent's having
// begun anything.
func TestAPhysicalVolumeThatSomebodyElseMadeIsLeftAlone(t *testing.T) {
	disk := scsiDisks(t)[0]
	devtest.Blank(t, disk)
	t.Cleanup(func() { devtest.Blank(t, disk) })
	runOnHost(t, "lvm", "pvcreate", disk)
	before := sumOf(t, disk)
	n := newRealNode(t, disk)
	n.wantReport("a physical volume of no group is a condition", func(s v1alpha1.NodeLocalStorageStatus) bool {
		return hasCondition(s, initplan.OrphanPV, disk)
	})
	if sumOf(t, disk) != before {
		t.Error("it was written to")
	}
}

// TestARealMkfsThatIsKilledIsFinished kills mkfs sooner and later, and hardly at all.
func TestARealMkfsThatIsKilledIsFinished(t *testing.T) {
	const (
		at    = "/mnt/open-local/killed"
		parts = 7
	)
	disk, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	bystander := scsiDisks(t)[0]
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			before := sumOf(t, bystander)
			states := map[string]int{}
			devtest.Blank(t, disk)
			began := time.Now()
			runOnHost(t, "mkfs."+fsType, "-q", disk)
			whole := time.Since(began)
			for part := range parts {
				after := whole * time.Duration(part) / (parts - 2) // the last is done before
				devtest.Blank(t, disk)
				n := newIdleNode(t, func(nls *v1alpha1.NodeLocalStorage) {
					nls.Spec.ListConfig.MountPoints.Include = []string{at}
					nls.Spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{{Path: at, Device: disk, FsType: fsType}}
				})
				n.dieAt("mkfs."+fsType, func(ctx context.Context, name string, args []string) {
					killed, cancel := context.WithTimeout(ctx, after)
					defer cancel()
					_, _ = hostexec.OnHost("/").Run(killed, name, args...)
				})
				e, err := blockdev.New(hostexec.OnHost("/"), "/").Inspect(t.Context(), disk)
				if err != nil {
					t.Fatal(err)
				}
				left := "nothing"
				for _, o := range blockdev.Objections(e) {
					left = o.Message
				}
				states[left]++
				n.start(hostexec.OnHost("/"))
				n.wantReport(fsType+" that was killed after "+after.String()+" and left "+left, func(s v1alpha1.NodeLocalStorageStatus) bool {
					return slices.ContainsFunc(s.NodeStorageInfo.MountPoints, func(m v1alpha1.MountPoint) bool {
						return m.Name == at && m.Device == disk && m.Condition == v1alpha1.StorageReady && m.ID == "fsuuid-"+initplan.FileSystemUUID("n1", at)
					})
				})
				n.wantNothingBegun()
				if err := os.WriteFile(filepath.Join(at, "data"), []byte(strings.Repeat("kept", 1<<20)), 0o600); err != nil {
					t.Error(err)
				}
				runOnHost(t, "umount", at)
				if fsType == "ext4" { // what was made is whole
					runOnHost(t, "e2fsck", "-f", "-n", disk)
				}
			}
			t.Logf("what was left of a killed mkfs.%s, and how often: %v", fsType, states)
			devtest.Blank(t, disk)
			if sumOf(t, bystander) != before {
				t.Error("another disk was written to")
			}
		})
	}
	if err := os.RemoveAll(filepath.Dir(at)); err != nil {
		t.Error(err)
	}
}

// TestARealWipeThatIsCutShortIsFinishedAndUsedOnce ends the agent before and after the one
// program that a wipe runs before it writes.
func TestARealWipeThatIsCutShortIsFinishedAndUsedOnce(t *testing.T) {
	disk, bystander := scsiDisks(t)[0], scsiDisks(t)[1]
	contents := func(t *testing.T) (id, of string) {
		t.Helper()
		host := blockdev.New(hostexec.OnHost("/"), "/")
		all, err := host.Devices(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if d.Path == disk {
				id = d.ID
			}
		}
		e, err := host.Inspect(t.Context(), disk)
		if err != nil {
			t.Fatal(err)
		}
		if of, err = host.Contents(e); err != nil {
			t.Fatal(err)
		}
		return id, of
	}
	for name, last := range map[string]func(context.Context, string, []string){"before wipefs": never, "after wipefs": whole} {
		for what, fill := range map[string]func(t *testing.T){
			"a file system": func(t *testing.T) { runOnHost(t, "mkfs.ext4", "-q", disk) },
			"two partitions": func(t *testing.T) {
				devtest.GPT(t, disk, devtest.Partition{From: 1, To: 30}, devtest.Partition{From: 30, To: 56})
				runOnHost(t, "blockdev", "--rereadpt", disk)
				runOnHost(t, "mkfs.ext4", "-q", "-F", disk+"1")
				runOnHost(t, "mkfs.ext4", "-q", "-F", disk+"2")
			},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				devtest.Blank(t, disk)
				t.Cleanup(func() {
					devtest.Blank(t, disk)
					runOnHost(t, "blockdev", "--rereadpt", disk)
				})
				fill(t)
				before := sumOf(t, bystander)
				id, of := contents(t)
				n := newIdleNode(t, func(nls *v1alpha1.NodeLocalStorage) {
					nls.Spec.ListConfig.Devices.Include = []string{disk}
					nls.Spec.ResourceToBeInited.Wipe = []v1alpha1.DeviceToBeWiped{{ID: id, Contents: of}}
				})
				n.dieAt("wipefs --all", last)
				n.start(hostexec.OnHost("/"))
				n.wantReport("a disk that is wiped and offered", func(s v1alpha1.NodeLocalStorageStatus) bool {
					return len(s.Wiped) == 1 && s.Wiped[0].Contents == of && slices.Contains(s.FilteredStorageInfo.Devices, disk)
				})
				n.wantNothingBegun()
				if sumOf(t, bystander) != before {
					t.Error("another disk was written to")
				}

				// The same comes back, byte for byte where anybody looks: the leave is used up.
				runOnHost(t, "mkfs.ext4", "-q", disk)
				again := sumOf(t, disk)
				_, now := contents(t)
				n.start(hostexec.OnHost("/"))
				n.wantReport("a disk with new data is left alone", func(s v1alpha1.NodeLocalStorageStatus) bool {
					return reportedDevice(s, disk).Contents == now
				})
				if sumOf(t, disk) != again {
					t.Error("a disk was wiped a second time")
				}
			})
		}
	}
}
