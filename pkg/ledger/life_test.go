package ledger

import (
	"fmt"
	"maps"
	"slices"
	"testing"
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
	t      *rapid.T
	l      *Ledger
	now    time.Time
	disks  map[string]map[string]map[string]capacity.Bytes // by node, group, volume
	events map[string][]func()                             // by object, the oldest first
	heard  map[string][]Report                             // by node, all that was delivered
	serial uint64
	pods   map[string]*simPod
	born   int

	orphans int // volumes whose making ended after their claims
	filled  int // volumes made
}

// A simPod is a pod with its claims.
type simPod struct {
	name   string
	claims []volume.Claim
	fits   []string        // where the extender said it may land
	node   string          // where the scheduler put it
	made   map[string]bool // by volume; false while its making may yet be repeated
	group  map[string]string
}

// Few disks, and small, so that they are mostly full.
const diskSize = 40

var simNodes = nodeNames[:2]

func newCluster(t *rapid.T) *cluster {
	c := &cluster{
		t: t, l: New(), now: start,
		disks:  map[string]map[string]map[string]capacity.Bytes{},
		events: map[string][]func(){},
		heard:  map[string][]Report{},
		pods:   map[string]*simPod{},
	}
	for _, node := range simNodes {
		c.disks[node] = map[string]map[string]capacity.Bytes{"a": {}, "b": {}}
		c.publish(node)
	}
	c.deliverAll()
	return c
}

func (c *cluster) later(object string, event func()) {
	c.events[object] = append(c.events[object], event)
}

// publish has the agent report what is on the node's disks now.
func (c *cluster) publish(node string) {
	c.serial++
	r := Report{Version: c.serial}
	for _, name := range groupNames {
		g := Group{Name: name, Managed: true, Allocatable: diskSize, Available: diskSize, Extent: extentSize}
		for _, lv := range slices.Sorted(maps.Keys(c.disks[node][name])) {
			size := c.disks[node][name][lv]
			g.Volumes = append(g.Volumes, Volume{Name: lv, Size: size, Ours: true})
			g.Available -= size
		}
		r.Groups = append(r.Groups, g)
	}
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

// filter does what the extender does for a pod.
func (c *cluster) filter(p *simPod) {
	var views Views
	c.l.Expire(c.now)
	c.l.See(p.name, simNodes, &views)
	var offers []Offer
	p.fits = nil
	for i := range simNodes {
		view := views.At(i)
		if places, ok := c.place(view, p.claims); ok {
			offers = append(offers, view.Offer(places))
			p.fits = append(p.fits, view.Name)
		}
	}
	if refused := c.l.Hold(p.name, p.claims, offers, c.now.Add(30*time.Second)); len(refused) > 0 {
		c.t.Fatalf("refused %v of %v, though nothing happened since they were seen", refused, offers)
	}
}

// place finds places for the claims that are not counted on the node yet.
func (c *cluster) place(view View, claims []volume.Claim) ([]capacity.Position, bool) {
	places := make([]capacity.Position, len(claims))
	var wanting []volume.Claim
	var at []int
	for i, claim := range claims {
		places[i] = capacity.Nowhere
		if place, counted := c.l.Where(claim.Volume); counted && place.Node == view.Name {
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
func (c *cluster) assume(p *simPod, name string) bool {
	if c.l.Confirm(name, p.node) {
		return true
	}
	c.l.Choose(name, p.node, c.now.Add(5*time.Minute))
	if c.l.Confirm(name, p.node) {
		return true
	}
	view := look(c.l, p.name, p.node)
	places, ok := c.place(view, p.claims)
	if !ok {
		return false
	}
	return c.l.Promise(p.name, p.claims, view.Offer(places), c.now.Add(5*time.Minute)) && c.l.Confirm(name, p.node)
}

// bind is the scheduler's choice, which the extender hears of claim by claim.
func (c *cluster) bind(p *simPod, node string) {
	p.node = node
	for _, claim := range p.claims {
		c.later("claim "+claim.Volume, func() {
			if p.node == node && c.pods[p.name] == p {
				c.assume(p, claim.Volume)
			}
		})
	}
}

// create is CreateVolume: it asks for the place and fills it.
func (c *cluster) create(p *simPod, claim volume.Claim) {
	c.l.Expire(c.now)
	place, counted := c.l.Where(claim.Volume)
	if !counted || place.Node != p.node {
		if !c.assume(p, claim.Volume) {
			p.node = "" // ResourceExhausted: the scheduler may look again
			for _, other := range p.claims {
				if _, made := p.made[other.Volume]; made {
					p.node = p.fits[0] // some are there already, and hold the pod
				}
			}
			return
		}
		place, _ = c.l.Where(claim.Volume)
	}
	c.l.Confirm(claim.Volume, p.node)
	c.fill(c.disks[place.Node][place.Group], claim.Volume, claim.Size.Extents(extentSize))
	p.made[claim.Volume], p.group[claim.Volume] = true, place.Group
	p.fits = []string{p.node}
	c.publish(p.node)
	node, group := p.node, place.Group
	c.later("volume "+claim.Volume, func() { c.l.Exists(claim.Volume, node, capacity.Spot{Group: group, Size: claim.Size}) })
}

// remove deletes the pod with its claims, and so its volumes.
func (c *cluster) remove(p *simPod) {
	delete(c.pods, p.name)
	c.later("pod "+p.name, func() { c.l.Release(p.name) })
	node := p.node
	for _, claim := range p.claims {
		name, until := claim.Volume, func() time.Time { return c.now.Add(30 * time.Second) }
		c.later("claim "+name, func() { c.l.Linger(name, until()) })
		if !p.made[name] && rapid.Bool().Draw(c.t, "in the making") {
			c.finish(node, claim)
		}
		if p.made[name] {
			delete(c.disks[node][p.group[name]], name)
			c.publish(node)
			c.later("volume "+name, func() { c.l.Gone(name, node, until()) })
		}
	}
}

// finish ends a CreateVolume that was under way when its claim was deleted. What it
// made is found and removed later.
func (c *cluster) finish(node string, claim volume.Claim) {
	place, counted := c.l.Where(claim.Volume)
	if !counted || place.Node != node || place.Exists {
		return
	}
	disk, name, size := c.disks[node][place.Group], claim.Volume, claim.Size.Extents(extentSize)
	c.fill(disk, name, size)
	c.publish(node)
	c.orphans++
	c.later("volume "+name, func() { c.l.Exists(name, node, capacity.Spot{Group: place.Group, Size: size}) })
	c.later("volume "+name, func() {
		c.orphans--
		delete(disk, name)
		c.publish(node)
		c.l.Gone(name, node, c.now.Add(30*time.Second))
	})
}

// fill puts a volume on a disk. This is the point of it all: there is room.
func (c *cluster) fill(disk map[string]capacity.Bytes, name string, size capacity.Bytes) {
	left := capacity.Bytes(diskSize)
	for _, taken := range disk {
		left -= taken
	}
	if size > left {
		c.t.Fatalf("%s was promised %s where %s is left: %v", name, size, left, disk)
	}
	disk[name] = size
	c.filled++
}

func (c *cluster) birth() *simPod {
	p := &simPod{name: fmt.Sprint("p", c.born), made: map[string]bool{}, group: map[string]string{}}
	for i := range rapid.IntRange(1, 2).Draw(c.t, "claims") {
		p.claims = append(p.claims, volume.Claim{
			Volume: fmt.Sprintf("v%d-%d", c.born, i),
			Size:   capacity.Bytes(rapid.Int64Range(8, 40).Draw(c.t, "wants")),
			Layout: capacity.Linear,
		})
	}
	c.born++
	c.pods[p.name] = p
	return p
}

// somePod draws a pod for which ready holds.
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

// TestWhatIsPromisedFits lets pods come, land, get their volumes and go, while the
// ledger hears of it late, in any order between objects, with reports lost and
// repeated. Every volume finds the room it was promised, and in the end all is free.
func TestWhatIsPromisedFits(t *testing.T) {
	filled := 0
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t)
		t.Repeat(map[string]func(*rapid.T){
			"filter": func(t *rapid.T) {
				p := c.somePod(func(p *simPod) bool { return p.node == "" })
				if p == nil || rapid.Bool().Draw(t, "another") {
					p = c.birth()
				}
				c.filter(p)
				if len(p.fits) > 0 && rapid.Bool().Draw(t, "at once") {
					c.bind(p, rapid.SampledFrom(p.fits).Draw(t, "lands"))
				}
			},
			"bind": func(t *rapid.T) {
				if p := c.somePod(func(p *simPod) bool { return p.node == "" && len(p.fits) > 0 }); p != nil {
					c.bind(p, rapid.SampledFrom(p.fits).Draw(t, "lands"))
				}
			},
			"create": func(t *rapid.T) {
				p := c.somePod(func(p *simPod) bool { return p.node != "" && len(p.made) < len(p.claims) })
				if p == nil {
					return
				}
				for _, claim := range p.claims {
					if !p.made[claim.Volume] && p.node != "" {
						c.create(p, claim)
					}
				}
			},
			"remove": func(*rapid.T) {
				if p := c.somePod(func(*simPod) bool { return true }); p != nil {
					c.remove(p)
				}
			},
			"hear": func(t *rapid.T) {
				if len(c.events) > 0 {
					c.deliver(rapid.SampledFrom(slices.Sorted(maps.Keys(c.events))).Draw(t, "object"))
				}
			},
			"hear again": func(t *rapid.T) {
				node := rapid.SampledFrom(simNodes).Draw(t, "node")
				c.l.Report(node, rapid.SampledFrom(c.heard[node]).Draw(t, "old news"))
			},
			"lose": func(t *rapid.T) {
				node := "node " + rapid.SampledFrom(simNodes).Draw(t, "node")
				if len(c.events[node]) > 1 {
					c.events[node] = c.events[node][1:]
				}
			},
			"wait": func(t *rapid.T) {
				if c.orphans > 0 { // a promise lingers longer than a report takes
					c.deliverAll()
				}
				c.now = c.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
			},
		})
		filled += c.filled
		for _, name := range slices.Sorted(maps.Keys(c.pods)) {
			c.remove(c.pods[name])
		}
		c.deliverAll()
		c.l.Expire(c.now.Add(time.Hour))
		var views Views
		c.l.See("", simNodes, &views)
		for i := range simNodes {
			view := views.At(i)
			for g, free := range view.Free {
				if free != diskSize {
					t.Errorf("in the end group %s of %s has %s free of %d", view.Groups[g].Name, view.Name, free, diskSize)
				}
			}
		}
		if stats := c.l.Stats(); stats.Holds != 0 || stats.Promises != 0 {
			t.Errorf("in the end there are %+v", stats)
		}
	})
	if filled == 0 {
		t.Error("no volume was ever made")
	}
}
