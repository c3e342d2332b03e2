package extender

import (
	"testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
)

// onDisks says what each disk of a group has free.
func onDisks(g v1alpha1.VolumeGroup, free ...capacity.Bytes) v1alpha1.VolumeGroup {
	for i, of := range free {
		g.PhysicalVolumes = append(g.PhysicalVolumes, "/dev/vd"+string(rune('b'+i)))
		g.PhysicalVolumesAvailable = append(g.PhysicalVolumesAvailable, int64(of))
	}
	return g
}

func TestStripedVolumesGoWhereSeveralDisksHaveRoom(t *testing.T) {
	w := twoNodes(t, class("striped", "lvmType", "striping"), claim("a", 30*gib, "striped"), claim("b", 30*gib, "striped"), pod("p", "a"), pod("q", "b"))
	w.report(nls("n1", onDisks(vg("pool", 100*gib), 90*gib, 10*gib)))
	w.report(nls("n2", onDisks(vg("pool", 100*gib), 50*gib, 50*gib)))
	const reason = "vg pool: wants 30Gi in equal parts on two or more disks; no two are sure to have the room, 100Gi free in all"
	w.until("both disks of n2 are reported", func() bool {
		fit, _ := w.filter(pod("p", "a"), "n1", "n2")
		return fit == "n2"
	})
	fit, reasons := w.filter(pod("p", "a"), "n1", "n2")
	if fit != "n2" || reasons["n1"] != reason {
		t.Errorf("it fits %q; n1: %q", fit, reasons["n1"])
	}
	w.wantFree("n1/pool=100Gi n2/pool=70Gi")

	// What the first was promised may lie on any disk until a report says where.
	w.bind("a", "n2", "pool", 30*gib)
	w.mustFit(pod("q", "b"), "n2", "n1", "n2") // 50Gi less 30Gi on each disk are sure, and 15Gi wanted
	w.wantFree("n1/pool=100Gi n2/pool=40Gi")
}
