//go:build !root

package driver_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

const snapID = "snap-3f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c33"

// shot asks for a snapshot as csi-snapshotter does.
func shot(name, of string, parameters ...string) *csi.CreateSnapshotRequest {
	req := &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: of, Parameters: map[string]string{
		"csi.storage.k8s.io/volumesnapshot/name": "nightly", "csi.storage.k8s.io/volumesnapshot/namespace": "default",
		"csi.aliyun.com/snapshot-initial-size": "8Mi",
	}}
	for i := 0; i < len(parameters); i += 2 {
		req.Parameters[parameters[i]] = parameters[i+1]
	}
	return req
}

// withSnapshot returns a bed with a volume of 400 MiB and a snapshot of it.
func withSnapshot(t *testing.T, parameters ...string) (*bed, *csi.Snapshot) {
	t.Helper()
	b := newBed(t)
	if _, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil)); err != nil {
		t.Fatal(err)
	}
	made, err := b.controller.CreateSnapshot(t.Context(), shot(snapID, id, parameters...))
	if err != nil {
		t.Fatal(err)
	}
	return b, made.GetSnapshot()
}

func (b *bed) deleteSnapshot(t *testing.T) error {
	t.Helper()
	_, err := b.controller.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: snapID})
	return err
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestASnapshotIsTheSameWheneverItIsAskedFor(t *testing.T) {
	b, made := withSnapshot(t)
	if made.GetSizeBytes() != int64(400*mib) || !made.GetReadyToUse() || made.GetSourceVolumeId() != id || time.Since(made.GetCreationTime().AsTime()) > time.Hour {
		t.Errorf("made was %v", made)
	}
	again, err := b.controller.CreateSnapshot(t.Context(), shot(snapID, id))
	ok(t, err)
	if diff := cmp.Diff(made.String(), again.GetSnapshot().String()); diff != "" {
		t.Errorf("the repeat (-first +second):\n%s", diff)
	}
	listed, err := b.controller.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: snapID})
	ok(t, err)
	if len(listed.GetEntries()) != 1 || listed.GetEntries()[0].GetSnapshot().String() != made.String() {
		t.Errorf("listed is %v, made was %v", listed, made)
	}
	if tags := b.host.node.Volume("pool", snapID).Tags; !slices.Contains(tags, volume.VolumeSnapshotTag("default", "nightly")) {
		t.Errorf("its tags are %q", tags)
	}
	ok(t, b.deleteSnapshot(t))
	ok(t, b.deleteSnapshot(t))
	b.wantVolumes(t, "pool/"+id)
}

func TestWhatACreateSnapshotIsRefusedFor(t *testing.T) {
	for name, test := range map[string]struct {
		ask   *csi.CreateSnapshotRequest
		code  codes.Code
		words []string
	}{
		"no name":                     {shot("", id), codes.InvalidArgument, nil},
		"no source":                   {shot("x", ""), codes.InvalidArgument, nil},
		"a source that is not there":  {shot("x", "y"), codes.NotFound, []string{"volume y"}},
		"a key that is not known":     {shot("x", id, "csi.aliyun.com/read-only", "true"), codes.InvalidArgument, []string{"read-only"}},
		"more space than there is":    {shot("x", id, "csi.aliyun.com/snapshot-initial-size", "800Mi"), codes.OK, nil}, // it cannot need that much
		"the name of another's":       {shot(snapID, "other"), codes.AlreadyExists, []string{id}},
		"a name that reaches a shell": {shot("$(reboot)", "; reboot"), codes.NotFound, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := withSnapshot(t)
			_, err := b.controller.CreateVolume(t.Context(), claim("other", "ext4", int64(8*mib), nil))
			ok(t, err)
			_, err = b.controller.CreateSnapshot(t.Context(), test.ask)
			wantCode(t, err, test.code, test.words...)
		})
	}
	b := newBed(t)
	_, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(1020*mib), nil))
	ok(t, err)
	_, err = b.controller.CreateSnapshot(t.Context(), shot("x", id, "csi.aliyun.com/snapshot-initial-size", "1Gi"))
	wantCode(t, err, codes.ResourceExhausted, "1Gi", "4Mi free")
}

func TestSnapshotsAreListedInPagesAndByWhatTheyAreOf(t *testing.T) {
	b, _ := withSnapshot(t)
	_, err := b.controller.CreateVolume(t.Context(), claim("other", "ext4", int64(8*mib), nil))
	ok(t, err)
	for _, name := range []string{"a", "b", "c"} {
		_, err := b.controller.CreateSnapshot(t.Context(), shot(name, "other"))
		ok(t, err)
	}
	list := func(req *csi.ListSnapshotsRequest) (names []string, next string) {
		t.Helper()
		resp, err := b.controller.ListSnapshots(t.Context(), req)
		ok(t, err)
		for _, entry := range resp.GetEntries() {
			names = append(names, entry.GetSnapshot().GetSnapshotId())
		}
		return names, resp.GetNextToken()
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("listed (-want +got):\n%s", diff)
		}
	}
	names, next := list(&csi.ListSnapshotsRequest{MaxEntries: 3})
	want(names, "a", "b", "c")
	names, next = list(&csi.ListSnapshotsRequest{MaxEntries: 3, StartingToken: next})
	want(names, snapID)
	if next != "" {
		t.Errorf("there is said to be more: %q", next)
	}
	names, _ = list(&csi.ListSnapshotsRequest{SourceVolumeId: "other"})
	want(names, "a", "b", "c")
	names, _ = list(&csi.ListSnapshotsRequest{SourceVolumeId: "missing"})
	want(names)
	names, _ = list(&csi.ListSnapshotsRequest{SnapshotId: "missing"})
	want(names)
	_, err = b.controller.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: "x"})
	wantCode(t, err, codes.Aborted)
	_, err = b.controller.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: -1})
	wantCode(t, err, codes.InvalidArgument)
}

func TestASnapshotOutlivesItsVolume(t *testing.T) {
	b, _ := withSnapshot(t)
	_, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	ok(t, err)
	b.wantVolumes(t, "pool/"+id, "pool/"+snapID)
	volumes, err := b.controller.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	ok(t, err)
	if len(volumes.GetEntries()) > 0 {
		t.Errorf("a deleted volume is listed: %v", volumes)
	}
	_, err = b.controller.CreateSnapshot(t.Context(), shot("another", id))
	wantCode(t, err, codes.NotFound)
	_, err = b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil))
	wantCode(t, err, codes.AlreadyExists, "deleted")
	_, err = b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	ok(t, err)
	// While the node's report is of before, the one that stands is the answer.
	if _, err = b.controller.CreateSnapshot(t.Context(), shot(snapID, id)); err != nil {
		wantCode(t, err, codes.NotFound)
	}
	b.wantVolumes(t, "pool/"+id, "pool/"+snapID)
	ok(t, b.deleteSnapshot(t))
	b.wantVolumes(t)
}

// sources says of what snapshots were made.
type sources map[string]string

func (s sources) SourceOf(_ context.Context, id string) (string, error) { return s[id], nil }

func TestASnapshotThatNoReportShowsIsLookedForBesideItsSource(t *testing.T) {
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
	r := newRig(t, p, func(o *driver.ControllerOptions) { o.Contents = sources{snapID: id} })
	controller := csi.NewControllerClient(r.conn)
	_, err := controller.CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil))
	ok(t, err)
	_, err = host.node.Snapshot(t.Context(), provision.SnapshotSpec{
		ID: snapID, Volume: id, Kind: volume.LVM, Group: "pool", Space: 8 * mib, Step: mib, Threshold: 50,
	}) // which nobody here has seen
	ok(t, err)
	_, err = controller.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "unknown"})
	ok(t, err)
	_, err = controller.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: snapID})
	ok(t, err)
	if diff := cmp.Diff([]string{"pool/" + id}, host.node.Volumes()); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

// TestASnapshotWhoseGroupIsMissingIsNotDeleted has its volume deleted, so that only the
// report says where it is: that of an agent remembers a group that is missing.
func TestASnapshotWhoseGroupIsMissingIsNotDeleted(t *testing.T) {
	b, _ := withSnapshot(t)
	_, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	ok(t, err)
	lost := v1alpha1.VolumeGroup{Name: "pool", Condition: v1alpha1.StorageFault}
	for _, name := range []string{id, snapID} {
		lost.LogicalVolumes = append(lost.LogicalVolumes, describe(b.host.node.Volume("pool", name)))
	}
	wholes := b.parts.wholes
	b.parts.wholes = func(nls *v1alpha1.NodeLocalStorage) {
		wholes(nls)
		nls.Status.NodeStorageInfo.VolumeGroups = append(nls.Status.NodeStorageInfo.VolumeGroups, lost)
	}
	b.host.node.Lose("/dev/disk-pool")
	b.report()
	wantCode(t, b.deleteSnapshot(t), codes.FailedPrecondition, "pool")
	b.host.node.Find("/dev/disk-pool")
	b.parts.wholes = wholes
	b.report()
	ok(t, b.deleteSnapshot(t))
	b.wantVolumes(t)
}

// restore asks for a volume made of the snapshot.
func restore(name, fsType string, size int64) *csi.CreateVolumeRequest {
	req := claim(name, fsType, size, nil)
	req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapID},
	}}
	return req
}

func TestASourceDecidesTheNode(t *testing.T) {
	b, _ := withSnapshot(t)
	away := restore("copy", "ext4", int64(400*mib))
	topology(away, "node-2")
	_, err := b.controller.CreateVolume(t.Context(), away)
	wantCode(t, err, codes.ResourceExhausted, "its source lies on node "+nodeName, "node-2")

	missing := restore("copy", "ext4", int64(400*mib))
	missing.GetVolumeContentSource().GetSnapshot().SnapshotId = "missing"
	_, err = b.controller.CreateVolume(t.Context(), missing)
	wantCode(t, err, codes.NotFound, "snapshot missing")

	b.host.node.Overwrite("pool", id, 100*mib)
	b.report()
	for at, _ := b.directory.FindSnapshot(snapID); !at.Lost; at, _ = b.directory.FindSnapshot(snapID) {
		if t.Context().Err() != nil {
			t.Fatal("that it is lost is not seen")
		}
	}
	_, err = b.controller.CreateVolume(t.Context(), restore("copy", "ext4", int64(400*mib)))
	wantCode(t, err, codes.FailedPrecondition, "lost")
	listed, err := b.controller.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{})
	ok(t, err)
	if listed.GetEntries()[0].GetSnapshot().GetReadyToUse() {
		t.Error("a lost snapshot is said to be ready")
	}
}

// shown is the PersistentVolume of a volume that was made.
func (b *bed) shown(t *testing.T, made *csi.Volume) {
	t.Helper()
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: made.GetVolumeId()}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: volume.DefaultDriver, VolumeHandle: made.GetVolumeId(), VolumeAttributes: made.GetVolumeContext()}
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: volume.TopologyKey, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName}}},
	}}}}
	_, err := b.cluster.CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{})
	ok(t, err)
}

func TestAReadOnlyRestoreShowsTheSnapshotItself(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "block"} {
		t.Run(fsType, func(t *testing.T) {
			b, _ := withSnapshot(t, "csi.aliyun.com/readonly", "true")
			if fsType != "block" {
				ok(t, b.host.put("/dev/pool/"+id, fsType))
			}
			req := restore("shows", fsType, int64(400*mib))
			req.VolumeCapabilities[0].AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
			b.host.processes()
			resp, err := b.controller.CreateVolume(t.Context(), req)
			ok(t, err)
			if runs := b.host.processes(); len(runs) > 0 {
				t.Errorf("showing it takes the processes %v", runs)
			}
			made := resp.GetVolume()
			if made.GetCapacityBytes() != int64(400*mib) || made.GetContentSource().GetSnapshot().GetSnapshotId() != snapID {
				t.Errorf("made was %v", made)
			}
			b.wantVolumes(t, "pool/"+id, "pool/"+snapID)

			staging := &csi.NodeStageVolumeRequest{
				VolumeId: "shows", StagingTargetPath: b.staging, VolumeCapability: req.VolumeCapabilities[0], VolumeContext: made.GetVolumeContext(),
			}
			_, err = b.node.NodeStageVolume(t.Context(), staging)
			ok(t, err)
			_, err = b.node.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{
				VolumeId: "shows", StagingTargetPath: b.staging, TargetPath: b.target, VolumeCapability: req.VolumeCapabilities[0], VolumeContext: made.GetVolumeContext(),
			})
			ok(t, err)
			wantOptions := map[string][]string{"ext4": {"ro"}, "xfs": {"ro", "nouuid", "norecovery"}}[fsType]
			if fsType != "block" {
				if diff := cmp.Diff(wantOptions, b.host.mounted[b.staging].options); diff != "" {
					t.Errorf("staged with (-want +got):\n%s", diff)
				}
			}
			if at := b.host.mounted[b.target]; !slices.Equal(at.options, []string{"ro"}) || at.device != "/dev/pool/"+snapID {
				t.Errorf("published is %+v", at)
			}
			if !b.host.node.Volume("pool", snapID).ReadOnly {
				t.Error("the kernel would let it be written to")
			}
		})
	}
}

func TestWhatAReadOnlyRestoreIsRefusedFor(t *testing.T) {
	b, _ := withSnapshot(t, "csi.aliyun.com/readonly", "true")
	_, err := b.controller.CreateVolume(t.Context(), restore("shows", "ext4", int64(800*mib)))
	wantCode(t, err, codes.OutOfRange, "400Mi")

	grouped := restore("shows", "ext4", int64(400*mib))
	grouped.Parameters["vgName"] = "other"
	_, err = b.controller.CreateVolume(t.Context(), grouped)
	wantCode(t, err, codes.InvalidArgument, "volume group pool")

	resp, err := b.controller.CreateVolume(t.Context(), restore("shows", "xfs", int64(400*mib)))
	ok(t, err)
	b.shown(t, resp.GetVolume())
	_, err = b.node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: "shows", StagingTargetPath: b.staging, VolumeCapability: capability("xfs"), VolumeContext: resp.GetVolume().GetVolumeContext(),
	})
	wantCode(t, err, codes.FailedPrecondition, "not xfs") // and it is not formatted

	for len(b.directory.Volumes()["shows"].Snapshot) == 0 || func() bool { at, _ := b.directory.FindSnapshot(snapID); return len(at.ShownBy) == 0 }() {
		if t.Context().Err() != nil {
			t.Fatal("its PersistentVolume is not seen")
		}
	}
	wantCode(t, b.deleteSnapshot(t), codes.FailedPrecondition, "PersistentVolumes", "shows")
	_, err = b.controller.CreateSnapshot(t.Context(), shot("of-it", "shows"))
	wantCode(t, err, codes.InvalidArgument, snapID)
	_, err = b.controller.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
		VolumeId: "shows", CapacityRange: &csi.CapacityRange{RequiredBytes: int64(800 * mib)},
	})
	wantCode(t, err, codes.OutOfRange, snapID)
	_, err = b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "shows"})
	ok(t, err)
	b.wantVolumes(t, "pool/"+id, "pool/"+snapID)
	ok(t, b.cluster.CoreV1().PersistentVolumes().Delete(t.Context(), "shows", metav1.DeleteOptions{}))
	for at, _ := b.directory.FindSnapshot(snapID); len(at.ShownBy) > 0; at, _ = b.directory.FindSnapshot(snapID) {
		if t.Context().Err() != nil {
			t.Fatal("that its PersistentVolume is gone is not seen")
		}
	}
	ok(t, b.deleteSnapshot(t))
	b.wantVolumes(t, "pool/"+id)
}

func TestWhatShowsASnapshotIsDeletedWhereverItsNodeIs(t *testing.T) {
	b, _ := withSnapshot(t, "csi.aliyun.com/readonly", "true")
	b.shown(t, &csi.Volume{VolumeId: "shows", VolumeContext: volume.Context{Kind: volume.LVM, Group: "pool", Snapshot: snapID}.Attributes()})
	ok(t, b.cluster.CoreV1().Nodes().Delete(t.Context(), nodeName, metav1.DeleteOptions{}))
	ok(t, b.reports.CsiV1alpha1().NodeLocalStorages().Delete(t.Context(), nodeName, metav1.DeleteOptions{}))
	for _, err := b.directory.Find("shows"); !errors.Is(err, driver.ErrNodeUnavailable); _, err = b.directory.Find("shows") {
		if t.Context().Err() != nil {
			t.Fatal("that the node is gone is not seen")
		}
	}
	_, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "shows"})
	ok(t, err)
}
