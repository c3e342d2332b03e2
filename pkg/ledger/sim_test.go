package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// A cluster is the world that the ledger hears of late: disks that really fill, and
// pods whose claims become volumes and go again. What the ledger is told waits in
// queues, one for each object, as watches deliver it.
type cluster struct {
	t       *rapid.T
	l       *Ledger
	now     time.Time
	disks   map[string]map[string]map[string]capacity.Bytes // by node, group, volume
	events  map[string][]func()                             // news by object, the oldest first
	heard   map[string][]Report                             // by node, all that was delivered
	latest  map[string]Report                               // by node, what the API server has
	away    map[string]bool                                 // nodes that have left
	sick    map[string]bool                                 // "node group" where nothing new may be put
	serial  uint64
	pods    map[string]*simPod
	born    int
	pvs     map[string]simVolume // by volume: its PersistentVolume
	wishes  map[string]capacity.Bytes
	shown   map[string]string // by volume: the node that its claim was last heard to show
	snaps   map[string]simVolume
	begun   map[string]simWork // by volume or snapshot: what some node is doing
	refused map[string]simWork // by snapshot: what there was no room for, and may be asked for again

	orphans map[string]simVolume // volumes whose making ended after their claims
	filled  int                  // volumes made or grown
}

// A simVolume is where a volume lies.
type simVolume struct {
	node, group string
	size        capacity.Bytes
}

// A simPod is a pod with its claims, or with inline volumes.
type simPod struct {
	name   string
	number int
	claims []volume.Claim
	inline bool
	fits   []string // where the extender said it may land
	sight  *simSight
	held   bool            // what was said is still held
	node   string          // where the scheduler put it
	made   map[string]bool // by volume
	ended  bool            // its inline volumes wait to be unpublished
}

// A simSight is what a filter has seen and decided, and not yet held.
type simSight struct {
	views  Views
	offers []Offer
	nodes  []string
}

// Few groups and one disk for each node, and small, so that they are mostly full.
const (
	groupSize = 40
	diskSize  = 24
	disk      = "/dev/d" // is given whole
)

var (
	simNodes  = nodeNames[:2]
	simGroups = []string{disk, "a", "b"}
)

// newDisks are those of a node, by group.
func newDisks() map[string]map[string]capacity.Bytes {
	return map[string]map[string]capacity.Bytes{"a": {}, "b": {}, disk: {}}
}

// sizeOf returns how large a group is, and takes what a volume takes of it.
func sizeOf(group string) capacity.Bytes {
	if group == disk {
		return diskSize
	}
	return groupSize
}

func takes(group string, size capacity.Bytes) capacity.Bytes {
	if group == disk {
		return diskSize
	}
	return size.Extents(extentSize)
}

func newCluster(t *rapid.T) *cluster {
	c := &cluster{
		t: t, l: New(), now: start,
		disks:   map[string]map[string]map[string]capacity.Bytes{},
		events:  map[string][]func(){},
		heard:   map[string][]Report{},
		latest:  map[string]Report{},
		away:    map[string]bool{},
		sick:    map[string]bool{},
		pods:    map[string]*simPod{},
		pvs:     map[string]simVolume{},
		wishes:  map[string]capacity.Bytes{},
		shown:   map[string]string{},
		snaps:   map[string]simVolume{},
		begun:   map[string]simWork{},
		refused: map[string]simWork{},
		orphans: map[string]simVolume{},
	}
	for _, node := range simNodes {
		c.disks[node] = newDisks()
		c.publish(node)
	}
	c.deliverAll()
	return c
}

func (c *cluster) soon() time.Time { return c.now.Add(30 * time.Second) }
func (c *cluster) late() time.Time { return c.now.Add(5 * time.Minute) }

func (c *cluster) later(object string, event func()) {
	c.events[object] = append(c.events[object], event)
}

// publish has the agent report what is on the node's disks now.
func (c *cluster) publish(node string) {
	if c.away[node] {
		return
	}
	c.serial++
	r := Report{Version: c.serial}
	for _, name := range simGroups {
		g := Group{Name: name, Managed: true, Allocatable: sizeOf(name), Available: sizeOf(name), Extent: extentSize}
		if c.sick[node+" "+name] {
			g.Trouble = "DiskFault"
		}
		if name == disk {
			g.Kind, g.Extent = capacity.Device, 0
		}
		for _, lv := range slices.Sorted(maps.Keys(c.disks[node][name])) {
			size := c.disks[node][name][lv]
			g.Volumes = append(g.Volumes, Volume{Name: lv, Size: size, Ours: true})
			g.Available -= size
		}
		r.Groups = append(r.Groups, g)
	}
	c.latest[node] = r
	c.later("node "+node, func() { c.l.Report(node, r); c.heard[node] = append(c.heard[node], r) })
}

// deliver tells the ledger the oldest news of one object. News of nodes may be skipped
// when newer is waiting, and may come again.
func (c *cluster) deliver(object string) {
	queue := c.events[object]
	c.events[object] = queue[1:]
	if len(queue) == 1 {
		delete(c.events, object)
	}
	queue[0]()
}

func (c *cluster) deliverAll() {
	for len(c.events) > 0 {
		c.deliver(slices.Min(slices.Collect(maps.Keys(c.events))))
	}
}

// restart replaces the ledger by one that knows nothing but what the API server has, as
// the extender builds it: what is there first, then what is under way, then what was
// promised, the oldest pods first, and last what is wished. What was only held is lost.
func (c *cluster) restart() {
	c.l, c.events = New(), map[string][]func(){}
	clear(c.shown)
	for _, name := range slices.Sorted(maps.Keys(c.pvs)) {
		c.volumeSeen(name)
	}
	pods := slices.SortedFunc(maps.Values(c.pods), func(a, b *simPod) int { return a.number - b.number })
	for _, p := range pods {
		p.held, p.sight = false, nil
		if p.inline && p.node != "" && !p.ended {
			c.landed(p)
		}
	}
	for _, node := range simNodes {
		if !c.away[node] {
			c.l.Report(node, c.latest[node])
			c.heard[node] = []Report{c.latest[node]}
		}
	}
	c.recallWork()
	for _, p := range pods {
		for _, claim := range p.claims {
			if _, bound := c.pvs[claim.Volume]; !bound && p.node != "" && !p.inline {
				c.selected(p, claim.Volume, p.node)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.wishes)) {
		c.l.Grow(name, c.wishOf(name))
	}
}

// volumeSeen is what the extender makes of a PersistentVolume.
func (c *cluster) volumeSeen(name string) {
	if pv, there := c.pvs[name]; there {
		c.l.Choose(name, pv.node, c.late())
		c.l.Exists(name, pv.node, capacity.Spot{Group: pv.group, Size: pv.size})
	}
}

// landed is what the extender makes of a pod with inline volumes that has a node.
func (c *cluster) landed(p *simPod) {
	c.l.ChooseForPod(p.name, p.node, c.late())
	for _, claim := range p.claims {
		c.l.Exists(claim.Volume, p.node, capacity.Spot{Group: claim.Group, Size: claim.Size})
	}
}

// selected is what the extender makes of a claim that shows its node, or none any more.
// Of a volume that is being made elsewhere that may be old news.
func (c *cluster) selected(p *simPod, name, node string) {
	c.shown[name] = node
	if c.l.OldNews(name, node, c.soon()) {
		return
	}
	if node == "" {
		c.l.Forget(name)
		return
	}
	if place, counted := c.l.Where(name); counted && place.Exists {
		return
	}
	place, counted := c.l.Where(name)
	if !c.assume(p, name, node) && (!counted || place.Node != node) {
		c.l.Forget(name)
	}
}

// look does the first half of what the extender does for a pod: others may come between.
func (c *cluster) look(p *simPod) {
	p.sight = &simSight{}
	c.l.Expire(c.now)
	c.l.See(p.name, simNodes, &p.sight.views)
	for i := range simNodes {
		view := p.sight.views.At(i)
		if places, ok := c.place(view, p.claims); ok && view.Reported {
			p.sight.offers = append(p.sight.offers, view.Offer(places))
			p.sight.nodes = append(p.sight.nodes, view.Name)
		}
	}
}

// hold does the other half. It returns what was refused because it had changed.
func (c *cluster) hold(p *simPod) (refused []int) {
	refused = c.l.Hold(p.name, p.claims, p.sight.offers, c.soon())
	p.fits, p.held = nil, true
	for i, node := range p.sight.nodes {
		if !slices.Contains(refused, i) {
			p.fits = append(p.fits, node)
		}
	}
	p.sight = nil
	return refused
}

// place finds places for the claims that are not counted on the node yet.
func (c *cluster) place(view View, claims []volume.Claim) ([]capacity.Position, bool) {
	places := make([]capacity.Position, len(claims))
	var wanting []volume.Claim
	var at []int
	for i, claim := range claims {
		places[i] = capacity.Nowhere
		if place, counted := c.l.Where(claim.Volume); counted && place.Node == view.Name && !place.Void {
			continue
		}
		wanting, at = append(wanting, claim), append(at, i)
	}
	found, err := allocator.NewPlanner(wanting, allocator.Binpack).Fit(view.Groups, view.Free, nil)
	if err != nil {
		return nil, false
	}
	for i, place := range found {
		places[at[i]] = place
	}
	return places, true
}

// assume is what the extender does when it hears of a choice that nobody held, or when
// it is asked to confirm one.
func (c *cluster) assume(p *simPod, name, node string) bool {
	if c.l.Confirm(name, node) {
		return true
	}
	c.l.Choose(name, node, c.late())
	if c.l.Confirm(name, node) {
		return true
	}
	var claims []volume.Claim // of the pod, that have no volume; but for this one only while the pod is there
	for _, claim := range p.claims {
		if claim.Volume == name || (c.pods[p.name] == p && !p.made[claim.Volume]) {
			claims = append(claims, claim)
		}
	}
	view := look(c.l, p.name, node)
	places, ok := c.place(view, claims)
	if !ok || !view.Reported {
		return false
	}
	return c.l.Promise(p.name, claims, view.Offer(places), c.late()) && c.l.Confirm(name, node)
}

// fill puts a volume on a disk, or makes it larger. This is the point of it all: there
// is room.
func (c *cluster) fill(node, group, name string, size capacity.Bytes) {
	has, left := c.disks[node][group], sizeOf(group)
	for other, taken := range has {
		if other != name {
			left -= taken
		}
	}
	if size > left {
		c.t.Fatalf("%s was promised %s in %s of %s where %s is left: %v", name, size, group, node, left, has)
	}
	has[name] = size
	c.filled++
	c.publish(node)
}

// empty takes a volume off a disk.
func (c *cluster) empty(at simVolume, name string) {
	delete(c.disks[at.node][at.group], name)
	c.publish(at.node)
}

func (c *cluster) birth() *simPod {
	p := &simPod{name: fmt.Sprint("p", c.born), number: c.born, made: map[string]bool{}}
	p.inline = rapid.IntRange(0, 3).Draw(c.t, "inline") == 0
	for i := range rapid.IntRange(1, 2).Draw(c.t, "claims") {
		claim := volume.Claim{
			Volume: fmt.Sprintf("v%d-%d", c.born, i),
			Size:   capacity.Bytes(rapid.Int64Range(8, 40).Draw(c.t, "wants")),
			Layout: capacity.Linear,
		}
		switch {
		case p.inline:
			claim.Group = rapid.SampledFrom(groupNames).Draw(c.t, "names")
		case rapid.IntRange(0, 3).Draw(c.t, "whole") == 0:
			claim.Kind, claim.Size = capacity.Device, min(claim.Size, diskSize)
		}
		p.claims = append(p.claims, claim)
	}
	c.born++
	c.pods[p.name] = p
	return p
}

// somePod draws a pod for which ready holds, or nil.
func (c *cluster) somePod(ready func(*simPod) bool) *simPod {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.pods)) {
		if ready(c.pods[name]) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return c.pods[rapid.SampledFrom(names).Draw(c.t, "pod")]
}

// some draws one of the keys, or returns "".
func some[V any](t *rapid.T, from map[string]V) string {
	if len(from) == 0 {
		return ""
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(from))).Draw(t, "which")
}

// leftovers says what the ledger still knows when all is gone, but for the nodes.
func (l *Ledger) leftovers() string {
	var said []string
	for name, size := range map[string]int{
		"where": len(l.where), "doubles": len(l.doubles), "promises": len(l.promises), "deadlines": len(l.deadlines),
		"lingers": len(l.lingers), "holds": len(l.holds), "wishes": len(l.wishes), "grows": len(l.grows), "rooms": len(l.rooms), "making": len(l.making),
	} {
		if size > 0 {
			said = append(said, fmt.Sprintf("%d %s", size, name))
		}
	}
	for name, n := range l.nodes {
		if len(n.volumes)+len(n.holds) > 0 {
			said = append(said, fmt.Sprintf("%d volumes and %d holds of %s", len(n.volumes), len(n.holds), name))
		}
	}
	slices.Sort(said)
	return strings.Join(said, ", ")
}
