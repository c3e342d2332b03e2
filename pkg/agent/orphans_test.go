package agent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/volume"
)

// errNoLook is why the node cannot be looked at.
var errNoLook = errors.New("no look")

// foundAt is when the controller foundAt orphans in these tests.
var foundAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// orphaned has the controller say that no PersistentVolume names these volumes.
func orphaned(t *testing.T, handles ...string) func(*v1alpha1.NodeLocalStorage) {
	t.Helper()
	since := map[string]time.Time{}
	for _, handle := range handles {
		since[handle] = foundAt
	}
	text, err := json.Marshal(since)
	if err != nil {
		t.Fatal(err)
	}
	return func(nls *v1alpha1.NodeLocalStorage) {
		nls.Annotations = map[string]string{v1alpha1.AnnotationOrphans: string(text)}
	}
}

// cut makes a logical volume with these tags.
func (s *station) cut(name string, tags ...string) {
	s.t.Helper()
	args := []string{"lvcreate", "--yes", "--wipesignatures", "y", "--zero", "y", "--name", name, "--size", "8388608b", "--type", "linear"}
	for _, tag := range tags {
		args = append(args, "--addtag", tag)
	}
	s.lvm(append(args, "--", "pool")...)
	s.pass(time.Second)
}

// of is what the status says of an orphan that LVM made.
func of(handle string) v1alpha1.Orphan {
	made := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return v1alpha1.Orphan{
		VolumeID: handle, VolumeType: "LVM", VGName: "pool", Total: 8 << 20, CreatedAt: &made, Since: metav1.NewTime(foundAt),
		Reason: v1alpha1.NoPersistentVolume, Message: "no PersistentVolume has named it since 2026-03-04 05:06 UTC",
	}
}

func (s *station) wantOrphans(want ...v1alpha1.Orphan) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.status().Orphans); diff != "" {
		s.t.Errorf("orphans (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(s.agent.metrics.orphans); int(got) != len(want) {
		s.t.Errorf("open_local_orphan_volumes is %v, want %d", got, len(want))
	}
}

func TestOrphansAreReportedAndToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.cut("data", append(volume.OwnerTags(volume.DefaultDriver, "cluster-1", "default", "data"), volume.IDTag("data"))...)
		s.file("/dev/pool/data", "")
		s.block.change(func() { s.block.signatures["/dev/pool/data"] = "xfs" })
		s.pass(time.Minute)
		s.wantOrphans()
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
		s.writes()

		s.apply(orphaned(t, "data", "gone"))
		s.pass(time.Second)
		want := of("data")
		want.Claim, want.Cluster, want.FsType = "default/data", "cluster-1", "xfs"
		s.wantOrphans(want)
		s.wantWrites(1)
		s.wantEvents("Warning OrphanVolumes")
		s.pass(time.Hour)
		s.wantEvents()

		s.stop() // a new process does not tell again what is reported
		s.start()
		s.pass(time.Minute)
		s.wantOrphans(want)
		s.wantEvents()

		s.lvm("lvremove", "--yes", "pool/data")
		s.pass(time.Second)
		s.wantOrphans()
	})
}

func TestOnlyVolumesThatStandAndAreOursAreOrphans(t *testing.T) {
	inline := volume.ForInline("pod", "data")
	for name, test := range map[string]struct {
		tags   []string
		called string
		want   []string
	}{
		"a volume of ours":                   {[]string{volume.IDTag("data")}, "data", []string{"data"}},
		"one of the first open-local":        {nil, "local-5b1b7e2c-0000-4000-8000-000000000001", []string{"local-5b1b7e2c-0000-4000-8000-000000000001"}},
		"one whose handle LVM cannot spell":  {[]string{volume.IDTag("a volume")}, volume.NameOf("a volume"), []string{"a volume"}},
		"a volume of somebody else":          {nil, "data", nil},
		"a volume of another driver":         {[]string{volume.IDTag("data"), volume.OwnerTags("other.csi.example.com", "", "", "")[0]}, "data", nil},
		"a deleted one, kept for a snapshot": {[]string{volume.IDTag("data"), volume.DeletedTag}, "data", nil},
		"an inline volume":                   {[]string{volume.IDTag(inline)}, inline, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newStation(t, "/dev/vdc")
				s.apply(pool("/dev/vdc"))
				s.start()
				s.cut(test.called, test.tags...)
				s.apply(orphaned(t, "data", "a volume", inline, "local-5b1b7e2c-0000-4000-8000-000000000001"))
				s.pass(time.Second)
				var want []v1alpha1.Orphan
				for _, handle := range test.want {
					want = append(want, of(handle))
				}
				s.wantOrphans(want...)
			})
		})
	}
}

func TestWholeDevicesCanBeOrphans(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(orphaned(t, "v"))
		record := exclusive.Record{Volume: "v", Kind: volume.Device, ID: "serial-vdc", Path: "/dev/vdc", Size: diskSize, Block: true, State: exclusive.Ready}
		if err := exclusive.NewBook(s.root).Put(record); err != nil {
			t.Fatal(err)
		}
		s.start()
		s.wantOrphans(v1alpha1.Orphan{
			VolumeID: "v", VolumeType: "Device", Path: "/dev/vdc", ID: "serial-vdc", Total: int64(diskSize), Block: true, Since: metav1.NewTime(foundAt),
			Reason: v1alpha1.NoPersistentVolume, Message: "no PersistentVolume has named it since 2026-03-04 05:06 UTC",
		})
	})
}

func TestAnOrphanThatIsAWholeDeviceSaysWhoseItWasAndWhatIsOnItWhateverItIsCalled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(orphaned(t, "v"))
		record := exclusive.Record{
			Volume: "v", Kind: volume.Device, ID: "serial-vdc", Path: "/dev/vdx", Size: diskSize, State: exclusive.Ready,
			Tags: volume.OwnerTags(volume.DefaultDriver, "cluster-1", "default", "data"),
		}
		if err := exclusive.NewBook(s.root).Put(record); err != nil {
			t.Fatal(err)
		}
		s.block.change(func() { s.block.signatures["/dev/vdc"] = "ext4" })
		s.start()
		s.wantOrphans(v1alpha1.Orphan{
			VolumeID: "v", VolumeType: "Device", Path: "/dev/vdx", ID: "serial-vdc", Total: int64(diskSize), FsType: "ext4", Since: metav1.NewTime(foundAt),
			Claim: "default/data", Cluster: "cluster-1",
			Reason: v1alpha1.NoPersistentVolume, Message: "no PersistentVolume has named it since 2026-03-04 05:06 UTC",
		})
	})
}

func TestOrphansStayWhileTheNodeCannotBeLookedAt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.cut("data", volume.IDTag("data"))
		s.apply(orphaned(t, "data"))
		s.pass(time.Second)
		s.stop()
		s.block.change(func() { s.block.err = errNoLook })
		s.start()
		s.pass(time.Minute)
		s.wantCondition("Looked", "False LookFailed")
		s.wantOrphans(of("data"))
	})
}

func TestAnAnnotationThatCannotBeReadMeansNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.cut("data", volume.IDTag("data"))
		s.apply(func(nls *v1alpha1.NodeLocalStorage) {
			nls.Annotations = map[string]string{v1alpha1.AnnotationOrphans: "data"}
		})
		s.pass(time.Second)
		s.wantOrphans()
	})
}

func TestTheEventOfManyOrphansIsNotTooLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		var handles []string
		for i := range 20 {
			handle := strings.Repeat("v", 60) + string(rune('a'+i))
			handles = append(handles, handle)
			s.cut(handle, volume.IDTag(handle))
		}
		s.apply(orphaned(t, handles...))
		s.pass(time.Second)
		var last string
		for len(s.events.Events) > 0 {
			last = <-s.events.Events
		}
		if !strings.Contains(last, "OrphanVolumes 20 volumes") || len(last) > maxEvent+len("Warning OrphanVolumes ") {
			t.Errorf("the event has %d bytes: %s", len(last), last)
		}
	})
}
