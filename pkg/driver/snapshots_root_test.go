//go:build root

package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/lvm"
)

// snapRoot is a snapshot of the volume id.
const snapRoot = "snap-7f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c77"

func succeeds(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAReadOnlyRestoreOnRealLVM takes a snapshot of a file system that is mounted and
// written to, and shows it beside its origin.
func TestAReadOnlyRestoreOnRealLVM(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "block"} {
		t.Run(fsType, func(t *testing.T) {
			b := newRealBed(t)
			ctx := t.Context()
			made, err := b.controller.CreateVolume(ctx, claim(id, fsType, int64(320*mib), nil))
			succeeds(t, err)
			use := func(volumeID string, context map[string]string, staging, target string) {
				t.Helper()
				_, err := b.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
					VolumeId: volumeID, StagingTargetPath: staging, VolumeCapability: capability(fsType), VolumeContext: context,
				})
				succeeds(t, err)
				_, err = b.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
					VolumeId: volumeID, StagingTargetPath: staging, TargetPath: target, VolumeCapability: capability(fsType), VolumeContext: context,
				})
				succeeds(t, err)
			}
			leave := func(volumeID, staging, target string) {
				t.Helper()
				_, err := b.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: volumeID, TargetPath: target})
				succeeds(t, err)
				_, err = b.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: volumeID, StagingTargetPath: staging})
				succeeds(t, err)
			}
			path := func(target string) string {
				if fsType == "block" {
					return target
				}
				return filepath.Join(target, "file")
			}
			write := func(target, what string) error {
				file, err := os.OpenFile(path(target), os.O_WRONLY|os.O_CREATE|os.O_SYNC, 0o600)
				if err != nil {
					return err
				}
				_, err = file.WriteString(what)
				return errors.Join(err, file.Close())
			}
			read := func(target string) string {
				t.Helper()
				file, err := os.Open(path(target))
				succeeds(t, err)
				content := make([]byte, 6)
				_, err = file.Read(content)
				succeeds(t, errors.Join(err, file.Close()))
				return string(content)
			}

			use(id, made.GetVolume().GetVolumeContext(), b.staging, b.target)
			succeeds(t, write(b.target, "before"))
			b.counter.Reset()
			_, err = b.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: snapRoot, SourceVolumeId: id, Parameters: map[string]string{
				"csi.aliyun.com/readonly": "true", "csi.aliyun.com/snapshot-initial-size": "64Mi",
			}})
			succeeds(t, err)
			if diff := cmp.Diff(map[string]int{"lvm lvcreate": 1}, b.counter.Runs()); diff != "" {
				t.Errorf("processes of a snapshot (-want +got):\n%s", diff)
			}
			succeeds(t, write(b.target, "behind"))

			ask := claim("shows", fsType, int64(320*mib), nil)
			ask.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
				Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapRoot},
			}}
			shows, err := b.controller.CreateVolume(ctx, ask)
			succeeds(t, err)
			staging, target := paths(t, "shows")
			use("shows", shows.GetVolume().GetVolumeContext(), staging, target)
			if got := read(target); got != "before" {
				t.Errorf("the snapshot shows %q", got)
			}
			if got := read(b.target); got != "behind" {
				t.Errorf("the volume shows %q", got)
			}
			if write(target, "wrong!") == nil {
				t.Error("the snapshot was written to")
			}
			// The space may have to grow while it is looked at; it stays read-only.
			succeeds(t, b.host.ExtendVolume(ctx, realGroup, snapRoot, 128*mib))
			if write(target, "wrong!") == nil {
				t.Error("the snapshot was written to after it had grown")
			}
			if got := read(target); got != "before" {
				t.Errorf("the snapshot shows %q after it had grown", got)
			}

			if fsType != "block" { // whose PersistentVolume alone stands in the way
				_, err = b.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: snapRoot})
				wantCode(t, err, codes.FailedPrecondition)
			}
			leave("shows", staging, target)
			leave(id, b.staging, b.target)
			for _, volumeID := range []string{"shows", id} {
				_, err = b.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: volumeID})
				succeeds(t, err)
			}
			v, err := b.host.Volume(ctx, realGroup, snapRoot)
			if err != nil || v.Invalid() || !v.ReadOnly {
				t.Errorf("the snapshot is %+v, %v", v, err)
			}
			b.counter.Reset()
			for until := time.Now().Add(10 * time.Second); ; {
				_, err = b.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: snapRoot})
				if err == nil || time.Now().After(until) {
					break
				}
			}
			succeeds(t, err)
			if diff := cmp.Diff(map[string]int{"lvm lvremove": 2}, b.counter.Runs()); diff != "" {
				t.Errorf("processes of the last snapshot of a deleted volume (-want +got):\n%s", diff)
			}
			if _, err := b.host.Volume(ctx, realGroup, id); !errors.Is(err, lvm.ErrVolumeNotFound) {
				t.Errorf("the deleted volume is still there: %v", err)
			}
		})
	}
}
