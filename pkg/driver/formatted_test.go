//go:build !root

package driver_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
)

// rewrite has the node remember something else of the volume.
func (b *bed) rewrite(t *testing.T, change func(r *exclusive.Record)) {
	t.Helper()
	r, stands, err := b.host.node.Disks.Book.Get(id)
	if err != nil || !stands {
		t.Fatalf("the volume stands: %t, %v", stands, err)
	}
	change(&r)
	must(t, b.host.node.Disks.Book.Put(r))
}

// ofBefore has the volume be one of a version that did not note what it formatted.
func ofBefore(t *testing.T, b *bed) { b.rewrite(t, func(r *exclusive.Record) { r.Formatted = false }) }

func TestADiskIsFormattedOnce(t *testing.T) {
	disk := func(what string) func(*testing.T, *bed) {
		return func(_ *testing.T, b *bed) { b.host.node.Disks.Write("/dev/sda", what) }
	}
	stagedAgain := func(t *testing.T, b *bed) {
		t.Helper()
		must(t, b.stageAs(t, "ext4", diskContext))
		b.takeFromPod(t)
	}
	finds, mounts := map[string]int{"blkid": 1}, map[string]int{"blkid": 1, "mount": 1}
	makes := map[string]int{"blkid": 2, "mkfs.ext4": 1, "mount": 1}
	for name, test := range map[string]struct {
		then   []func(*testing.T, *bed) // after a pod was there
		lost   bool
		holds  string // the disk in the end
		starts map[string]int
	}{
		"a disk that comes back as it was":                         {nil, false, "ext4", mounts},
		"a disk in whose place is an empty one of the same serial": {[]func(*testing.T, *bed){disk("")}, true, "", finds},
		"a disk whose signatures somebody wiped":                   {[]func(*testing.T, *bed){disk(provisiontest.Garbage)}, true, provisiontest.Garbage, finds},
		"a disk on which somebody put the file system back":        {[]func(*testing.T, *bed){disk(""), disk("ext4")}, false, "ext4", mounts},
		"one of before that is blank":                              {[]func(*testing.T, *bed){ofBefore, disk("")}, false, "ext4", makes},
		"one of before that was staged since":                      {[]func(*testing.T, *bed){ofBefore, stagedAgain, disk("")}, true, "", finds},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			context := b.made(t, claim(id, "ext4", int64(capacity.GiB), of("Device")))
			must(t, b.stageAs(t, "ext4", context))
			must(t, b.publishAs(t, "ext4", context))
			b.takeFromPod(t)
			for _, do := range test.then {
				do(t, b)
			}
			b.host.processes()
			req := b.stageRequest("ext4")
			req.VolumeContext = context
			_, err := b.host.process().NodeStageVolume(t.Context(), req) // a process that has just begun
			if (err != nil) != test.lost {
				t.Errorf("a process that has just begun says %v", err)
			}
			if diff := cmp.Diff(test.starts, b.host.processes()); diff != "" {
				t.Errorf("processes (-want +got):\n%s", diff)
			}
			if test.lost {
				wantCode(t, b.stageAs(t, "ext4", context), codes.FailedPrecondition,
					id, "/dev/sda", "wwn-1", "file system that was made on it is missing", "restore", "delete the claim", "mkfs.ext4")
				wantMountsAt(t, b, 0)
			}
			if on := b.host.node.Disks.On("/dev/sda"); on != test.holds {
				t.Errorf("the disk holds %q, want %q", on, test.holds)
			}
			if !test.lost {
				b.takeFromPod(t)
			}
			must(t, b.deleted(t)) // the way out
			next := claim("local-next", "ext4", int64(capacity.GiB), of("Device"))
			must(t, b.stageOther(t, "local-next", b.made(t, next)))
		})
	}
}

// diskContext is what the PersistentVolume of a volume on the first disk says.
var diskContext = map[string]string{"volumeType": "Device", "Device": "/dev/sda", "csi.aliyun.com/identity": "wwn-1"}

func wantMountsAt(t *testing.T, b *bed, want int) {
	t.Helper()
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	if len(b.host.mounted) != want {
		t.Errorf("mounted is %v", b.host.mounted)
	}
}

func (b *bed) stageOther(t *testing.T, id string, context map[string]string) error {
	t.Helper()
	req := b.stageRequest("ext4")
	req.VolumeId, req.VolumeContext = id, context
	_, err := b.node.NodeStageVolume(t.Context(), req)
	return err
}

func TestADiskIsHandedOutAsItWasGiven(t *testing.T) {
	adopted := func(r *exclusive.Record) { r.Adopted = true }
	for name, test := range map[string]struct {
		made, asked string
		change      func(r *exclusive.Record)
		holds       string
		code        codes.Code
		words       []string
	}{
		"a raw device as a file system":                          {"block", "ext4", nil, provisiontest.Garbage, codes.FailedPrecondition, []string{id, "/dev/sda", "raw block", "volumeMode: Block"}},
		"a raw device that nobody wrote to yet":                  {"block", "ext4", nil, "", codes.FailedPrecondition, []string{"raw block"}},
		"a file system as a raw device":                          {"ext4", "block", nil, "ext4", codes.FailedPrecondition, []string{id, "/dev/sda", "file system", "volumeMode: Filesystem"}},
		"a raw device as one":                                    {"block", "block", nil, provisiontest.Garbage, codes.OK, nil},
		"a file system that was not given here, as a raw device": {"ext4", "block", adopted, "ext4", codes.OK, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			context := b.made(t, claim(id, test.made, 1, of("Device")))
			b.host.node.Disks.Write("/dev/sda", test.holds)
			if test.change != nil {
				b.rewrite(t, test.change)
			}
			stage, publish := b.stageAs(t, test.asked, context), b.publishAs(t, test.asked, context)
			for _, err := range []error{stage, publish} {
				wantCode(t, err, test.code, test.words...)
			}
			if on := b.host.node.Disks.On("/dev/sda"); on != test.holds {
				t.Errorf("the disk holds %q, want %q", on, test.holds)
			}
		})
	}
}
