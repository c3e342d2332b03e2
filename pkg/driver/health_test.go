//go:build !root

package driver_test

import (
	"context"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/lvm"
)

// trouble is what the kernel says of every device.
type trouble struct {
	suspended, readOnly, frozen bool
	extErrors                   int64
	read                        error
}

func (h *fakeHost) Suspended(uint64) (bool, error) { return h.trouble.suspended, nil }

func (h *fakeHost) ReadOnly(uint64) (bool, error) { return h.trouble.readOnly, nil }

func (h *fakeHost) ExtErrors(uint64) (int64, error) { return h.trouble.extErrors, nil }

func (h *fakeHost) ReadFirst(context.Context, uint64) error { return h.trouble.read }

func (h *fakeHost) Work(uint64) (done, running uint64, err error) { return 0, 0, nil }

func TestStatisticsSayWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		trouble trouble
		words   string
		mounted bool // only of a file system
	}{
		"a suspended device":                  {trouble{suspended: true}, "suspended", false},
		"a device that cannot be read":        {trouble{read: unix.EIO}, "input/output error", false},
		"a read-only device":                  {trouble{readOnly: true}, "read-only", false},
		"a file system that turned read-only": {trouble{frozen: true}, "turned read-only", true},
		"a file system with errors":           {trouble{extErrors: 7}, "7 errors", true},
	} {
		for _, fsType := range []string{"ext4", "block"} {
			if tc.mounted && fsType == "block" {
				continue
			}
			t.Run(name+" of "+fsType, func(t *testing.T) {
				b := newBed(t)
				b.have(t)
				b.stage(t, fsType)
				b.publish(t, fsType)
				b.host.trouble = tc.trouble
				b.host.processes()
				resp, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
				if err != nil || !resp.GetVolumeCondition().GetAbnormal() || !strings.Contains(resp.GetVolumeCondition().GetMessage(), tc.words) {
					t.Errorf("%v, %v; want %q", resp, err, tc.words)
				}
				if got := resp.GetUsage()[0].GetTotal(); got != int64(400*mib) {
					t.Errorf("the size is %d, which could be measured all the same", got)
				}
				b.wantProcesses(t, "statistics", map[string]int{})
			})
		}
	}
}

func TestStatisticsSeeTheFileSystemOfAnotherDevice(t *testing.T) {
	b := newBed(t)
	b.have(t)
	b.stage(t, "ext4")
	b.publish(t, "ext4")
	const other = "local-other"
	if err := b.host.node.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "pool", Name: other, Size: 8 * mib}); err != nil {
		t.Fatal(err)
	}
	device, err := b.host.Look(lvm.DevicePath("pool", other))
	if err != nil {
		t.Fatal(err)
	}
	b.host.mounted[b.target].file.FileSystem = device.Device
	resp, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: b.target})
	if err != nil || !resp.GetVolumeCondition().GetAbnormal() || !strings.Contains(resp.GetVolumeCondition().GetMessage(), "another device") {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestALostVolumeIsNeverFormattedAnew(t *testing.T) {
	for _, fsType := range []string{"ext4", "block"} {
		t.Run(fsType, func(t *testing.T) {
			b := newBed(t)
			b.have(t)
			b.stage(t, fsType)
			b.publish(t, fsType)
			for _, call := range []func() error{
				func() error {
					_, err := b.node.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: b.target})
					return err
				},
				func() error {
					_, err := b.node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: b.staging})
					return err
				},
				func() error { return b.host.node.Host().RemoveVolume(t.Context(), "pool", id) },
			} {
				if err := call(); err != nil {
					t.Fatal(err)
				}
			}
			for _, when := range []string{"by the process that knew it", "by a new process"} {
				b.host.processes()
				_, err := b.node.NodeStageVolume(t.Context(), b.stageRequest(fsType))
				wantCode(t, err, codes.NotFound, id)
				_, err = b.node.NodePublishVolume(t.Context(), b.publishRequest(fsType))
				wantCode(t, err, codes.NotFound, id)
				for program := range b.host.processes() {
					if strings.HasPrefix(program, "mkfs") || program == "lvm lvcreate" || program == "mount" {
						t.Errorf("%s: %s was run", when, program)
					}
				}
				if got := b.host.node.Volumes(); len(got) > 0 {
					t.Errorf("%s: volumes %q are there", when, got)
				}
				b.host.node.Restart()
			}
		})
	}
}
