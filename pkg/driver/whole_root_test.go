//go:build root

package driver_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/health"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// These tests want root and two SCSI disks in LAB_SCSI_DISKS, separated by commas, which
// they overwrite.

// diskBed is a rig over real disks, without any LVM.
type diskBed struct {
	*rig
	t          *testing.T
	book       *exclusive.Book
	mountAt    string // a mount point that is offered; or empty
	controller csi.ControllerClient
	node       csi.NodeClient
	staging    string
	target     string
}

func newDiskBed(t *testing.T, mountAt string) *diskBed {
	t.Helper()
	b := &diskBed{t: t, mountAt: mountAt, book: exclusive.NewBook(t.TempDir())}
	b.run("ip", "link", "set", "lo", "up") // the machine of a test may have its loopback down
	runner, root := hostexec.OnHost("/"), devfile.Root("/")
	mounter, blocks, standing := mounts.New(runner, "/"), blockdev.New(runner, "/"), provision.NewStanding()
	devices := &exclusive.Devices{Book: b.book, Host: blocks, Wiper: wipe.New(runner, "/"), Zero: exclusive.ZeroOn(root)}
	mountPoints := &exclusive.MountPoints{Book: b.book, Host: blocks, Mounts: mounter, Root: root}
	logical := &provision.Logical{Standing: standing, Host: lvm.New(runner), Devices: root, Managed: provisiontest.Managed{}, Prefer: allocator.Binpack, Clock: clock.RealClock{}, Making: begun.NewVolumes(t.TempDir())}
	volumes := provision.New(t.Context(), logical,
		provision.NewDevices(devices, b.book, b, allocator.Binpack, clock.RealClock{}), provision.NewMountPoints(mountPoints, b.book, b, allocator.Binpack))
	t.Cleanup(volumes.Close)
	b.rig = newRig(t, parts{
		lvm: lvm.New(runner), volumes: volumes, wholes: b.report,
		services: driver.NodeOptions{
			Name: nodeName, Driver: volume.DefaultDriver, KubeletDir: t.TempDir(), Inline: volumes, Devices: devices, MountPoints: mountPoints,
			LVM: lvm.New(runner), Files: root, Formatter: mounter, Mounter: mounter, Meter: root,
			Throttler: iolimit.NewKeeper("/sys/fs/cgroup", root, standing), Events: unheard{},
			Examiner: health.NewExaminer(root, clock.RealClock{}), Standing: standing,
		},
	})
	b.controller, b.node = csi.NewControllerClient(b.conn), csi.NewNodeClient(b.conn)
	b.staging, b.target = paths(t, id)
	t.Cleanup(func() {
		for _, d := range b.disks() {
			devtest.Blank(t, d.Path)
		}
	})
	return b
}

func (b *diskBed) run(program string, args ...string) {
	b.t.Helper()
	if _, err := hostexec.OnHost("/").Run(context.WithoutCancel(b.t.Context()), program, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *diskBed) disks() []blockdev.Device {
	b.t.Helper()
	all, err := blockdev.New(hostexec.OnHost("/"), "/").Devices(context.WithoutCancel(b.t.Context()))
	if err != nil {
		b.t.Fatal(err)
	}
	wanted := strings.Split(os.Getenv("LAB_SCSI_DISKS"), ",")
	all = slices.DeleteFunc(all, func(d blockdev.Device) bool { return !slices.Contains(wanted, d.Path) })
	if len(all) < 2 {
		b.t.Fatal("set LAB_SCSI_DISKS to two SCSI disks that may be overwritten, such as /dev/sda,/dev/sdb")
	}
	return all
}

// Offers offers what an agent would.
func (b *diskBed) Offers(kind volume.Kind) ([]provision.Offer, error) {
	records, err := b.book.List()
	var offers []provision.Offer
	for _, d := range b.disks() {
		offer := provision.Offer{Identity: d.ID, Path: d.Path, Size: d.Size}
		if kind == volume.MountPoint {
			offer.Identity, offer.Path, offer.Size = exclusive.FileSystemID(d.UUID), b.mountAt, d.Size/2
		}
		mounted := len(d.Mountpoints) > 0
		taken := slices.ContainsFunc(records, func(r exclusive.Record) bool { return r.ID == offer.Identity })
		if !taken && mounted == (kind == volume.MountPoint) {
			offers = append(offers, offer)
		}
	}
	return offers, err
}

func (b *diskBed) report(nls *v1alpha1.NodeLocalStorage) {
	records, err := b.book.List()
	if err != nil {
		b.t.Error(err)
	}
	for _, kind := range []volume.Kind{volume.Device, volume.MountPoint} {
		offers, err := b.Offers(kind)
		if err != nil {
			b.t.Error(err)
		}
		for _, r := range records {
			if r.Kind == kind {
				offers = append(offers, provision.Offer{Identity: r.ID, Path: r.Path, Size: r.Size})
			}
		}
		for _, o := range offers {
			owner := ""
			if i := slices.IndexFunc(records, func(r exclusive.Record) bool { return r.ID == o.Identity }); i >= 0 {
				owner = records[i].Volume
			}
			if kind == volume.Device {
				nls.Status.NodeStorageInfo.DeviceInfos = append(nls.Status.NodeStorageInfo.DeviceInfos, v1alpha1.DeviceInfo{Name: o.Path, ID: o.Identity, Total: int64(o.Size), VolumeID: owner})
				nls.Status.FilteredStorageInfo.Devices = append(nls.Status.FilteredStorageInfo.Devices, o.Path)
			} else {
				nls.Status.NodeStorageInfo.MountPoints = append(nls.Status.NodeStorageInfo.MountPoints, v1alpha1.MountPoint{Name: o.Path, ID: o.Identity, Total: int64(o.Size), VolumeID: owner})
				nls.Status.FilteredStorageInfo.MountPoints = append(nls.Status.FilteredStorageInfo.MountPoints, o.Path)
			}
		}
	}
}

// create makes a volume, and hands it to a pod.
func (b *diskBed) create(fsType string, parameters map[string]string) map[string]string {
	b.t.Helper()
	resp, err := b.controller.CreateVolume(b.t.Context(), claim(id, fsType, 1, parameters))
	if err != nil {
		b.t.Fatal(err)
	}
	attributes := resp.GetVolume().GetVolumeContext()
	for range 2 {
		_, err := b.node.NodeStageVolume(b.t.Context(), &csi.NodeStageVolumeRequest{
			VolumeId: id, StagingTargetPath: b.staging, VolumeCapability: capability(fsType), VolumeContext: attributes,
		})
		if err != nil {
			b.t.Fatal(err)
		}
		_, err = b.node.NodePublishVolume(b.t.Context(), &csi.NodePublishVolumeRequest{
			VolumeId: id, StagingTargetPath: b.staging, TargetPath: b.target, VolumeCapability: capability(fsType), VolumeContext: attributes,
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return attributes
}

// leave takes the volume from its pod.
func (b *diskBed) leave() {
	b.t.Helper()
	if _, err := b.node.NodeUnpublishVolume(b.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: b.target}); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.node.NodeUnstageVolume(b.t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *diskBed) delete() error {
	_, err := b.controller.DeleteVolume(b.t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	return err
}

func (b *diskBed) wantFree() {
	b.t.Helper()
	if records, err := b.book.List(); err != nil || len(records) > 0 {
		b.t.Errorf("the book has %+v, %v", records, err)
	}
}

const secret = "the secret of a former tenant"

func wantNoSecret(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at := bytes.Index(content, []byte(secret)); at >= 0 {
		t.Errorf("at byte %d of %s the secret is readable", at, path)
	}
}

func TestTheLifeOfARealDiskVolume(t *testing.T) {
	for _, fsType := range []string{"ext4", "ext3"} {
		t.Run(fsType, func(t *testing.T) {
			b := newDiskBed(t, "")
			attributes := b.create(fsType, map[string]string{"volumeType": "Device", "wipe": "zero"})
			path := attributes["Device"]
			if err := os.WriteFile(filepath.Join(b.target, "data"), bytes.Repeat([]byte(secret), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
			stats, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
			if err != nil || stats.GetVolumeCondition().GetAbnormal() || stats.GetUsage()[0].GetTotal() == 0 {
				t.Errorf("stats %v, %v", stats, err)
			}
			wantCode(t, b.delete(), codes.FailedPrecondition, "in use")
			b.leave()
			b.create(fsType, map[string]string{"volumeType": "Device", "wipe": "zero"}) // another pod: it is not formatted again
			if kept, err := os.ReadFile(filepath.Join(b.target, "data")); err != nil || !bytes.HasPrefix(kept, []byte(secret)) {
				t.Errorf("the data is gone: %v", err)
			}
			b.leave()
			for range 2 {
				if err := b.delete(); err != nil {
					t.Fatal(err)
				}
			}
			b.wantFree()
			wantNoSecret(t, path)
			wantZeros(t, path)
		})
	}
}

func wantZeros(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content, make([]byte, len(content))) {
		t.Errorf("%s is not all zeros", path)
	}
}

func TestNothingOfAFormerTenantIsReadableOnARealBlockDiskVolume(t *testing.T) {
	for _, way := range []string{"none", "discard", "zero"} {
		t.Run(way, func(t *testing.T) {
			b := newDiskBed(t, "")
			parameters := map[string]string{"volumeType": "Device", "wipe": way}
			fill := func(path string) {
				file, err := os.OpenFile(path, os.O_WRONLY|os.O_SYNC, 0)
				if err != nil {
					t.Fatal(err)
				}
				for range 1000 {
					if _, err := file.WriteString(secret); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := file.WriteAt([]byte(secret), int64(20*capacity.MiB)); err != nil {
					t.Fatal(err)
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for _, d := range b.disks() {
				fill(d.Path) // by whoever had the disks before us: between the ends it stays
				devtest.Blank(t, d.Path)
			}
			for range 2 {
				attributes := b.create("block", parameters)
				wantZeros(t, b.target)
				fill(attributes["Device"])
				b.leave()
				if err := b.delete(); err != nil {
					t.Fatal(err)
				}
			}
			b.wantFree()
		})
	}
}

func TestTheLifeOfARealMountPointVolume(t *testing.T) {
	for fsType, args := range map[string][]string{"ext4": {"-q"}, "btrfs": {"-q", "--mixed"}} {
		t.Run(fsType, func(t *testing.T) {
			dir := t.TempDir()
			b := newDiskBed(t, dir)
			disk := b.disks()[0]
			b.run("mkfs."+fsType, append(args, disk.Path)...)
			b.run("mount", disk.Path, dir)
			mounted := true
			t.Cleanup(func() {
				if mounted {
					b.run("umount", dir)
				}
			})
			b.rig.report()
			attributes := b.create("ext4", map[string]string{"volumeType": "MountPoint"})
			if attributes["MountPoint"] != dir {
				t.Errorf("it is %v", attributes)
			}
			if err := os.WriteFile(filepath.Join(b.target, "data"), []byte(secret), 0o600); err != nil {
				t.Fatal(err)
			}
			if kept, err := os.ReadFile(filepath.Join(dir, "data")); err != nil || string(kept) != secret {
				t.Errorf("what the pod wrote is not in the mount point: %v", err)
			}
			stats, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
			if err != nil || stats.GetVolumeCondition().GetAbnormal() || stats.GetUsage()[0].GetTotal() == 0 {
				t.Errorf("stats %v, %v", stats, err)
			}
			wantCode(t, b.delete(), codes.FailedPrecondition, "in use")
			b.leave()

			b.run("umount", dir)
			_, err = b.node.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{
				VolumeId: id, StagingTargetPath: b.staging, TargetPath: b.target, VolumeCapability: capability("ext4"), VolumeContext: attributes,
			})
			wantCode(t, err, codes.FailedPrecondition, "nothing is mounted")
			wantCode(t, b.delete(), codes.FailedPrecondition, "nothing is mounted")
			b.run("mount", disk.Path, dir)

			for range 2 {
				if err := b.delete(); err != nil {
					t.Fatal(err)
				}
			}
			b.wantFree()
			if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
				t.Errorf("it was not emptied: %v", err)
			}
			b.run("umount", dir)
			mounted = false
		})
	}
}
