//go:build !root

package driver_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/volume"
)

func (l *limits) keep(h *fakeHost) *iolimit.Keeper {
	l.keeper = iolimit.NewKeeper(iolimit.Root(l.dir), h, h.node.Standing)
	return l.keeper
}

// throttled is a bed with a volume that the controller made, and what its
// PersistentVolume remembers.
type throttled struct {
	*bed
	context map[string]string
}

func newThrottled(t *testing.T, fsType string, parameters map[string]string) *throttled {
	t.Helper()
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
	r := newRig(t, p, withReserver(&reserver{group: "pool"}))
	b := &throttled{bed: &bed{rig: r, host: host, controller: csi.NewControllerClient(r.conn), node: csi.NewNodeClient(r.conn)}}
	b.staging, b.target = paths(t, id)
	resp, err := b.controller.CreateVolume(t.Context(), claim(id, fsType, int64(8*mib), parameters))
	if err != nil {
		t.Fatal(err)
	}
	b.context = resp.GetVolume().GetVolumeContext()
	return b
}

func (b *throttled) stage(t *testing.T, fsType string) {
	t.Helper()
	req := b.stageRequest(fsType)
	req.VolumeContext = b.context
	if _, err := b.node.NodeStageVolume(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

func (b *throttled) publish(t *testing.T, fsType string) {
	t.Helper()
	if _, err := b.node.NodePublishVolume(t.Context(), b.publishing(fsType)); err != nil {
		t.Fatal(err)
	}
}

func (b *throttled) publishing(fsType string) *csi.NodePublishVolumeRequest {
	req := b.publishRequest(fsType)
	req.VolumeContext = maps.Clone(b.context)
	return req
}

// modify changes the limits of the volume, as csi-resizer does.
func (b *throttled) modify(t *testing.T, id string, parameters map[string]string) error {
	t.Helper()
	_, err := b.controller.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: parameters})
	return err
}

func (b *throttled) unstage(t *testing.T) {
	t.Helper()
	for _, call := range []func() error{
		func() error {
			_, err := b.node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: b.target})
			return err
		},
		func() error {
			_, err := b.node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
}

const none = "rbps=max wbps=max riops=max wiops=max"

func TestLimitsHoldWhileAVolumeIsUsed(t *testing.T) {
	for _, fsType := range []string{"ext4", "block"} {
		t.Run(fsType, func(t *testing.T) {
			b := newThrottled(t, fsType, map[string]string{"bps": "1Mi", "iops": "1024"})
			if diff := cmp.Diff(map[string]string{"volumeType": "LVM", "vgName": "pool", "bps": "1048576", "iops": "1024"}, b.context); diff != "" {
				t.Errorf("what the PersistentVolume remembers (-want +got):\n%s", diff)
			}
			b.stage(t, fsType)
			b.host.limits.wantLine("")
			b.publish(t, fsType)
			const asked = "rbps=1048576 wbps=1048576 riops=1024 wiops=1024"
			b.host.limits.wantLine(asked)
			b.host.processes()
			if err := b.host.limits.keeper.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]int{}, b.host.processes()); diff != "" {
				t.Errorf("processes of keeping limits (-want +got):\n%s", diff)
			}
			b.host.limits.wantLine(asked)
			b.unstage(t)
			b.host.limits.wantLine(none)
		})
	}
}

func TestAChangedLimitWinsForEver(t *testing.T) {
	b := newThrottled(t, "ext4", map[string]string{"bps": "1Mi", "iops": "1024"})
	look := func() {
		t.Helper()
		if err := b.host.limits.keeper.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.stage(t, "ext4")
	b.publish(t, "ext4")
	b.host.limits.wantLine("rbps=1048576 wbps=1048576 riops=1024 wiops=1024")
	b.host.processes()
	if err := b.modify(t, id, map[string]string{"bps": "4Mi", "iops": "max"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"lvm lvchange": 1}, b.host.processes()); diff != "" {
		t.Errorf("processes of a change (-want +got):\n%s", diff)
	}
	const changed = "rbps=4194304 wbps=4194304 riops=max wiops=max"
	look()
	b.host.limits.wantLine(changed)
	b.unstage(t)
	b.host.limits.wantLine(none)
	b.stage(t, "ext4")
	b.publish(t, "ext4")
	b.host.limits.wantLine(changed)
	if err := b.modify(t, id, map[string]string{"bps": "max"}); err != nil {
		t.Fatal(err)
	}
	look()
	b.host.limits.wantLine(none)
	b.unstage(t)
	if err := b.modify(t, id, map[string]string{"iops": "7"}); err != nil { // nobody uses it
		t.Fatal(err)
	}
	b.stage(t, "ext4")
	b.publish(t, "ext4")
	b.host.limits.wantLine("rbps=max wbps=max riops=7 wiops=7")
}

func TestANewProcessKnowsTheLimits(t *testing.T) {
	b := newThrottled(t, "ext4", map[string]string{"bps": "1Mi"})
	b.stage(t, "ext4")
	b.publish(t, "ext4")
	b.host.limits.wantLine("rbps=1048576 wbps=1048576 riops=max wiops=max")
	if err := b.modify(t, id, map[string]string{"bps": "2Mi"}); err != nil {
		t.Fatal(err)
	}
	b.host.node.Restart()
	if err := os.WriteFile(b.host.limits.file(), nil, 0o600); err != nil { // the cgroup was made anew meanwhile
		t.Fatal(err)
	}
	keeper := b.host.limits.keep(b.host)
	keeper.Resume(b.host.node.Standing.Open())
	if err := keeper.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.host.limits.wantLine("rbps=2097152 wbps=2097152 riops=max wiops=max")
}

func TestWhatCannotBeChangedIsRefused(t *testing.T) {
	b := newThrottled(t, "ext4", nil)
	for name, tc := range map[string]struct {
		id         string
		parameters map[string]string
		code       codes.Code
		words      string
	}{
		"a key that is not known":  {id, map[string]string{"bps": "1Mi", "fsType": "xfs"}, codes.InvalidArgument, "fsType"},
		"a value that is not one":  {id, map[string]string{"iops": "many"}, codes.InvalidArgument, "iops"},
		"nothing instead of max":   {id, map[string]string{"iops": "0"}, codes.InvalidArgument, "iops"},
		"a volume that is not":     {"local-none", map[string]string{"iops": "1"}, codes.NotFound, "local-none"},
		"no volume":                {"", map[string]string{"iops": "1"}, codes.InvalidArgument, ""},
		"nothing to be changed to": {id, nil, codes.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b.host.processes()
			err := b.modify(t, tc.id, tc.parameters)
			wantCode(t, err, tc.code)
			if err != nil && !strings.Contains(err.Error(), tc.words) {
				t.Errorf("%v does not say %q", err, tc.words)
			}
			if diff := cmp.Diff(map[string]int{}, b.host.processes()); diff != "" {
				t.Errorf("processes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAVolumeAttributesClassWinsOverTheStorageClass(t *testing.T) {
	for name, tc := range map[string]struct {
		mutable map[string]string
		want    map[string]string
		code    codes.Code
	}{
		"one of two":           {map[string]string{"bps": "4Mi"}, map[string]string{"bps": "4194304", "iops": "1024"}, codes.OK},
		"one is taken off":     {map[string]string{"bps": "max"}, map[string]string{"iops": "1024"}, codes.OK},
		"a wrong value":        {map[string]string{"bps": "0"}, nil, codes.InvalidArgument},
		"a key for creation":   {map[string]string{"vgName": "pool"}, nil, codes.InvalidArgument},
		"a value of one's own": {map[string]string{"iops": "1.5"}, nil, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
			r := newRig(t, p, withReserver(&reserver{group: "pool"}))
			req := claim(id, "ext4", int64(8*mib), map[string]string{"bps": "1Mi", "iops": "1024"})
			req.MutableParameters = tc.mutable
			resp, err := csi.NewControllerClient(r.conn).CreateVolume(t.Context(), req)
			wantCode(t, err, tc.code)
			if err != nil {
				if got := host.node.Volumes(); len(got) > 0 {
					t.Errorf("volumes were made all the same: %q", got)
				}
				return
			}
			got := resp.GetVolume().GetVolumeContext()
			delete(got, "volumeType")
			delete(got, "vgName")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("limits that the PersistentVolume remembers (-want +got):\n%s", diff)
			}
			tags := host.node.Volume("pool", id).Tags
			if kept, err := volume.ParseLimitChange(tc.want); err != nil || volume.LimitsFromTags(tags) != kept.Of(volume.Limits{}) {
				t.Errorf("%v; tags %q keep something else than %v", err, tags, tc.want)
			}
		})
	}
}

func TestANodeThatCannotLimitSaysSo(t *testing.T) {
	b := newThrottled(t, "ext4", map[string]string{"bps": "1Mi"})
	if err := os.Remove(filepath.Join(b.host.limits.dir, "cgroup.controllers")); err != nil {
		t.Fatal(err)
	}
	b.stage(t, "ext4")
	req := b.publishing("ext4")
	req.VolumeContext["csi.storage.k8s.io/pod.name"] = "web-0"
	req.VolumeContext["csi.storage.k8s.io/pod.namespace"] = "shop"
	if _, err := b.node.NodePublishVolume(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	told := b.host.limits.told
	if len(told) != 1 || !strings.HasPrefix(told[0], "shop/web-0 NotThrottled: ") || !strings.Contains(told[0], id) || !strings.Contains(told[0], "version 1") {
		t.Errorf("people were told %q", told)
	}
	b.unstage(t)
}

func TestAnInlineVolumeIsHeldToItsLimits(t *testing.T) {
	b := newBed(t)
	for range 2 { // a repeated call finds it mounted
		if err := b.publishOwn(t, "ext4", "size", "8Mi", "bps", "3Mi", "iops", "5"); err != nil {
			t.Fatal(err)
		}
		b.host.limits.wantLine("rbps=3145728 wbps=3145728 riops=5 wiops=5")
	}
	if err := os.WriteFile(b.host.limits.file(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.host.node.Restart()
	keeper := iolimit.NewKeeper(iolimit.Root(b.host.limits.dir), b.host, b.host.node.Standing)
	keeper.Resume(b.host.node.Standing.Open())
	if err := keeper.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.host.limits.wantLine("rbps=3145728 wbps=3145728 riops=5 wiops=5")
}

func TestAnInlineVolumeThatGoesTakesItsLimitsWithIt(t *testing.T) {
	b := newBed(t)
	if err := b.publishOwn(t, "ext4", "size", "8Mi", "bps", "3Mi"); err != nil {
		t.Fatal(err)
	}
	b.host.limits.wantLine("rbps=3145728 wbps=3145728 riops=max wiops=max")
	if err := b.unpublishOwn(t); err != nil {
		t.Fatal(err)
	}
	b.host.limits.wantLine(none)
}
