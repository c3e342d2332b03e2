package allocator_test

import (
	"testing"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

func TestWhatVolumesOfAKindMayTake(t *testing.T) {
	const gib = capacity.GiB
	group := func(name string, free capacity.Bytes, media capacity.Media) capacity.Group {
		return capacity.Group{Name: name, Size: 100 * gib, Free: free, Extent: capacity.DefaultExtent, Media: media}
	}
	sick := group("sick", 50*gib, "ssd")
	sick.Trouble = "DiskFault"
	disk := capacity.Group{Name: "/dev/sdx", Kind: volume.Device.Lies(), Size: 500 * gib, Free: 500 * gib, Media: "hdd"}
	node := capacity.Node{Groups: []capacity.Group{group("fast", 10*gib, "ssd"), group("slow", 30*gib, "hdd"), sick, disk}}
	for name, test := range map[string]struct {
		like         volume.Claim
		all, largest capacity.Bytes
	}{
		"logical volumes lie in groups that are well": {volume.Claim{}, 40 * gib, 30 * gib},
		"in the group that the class names":           {volume.Claim{Group: "fast"}, 10 * gib, 10 * gib},
		"in a group that is not there":                {volume.Claim{Group: "none"}, 0, 0},
		"on the disks that the class names":           {volume.Claim{Media: "ssd"}, 10 * gib, 10 * gib},
		"whole disks are something else":              {volume.Claim{Kind: volume.Device.Lies()}, 500 * gib, 500 * gib},
	} {
		t.Run(name, func(t *testing.T) {
			test.like.Layout = capacity.Linear
			if all, largest := allocator.Room(node, test.like); all != test.all || largest != test.largest {
				t.Errorf("got %s and %s, want %s and %s", all, largest, test.all, test.largest)
			}
		})
	}
}
