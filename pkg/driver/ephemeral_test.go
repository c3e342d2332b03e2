//go:build !root

package driver_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

const podUID = "5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11"

// own is the inline volume of a pod on b.
func (b *bed) own() scratch { return scratchOf(b.host.kubelet, "web-0", podUID) }

func (b *bed) publishOwn(t *testing.T, fsType string, attributes ...string) error {
	t.Helper()
	_, err := b.node.NodePublishVolume(t.Context(), b.own().publish(t, fsType, asking("pool", attributes...).attributes))
	return err
}

func (b *bed) unpublishOwn(t *testing.T) error {
	t.Helper()
	_, err := b.node.NodeUnpublishVolume(t.Context(), b.own().unpublish())
	return err
}

func (b *bed) wantProcesses(t *testing.T, what string, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, b.host.processes()); diff != "" {
		t.Errorf("processes of %s (-want +got):\n%s", what, diff)
	}
}

func (b *bed) wantVolumes(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, b.host.node.Volumes()); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func TestTheLifeOfAnInlineVolume(t *testing.T) {
	for name, test := range map[string]struct {
		fsType     string
		attributes []string
		made       string
		size       capacity.Bytes
	}{
		"of which nothing is said": {"", nil, "ext4", capacity.GiB},
		"ext4":                     {"ext4", []string{"size", "100M"}, "ext4", 96 * mib},
		"xfs":                      {"xfs", []string{"size", "320Mi", "lvmType", "linear"}, "xfs", 320 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			if err := b.publishOwn(t, test.fsType, test.attributes...); err != nil {
				t.Fatal(err)
			}
			b.wantProcesses(t, "the first publish", map[string]int{"lvm lvcreate": 1, "blkid": 2, "mkfs." + test.made: 1, "mount": 1})
			have := b.host.node.Volume("pool", b.own().id())
			tags := []string{"open-local.driver=local.csi.aliyun.com", "open-local.id=" + b.own().id(), "open-local.pod=default/web-0/" + podUID}
			if diff := cmp.Diff(tags, withoutAttempt(t, have.Tags)); diff != "" || have.Size != test.size {
				t.Errorf("it has %s, want %s; tags (-want +got):\n%s", have.Size, test.size, diff)
			}
			m, err := b.host.at(b.own().target())
			if err != nil || len(b.host.mounted) != 1 || len(m.options) != 0 {
				t.Errorf("mounted is %v, %v", m, err)
			}
			if err := b.publishOwn(t, test.fsType, test.attributes...); err != nil {
				t.Error(err)
			}
			b.wantProcesses(t, "a repeated publish", map[string]int{})
			stats, err := b.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: b.own().id(), VolumePath: b.own().target()})
			if err != nil || stats.GetVolumeCondition().GetAbnormal() || stats.GetUsage()[0].GetTotal() != int64(test.size) {
				t.Errorf("statistics: %v, %v", stats, err)
			}
			b.wantProcesses(t, "statistics", map[string]int{})
			if err := b.unpublishOwn(t); err != nil {
				t.Error(err)
			}
			b.wantProcesses(t, "unpublish", map[string]int{"lvm lvremove": 1})
			b.wantVolumes(t)
			if _, err := os.Lstat(b.own().target()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the target path is left: %v", err)
			}
			if err := b.unpublishOwn(t); err != nil {
				t.Error(err)
			}
			b.wantProcesses(t, "a repeated unpublish", map[string]int{})
		})
	}
}

func TestAnInlineVolumeThatIsOnlyReadIsMountedSo(t *testing.T) {
	b := newBed(t)
	req := b.own().publish(t, "ext4", asking("pool").attributes)
	req.Readonly = true
	if _, err := b.node.NodePublishVolume(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	m, err := b.host.at(b.own().target())
	if err != nil || !slices.Equal(m.options, []string{"ro"}) {
		t.Errorf("mounted is %v, %v", m, err)
	}
}

func TestAnInlineVolumeOutlivesAReboot(t *testing.T) {
	b := newBed(t)
	if err := b.publishOwn(t, "ext4"); err != nil {
		t.Fatal(err)
	}
	before := b.host.node.Volume("pool", b.own().id()).UUID
	b.host.reboot()
	b.host.node.Restart()
	b.host.processes()
	if err := publishing(t, b.host.process(), b.own()); err != nil {
		t.Fatal(err)
	}
	b.wantProcesses(t, "the publish after a reboot", map[string]int{"lvm fullreport": 1, "lvm lvchange": 1, "blkid": 1, "mount": 1})
	if b.host.node.Volume("pool", b.own().id()).UUID != before {
		t.Error("it is another volume")
	}
}

func TestWhatTheKubeletSaysOfThePodWins(t *testing.T) {
	b := newBed(t)
	other := scratchOf(b.host.kubelet, "bank", "11111111-6f0e-4c39-9a59-0f9c8c4a7b11")
	faked := asking("pool").attributes
	maps.Copy(faked, other.says())
	faked["csi.storage.k8s.io/ephemeral"] = "false"
	faked["csi.storage.k8s.io/anything"] = "$(reboot)"
	if _, err := b.node.NodePublishVolume(t.Context(), b.own().publish(t, "", faked)); err != nil {
		t.Fatal(err)
	}
	b.wantVolumes(t, "pool/"+b.own().id())
	if pod, _ := volume.PodOf(b.host.node.Volume("pool", b.own().id()).Tags); pod != b.own().pod {
		t.Errorf("it is tagged as of %v", pod)
	}
}

// state is all that an attempt could change.
func (b *bed) state() any {
	mounted := map[string]string{}
	b.host.mu.Lock()
	for path, m := range b.host.mounted {
		mounted[path] = m.device
	}
	b.host.mu.Unlock()
	report, err := b.host.node.Host().Report(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return []any{report, b.contents(), mounted}
}

func TestHostileAttributesAreRefused(t *testing.T) {
	b := newBed(t)
	b.host.node.AddGroup("foreign", "/dev/foreign", 2*capacity.GiB)
	b.have(t)
	other := scratchOf(b.host.kubelet, "bank", "11111111-6f0e-4c39-9a59-0f9c8c4a7b11")
	if _, err := b.node.NodePublishVolume(t.Context(), other.publish(t, "", asking("pool", "size", "16Mi").attributes)); err != nil {
		t.Fatal(err)
	}
	wantAllRefused(t, b.node, b.own(), attempts("pool", "foreign", id, other), b.state, b.host.processes)

	// And a group that has no room says so, with the numbers.
	_, err := b.node.NodePublishVolume(t.Context(), b.own().publish(t, "", asking("pool", "size", "2Gi").attributes))
	wantCode(t, err, codes.ResourceExhausted, "2Gi wanted", "pool has 1Gi")
}

func TestWhatIsInTheWayOfAnInlineVolumeIsLeftAlone(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, b *bed)
		fsType  string
		code    codes.Code
		words   []string
	}{
		"a volume of its name that is not tagged": {
			prepare: func(t *testing.T, b *bed) { b.hasLV(t, b.own().id()) },
			code:    codes.AlreadyExists, words: []string{"not tagged as this volume", "a pod made anew"},
		},
		"a volume of its name that is another pod's": {
			prepare: func(t *testing.T, b *bed) {
				b.hasLV(t, b.own().id(), volume.IDTag(b.own().id()), volume.PodTag("other", "web-0", podUID))
			},
			code: codes.AlreadyExists, words: []string{"not tagged as of the same pod"},
		},
		"something that is mounted where the pod will see it": {
			prepare: func(t *testing.T, b *bed) {
				b.have(t)
				b.holds(t, "ext4")
				if err := os.MkdirAll(filepath.Dir(b.own().target()), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := b.host.Mount(t.Context(), lvm.DevicePath("pool", id), b.own().target(), "ext4", nil); err != nil {
					t.Fatal(err)
				}
			},
			code: codes.FailedPrecondition, words: []string{"something else is mounted"},
		},
		"less than its file system needs": {
			prepare: func(*testing.T, *bed) {}, fsType: "xfs",
			code: codes.OutOfRange, words: []string{"16Mi asked, xfs needs at least 300Mi"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			test.prepare(t, b)
			before := b.state()
			wantCode(t, b.publishOwn(t, test.fsType, "size", "16Mi"), test.code, test.words...)
			if diff := cmp.Diff(before, b.state()); diff != "" {
				t.Errorf("the node (-before +after):\n%s", diff)
			}
		})
	}
}

// hasLV makes a logical volume behind the back of the driver.
func (b *bed) hasLV(t *testing.T, name string, tags ...string) {
	t.Helper()
	if err := b.host.node.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "pool", Name: name, Size: 16 * mib, Tags: tags}); err != nil {
		t.Fatal(err)
	}
}

// process is the node's plugin as it begins: what it remembers it has from LVM.
func (h *fakeHost) process() *driver.Node { return driver.NewNode(h.services()) }

func TestUnpublishRemovesInlineVolumesAlone(t *testing.T) {
	own := scratchOf("", "web-0", podUID).id()
	for name, test := range map[string]struct {
		lv, id  string
		tags    []string
		astray  bool // the target path is not the kubelet's for this handle
		removed bool
		lvm     int
	}{
		"its own":                                   {lv: own, id: own, tags: []string{volume.IDTag(own), volume.PodTag("default", "web-0", podUID)}, removed: true, lvm: 1},
		"a claim's":                                 {lv: id, id: id, tags: []string{volume.IDTag(id)}},
		"a claim's with the tag of a pod":           {lv: id, id: id, tags: []string{volume.IDTag(id), volume.PodTag("default", "web-0", podUID)}},
		"one of its name for no pod":                {lv: own, id: own, tags: []string{volume.IDTag(own)}},
		"one of its name for another handle":        {lv: own, id: own, tags: []string{volume.IDTag(id), volume.PodTag("default", "web-0", podUID)}},
		"one of the first open-local":               {lv: own, id: own, removed: true, lvm: 2},
		"one of the first open-local, led astray":   {lv: own, id: own, astray: true},
		"one of the first open-local, by the claim": {lv: own, id: id},
	} {
		t.Run(name, func(t *testing.T) {
			host, _ := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
			if err := host.node.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "pool", Name: test.lv, Size: 16 * mib, Tags: test.tags}); err != nil {
				t.Fatal(err)
			}
			host.node.Restart()
			req := &csi.NodeUnpublishVolumeRequest{VolumeId: test.id, TargetPath: scratchOf(host.kubelet, "web-0", podUID).target()}
			if test.astray {
				req.TargetPath = filepath.Join(host.kubelet, "elsewhere")
			}
			if err := os.MkdirAll(filepath.Dir(req.TargetPath), 0o750); err != nil {
				t.Fatal(err)
			}
			host.processes()
			if _, err := host.process().NodeUnpublishVolume(t.Context(), req); err != nil {
				t.Error(err)
			}
			if got := host.node.Counter.Total(); got != test.lvm {
				t.Errorf("%d processes of LVM, want %d", got, test.lvm)
			}
			if removed := len(host.node.Volumes()) == 0; removed != test.removed {
				t.Errorf("removed %t, want %t", removed, test.removed)
			}
		})
	}
}

func TestAnInlineVolumeThatCannotGoNowDoesNotKeepItsPod(t *testing.T) {
	b := newBed(t)
	if err := b.publishOwn(t, ""); err != nil {
		t.Fatal(err)
	}
	b.host.node.Lose("/dev/disk-pool")
	if err := b.unpublishOwn(t); err != nil {
		t.Error(err)
	}
	b.host.node.Find("/dev/disk-pool")
	b.wantVolumes(t, "pool/"+b.own().id())
	left, err := b.host.node.Inlines(t.Context())
	if want := []provision.Inline{{ID: b.own().id(), Group: "pool", Pod: b.own().pod}}; err != nil || !cmp.Equal(left, want) {
		t.Errorf("remembered is %v, %v; want %v", left, err, want)
	}
}

func publishing(t testing.TB, n *driver.Node, own scratch) error {
	_, err := n.NodePublishVolume(t.Context(), own.publish(t, "ext4", asking("pool").attributes))
	return err
}

func unpublishing(t testing.TB, n *driver.Node, own scratch) error {
	_, err := n.NodeUnpublishVolume(t.Context(), own.unpublish())
	return err
}
