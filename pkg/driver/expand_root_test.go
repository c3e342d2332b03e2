//go:build root

package driver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
)

func (b *realBed) expand(t *testing.T, fsType string, size capacity.Bytes) error {
	resp, err := b.controller.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
		VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: int64(size)}, VolumeCapability: capability(fsType),
	})
	if err == nil && (resp.GetCapacityBytes() != int64(size) || resp.GetNodeExpansionRequired() != (fsType != "block")) {
		t.Errorf("expanded to %v, want %s", resp, size)
	}
	return err
}

func (b *realBed) expandOnNode(t *testing.T, fsType string, size capacity.Bytes) error {
	resp, err := b.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{
		VolumeId: id, VolumePath: b.target, StagingTargetPath: b.staging, VolumeCapability: capability(fsType),
		CapacityRange: &csi.CapacityRange{RequiredBytes: int64(size)},
	})
	if err == nil && resp.GetCapacityBytes() != int64(size) {
		t.Errorf("the node says %v, want %s", resp, size)
	}
	return err
}

// wantRoom checks that the pod sees a volume of about that size.
func (b *realBed) wantRoom(t *testing.T, size capacity.Bytes) {
	t.Helper()
	resp, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
	if err != nil {
		t.Error(err)
		return
	}
	total := capacity.Bytes(resp.GetUsage()[0].GetTotal())
	if total > size || total < size-size/3 || resp.GetVolumeCondition().GetAbnormal() {
		t.Errorf("the volume has %s, want about %s: %v", total, size, resp)
	}
}

// growers are the programs that make a file system larger.
var growers = map[string]string{"ext3": "resize2fs", "ext4": "resize2fs", "xfs": "xfs_growfs", "btrfs": "btrfs"}

func TestAFileSystemGrowsUnderItsPod(t *testing.T) {
	none := map[string]int{}
	for fsType, program := range growers {
		t.Run(fsType, func(t *testing.T) {
			b := newRealBed(t)
			file := filepath.Join(b.target, "file")
			for _, step := range []func() error{
				func() error { return b.create(t, fsType, 320*mib) },
				func() error { return b.stage(t, fsType) },
				func() error { return b.publish(t, fsType, false) },
				func() error { return os.WriteFile(file, []byte("kept"), 0o600) },
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			b.wantRoom(t, 320*mib)
			b.spend(t, "the controller's part", map[string]int{"lvm lvextend": 1}, func() error { return b.expand(t, fsType, 480*mib) })
			b.spend(t, "the controller's part again", none, func() error { return b.expand(t, fsType, 480*mib) })
			b.spend(t, "the node's part", map[string]int{program: 1}, func() error { return b.expandOnNode(t, fsType, 480*mib) })
			b.spend(t, "the node's part again", none, func() error { return b.expandOnNode(t, fsType, 480*mib) })
			b.wantRoom(t, 480*mib)
			wantCode(t, b.expand(t, fsType, 4096*mib), codes.OutOfRange, "wants 3616Mi more, 540Mi free")
			if content, err := os.ReadFile(file); err != nil || string(content) != "kept" {
				t.Errorf("the file holds %q, %v", content, err)
			}

			// And while no pod has it: the node's part comes when it is mounted again.
			for _, step := range []func(*testing.T) error{b.unpublish, b.unstage} {
				if err := step(t); err != nil {
					t.Fatal(err)
				}
			}
			b.spend(t, "the controller's part, offline", map[string]int{"lvm lvextend": 1}, func() error { return b.expand(t, fsType, 640*mib) })
			if err := errors.Join(b.stage(t, fsType), b.expandOnNodeAtStaging(t, fsType, 640*mib), b.publish(t, fsType, false)); err != nil {
				t.Fatal(err)
			}
			b.wantRoom(t, 640*mib)
			if content, err := os.ReadFile(file); err != nil || string(content) != "kept" {
				t.Errorf("the file holds %q, %v", content, err)
			}
			for _, step := range []func(*testing.T) error{b.unpublish, b.unstage, b.remove} {
				if err := step(t); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// expandOnNodeAtStaging is how the kubelet calls before any pod has the volume.
func (b *realBed) expandOnNodeAtStaging(t *testing.T, fsType string, size capacity.Bytes) error {
	target := b.target
	b.target = b.staging
	defer func() { b.target = target }()
	return b.expandOnNode(t, fsType, size)
}

func TestABlockVolumeGrowsUnderItsPod(t *testing.T) {
	b := newRealBed(t)
	for _, step := range []func() error{
		func() error { return b.create(t, "block", 64*mib) },
		func() error { return b.stage(t, "block") },
		func() error { return b.publish(t, "block", false) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	b.spend(t, "the controller's part", map[string]int{"lvm lvextend": 1}, func() error { return b.expand(t, "block", 128*mib) })
	b.spend(t, "the node's part", map[string]int{}, func() error { return b.expandOnNode(t, "block", 128*mib) })
	b.wantRoom(t, 128*mib)
	for _, step := range []func(*testing.T) error{b.unpublish, b.unstage, b.remove} {
		if err := step(t); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAVolumeWithSnapshotsGrowsWhileNoPodHasIt(t *testing.T) {
	b := newRealBed(t)
	if err := errors.Join(b.create(t, "ext4", 64*mib), b.stage(t, "ext4")); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if _, err := hostexec.OnHost("/").Run(t.Context(), "lvm", args...); err != nil {
			t.Fatal(err)
		}
	}
	run("lvcreate", "--yes", "--snapshot", "--size", "8m", "--name", "snap", realGroup+"/"+id)
	wantCode(t, b.expand(t, "ext4", 128*mib), codes.FailedPrecondition, "stop its pods, or delete the snapshots")
	if err := b.unstage(t); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.expand(t, "ext4", 128*mib), b.stage(t, "ext4"), b.expandOnNodeAtStaging(t, "ext4", 128*mib), b.unstage(t)); err != nil {
		t.Fatal(err)
	}
	run("lvremove", "--yes", realGroup+"/snap")
	if err := b.remove(t); err != nil {
		t.Fatal(err)
	}
}

func TestAStripedVolumeGrowsWithItsStripesOnRealDisks(t *testing.T) {
	more := strings.Split(os.Getenv("LAB_DISKS"), ",")[1:]
	if len(more) < 3 {
		t.Fatal("set LAB_DISKS to four blank disks that may be overwritten")
	}
	t.Cleanup(func() { // when the group is gone
		if _, err := hostexec.OnHost("/").Run(context.Background(), "wipefs", append([]string{"--all", "--quiet"}, more[:3]...)...); err != nil {
			t.Error(err)
		}
	})
	b := newRealBed(t)
	if err := b.host.ExtendGroup(t.Context(), realGroup, more[:3]); err != nil {
		t.Fatal(err)
	}
	group, err := b.host.Group(t.Context(), realGroup)
	if err != nil {
		t.Fatal(err)
	}
	b.group = group.Free
	b.report()
	b.spend(t, "create", map[string]int{"lvm fullreport": 1, "lvm lvcreate": 1}, func() error {
		_, err := b.controller.CreateVolume(t.Context(), claim(id, "xfs", int64(400*mib), map[string]string{"lvmType": "striping"}))
		return err
	})
	if err := errors.Join(b.stage(t, "xfs"), b.publish(t, "xfs", false)); err != nil {
		t.Fatal(err)
	}
	b.spend(t, "the controller's part", map[string]int{"lvm lvextend": 1}, func() error { return b.expand(t, "xfs", 640*mib) })
	b.spend(t, "the node's part", map[string]int{"xfs_growfs": 1}, func() error { return b.expandOnNode(t, "xfs", 640*mib) })
	b.wantRoom(t, 640*mib)
	v, err := b.host.Volume(t.Context(), realGroup, id)
	if err != nil || v.Stripes != 4 || v.Size != 640*mib {
		t.Errorf("LVM has %+v, %v", v, err)
	}
	for _, step := range []func(*testing.T) error{b.unpublish, b.unstage, b.remove} {
		if err := step(t); err != nil {
			t.Fatal(err)
		}
	}
}
