package allocator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// whole is a disk or a file system that is given to one volume.
func whole(kind capacity.Kind, name string, size capacity.Bytes, options ...groupOption) capacity.Group {
	g := capacity.Group{Name: name, Kind: kind, Size: size, Free: size}
	for _, option := range options {
		option(&g)
	}
	return g
}

// partition makes a group a part of a disk.
func partition(g *capacity.Group) { g.Partition = true }

// limitedIO makes a claim one whose IO is limited.
func limitedIO(c *volume.Claim) { c.WholeDisk = true }

func of(kind capacity.Kind) claimOption { return func(c *volume.Claim) { c.Kind = kind } }

func TestWhatIsGivenWhole(t *testing.T) {
	const device, mount = capacity.Device, capacity.MountPoint
	for name, test := range map[string]struct {
		node   capacity.Node
		claims []volume.Claim
		want   string // the groups and the score, with both preferences
		scores string // by binpack and by spread
	}{
		"the smallest disk that fits": {
			node:   node(whole(device, "/dev/vdb", 100*gib), whole(device, "/dev/vdc", 20*gib), whole(device, "/dev/vdd", 5*gib)),
			claims: claims(claim("a", 10*gib, of(device))),
			want:   "/dev/vdc", scores: "5 5",
		},
		"a disk is given once": {
			node:   node(whole(device, "/dev/vdb", 100*gib), whole(device, "/dev/vdc", 20*gib)),
			claims: claims(claim("a", gib, of(device)), claim("b", gib, of(device))),
			want:   "/dev/vdc /dev/vdb", scores: "0 0",
		},
		"the larger claim chooses first": {
			node:   node(whole(device, "/dev/vdb", 50*gib), whole(device, "/dev/vdc", 40*gib)),
			claims: claims(claim("a", 10*gib, of(device)), claim("b", 45*gib, of(device))),
			want:   "/dev/vdc /dev/vdb", scores: "6 6",
		},
		"a claim of any medium leaves the one disk to a pickier one": {
			node:   node(whole(device, "/dev/vdb", 50*gib, media(volume.SSD)), whole(device, "/dev/vdc", 60*gib, media(volume.HDD))),
			claims: claims(claim("a", 50*gib, of(device)), claim("b", 11*gib, of(device), on(volume.SSD))),
			want:   "/dev/vdc /dev/vdb", scores: "6 6",
		},
		"disks, file systems and volume groups do not stand in for each other": {
			node:   node(whole(device, "/dev/vdb", 10*gib), whole(mount, "/mnt/a", 10*gib), group("pool", 10*gib)),
			claims: claims(claim("a", 10*gib, of(mount)), claim("b", 10*gib), claim("c", 10*gib, of(device))),
			want:   "/mnt/a pool /dev/vdb", scores: "10 7",
		},
		"fewer disks than claims": {
			node:   node(whole(device, "/dev/vdb", 100*gib)),
			claims: claims(claim("a", gib, of(device)), claim("b", gib, of(device))),
			want:   "device /dev/vdb: wants 1Gi more for default/b, has 100Gi and belongs to another volume",
		},
		"a disk that is taken": {
			node:   node(whole(device, "/dev/vdb", 100*gib, free(0))),
			claims: claims(claim("a", gib, of(device))),
			want:   "device /dev/vdb: wants 1Gi, has 100Gi and belongs to another volume",
		},
		"a disk of which a smaller volume has part": {
			node:   node(whole(device, "/dev/vdb", 100*gib, free(60*gib))),
			claims: claims(claim("a", gib, of(device))),
			want:   "device /dev/vdb: wants 1Gi, has 100Gi and belongs to another volume",
		},
		"disks that are too small": {
			node:   node(whole(device, "/dev/vdb", 10*gib), whole(device, "/dev/vdc", 20*gib)),
			claims: claims(claim("a", 30*gib, of(device))),
			want:   "device /dev/vdc: wants 30Gi, has 20Gi in all",
		},
		"a claim with limits leaves a partition alone that would fit better": {
			node:   node(whole(device, "/dev/sdb1", 10*gib, partition), whole(device, "/dev/sdc", 20*gib)),
			claims: claims(claim("a", 10*gib, of(device), limitedIO)),
			want:   "/dev/sdc", scores: "5 5",
		},
		"a claim without limits takes it": {
			node:   node(whole(device, "/dev/sdb1", 10*gib, partition), whole(device, "/dev/sdc", 20*gib)),
			claims: claims(claim("a", 10*gib, of(device))),
			want:   "/dev/sdb1", scores: "10 10",
		},
		"the claim with limits has the disk, and the larger one without the partition": {
			node:   node(whole(device, "/dev/sdb1", 40*gib, partition), whole(device, "/dev/sdc", 30*gib)),
			claims: claims(claim("a", 30*gib, of(device)), claim("b", 10*gib, of(device), limitedIO)),
			want:   "/dev/sdb1 /dev/sdc", scores: "6 6",
		},
		"partitions alone, and limits": {
			node:   node(whole(device, "/dev/sdb1", 10*gib, partition), whole(device, "/dev/sdb2", 10*gib, partition)),
			claims: claims(claim("a", 10*gib, of(device), limitedIO)),
			want:   "no managed device that is a whole disk: wants 10Gi, 0 free",
		},
		"a file system on a partition, and limits": {
			node:   node(whole(mount, "/mnt/a", 10*gib, partition, media(volume.SSD))),
			claims: claims(claim("a", 10*gib, of(mount), on(volume.SSD), limitedIO)),
			want:   "no managed mount point on ssd that is on a whole disk: wants 10Gi, 0 free",
		},
		"no file system": {
			node:   node(group("pool", 100*gib)),
			claims: claims(claim("a", gib, of(mount), on(volume.SSD))),
			want:   "no managed mount point on ssd: wants 1Gi, 0 free",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var scores []string
			for _, prefer := range []Preference{Binpack, Spread} {
				planner := NewPlanner(test.claims, prefer)
				var left []capacity.Bytes
				for _, g := range test.node.Groups {
					left = append(left, g.Free)
				}
				at, err := planner.Fit(test.node.Groups, left, nil)
				if err != nil {
					if err.Error() != test.want {
						t.Errorf("%s: got %v, want %s", prefer, err, test.want)
					}
					continue
				}
				var groups []string
				for _, place := range at {
					groups = append(groups, test.node.Groups[place].Name)
				}
				if got := strings.Join(groups, " "); got != test.want {
					t.Errorf("%s: they go to %s, want %s", prefer, got, test.want)
				}
				scores = append(scores, fmt.Sprint(planner.Score(test.node.Groups, left, at)))
			}
			if got := strings.Join(scores, " "); got != test.scores {
				t.Errorf("the scores are %s, want %s", got, test.scores)
			}
		})
	}
}
