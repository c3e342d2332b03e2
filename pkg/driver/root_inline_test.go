//go:build root

package driver_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

const podUID = "5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11"

// mounted is what is mounted on this machine.
func (b *realBed) mounted() any {
	b.t.Helper()
	mounted, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		b.t.Fatal(err)
	}
	return string(mounted)
}

// volumes is all that LVM knows.
func (b *realBed) volumes() lvm.Report {
	b.t.Helper()
	report, err := b.parts.lvm.Report(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

// processes returns what was started since the last call.
func (b *realBed) processes() map[string]int {
	runs := b.counter.Runs()
	maps.DeleteFunc(runs, func(_ string, n int) bool { return n == 0 })
	b.counter.Reset()
	return runs
}

func TestTheLifeOfAnInlineVolumeOnRealLVM(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			b := newRealBed(t)
			own := scratchOf(b.kubelet, "web-0", podUID)
			device := lvm.DevicePath(realGroup, own.id())
			req := own.publish(t, fsType, asking(realGroup, "size", "320Mi").attributes)
			publish := func() error { _, err := b.node.NodePublishVolume(t.Context(), req); return err }
			unpublish := func() error { _, err := b.node.NodeUnpublishVolume(t.Context(), own.unpublish()); return err }
			b.spend(t, "the first publish", map[string]int{"lvm lvcreate": 1, "blkid": 2, "mkfs." + fsType: 1, "mount": 1}, publish)
			b.spend(t, "a repeated publish", map[string]int{}, publish)
			if err := os.WriteFile(filepath.Join(own.target(), "file"), []byte("kept"), 0o600); err != nil {
				t.Error(err)
			}
			if busy, err := devfile.Root("/").Busy(device); !busy || err != nil {
				t.Errorf("a mounted volume is busy: %t, %v", busy, err)
			}
			if err := b.parts.services.Inline.RemoveInline(t.Context(), own.id(), true); !errors.Is(err, lvm.ErrInUse) {
				t.Errorf("removing a mounted volume: got %v, want ErrInUse", err)
			}
			if content, err := os.ReadFile(filepath.Join(own.target(), "file")); err != nil || string(content) != "kept" {
				t.Errorf("the file holds %q, %v", content, err)
			}
			b.counter.Reset()
			b.spend(t, "unpublish", map[string]int{"lvm lvremove": 1}, unpublish)
			b.spend(t, "a repeated unpublish", map[string]int{}, unpublish)
			if busy, err := devfile.Root("/").Busy(device); busy || err != nil {
				t.Errorf("a volume that is gone is busy: %t, %v", busy, err)
			}
			if _, err := os.Lstat(own.target()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the target path is left: %v", err)
			}
		})
	}
}

func TestAnInlineVolumeThatIsOnlyReadOnRealLVM(t *testing.T) {
	b := newRealBed(t)
	own := scratchOf(b.kubelet, "web-0", podUID)
	req := own.publish(t, "", asking(realGroup, "size", "16Mi").attributes)
	req.Readonly = true
	if _, err := b.node.NodePublishVolume(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own.target(), "file"), nil, 0o600); err == nil {
		t.Error("a pod that may only read wrote")
	}
	if _, err := b.node.NodeUnpublishVolume(t.Context(), own.unpublish()); err != nil {
		t.Error(err)
	}
}

func TestHostileAttributesAreRefusedOnRealLVM(t *testing.T) {
	b := newRealBed(t)
	foreign := b.foreignGroup(t)
	if err := b.create(t, "ext4", 16*mib); err != nil {
		t.Fatal(err)
	}
	other := scratchOf(b.kubelet, "bank", "11111111-6f0e-4c39-9a59-0f9c8c4a7b11")
	if _, err := b.node.NodePublishVolume(t.Context(), other.publish(t, "", asking(realGroup, "size", "16Mi").attributes)); err != nil {
		t.Fatal(err)
	}
	own := scratchOf(b.kubelet, "web-0", podUID)
	before := b.volumes()
	wantAllRefused(t, b.node, own, attempts(realGroup, foreign, id, other), b.mounted, b.processes)
	if diff := cmp.Diff(before, b.volumes()); diff != "" {
		t.Errorf("what LVM knows (-before +after):\n%s", diff)
	}

	_, err := b.node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: other.id(), TargetPath: own.target()})
	wantCode(t, err, codes.FailedPrecondition) // it is mounted
	if _, err := b.node.NodeUnpublishVolume(t.Context(), other.unpublish()); err != nil {
		t.Error(err)
	}
	if err := b.remove(t); err != nil {
		t.Error(err)
	}
}

// foreignGroup makes a volume group that the node does not manage.
func (b *realBed) foreignGroup(t *testing.T) string {
	t.Helper()
	disk := strings.Split(os.Getenv("LAB_DISKS"), ",")[1]
	if err := b.host.CreateGroup(t.Context(), "foreign", []string{disk}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wipeGroup(t, "foreign", disk) })
	return "foreign"
}

func TestAVolumeOfTheFirstOpenLocalOnRealLVM(t *testing.T) {
	b := newRealBed(t)
	own := scratchOf(b.kubelet, "web-0", podUID)
	if err := b.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: realGroup, Name: own.id(), Size: 16 * mib}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(own.target()), 0o750); err != nil {
		t.Fatal(err)
	}
	services := b.parts.services
	services.Inline = b.process(t)
	node := driver.NewNode(services)
	if _, err := node.NodePublishVolume(t.Context(), own.publish(t, "", asking(realGroup).attributes)); !errors.Is(err, provision.ErrConflict) {
		t.Errorf("it is handed out: %v", err)
	}
	if _, err := node.NodeUnpublishVolume(t.Context(), own.unpublish()); err != nil {
		t.Error(err)
	}
	if _, err := b.host.Volume(t.Context(), realGroup, volume.NameOf(own.id())); !errors.Is(err, lvm.ErrVolumeNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}
