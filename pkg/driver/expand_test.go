//go:build !root

package driver_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
)

// Grow is as that of mounts.Host: it starts a program only if there is something to do.
func (h *fakeHost) Grow(_ context.Context, device, target, fsType string) error {
	v, err := h.volume(device)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.mounted[target]
	if m == nil || m.device != device || h.contents[v.UUID] != fsType {
		return fmt.Errorf("the %s of %s is not mounted at %s", fsType, device, target)
	}
	if h.filled[v.UUID] == v.Size {
		return nil
	}
	if err := h.killer.Pass("before the file system grows"); err != nil {
		return err
	}
	h.count("grow " + fsType)
	h.filled[v.UUID] = v.Size
	return h.killer.Pass("after the file system grew")
}

// IsMounted tells of the mount of a file system.
func (h *fakeHost) IsMounted(target string) (mounts.Mount, bool, error) {
	h.mu.Lock()
	m := h.mounted[target]
	h.mu.Unlock()
	if m == nil {
		return mounts.Mount{}, false, nil
	}
	v, err := h.volume(m.device)
	access := []string{"rw"}
	if slices.Contains(m.options, "ro") {
		access = []string{"ro"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	super := access
	if h.trouble.frozen {
		super = []string{"ro"}
	}
	return mounts.Mount{Target: target, Source: m.device, Root: "/", FSType: h.contents[v.UUID], Options: access, Super: super}, true, err
}

func expandRequest(fsType string, size capacity.Bytes) *csi.ControllerExpandVolumeRequest {
	return &csi.ControllerExpandVolumeRequest{
		VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: int64(size)}, VolumeCapability: capability(fsType),
	}
}

// grown makes the volume, hands it to a pod and expands it by the controller.
func (b *bed) grown(t *testing.T, fsType string, from, to capacity.Bytes) *csi.ControllerExpandVolumeResponse {
	t.Helper()
	if _, err := b.controller.CreateVolume(t.Context(), claim(id, fsType, int64(from), nil)); err != nil {
		t.Fatal(err)
	}
	b.stage(t, fsType)
	b.publish(t, fsType)
	b.host.processes()
	resp, err := b.controller.ControllerExpandVolume(t.Context(), expandRequest(fsType, to))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (b *bed) expandOnNode(t *testing.T, fsType string, size capacity.Bytes) error {
	t.Helper()
	resp, err := b.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{
		VolumeId: id, VolumePath: b.target, StagingTargetPath: b.staging, VolumeCapability: capability(fsType),
		CapacityRange: &csi.CapacityRange{RequiredBytes: int64(size)},
	})
	if err == nil && resp.GetCapacityBytes() < int64(size) {
		t.Errorf("it has %d bytes, want %d", resp.GetCapacityBytes(), size)
	}
	return err
}

func (b *bed) wantTotal(t *testing.T, want capacity.Bytes) {
	t.Helper()
	resp, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
	if err != nil || resp.GetUsage()[0].GetTotal() != int64(want) {
		t.Errorf("statistics: %v, %v; want %s in all", resp, err, want)
	}
}

func TestAVolumeGrowsWhileItIsUsed(t *testing.T) {
	for fsType, programs := range map[string]map[string]int{
		"ext4": {"grow ext4": 1}, "ext3": {"grow ext3": 1}, "xfs": {"grow xfs": 1}, "btrfs": {"grow btrfs": 1}, "block": {},
	} {
		t.Run(fsType, func(t *testing.T) {
			b := newBed(t)
			resp := b.grown(t, fsType, 320*mib, 400*mib)
			want := &csi.ControllerExpandVolumeResponse{CapacityBytes: int64(400 * mib), NodeExpansionRequired: fsType != "block"}
			if resp.GetCapacityBytes() != want.GetCapacityBytes() || resp.GetNodeExpansionRequired() != want.GetNodeExpansionRequired() {
				t.Errorf("got %v, want %v", resp, want)
			}
			if diff := cmp.Diff(map[string]int{"lvm lvextend": 1}, b.host.processes()); diff != "" {
				t.Errorf("processes of the controller's part (-want +got):\n%s", diff)
			}
			if err := b.expandOnNode(t, fsType, 400*mib); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(programs, b.host.processes()); diff != "" {
				t.Errorf("processes of the node's part (-want +got):\n%s", diff)
			}
			b.wantTotal(t, 400*mib)

			// All of it again is free.
			if _, err := b.controller.ControllerExpandVolume(t.Context(), expandRequest(fsType, 400*mib)); err != nil {
				t.Error(err)
			}
			if err := b.expandOnNode(t, fsType, 400*mib); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(map[string]int{}, b.host.processes()); diff != "" {
				t.Errorf("processes of a repetition (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExpansionIsRefusedInWordsThatHelp(t *testing.T) {
	for name, test := range map[string]struct {
		request func(*csi.ControllerExpandVolumeRequest)
		code    codes.Code
		says    []string
	}{
		"more than the group has": {
			func(r *csi.ControllerExpandVolumeRequest) { r.CapacityRange.RequiredBytes = int64(2048 * mib) },
			codes.OutOfRange, []string{"wants 1728Mi more, 704Mi free in volume group pool", "on node node-1"},
		},
		"less than it has, and no more": {
			func(r *csi.ControllerExpandVolumeRequest) {
				r.CapacityRange.RequiredBytes, r.CapacityRange.LimitBytes = int64(mib), int64(2*mib)
			},
			codes.OutOfRange, []string{"it has 320Mi, at most 2Mi are allowed, and volumes never shrink"},
		},
		"a volume that is not there": {func(r *csi.ControllerExpandVolumeRequest) { r.VolumeId = "local-2" }, codes.NotFound, []string{"local-2"}},
		"no volume":                  {func(r *csi.ControllerExpandVolumeRequest) { r.VolumeId = "" }, codes.InvalidArgument, nil},
		"no size":                    {func(r *csi.ControllerExpandVolumeRequest) { r.CapacityRange = nil }, codes.InvalidArgument, []string{"capacity range"}},
		"a size above its limit":     {func(r *csi.ControllerExpandVolumeRequest) { r.CapacityRange.LimitBytes = 1 }, codes.InvalidArgument, []string{"capacity range"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			if _, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(320*mib), nil)); err != nil {
				t.Fatal(err)
			}
			b.stage(t, "ext4")
			b.publish(t, "ext4")
			request := expandRequest("ext4", 400*mib)
			test.request(request)
			_, err := b.controller.ControllerExpandVolume(t.Context(), request)
			wantCode(t, err, test.code, test.says...)
			b.wantTotal(t, 320*mib) // and it goes on working
		})
	}
}

func TestAFullGroupIsSeenByTheNodeAsWell(t *testing.T) {
	b := newBed(t)
	if _, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(320*mib), nil)); err != nil {
		t.Fatal(err)
	}
	// No report shows yet what somebody took meanwhile.
	if err := b.host.node.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "pool", Name: "foreign", Size: 600 * mib}); err != nil {
		t.Fatal(err)
	}
	_, err := b.controller.ControllerExpandVolume(t.Context(), expandRequest("ext4", 640*mib))
	wantCode(t, err, codes.OutOfRange, "wants 320Mi more, 104Mi free in volume group pool")
	// The claim may ask for less, and gets it.
	if _, err := b.controller.ControllerExpandVolume(t.Context(), expandRequest("ext4", 400*mib)); err != nil {
		t.Error(err)
	}
}

func TestTheNodeGrowsOnlyWhatItCan(t *testing.T) {
	b := newBed(t)
	b.grown(t, "ext4", 64*mib, 128*mib)
	wantCode(t, b.expandOnNode(t, "ext4", 256*mib), codes.OutOfRange, "has 128Mi, wanted are 256Mi")
	b.wantTotal(t, 64*mib)
	b.host.mounted[b.staging].options = []string{"ro"}
	wantCode(t, b.expandOnNode(t, "ext4", 128*mib), codes.FailedPrecondition, "mounted read-only")
	b.host.mounted[b.staging].options = nil
	b.staging = t.TempDir()
	wantCode(t, b.expandOnNode(t, "ext4", 128*mib), codes.FailedPrecondition, "not staged")
	b.target = b.staging + "/gone"
	wantCode(t, b.expandOnNode(t, "ext4", 128*mib), codes.NotFound)
}

func TestMkfsOptionsReachMkfs(t *testing.T) {
	b := newBed(t)
	resp, err := b.controller.CreateVolume(t.Context(), claim(id, "xfs", int64(320*mib), map[string]string{"mkfsOptions": " -i size=1024   -K "}))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetVolume().GetVolumeContext()["mkfsOptions"]; got != "-i size=1024 -K" {
		t.Errorf("the volume remembers %q", got)
	}
	request := b.stageRequest("xfs")
	request.VolumeContext = resp.GetVolume().GetVolumeContext()
	if _, err := b.node.NodeStageVolume(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	v := b.host.node.Volume("pool", volume.NameOf(id))
	if got := b.host.options[v.UUID]; got != "-i size=1024 -K" {
		t.Errorf("mkfs was given %q", got)
	}
}

func TestMkfsOptionsThatAreNotAllowedReachNothing(t *testing.T) {
	b := newBed(t)
	for _, options := range []string{"-F", "-O extent; reboot", "-i size=1024"} {
		_, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(64*mib), map[string]string{"mkfsOptions": options}))
		wantCode(t, err, codes.InvalidArgument, "mkfsOptions", "mkfs option", "for ext4", "allowed")
	}
	if _, err := b.controller.CreateVolume(t.Context(), claim(id, "block", int64(64*mib), map[string]string{"mkfsOptions": "-F"})); err != nil {
		t.Errorf("a block volume has no use for them: %v", err)
	}
	b.remove(t)
	b.have(t)
	request := b.stageRequest("ext4")
	request.VolumeContext["mkfsOptions"] = "-F"
	_, err := b.node.NodeStageVolume(t.Context(), request)
	wantCode(t, err, codes.InvalidArgument, `mkfs option "-F"`)
	if len(b.contents()) > 0 {
		t.Errorf("it was formatted: %v", b.contents())
	}
}
