package extender

import (
	"cmp"
	"maps"
	"strings"
	"testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
)

// TestAPodWithVolumesOfEveryKindIsPlacedWhole asks for a pod with a volume of every kind
// there is. Only n2 will do, for two of them begin as copies of what lies there; and n2
// does only when there is room for each.
func TestAPodWithVolumesOfEveryKindIsPlacedWhole(t *testing.T) {
	fits := map[string]capacity.Bytes{
		"cut": 10 * gib, "copy": 10 * gib, "restored": 10 * gib, "scratch": 10 * gib, "inline": 10 * gib, "disk": 40 * gib, "files": 40 * gib,
	}
	for larger, want := range map[string]string{
		"": "", "cut": "vg pool: wants", "copy": "vg pool: wants", "restored": "vg pool: wants", "scratch": "vg pool: wants", "inline": "vg pool: wants",
		"disk": "device /dev/vdb: wants 90Gi", "files": "mount point /mnt/a: wants 90Gi",
	} {
		t.Run("too large is "+cmp.Or(larger, "nothing"), func(t *testing.T) {
			sizes := maps.Clone(fits)
			if larger != "" {
				sizes[larger] += 50 * gib
			}
			p := withTemplate(pod("p", "cut", "copy", "restored", "disk", "files"), "scratch")
			p = withInline(p, "inline", "vgName", "pool", "size", sizes["inline"].String())
			w := newWorld(t, node("n1"), node("n2"), everything("n1"), everything("n2", lv("data", 10*gib), snapshotOf("snap-1", false)),
				class("device", "volumeType", "Device"), class("mounted", "volumeType", "MountPoint"),
				claim("data", 10*gib, "lvm"), claim("cut", sizes["cut"], "lvm"), fromClaim(claim("copy", sizes["copy"], "lvm"), "data"),
				fromSnapshot(claim("restored", sizes["restored"], "lvm"), "nightly"), madeFor(p, "scratch", sizes["scratch"]),
				claim("disk", sizes["disk"], "device"), claim("files", sizes["files"], "mounted"), p)
			w.bind("data", "n2", "pool", 10*gib)
			w.until("the volume is there", func() bool { at, _ := w.s.ledger.Where("local-uid-data"); return at.Exists })
			w.see(snapshots(content("nightly", "snap-1", "01")))

			fit, reasons := w.filter(p, "n1", "n2")
			if !strings.Contains(reasons["n1"], "lies on another node") {
				t.Errorf("of n1 it says %q", reasons["n1"])
			}
			if want == "" && fit != "n2" || want != "" && (fit != "" || !strings.Contains(reasons["n2"], want)) {
				t.Errorf("it fits on %q, and of n2 it says %q, want %q", fit, reasons["n2"], want)
			}
			// What does not fit as a whole holds nothing, in part neither.
			if holds := w.stats().Holds; holds != map[bool]int{true: 1, false: 0}[want == ""] {
				t.Errorf("%d pods hold room", holds)
			}
			if want == "" {
				w.wantFree("n1//dev/vdb=80Gi n1//mnt/a=80Gi n1/pool=100Gi n2//dev/vdb=0 n2//mnt/a=0 n2/pool=36Gi")
			}
		})
	}
}

// everything is a node with a group, a disk and a mount point.
func everything(name string, volumes ...v1alpha1.LogicalVolume) *v1alpha1.NodeLocalStorage {
	storage := nls(name, vg("pool", 100*gib, volumes...))
	storage.Status.NodeStorageInfo.DeviceInfos = []v1alpha1.DeviceInfo{{Name: "/dev/vdb", ID: "wwn-" + name, Total: int64(80 * gib)}}
	storage.Status.NodeStorageInfo.MountPoints = []v1alpha1.MountPoint{{Name: "/mnt/a", ID: "fsuuid-" + name, Total: int64(80 * gib)}}
	storage.Status.FilteredStorageInfo.Devices = []string{"/dev/vdb"}
	storage.Status.FilteredStorageInfo.MountPoints = []string{"/mnt/a"}
	return storage
}
