package ledger

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/open-local/open-local/pkg/capacity"
)

func keep(l *Ledger, name string, size capacity.Bytes) *Lack {
	return l.Keep(Room{Volume: name, Node: "n1", Group: "pool", Size: size}, start.Add(soon))
}

func keepNew(l *Ledger, name string, size capacity.Bytes) *Lack {
	return l.Keep(Room{Volume: name, Node: "n1", Group: "pool", Size: size, New: true}, start.Add(soon))
}

func TestRoomForGrowthIsKeptUntilAReportShowsIt(t *testing.T) {
	l := grown(t)
	if lack := keep(l, "v", 60*gib); lack != nil {
		t.Fatalf("refused: %+v", lack)
	}
	wantFree(t, l, "n1", 40*gib)
	l.Report("n1", pool(lv("v", 30*gib))) // written before
	wantFree(t, l, "n1", 40*gib)
	l.Report("n1", pool(lv("v", 60*gib)))
	wantFree(t, l, "n1", 40*gib)
	l.Report("n1", pool()) // and gone
	l.Gone("v", "n1", start)
	wantFree(t, l, "n1", 100*gib)
}

func TestRoomForASnapshotIsKeptUntilAReportNamesIt(t *testing.T) {
	l := grown(t)
	if lack := keepNew(l, "snap", 4*gib); lack != nil {
		t.Fatalf("refused: %+v", lack)
	}
	wantFree(t, l, "n1", 66*gib)
	l.Report("n1", pool(lv("v", 30*gib), lv("snap", 3*gib))) // LVM took no more
	wantFree(t, l, "n1", 67*gib)
	if left := l.Stats().Rooms; left > 0 {
		t.Errorf("%d rooms are left", left)
	}
	if lack := keepNew(l, "snap", 4*gib); lack != nil || l.Stats().Rooms > 0 {
		t.Errorf("a snapshot that is there is kept room for: %+v", lack)
	}
}

func TestARoomThatIsNotThereSaysWhatIs(t *testing.T) {
	l := grown(t)
	if refused := holds(l, "p", "w", 50*gib, "n1"); len(refused) > 0 {
		t.Fatal("there was room")
	}
	for _, test := range []struct { // one after another
		name string
		ask  Room
		want *Lack
	}{
		{"a volume that is to grow", Room{"v", "n1", "pool", 60 * gib, false}, &Lack{Wants: 30 * gib, Free: 20 * gib, Held: 50 * gib}},
		{"a snapshot", Room{"snap", "n1", "pool", 21 * gib, true}, &Lack{Wants: 21 * gib, Free: 20 * gib, Held: 50 * gib}},
		{"as much as there is", Room{"v", "n1", "pool", 50 * gib, false}, nil},
		{"the same again", Room{"v", "n1", "pool", 50 * gib, false}, nil},
		{"a byte more than that", Room{"v", "n1", "pool", 50*gib + 1, false}, &Lack{Wants: capacity.DefaultExtent, Held: 50 * gib}},
		{"a node that nobody reports on", Room{"v", "n2", "pool", gib, false}, &Lack{Unreported: true}},
		{"a group in which nothing is promised", Room{"x", "n1", "other", 900 * gib, false}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, l.Keep(test.ask, start.Add(soon))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestARoomEndsByItselfOrWhenToldTo(t *testing.T) {
	l := grown(t)
	keep(l, "v", 60*gib)
	keepNew(l, "snap", 10*gib)
	wantFree(t, l, "n1", 30*gib)
	l.Unkeep("snap", "n1")
	l.Unkeep("snap", "n1")
	l.Unkeep("snap", "nowhere")
	wantFree(t, l, "n1", 40*gib)
	if next := l.Expire(start); !next.Equal(start.Add(soon)) {
		t.Errorf("the next to expire is %s", next)
	}
	l.Expire(start.Add(soon))
	wantFree(t, l, "n1", 70*gib)
	if left := l.Stats().Rooms; left > 0 {
		t.Errorf("%d rooms are left", left)
	}
}

func TestARoomThatIsAskedForAgainLastsLonger(t *testing.T) {
	l := grown(t)
	keep(l, "v", 60*gib)
	l.Keep(Room{Volume: "v", Node: "n1", Group: "pool", Size: 40 * gib}, start.Add(2*soon)) // the first may be at work
	l.Expire(start.Add(soon))
	wantFree(t, l, "n1", 40*gib)
	l.Expire(start.Add(2 * soon))
	wantFree(t, l, "n1", 70*gib)
}

func TestARoomOutlivesThatItsNodeIsAway(t *testing.T) {
	l := grown(t)
	keepNew(l, "snap", 10*gib)
	l.Leave("n1")
	l.Report("n1", pool(lv("v", 30*gib)))
	wantFree(t, l, "n1", 60*gib)
}

func TestAWishAndARoomForItAreCountedOnce(t *testing.T) {
	l := grown(t)
	l.Grow("v", 60*gib)
	if lack := keep(l, "v", 60*gib); lack != nil {
		t.Fatalf("refused: %+v", lack)
	}
	wantFree(t, l, "n1", 40*gib)
	l.Grow("v", 0) // old news, or taken back too late
	wantFree(t, l, "n1", 40*gib)
	l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: 60 * gib})
	wantFree(t, l, "n1", 40*gib)
}

func TestRoomThatMayHaveBeenKeptBeforeIsKeptWhateverIsFree(t *testing.T) {
	for name, test := range map[string]struct {
		promised, recalled, asked, free capacity.Bytes
		refused                         *Lack
	}{
		"where there is room":                 {30 * gib, 60 * gib, 60 * gib, 10 * gib, nil},
		"for less than it may have been":      {30 * gib, 60 * gib, 20 * gib, 10 * gib, nil},
		"for more, that is there":             {30 * gib, 60 * gib, 70 * gib, 0, nil},
		"for more, that is not":               {30 * gib, 60 * gib, 80 * gib, 10 * gib, &Lack{Wants: 80 * gib, Free: 70 * gib}},
		"where there is not enough":           {70 * gib, 60 * gib, 60 * gib, 0, &Lack{Wants: 60 * gib, Free: 30 * gib}},
		"where there is not, for less of it":  {70 * gib, 60 * gib, 20 * gib, 0, nil},
		"in a group where everything is gone": {100 * gib, 60 * gib, capacity.DefaultExtent, 0, &Lack{Wants: capacity.DefaultExtent}},
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			l.Report("n1", pool())
			l.Exists("v", "n1", capacity.Spot{Group: "pool", Size: test.promised})
			room := Room{Volume: "snap", Node: "n1", Group: "pool", Size: test.recalled, New: true}
			l.Recall(room, start.Add(soon))
			l.Recall(room, start.Add(soon))
			wantFree(t, l, "n1", max(0, 100*gib-test.promised-test.recalled))
			room.Size = test.asked
			if diff := cmp.Diff(test.refused, l.Keep(room, start.Add(soon))); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			wantFree(t, l, "n1", test.free)
			l.Report("n1", pool(lv("v", test.promised), lv("snap", capacity.DefaultExtent)))
			l.Recall(room, start.Add(soon))
			wantFree(t, l, "n1", max(0, 100*gib-test.promised-capacity.DefaultExtent))
			if left := l.Stats().Rooms; left > 0 {
				t.Errorf("%d rooms are left", left)
			}
		})
	}
}

func TestWhatIsRecalledEndsWhenNoReportNamesIt(t *testing.T) {
	l := grown(t)
	l.Recall(Room{Volume: "snap", Node: "n1", Group: "pool", Size: 10 * gib, New: true}, start.Add(soon))
	l.Recall(Room{Volume: "snap", Node: "n2", Group: "pool", Size: 10 * gib, New: true}, start.Add(soon)) // nobody has reported on it
	wantFree(t, l, "n1", 60*gib)
	l.Expire(start.Add(soon))
	wantFree(t, l, "n1", 70*gib)
}

// A simWork is a volume that grows, or a snapshot that is made, for which room is kept.
type simWork struct {
	simVolume        // as it shall be
	of        string // the volume
	until     time.Time
}

// wishOf is how large a claim asks its volume to be, or has begun to.
func (c *cluster) wishOf(name string) capacity.Bytes { return max(c.wishes[name], c.begun[name].size) }

// resize begins to grow a volume as large as it is wished to be.
func (c *cluster) resize(t *rapid.T) {
	name := some(t, c.wishes)
	pv, there := c.pvs[name]
	if there && !c.away[pv.node] && c.wishes[name] > pv.size {
		c.begin(t, name, simWork{simVolume{pv.node, pv.group, c.wishes[name].Extents(extentSize)}, name, time.Time{}})
	}
}

// snapshot begins to make one, or deletes one.
func (c *cluster) snapshot(t *rapid.T) {
	if name := some(t, c.snaps); name != "" && rapid.Bool().Draw(t, "delete") {
		if at := c.snaps[name]; !c.away[at.node] {
			c.empty(at, name)
			delete(c.snaps, name)
		}
		return
	}
	if name := some(t, c.refused); name != "" && rapid.Bool().Draw(t, "again") {
		if again := c.refused[name]; !c.away[again.node] {
			c.begin(t, name, again)
		}
		return
	}
	name := some(t, c.pvs)
	of, there := c.pvs[name]
	if !there || c.away[of.node] || of.group == disk {
		return
	}
	c.serial++
	size := extentSize * capacity.Bytes(rapid.Int64Range(1, 3).Draw(t, "space"))
	c.begin(t, fmt.Sprint("snap-", c.serial), simWork{simVolume{of.node, of.group, size}, name, time.Time{}})
}

// begin is what the CSI controller does before it calls the node, once or again.
func (c *cluster) begin(t *rapid.T, name string, work simWork) {
	c.l.Expire(c.now)
	work.until = c.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "lasts")) * time.Second)
	room := Room{Volume: name, Node: work.node, Group: work.group, Size: work.size, New: name != work.of}
	switch refused := c.l.Keep(room, work.until) != nil; {
	case !refused:
		c.begun[name] = work
		delete(c.refused, name)
	case room.New:
		c.refused[name] = work
	}
}

// work has a node do what was begun. Sometimes it fails, and tells nobody.
func (c *cluster) work(t *rapid.T) {
	name := some(t, c.begun)
	work, begun := c.begun[name]
	if !begun || c.away[work.node] {
		return
	}
	delete(c.begun, name)
	if _, there := c.disks[work.node][work.group][work.of]; !there || rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
		return // it may have gone with the disks of a machine that was replaced
	}
	c.fill(work.node, work.group, name, work.size)
	if name != work.of {
		c.snaps[name] = work.simVolume
		return
	}
	c.pvs[name] = work.simVolume
	c.later("volume "+name, func() { c.volumeSeen(name) })
}

// giveUp ends what is under way with a volume that is deleted.
func (c *cluster) giveUp(volume string) {
	of := func(_ string, work simWork) bool { return work.of == volume }
	maps.DeleteFunc(c.begun, of)
	maps.DeleteFunc(c.refused, of)
}

// timeOut ends what took too long.
func (c *cluster) timeOut() {
	maps.DeleteFunc(c.begun, func(_ string, work simWork) bool { return !c.now.Before(work.until) })
}

// recallWork is what an extender that was restarted knows of it. Claims show that their
// volumes grow, and VolumeSnapshotContents which snapshots are to be made: those that are
// being made, those that were a moment ago and are in no report, and those for which there
// was no room. Of a node that has left it knows nothing; what was begun there fails.
func (c *cluster) recallWork() {
	maps.DeleteFunc(c.begun, func(name string, work simWork) bool { return work.of != name && c.away[work.node] })
	snaps := maps.Clone(c.snaps)
	for _, name := range slices.Sorted(maps.Keys(c.begun)) {
		if work := c.begun[name]; work.of == name {
			c.l.Keep(Room{Volume: name, Node: work.node, Group: work.group, Size: work.size}, work.until)
		} else {
			snaps[name] = work.simVolume
		}
	}
	for name, work := range c.refused {
		snaps[name] = work.simVolume
	}
	for _, name := range slices.Sorted(maps.Keys(snaps)) {
		at := snaps[name]
		c.l.Recall(Room{Volume: name, Node: at.node, Group: at.group, Size: at.size, New: true}, c.late())
	}
}
