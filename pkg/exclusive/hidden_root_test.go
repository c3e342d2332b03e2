//go:build root

package exclusive

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/devmapper"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// A tenant has the second disk for himself, and knows what our group is called. udev has
// made links to his disk, some of labels that he chose, and the host's administrator has filters of his own.
func TestAGroupOnATenantsRealDiskIsSeenUnderNoName(t *testing.T) {
	const group = "exclusive-share"
	l := newLab(t)
	ours, tenants := l.disks[0].Path, l.disks[1].Path
	directory := "/dev/disk/by-lab-id"
	must(t, os.MkdirAll(directory, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(directory)) })
	for _, part := range []string{"", "1"} {
		must(t, os.Symlink("../.."+tenants[len("/dev"):]+part, filepath.Join(directory, "tenants"+part)))
		must(t, os.Symlink("tenants"+part, filepath.Join(directory, "#\\x20ä \"],[a|.*|]^$(+)?{}'"+part)))
	}
	system := t.TempDir()
	configure := func(t *testing.T, devices string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(system, "lvm.conf"), []byte("devices {\n"+devices+"\n}\n"), 0o600))
	}
	runner := hostexec.RunnerFunc(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		return hostexec.OnHost("/").Run(ctx, "env", append([]string{"LVM_SYSTEM_DIR=" + system, name}, args...)...)
	})
	book := NewBook(l.root)
	must(t, book.Put(Record{Volume: "local-tenants", ID: l.disks[1].ID, Kind: volume.Device, State: Ready}))

	configure(t, "")
	must(t, lvm.New(runner).CreateGroup(t.Context(), group, []string{ours}))
	t.Cleanup(func() { l.runAfterwards("lvm", "vgremove", "--yes", "--force", group) })
	l.run("addpart", tenants, "1", "2048", "40960")
	t.Cleanup(func() { l.runAfterwards("delpart", tenants, "1") })

	for where, device := range map[string]string{"on the disk": tenants, "on a partition of it": tenants + "1"} {
		for filters, devices := range map[string]string{
			"no filter":                      ``,
			"a filter that accepts":          `filter=["a|.*|"]`,
			"a global filter that accepts":   `global_filter=["r|/dev/drbd|","a|.*|"]`,
			"both accept":                    "filter=[\"a|.*|\"]\nglobal_filter=[\"r|/dev/drbd|\",\"a|.*|\"]",
			"both accept links, and no more": "filter=[\"a|^/dev/disk/|\",\"a|^" + ours + "$|\",\"r|.*|\"]\nglobal_filter=[\"a|^/dev/disk/|\",\"a|^" + ours + "$|\"]",
		} {
			t.Run(where+", "+filters, func(t *testing.T) {
				configure(t, "")
				l.run("lvm", "vgcreate", "--config", `devices{filter=["r|^`+ours+`$|"]}`, group, device)
				t.Cleanup(func() { l.runAfterwards("wipefs", "--all", "--force", "--quiet", device) })
				configure(t, devices)
				ask := lvm.CreateVolume{Group: group, Name: "data", Size: 4 << 20}
				if err := lvm.New(runner).CreateVolume(t.Context(), ask); err == nil {
					t.Error("LVM knows which of two groups of one name is meant: nothing needs to be hidden")
				}
				hidden := &Hidden{Book: book, Host: blockdev.New(hostexec.OnHost("/"), "/"), Root: "/"}
				host := lvm.New(runner)
				host.Hide(func(ctx context.Context) []string {
					names, err := hidden.Names(ctx)
					must(t, err)
					return names
				})
				must(t, host.CreateVolume(t.Context(), ask))
				report, err := host.Report(t.Context())
				must(t, err)
				if len(report.Groups) != 1 || len(report.Groups[0].PhysicalVolumes) != 1 || report.Groups[0].PhysicalVolumes[0].Device != ours {
					t.Errorf("LVM sees %+v", report.Groups)
				}
				must(t, host.RemoveVolume(t.Context(), group, "data"))
			})
		}
	}
}

// runAfterwards is run for when the test's context has ended.
func (l lab) runAfterwards(program string, args ...string) {
	l.Helper()
	if _, err := hostexec.OnHost("/").Run(context.WithoutCancel(l.Context()), program, args...); err != nil {
		l.Error(err)
	}
}

// A tenant has a logical volume as a raw block device, over which kubelet puts a loop device,
// writes a group on it that is called like ours, and has it suspended by a process that
// died.
func TestALogicalVolumeOfATenantIsNotSeenThroughALoopDevice(t *testing.T) {
	const group = "exclusive-share"
	l := newLab(t)
	runner := hostexec.OnHost("/")
	plain := lvm.New(runner)
	// LVM makes no second group of a name: the tenant brings it along.
	l.run("lvm", "pvcreate", "--setphysicalvolumesize", "16m", "--yes", l.disks[1].Path)
	must(t, plain.CreateGroup(t.Context(), group, []string{l.disks[1].Path}))
	tenants := readStart(t, l.disks[1].Path)
	devtest.Blank(t, l.disks[1].Path)

	must(t, plain.CreateGroup(t.Context(), group, []string{l.disks[0].Path}))
	t.Cleanup(func() { l.runAfterwards("lvm", "vgremove", "--yes", "--force", group) })
	must(t, plain.CreateVolume(t.Context(), lvm.CreateVolume{Group: group, Name: "raw", Size: 16 << 20}))
	volumePath := lvm.DevicePath(group, "raw")
	l.run("losetup", "--find", volumePath)
	loops, err := devfile.Root("/").Loops()
	must(t, err)
	if len(loops) != 1 || !loops[0].Mapped {
		t.Fatalf("loop devices over devices are %+v", loops)
	}
	t.Cleanup(func() { l.runAfterwards("losetup", "--detach", loops[0].Path) })
	must(t, os.WriteFile(loops[0].Path, tenants, 0))
	unix.Sync()
	ask := lvm.CreateVolume{Group: group, Name: "data", Size: 4 << 20}
	if err := plain.CreateVolume(t.Context(), ask); err == nil {
		t.Error("LVM knows which of two groups of one name is meant: nothing needs to be hidden")
	}

	hidden := &Hidden{Book: NewBook(l.root), Host: blockdev.New(runner, "/"), Root: "/"}
	host := lvm.New(runner)
	host.Hide(func(ctx context.Context) []string {
		names, err := hidden.Names(ctx)
		must(t, err)
		return names
	})
	must(t, host.CreateVolume(t.Context(), ask))
	l.run("dmsetup", "suspend", "--noflush", "exclusive--share-raw")
	t.Cleanup(func() { l.runAfterwards("dmsetup", "resume", "exclusive--share-raw") })
	report, err := host.Report(t.Context()) // which would wait for ever
	must(t, err)
	if len(report.Groups) != 1 || len(report.Groups[0].Volumes) != 2 {
		t.Errorf("LVM sees %+v", report.Groups)
	}
	must(t, host.RefreshVolume(t.Context(), group, "raw"))
	if suspended, err := devmapper.New("/").Suspended(group, "raw"); suspended || err != nil {
		t.Errorf("after it is refreshed it is suspended: %t (%v)", suspended, err)
	}
	must(t, host.RemoveVolume(t.Context(), group, "data"))
}

// readStart returns what the first 2 MiB of a device hold, where LVM has its metadata.
func readStart(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	content := make([]byte, 2<<20)
	_, err = io.ReadFull(file, content)
	must(t, errors.Join(err, file.Close()))
	return content
}
