//go:build root

package driver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockcopy"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/health"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// These tests want root, LVM with a device-mapper, mkfs of ext4 and xfs, and a blank
// disk of at least 900 MiB in LAB_DISKS. They overwrite the disk.

const realGroup = "driver-test"

// realBed is a rig over the LVM, the file systems and the mounts of this machine.
type realBed struct {
	*rig
	counter    *hostexec.Counter
	keeper     *iolimit.Keeper
	standing   *provision.Standing
	host       *lvm.Host
	group      capacity.Bytes // free in the empty group
	controller csi.ControllerClient
	node       csi.NodeClient
	staging    string
	target     string
	making     *begun.Volumes
	kubelet    string // its directory
}

func newRealBed(t *testing.T) *realBed {
	t.Helper()
	disk, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	if disk == "" {
		t.Fatal("set LAB_DISKS to a blank disk of 900 MiB that may be overwritten, such as /dev/ubdb")
	}
	// The machine of a test may have its loopback down.
	if _, err := hostexec.OnHost("/").Run(t.Context(), "ip", "link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
	b := &realBed{counter: hostexec.NewCounter(hostexec.OnHost("/")), kubelet: t.TempDir(), making: begun.NewVolumes(t.TempDir())}
	b.host = lvm.New(b.counter)
	if err := b.host.CreateGroup(t.Context(), realGroup, []string{disk}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wipeGroup(t, realGroup, disk) })
	group, err := b.host.Group(t.Context(), realGroup)
	if err != nil {
		t.Fatal(err)
	}
	b.group = group.Free
	root, mounter := devfile.Root("/"), mounts.New(b.counter, "/")
	volumes := b.process(t)
	b.rig = newRig(t, parts{
		lvm: lvm.New(hostexec.OnHost("/")), managed: []string{realGroup}, volumes: volumes,
		services: driver.NodeOptions{
			Name: nodeName, Driver: volume.DefaultDriver, KubeletDir: b.kubelet, Inline: volumes,
			LVM: b.host, Files: root, Formatter: mounter, Mounter: mounter, Meter: root, Throttler: b.keeper, Events: unheard{},
			Examiner: health.NewExaminer(root, clock.RealClock{}), Standing: b.standing,
		},
	}, withReserver(&reserver{group: realGroup}))
	b.controller, b.node = csi.NewControllerClient(b.conn), csi.NewNodeClient(b.conn)
	b.staging, b.target = paths(t, id)
	t.Cleanup(func() { b.wantNothingLeft(t) })
	return b
}

// wipeGroup removes a volume group with all that is in it.
func wipeGroup(t *testing.T, group, disk string) {
	t.Helper()
	for _, argv := range [][]string{{"lvm", "vgremove", "--yes", "--force", group}, {"wipefs", "--all", "--quiet", disk}} {
		if _, err := hostexec.OnHost("/").Run(context.Background(), argv[0], argv[1:]...); err != nil {
			t.Error(err)
		}
	}
}

// process makes what provisions volumes, as a process has it that has just begun.
func (b *realBed) process(t *testing.T) *provision.Provisioner {
	t.Helper()
	b.standing = provision.NewStanding()
	b.keeper = iolimit.NewKeeper("/sys/fs/cgroup", devfile.Root("/"), b.standing)
	logical := &provision.Logical{
		Standing: b.standing,
		Host:     b.host, Devices: devfile.Root("/"), Managed: provisiontest.Managed{realGroup: b.group}, Prefer: allocator.Binpack, Clock: clock.RealClock{},
		Copier: blockcopy.New("/"), FileSystems: mounts.New(b.counter, "/"), Scratch: "/dev/shm/copies",
		Making: b.making,
	}
	if err := logical.Recall(t.Context()); err != nil {
		t.Fatal(err)
	}
	volumes := provision.New(t.Context(), logical)
	t.Cleanup(volumes.Close)
	b.counter.Reset()
	return volumes
}

// wantNothingLeft checks that the group is as it was before the test.
func (b *realBed) wantNothingLeft(t *testing.T) {
	t.Helper()
	group, err := b.host.Group(context.Background(), realGroup)
	if err != nil {
		t.Error(err)
		return
	}
	if group.Free != b.group || len(group.Volumes) > 0 {
		t.Errorf("the group has %s free, want %s; volumes left: %v", group.Free, b.group, group.Volumes)
	}
}

func TestConformanceOnRealLVM(t *testing.T) {
	b := newRealBed(t)
	conform(t, b.rig, 64*capacity.MiB)
}

// spend makes a call and checks which processes it took.
func (b *realBed) spend(t *testing.T, what string, want map[string]int, call func() error) {
	t.Helper()
	b.counter.Reset()
	if err := call(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got := b.counter.Runs()
	maps.DeleteFunc(got, func(_ string, n int) bool { return n == 0 })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("processes of %s (-want +got):\n%s", what, diff)
	}
}

func (b *realBed) stage(t *testing.T, fsType string) error {
	_, err := b.node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: b.staging, VolumeCapability: capability(fsType),
		VolumeContext: volume.Context{Kind: volume.LVM, Group: realGroup}.Attributes(),
	})
	return err
}

func (b *realBed) publish(t *testing.T, fsType string, readonly bool) error {
	_, err := b.node.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: b.staging, TargetPath: b.target, VolumeCapability: capability(fsType), Readonly: readonly,
		VolumeContext: volume.Context{Kind: volume.LVM, Group: realGroup}.Attributes(),
	})
	return err
}

func (b *realBed) unpublish(t *testing.T) error {
	_, err := b.node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: b.target})
	return err
}

func (b *realBed) unstage(t *testing.T) error {
	_, err := b.node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging})
	return err
}

func (b *realBed) create(t *testing.T, fsType string, size capacity.Bytes) error {
	_, err := b.controller.CreateVolume(t.Context(), claim(id, fsType, int64(size), nil))
	return err
}

func (b *realBed) remove(t *testing.T) error {
	_, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	return err
}

func TestAFileSystemKeepsItsDataAndItsBudget(t *testing.T) {
	none := map[string]int{}
	for _, fsType := range []string{"ext3", "ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			b := newRealBed(t)
			file := filepath.Join(b.target, "file")
			b.spend(t, "create", map[string]int{"lvm lvcreate": 1}, func() error { return b.create(t, fsType, 320*mib) })
			b.spend(t, "a repeated create", map[string]int{"lvm fullreport": 1}, func() error { return b.create(t, fsType, 320*mib) })
			b.spend(t, "the first stage", map[string]int{"blkid": 2, "mkfs." + fsType: 1, "mount": 1}, func() error { return b.stage(t, fsType) })
			b.spend(t, "a repeated stage", none, func() error { return b.stage(t, fsType) })
			b.spend(t, "publish", none, func() error { return b.publish(t, fsType, false) })
			b.spend(t, "a repeated publish", none, func() error { return b.publish(t, fsType, false) })
			if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
				t.Error(err)
			}
			b.spend(t, "statistics", none, func() error {
				resp, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
				if total := resp.GetUsage()[0].GetTotal(); resp.GetVolumeCondition().GetAbnormal() || total < int64(200*mib) || total > int64(320*mib) {
					t.Errorf("statistics: %v", resp)
				}
				return err
			})
			wantCode(t, b.remove(t), codes.FailedPrecondition)
			b.spend(t, "unpublish", none, func() error { return b.unpublish(t) })
			b.spend(t, "unstage", none, func() error { return b.unstage(t) })
			if _, err := os.Stat(b.target); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the target path is left: %v", err)
			}

			b.spend(t, "a later stage", map[string]int{"blkid": 1, "mount": 1}, func() error { return b.stage(t, fsType) })
			if err := b.publish(t, fsType, true); err != nil {
				t.Fatal(err)
			}
			if content, err := os.ReadFile(file); err != nil || string(content) != "kept" {
				t.Errorf("the file holds %q, %v", content, err)
			}
			if err := os.WriteFile(file, []byte("changed"), 0o600); err == nil {
				t.Error("a pod that may only read wrote")
			}
			for _, step := range []func(*testing.T) error{b.unpublish, b.unpublish, b.unstage, b.unstage} {
				if err := step(t); err != nil {
					t.Fatal(err)
				}
			}
			b.spend(t, "delete", map[string]int{"lvm lvremove": 1}, func() error { return b.remove(t) })
		})
	}
}

func TestABlockVolumeShowsNothingOfFormerTenants(t *testing.T) {
	b := newRealBed(t)
	device := lvm.DevicePath(realGroup, id)
	if err := b.create(t, "ext4", 64*mib); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(device, bytes.Repeat([]byte("secret"), int(64*mib)/6), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.remove(t); err != nil {
		t.Fatal(err)
	}
	b.spend(t, "create", map[string]int{"lvm lvcreate": 1, "lvm lvchange": 1}, func() error { return b.create(t, "block", 64*mib) })
	b.spend(t, "stage", map[string]int{}, func() error { return b.stage(t, "block") })
	b.spend(t, "publish", map[string]int{}, func() error { return b.publish(t, "block", false) })
	b.spend(t, "a repeated publish", map[string]int{}, func() error { return b.publish(t, "block", false) })
	content, err := os.ReadFile(b.target)
	if err != nil || !bytes.Equal(content, make([]byte, 64*mib)) {
		t.Errorf("the device shows %d bytes that are not all zero, %v", len(content), err)
	}
	b.spend(t, "statistics", map[string]int{}, func() error {
		resp, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
		if resp.GetVolumeCondition().GetAbnormal() || resp.GetUsage()[0].GetTotal() != int64(64*mib) {
			t.Errorf("statistics: %v", resp)
		}
		return err
	})
	file, err := os.OpenFile(b.target, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(file, "data of the pod"); err != nil {
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	for _, step := range []func(*testing.T) error{b.unpublish, b.unstage, b.remove} {
		if err := step(t); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(b.target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target path is left: %v", err)
	}
}

func TestAnotherFileSystemIsLeftAloneOnRealDisks(t *testing.T) {
	b := newRealBed(t)
	if err := b.create(t, "xfs", 320*mib); err != nil {
		t.Fatal(err)
	}
	device := lvm.DevicePath(realGroup, id)
	if _, err := hostexec.OnHost("/").Run(t.Context(), "mkfs.xfs", "-q", device); err != nil {
		t.Fatal(err)
	}
	before, err := hostexec.OnHost("/").Run(t.Context(), "blkid", "-p", device)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.stage(t, "ext4"), codes.FailedPrecondition, "xfs", "ext4")
	after, err := hostexec.OnHost("/").Run(t.Context(), "blkid", "-p", device)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("blkid said %q and says %q, %v", before, after, err)
	}
	if err := b.remove(t); err != nil {
		t.Error(err)
	}
}

func TestALostVolumeIsNeverMadeAnew(t *testing.T) {
	b := newRealBed(t)
	wantCode(t, b.stage(t, "ext4"), codes.NotFound)
	if err := b.create(t, "ext4", 64*mib); err != nil {
		t.Fatal(err)
	}
	if _, err := hostexec.OnHost("/").Run(t.Context(), "lvm", "lvchange", "--activate", "n", realGroup+"/"+id); err != nil {
		t.Fatal(err)
	}
	b.spend(t, "staging an inactive volume", map[string]int{"lvm lvchange": 1, "blkid": 2, "mkfs.ext4": 1, "mount": 1}, func() error { return b.stage(t, "ext4") })
	for _, step := range []func(*testing.T) error{b.unstage, b.remove} {
		if err := step(t); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, b.stage(t, "ext4"), codes.NotFound)
}
