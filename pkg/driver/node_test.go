//go:build !root

package driver_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// bed is a rig over a fake host with one group, and the clients of its services.
type bed struct {
	*rig
	host       *fakeHost
	controller csi.ControllerClient
	node       csi.NodeClient
	staging    string
	target     string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
	r := newRig(t, p)
	b := &bed{rig: r, host: host, controller: csi.NewControllerClient(r.conn), node: csi.NewNodeClient(r.conn)}
	b.staging, b.target = paths(t, id)
	return b
}

// have makes the volume without the controller.
func (b *bed) have(t *testing.T) {
	t.Helper()
	if _, err := b.host.node.Ensure(t.Context(), provision.Spec{ID: id, Kind: volume.LVM, Group: "pool", Size: 400 * mib}); err != nil {
		t.Fatal(err)
	}
	b.host.processes()
}

func (b *bed) stageRequest(fsType string) *csi.NodeStageVolumeRequest {
	return &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: b.staging, VolumeCapability: capability(fsType),
		VolumeContext: volume.Context{Kind: volume.LVM, Group: "pool"}.Attributes(),
	}
}

func (b *bed) publishRequest(fsType string) *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: b.staging, TargetPath: b.target, VolumeCapability: capability(fsType),
		VolumeContext: volume.Context{Kind: volume.LVM, Group: "pool"}.Attributes(),
	}
}

func (b *bed) stage(t *testing.T, fsType string) {
	t.Helper()
	if _, err := b.node.NodeStageVolume(t.Context(), b.stageRequest(fsType)); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) publish(t *testing.T, fsType string) {
	t.Helper()
	if _, err := b.node.NodePublishVolume(t.Context(), b.publishRequest(fsType)); err != nil {
		t.Fatal(err)
	}
}

func TestTheBudgetOfProcesses(t *testing.T) {
	for fsType, want := range map[string]struct{ create, stage map[string]int }{
		"ext4":  {map[string]int{"lvm lvcreate": 1}, map[string]int{"blkid": 2, "mkfs.ext4": 1, "mount": 1}},
		"xfs":   {map[string]int{"lvm lvcreate": 1}, map[string]int{"blkid": 2, "mkfs.xfs": 1, "mount": 1}},
		"block": {map[string]int{"lvm lvcreate": 1, "lvm lvchange": 1}, map[string]int{}},
	} {
		t.Run(fsType, func(t *testing.T) {
			host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
			r := newRig(t, p, withReserver(&reserver{group: "pool"}))
			b := &bed{rig: r, host: host, controller: csi.NewControllerClient(r.conn), node: csi.NewNodeClient(r.conn)}
			b.staging, b.target = paths(t, id)
			ctx := t.Context()
			spend := func(what string, want map[string]int, call func() error) {
				t.Helper()
				host.processes()
				if err := call(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if diff := cmp.Diff(want, host.processes()); diff != "" {
					t.Errorf("processes of %s (-want +got):\n%s", what, diff)
				}
			}
			none := map[string]int{}
			again := map[string]int{"blkid": 1, "mount": 1}
			if fsType == "block" {
				again = none
			}
			stage := func() error { _, err := b.node.NodeStageVolume(ctx, b.stageRequest(fsType)); return err }
			publish := func() error { _, err := b.node.NodePublishVolume(ctx, b.publishRequest(fsType)); return err }
			stats := func() error {
				_, err := b.node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
				return err
			}
			unpublish := func() error {
				_, err := b.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: b.target})
				return err
			}
			unstage := func() error {
				_, err := b.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging})
				return err
			}
			spend("create", want.create, func() error {
				_, err := b.controller.CreateVolume(ctx, claim(id, fsType, int64(400*mib), nil))
				return err
			})
			spend("the first stage", want.stage, stage)
			spend("a repeated stage", none, stage)
			spend("publish", none, publish)
			spend("a repeated publish", none, publish)
			spend("statistics", none, stats)
			spend("unpublish", none, unpublish)
			spend("a repeated unpublish", none, unpublish)
			spend("unstage", none, unstage)
			spend("a repeated unstage", none, unstage)
			spend("a later stage", again, stage)
			spend("unstage", none, unstage)
			spend("delete", map[string]int{"lvm lvremove": 1}, func() error {
				_, err := b.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
				return err
			})
		})
	}
}

func TestStageRefusesWhatItShould(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, b *bed)
		change  func(r *csi.NodeStageVolumeRequest)
		code    codes.Code
		words   []string
	}{
		"a volume that is not there is not made": {
			prepare: func(*testing.T, *bed) {},
			code:    codes.NotFound, words: []string{id},
		},
		"a group that is not there": {
			prepare: func(*testing.T, *bed) {},
			change:  func(r *csi.NodeStageVolumeRequest) { r.VolumeContext["vgName"] = "lost" },
			code:    codes.FailedPrecondition, words: []string{"lost"},
		},
		"another file system": {
			prepare: func(t *testing.T, b *bed) { b.have(t); b.holds(t, "xfs") },
			code:    codes.FailedPrecondition, words: []string{"xfs", "ext4"},
		},
		"something that is no file system": {
			prepare: func(t *testing.T, b *bed) { b.have(t); b.holds(t, "crypto_LUKS") },
			code:    codes.FailedPrecondition, words: []string{"crypto_LUKS"},
		},
		"another volume at the same path": {
			prepare: func(t *testing.T, b *bed) {
				b.have(t)
				if _, err := b.host.node.Ensure(t.Context(), provision.Spec{ID: "other", Kind: volume.LVM, Group: "pool", Size: 8 * mib}); err != nil {
					t.Fatal(err)
				}
				other := b.stageRequest("ext4")
				other.VolumeId = "other"
				if _, err := b.node.NodeStageVolume(t.Context(), other); err != nil {
					t.Fatal(err)
				}
			},
			code: codes.FailedPrecondition, words: []string{"something else is mounted"},
		},
		"a group nobody can have": {
			prepare: func(t *testing.T, b *bed) { b.have(t) },
			change:  func(r *csi.NodeStageVolumeRequest) { r.VolumeContext["vgName"] = "pool;reboot" },
			code:    codes.InvalidArgument,
		},
		"a volume of a type that is not served": {
			prepare: func(t *testing.T, b *bed) { b.have(t) },
			change:  func(r *csi.NodeStageVolumeRequest) { r.VolumeContext = map[string]string{"volumeType": "Cloud"} },
			code:    codes.InvalidArgument, words: []string{"Cloud", "none of"},
		},
		"a disk that nobody has heard of": {
			prepare: func(t *testing.T, b *bed) { b.have(t) },
			change:  func(r *csi.NodeStageVolumeRequest) { r.VolumeContext = map[string]string{"volumeType": "Device"} },
			code:    codes.FailedPrecondition, words: []string{"neither the node nor the PersistentVolume says which it is"},
		},
		"a file system that is not served": {
			prepare: func(t *testing.T, b *bed) { b.have(t) },
			change:  func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability = capability("ntfs") },
			code:    codes.InvalidArgument, words: []string{"ntfs"},
		},
		"many nodes at once": {
			prepare: func(t *testing.T, b *bed) { b.have(t) },
			change: func(r *csi.NodeStageVolumeRequest) {
				r.VolumeCapability.AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
			},
			code: codes.InvalidArgument, words: []string{"MULTI_NODE_MULTI_WRITER"},
		},
		"a path that is not absolute": {
			prepare: func(t *testing.T, b *bed) { b.have(t) },
			change:  func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "staging/../here" },
			code:    codes.InvalidArgument,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			test.prepare(t, b)
			before, contents := b.host.node.Volumes(), b.contents()
			req := b.stageRequest("ext4")
			if test.change != nil {
				test.change(req)
			}
			_, err := b.node.NodeStageVolume(t.Context(), req)
			wantCode(t, err, test.code, test.words...)
			if diff := cmp.Diff(before, b.host.node.Volumes()); diff != "" {
				t.Errorf("volumes changed (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(contents, b.contents()); diff != "" {
				t.Errorf("what is on the volumes changed (-before +after):\n%s", diff)
			}
		})
	}
}

// holds makes the volume's device hold something.
func (b *bed) holds(t *testing.T, what string) {
	t.Helper()
	if err := b.host.put(lvm.DevicePath("pool", id), what); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) contents() map[string]string {
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	copied := map[string]string{}
	for uuid, what := range b.host.contents {
		copied[uuid] = what
	}
	return copied
}

func TestAVolumeThatIsNotActiveIsActivated(t *testing.T) {
	b := newBed(t)
	b.have(t)
	b.host.node.Reboot()
	b.stage(t, "ext4")
	want := map[string]int{"lvm lvchange": 1, "blkid": 2, "mkfs.ext4": 1, "mount": 1}
	if diff := cmp.Diff(want, b.host.processes()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestAVolumeWithoutDeviceFilesIsGivenThem(t *testing.T) {
	b := newBed(t)
	b.have(t)
	b.host.node.Unlink("pool", id)
	b.stage(t, "ext4")
	want := map[string]int{"lvm lvchange": 1, "lvm vgmknodes": 1, "blkid": 2, "mkfs.ext4": 1, "mount": 1}
	if diff := cmp.Diff(want, b.host.processes()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestAStagedVolumeIsFormattedOnce(t *testing.T) {
	b := newBed(t)
	b.have(t)
	for range 3 {
		b.stage(t, "ext4")
		if _, err := b.node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging}); err != nil {
			t.Fatal(err)
		}
	}
	if runs := b.host.processes(); runs["mkfs.ext4"] != 1 || runs["mount"] != 3 {
		t.Errorf("processes: %v", runs)
	}
}

func TestOptionsReachTheMount(t *testing.T) {
	for name, test := range map[string]struct {
		flags    []string
		mode     csi.VolumeCapability_AccessMode_Mode
		readonly bool
		staged   []string
		bound    []string
	}{
		"none": {mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		"the class's options": {
			mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER, flags: []string{"noatime", "discard"}, staged: []string{"noatime", "discard"},
		},
		"a pod that only reads": {
			mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER, readonly: true, bound: []string{"ro"},
		},
		"a volume that is only read": {
			mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY, flags: []string{"noatime"}, staged: []string{"noatime", "ro"}, bound: []string{"ro"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.have(t)
			c := capability("xfs")
			c.AccessMode.Mode = test.mode
			c.GetMount().MountFlags = test.flags
			stage, publish := b.stageRequest(""), b.publishRequest("")
			stage.VolumeCapability, publish.VolumeCapability, publish.Readonly = c, c, test.readonly
			if _, err := b.node.NodeStageVolume(t.Context(), stage); err != nil {
				t.Fatal(err)
			}
			if _, err := b.node.NodePublishVolume(t.Context(), publish); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string][]string{b.staging: test.staged, b.target: test.bound} {
				m, err := b.host.at(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, m.options); diff != "" {
					t.Errorf("options at %s (-want +got):\n%s", path, diff)
				}
			}
		})
	}
}

func TestSeveralPodsShareAVolumeOfOneNode(t *testing.T) {
	b := newBed(t)
	b.have(t)
	b.stage(t, "ext4")
	for _, pod := range []string{"a", "b"} {
		req := b.publishRequest("ext4")
		req.TargetPath = filepath.Join(filepath.Dir(b.target), pod)
		if _, err := b.node.NodePublishVolume(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.host.mounted) != 3 {
		t.Errorf("%d mounts, want the staged one and one for each pod", len(b.host.mounted))
	}
}

func TestPublishRefusesWhatItShould(t *testing.T) {
	for name, test := range map[string]struct {
		fsType string
		change func(b *bed, r *csi.NodePublishVolumeRequest)
		code   codes.Code
		words  []string
	}{
		"a volume that is not staged": {
			fsType: "ext4", change: func(b *bed, r *csi.NodePublishVolumeRequest) { r.StagingTargetPath = filepath.Dir(b.target) },
			code: codes.FailedPrecondition, words: []string{"not staged"},
		},
		"no staging path": {
			fsType: "ext4", change: func(_ *bed, r *csi.NodePublishVolumeRequest) { r.StagingTargetPath = "" },
			code: codes.FailedPrecondition, words: []string{"not staged"},
		},
		"the handle of an inline volume": {
			fsType: "ext4", change: func(_ *bed, r *csi.NodePublishVolumeRequest) { r.VolumeId = volume.ForInline("uid", "scratch") },
			code: codes.InvalidArgument, words: []string{"which no PersistentVolume can have"},
		},
		"a device where a directory is": {
			fsType: "block", change: func(b *bed, r *csi.NodePublishVolumeRequest) { r.TargetPath = filepath.Dir(b.target) },
			code: codes.FailedPrecondition, words: []string{"something else"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.have(t)
			b.stage(t, test.fsType)
			mounted := len(b.host.mounted)
			req := b.publishRequest(test.fsType)
			test.change(b, req)
			_, err := b.node.NodePublishVolume(t.Context(), req)
			wantCode(t, err, test.code, test.words...)
			if len(b.host.mounted) != mounted {
				t.Errorf("%d mounts, want %d", len(b.host.mounted), mounted)
			}
		})
	}
}

func TestStatisticsSayWhenADeviceIsGone(t *testing.T) {
	for _, fsType := range []string{"ext4", "block"} {
		t.Run(fsType, func(t *testing.T) {
			b := newBed(t)
			b.have(t)
			b.stage(t, fsType)
			b.publish(t, fsType)
			req := &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target}
			well, err := b.node.NodeGetVolumeStats(t.Context(), req)
			if err != nil || well.GetVolumeCondition().GetAbnormal() || well.GetUsage()[0].GetTotal() != int64(400*mib) {
				t.Errorf("a healthy volume: %v, %v", well, err)
			}
			b.host.node.Reboot() // the device goes away under the mount
			gone, err := b.node.NodeGetVolumeStats(t.Context(), req)
			if err != nil || !gone.GetVolumeCondition().GetAbnormal() || !strings.Contains(gone.GetVolumeCondition().GetMessage(), "is gone") {
				t.Errorf("a volume without a device: %v, %v", gone, err)
			}
		})
	}
}

func TestStatisticsOfABareDirectoryAreNotFound(t *testing.T) {
	b := newBed(t)
	b.have(t)
	_, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.staging})
	wantCode(t, err, codes.NotFound, "nothing is mounted")
}

func TestTheNodeSaysWhereItIs(t *testing.T) {
	b := newBed(t)
	info, err := b.node.NodeGetInfo(context.Background(), &csi.NodeGetInfoRequest{})
	if err != nil || info.GetNodeId() != nodeName || info.GetMaxVolumesPerNode() != 0 ||
		info.GetAccessibleTopology().GetSegments()["kubernetes.io/hostname"] != nodeName {
		t.Errorf("got %v, %v", info, err)
	}
}
