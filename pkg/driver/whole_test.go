//go:build !root

package driver_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// of asks for a volume of that type.
func of(kind string, more ...string) map[string]string {
	parameters := map[string]string{"volumeType": kind}
	for i := 0; i+1 < len(more); i += 2 {
		parameters[more[i]] = more[i+1]
	}
	return parameters
}

// made creates a volume and returns what its PersistentVolume says.
func (b *bed) made(t *testing.T, req *csi.CreateVolumeRequest) map[string]string {
	t.Helper()
	resp, err := b.controller.CreateVolume(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetVolume().GetVolumeContext()
}

func (b *bed) stageAs(t *testing.T, fsType string, context map[string]string) error {
	t.Helper()
	req := b.stageRequest(fsType)
	req.VolumeContext = context
	_, err := b.node.NodeStageVolume(t.Context(), req)
	return err
}

func (b *bed) publishAs(t *testing.T, fsType string, context map[string]string) error {
	t.Helper()
	req := b.publishRequest(fsType)
	req.VolumeContext = context
	_, err := b.node.NodePublishVolume(t.Context(), req)
	return err
}

func (b *bed) takeFromPod(t *testing.T) {
	t.Helper()
	if _, err := b.node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: b.target}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging}); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) deleted(t *testing.T) error {
	t.Helper()
	_, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheLifeOfADiskVolume(t *testing.T) {
	b := newBed(t)
	b.host.node.Disks.Write("/dev/sda", provisiontest.Garbage)
	context := b.made(t, claim(id, "ext4", int64(capacity.GiB), of("Device", "bps", "1Mi")))
	want := map[string]string{"volumeType": "Device", "Device": "/dev/sda", "csi.aliyun.com/identity": "wwn-1", "bps": "1048576"}
	if diff := cmp.Diff(want, context); diff != "" {
		t.Errorf("volume context (-want +got):\n%s", diff)
	}
	for range 2 { // all of it may be repeated
		b.made(t, claim(id, "ext4", int64(capacity.GiB), of("Device", "bps", "1Mi")))
		must(t, b.stageAs(t, "ext4", context))
		must(t, b.publishAs(t, "ext4", context))
	}
	if on := b.host.node.Disks.On("/dev/sda"); on != "ext4" {
		t.Errorf("the disk holds %q", on)
	}
	stats, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
	must(t, err)
	if stats.GetVolumeCondition().GetAbnormal() {
		t.Errorf("its condition is %s", stats.GetVolumeCondition().GetMessage())
	}
	wantCode(t, b.deleted(t), codes.FailedPrecondition, "in use")
	b.takeFromPod(t)

	// The disks come up under each other's names.
	b.host.node.Disks.Write("/dev/sdb", "xfs")
	b.host.node.Disks.Swap("/dev/sda", "/dev/sdb")
	must(t, b.stageAs(t, "ext4", context))
	must(t, b.publishAs(t, "ext4", context))
	if m := b.host.mounted[b.staging]; m == nil || m.device != "/dev/sdb" {
		t.Errorf("mounted is %+v", m)
	}
	b.takeFromPod(t)
	for range 2 {
		must(t, b.deleted(t))
	}
	if diff := cmp.Diff(map[string]string{"wwn-2": "xfs"}, b.host.node.Disks.Contents()); diff != "" {
		t.Errorf("on the disks is left (-want +got):\n%s", diff)
	}
	if owners := b.host.node.Disks.Owners(); len(owners) > 0 {
		t.Errorf("somebody has %v", owners)
	}
}

func TestTheLifeOfABlockDiskVolume(t *testing.T) {
	b := newBed(t)
	b.host.node.Disks.Write("/dev/sda", provisiontest.Garbage)
	context := b.made(t, claim(id, "block", 1, of("Device")))
	if on := b.host.node.Disks.On("/dev/sda"); on != "" {
		t.Errorf("the disk still holds %q", on)
	}
	for range 2 {
		must(t, b.stageAs(t, "block", context))
		must(t, b.publishAs(t, "block", context))
	}
	b.takeFromPod(t)
	must(t, b.deleted(t))
}

func TestTheLifeOfAMountPointVolume(t *testing.T) {
	b := newBed(t)
	context := b.made(t, claim(id, "ext4", 1, of("MountPoint")))
	want := map[string]string{"volumeType": "MountPoint", "MountPoint": provisiontest.MountPath, "csi.aliyun.com/identity": provisiontest.MountID}
	if diff := cmp.Diff(want, context); diff != "" {
		t.Errorf("volume context (-want +got):\n%s", diff)
	}
	for range 2 {
		must(t, b.stageAs(t, "ext4", context))
		must(t, b.publishAs(t, "ext4", context))
	}
	file := filepath.Join(b.host.node.Disks.Dir(), "data")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	wantCode(t, b.deleted(t), codes.FailedPrecondition, "in use")
	b.takeFromPod(t)

	b.host.node.Disks.Umount(true)
	wantCode(t, b.stageAs(t, "ext4", context), codes.FailedPrecondition, "nothing is mounted at "+provisiontest.MountPath)
	wantCode(t, b.publishAs(t, "ext4", context), codes.FailedPrecondition, "nothing is mounted at "+provisiontest.MountPath)
	wantCode(t, b.deleted(t), codes.FailedPrecondition, "nothing is mounted at "+provisiontest.MountPath)
	b.host.node.Disks.Umount(false)
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	for range 2 {
		must(t, b.deleted(t))
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("it was not emptied: %v", err)
	}
	if owners := b.host.node.Disks.Owners(); len(owners) > 0 {
		t.Errorf("somebody has %v", owners)
	}
}

func TestWhatVolumesOfOneKindCannotBe(t *testing.T) {
	options := claim(id, "ext4", 1, of("MountPoint"))
	options.VolumeCapabilities[0].GetMount().MountFlags = []string{"noatime"}
	copied := claim(id, "ext4", 1, of("Device"))
	copied.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "other"}}}
	for name, test := range map[string]struct {
		req  *csi.CreateVolumeRequest
		code codes.Code
		word string
	}{
		"a mount point as a block device":  {claim(id, "block", 1, of("MountPoint")), codes.InvalidArgument, "cannot be a block device"},
		"a mount point with mount options": {options, codes.InvalidArgument, "noatime"},
		"a mount point that is wiped":      {claim(id, "ext4", 1, of("MountPoint", "wipe", "zero")), codes.InvalidArgument, "emptied file by file"},
		"a disk in a volume group":         {claim(id, "ext4", 1, of("Device", "vgName", "pool")), codes.InvalidArgument, "vgName"},
		"a copy":                           {copied, codes.InvalidArgument, "cannot begin as a copy"},
		"a disk larger than there is":      {claim(id, "ext4", int64(5*capacity.GiB), of("Device")), codes.ResourceExhausted, "device"},
		"a disk of what there are none":    {claim(id, "ext4", 1, of("Device", "mediaType", "tape")), codes.InvalidArgument, "tape"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			_, err := b.controller.CreateVolume(t.Context(), test.req)
			wantCode(t, err, test.code, test.word)
			if owners := b.host.node.Disks.Owners(); len(owners) > 0 {
				t.Errorf("somebody has %v", owners)
			}
		})
	}
}

func TestTheSchedulerDecidesWhichDisk(t *testing.T) {
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": capacity.GiB})
	scheduler := &reserver{path: "/dev/sdx", identity: "wwn-3"} // it had another name a moment ago
	r := newRig(t, p, withReserver(scheduler))
	resp, err := csi.NewControllerClient(r.conn).CreateVolume(t.Context(), claim(id, "ext4", 1, of("Device")))
	must(t, err)
	if got := resp.GetVolume().GetVolumeContext()["Device"]; got != "/dev/sdc" {
		t.Errorf("it is %s", got)
	}
	if diff := cmp.Diff(map[string]string{"wwn-3": id}, host.node.Disks.Owners()); diff != "" {
		t.Errorf("who has what (-want +got):\n%s", diff)
	}
	scheduler.identity = "wwn-9"
	_, err = csi.NewControllerClient(r.conn).CreateVolume(t.Context(), claim("other", "ext4", 1, of("Device")))
	wantCode(t, err, codes.ResourceExhausted, "wwn-9")
	if len(scheduler.given) != 1 || scheduler.given[0].Volume != "other" {
		t.Errorf("given up are %+v", scheduler.given)
	}
}

func TestADiskVolumeOfTheFirstOpenLocal(t *testing.T) {
	b := newBed(t)
	context := map[string]string{"volumeType": "Device", "Device": "/dev/sdb"}
	wantCode(t, b.stageAs(t, "ext4", context), codes.FailedPrecondition, "not ext4") // it would have one: a lost volume is an error
	b.host.node.Disks.Write("/dev/sdb", "ext4")
	must(t, b.stageAs(t, "ext4", context))
	must(t, b.publishAs(t, "ext4", context))
	b.takeFromPod(t)
	b.host.node.Disks.Swap("/dev/sda", "/dev/sdb") // from now on it is known by who it is
	must(t, b.stageAs(t, "ext4", context))
	if m := b.host.mounted[b.staging]; m == nil || m.device != "/dev/sda" {
		t.Errorf("mounted is %+v", m)
	}
}

func TestADiskThatIsNotTheVolumesIsRefused(t *testing.T) {
	b := newBed(t)
	context := b.made(t, claim(id, "ext4", 1, of("Device")))
	b.host.node.Disks.Write("/dev/sda", "LVM2_member")
	wantCode(t, b.stageAs(t, "ext4", context), codes.FailedPrecondition, "holds LVM2_member, not ext4")
	context["csi.aliyun.com/identity"] = "wwn-2"
	wantCode(t, b.stageAs(t, "ext4", context), codes.FailedPrecondition, exclusive.ErrOther.Error())
	context["csi.aliyun.com/identity"] = "wwn-1"
	b.host.node.Disks.Unplug("/dev/sda")
	wantCode(t, b.stageAs(t, "ext4", context), codes.FailedPrecondition, exclusive.ErrGone.Error())
	wantCode(t, b.publishAs(t, "ext4", context), codes.FailedPrecondition, exclusive.ErrGone.Error())
	wantCode(t, b.deleted(t), codes.FailedPrecondition, exclusive.ErrGone.Error())
}

func TestTheCapacityOfDisks(t *testing.T) {
	b := newBed(t)
	b.made(t, claim(id, "ext4", 1, of("Device")))
	for name, test := range map[string]struct {
		ask                map[string]string
		available, largest capacity.Bytes
	}{
		"all that are left":      {of("Device"), 6 * capacity.GiB, 4 * capacity.GiB},
		"of a medium":            {of("Device", "mediaType", "ssd"), 0, 0},
		"not counted for groups": {of("LVM"), 1024 * mib, 1024 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := b.controller.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: test.ask})
			must(t, err)
			if got.GetAvailableCapacity() != int64(test.available) || got.GetMaximumVolumeSize().GetValue() != int64(test.largest) {
				t.Errorf("got %d in all and %d at most, want %s and %s", got.GetAvailableCapacity(), got.GetMaximumVolumeSize().GetValue(), test.available, test.largest)
			}
		})
	}
}

// reportWholes adds to a report what an agent says of disks and mount points.
func (h *fakeHost) reportWholes(nls *v1alpha1.NodeLocalStorage) {
	info, offered := &nls.Status.NodeStorageInfo, &nls.Status.FilteredStorageInfo
	owners := h.node.Disks.Owners()
	for _, d := range h.node.Disks.All() {
		if d.ID != "" {
			info.DeviceInfos = append(info.DeviceInfos, v1alpha1.DeviceInfo{
				Name: d.Path, ID: d.ID, Total: int64(d.Size), MediaType: d.MediaType(), Condition: v1alpha1.StorageReady, VolumeID: owners[d.ID],
			})
		}
	}
	info.MountPoints = append(info.MountPoints, v1alpha1.MountPoint{
		Name: provisiontest.MountPath, ID: provisiontest.MountID, Total: int64(h.node.Disks.MountSize()), Condition: v1alpha1.StorageReady, VolumeID: owners[provisiontest.MountID],
	})
	for kind, into := range map[volume.Kind]*[]string{volume.Device: &offered.Devices, volume.MountPoint: &offered.MountPoints} {
		offers, _ := h.node.Disks.Offers(kind)
		for _, o := range offers {
			*into = append(*into, o.Path)
		}
	}
}
