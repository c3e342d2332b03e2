package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// What follows is what may happen in a cluster, whenever it may.

// filter looks and holds at once: nothing can have changed.
func (c *cluster) filter(t *rapid.T) {
	p := c.unbound(t)
	c.look(p)
	if refused := c.hold(p); len(refused) > 0 {
		c.t.Fatalf("refused %v of %v, though nothing happened since they were seen", refused, p.fits)
	}
	if len(p.fits) > 0 && rapid.Bool().Draw(t, "at once") {
		c.bind(p, rapid.SampledFrom(p.fits).Draw(t, "lands"))
	}
}

// race looks for one pod, or holds what was seen for another a while ago.
func (c *cluster) race(t *rapid.T) {
	if p := c.somePod(func(p *simPod) bool { return p.sight != nil }); p != nil && rapid.Bool().Draw(t, "hold") {
		if p.node == "" {
			c.hold(p)
		}
		p.sight = nil
		return
	}
	c.look(c.unbound(t))
}

// unbound returns a pod without a node, be it a new one.
func (c *cluster) unbound(t *rapid.T) *simPod {
	p := c.somePod(func(p *simPod) bool { return p.node == "" })
	if p == nil || rapid.Bool().Draw(t, "another") {
		p = c.birth()
	}
	return p
}

// choose is the scheduler's choice for a pod that was filtered.
func (c *cluster) choose(t *rapid.T) {
	if p := c.somePod(func(p *simPod) bool { return p.node == "" && len(p.fits) > 0 && (p.held || !p.inline) }); p != nil {
		c.bind(p, rapid.SampledFrom(p.fits).Draw(t, "lands"))
	}
}

// bind is the scheduler's choice, which the extender hears of claim by claim, or when
// the pod has its node.
func (c *cluster) bind(p *simPod, node string) {
	p.node = node
	if p.inline {
		c.later("pod "+p.name, func() { c.landed(p) })
		return
	}
	for _, claim := range p.claims {
		if !p.made[claim.Volume] {
			c.later("claim "+claim.Volume, func() { c.selected(p, claim.Volume, node) })
		}
	}
}

// unselect takes the node off a claim, and so off its pod if nothing is there yet.
func (c *cluster) unselect(*rapid.T) {
	p := c.somePod(func(p *simPod) bool { return p.node != "" && !p.inline && len(p.made) == 0 })
	if p == nil {
		return
	}
	for _, claim := range p.claims {
		c.later("claim "+claim.Volume, func() { c.selected(p, claim.Volume, "") })
	}
	p.node = ""
}

// move has the scheduler choose another node for a pod of which nothing is there yet.
func (c *cluster) move(t *rapid.T) {
	if p := c.somePod(func(p *simPod) bool { return p.node != "" && !p.inline && len(p.made) == 0 && len(p.fits) > 0 }); p != nil {
		c.bind(p, rapid.SampledFrom(p.fits).Draw(t, "lands"))
	}
}

// make makes the volumes of a pod that has its node.
func (c *cluster) make(*rapid.T) {
	p := c.somePod(func(p *simPod) bool {
		return p.node != "" && !p.ended && !c.away[p.node] && len(p.made) < len(p.claims)
	})
	if p == nil {
		return
	}
	for _, claim := range p.claims {
		switch {
		case p.made[claim.Volume] || p.node == "":
		case p.inline:
			c.fill(p.node, claim.Group, claim.Volume, claim.Size.Extents(extentSize))
			p.made[claim.Volume] = true
		default:
			c.create(p, claim)
		}
	}
}

// create is CreateVolume: it asks for the place and fills it.
func (c *cluster) create(p *simPod, claim volume.Claim) {
	if shown := c.shown[claim.Volume]; shown != "" && shown != p.node {
		return // the extender refuses, and is asked again
	}
	c.l.Expire(c.now)
	place, counted := c.l.Where(claim.Volume)
	if !counted || place.Node != p.node || place.Void {
		if !c.assume(p, claim.Volume, p.node) {
			c.exhausted(p, claim.Volume)
			return
		}
		place, _ = c.l.Where(claim.Volume)
	}
	c.l.Confirm(claim.Volume, p.node)
	c.l.Making(claim.Volume, p.node, fmt.Sprint(c.now))
	switch rapid.IntRange(0, 9).Draw(c.t, "goes wrong") {
	case 0: // the node refuses
		if !c.l.Refused(claim.Volume, p.node, fmt.Sprint(c.now)) {
			c.t.Fatalf("that %s refused %s is not heard", p.node, claim.Volume)
		}
		c.exhausted(p, claim.Volume)
		return
	case 1: // it does not answer, and will be asked again
		return
	}
	c.fill(p.node, place.Group, claim.Volume, takes(place.Group, claim.Size))
	p.made[claim.Volume], p.fits = true, []string{p.node}
	c.pvs[claim.Volume] = simVolume{p.node, place.Group, claim.Size.Extents(extentSize)}
	c.later("volume "+claim.Volume, func() { c.volumeSeen(claim.Volume) })
}

// exhausted is what csi-provisioner does when there is no room: the scheduler may look
// again. What is made already keeps the pod where it is.
func (c *cluster) exhausted(p *simPod, name string) {
	if len(p.made) > 0 {
		return // the scheduler can only choose the same node again
	}
	c.later("claim "+name, func() { c.selected(p, name, "") })
	p.node = ""
}

// remove deletes a pod with its claims, and so its volumes.
func (c *cluster) remove(*rapid.T) {
	if p := c.somePod(func(p *simPod) bool { return !p.inline && !c.away[p.node] }); p != nil {
		c.delete(p)
	}
}

func (c *cluster) delete(p *simPod) {
	delete(c.pods, p.name)
	c.later("pod "+p.name, func() { c.l.Release(p.name) })
	for _, claim := range p.claims {
		name := claim.Volume
		delete(c.wishes, name)
		c.later("claim "+name, func() { c.l.Made(name); c.l.Linger(name, c.soon()); c.l.Grow(name, 0) })
		if !p.made[name] && p.node != "" && rapid.Bool().Draw(c.t, "in the making") {
			c.finish(p.node, claim)
		}
		if p.made[name] {
			c.empty(c.pvs[name], name)
			c.forgetVolume(name)
		}
	}
}

// forgetVolume deletes a PersistentVolume.
func (c *cluster) forgetVolume(name string) {
	node := c.pvs[name].node
	delete(c.pvs, name)
	c.giveUp(name)
	c.later("volume "+name, func() { c.l.Gone(name, node, c.soon()); c.l.Grow(name, 0) })
}

// finish ends a CreateVolume that was under way when its claim was deleted. What it
// made is found and removed later.
func (c *cluster) finish(node string, claim volume.Claim) {
	place, counted := c.l.Where(claim.Volume)
	if !counted || place.Node != node || place.Exists {
		return
	}
	at := simVolume{node, place.Group, claim.Size.Extents(extentSize)}
	c.fill(node, place.Group, claim.Volume, takes(place.Group, at.size))
	c.pvs[claim.Volume], c.orphans[claim.Volume] = at, at
	c.later("volume "+claim.Volume, func() { c.volumeSeen(claim.Volume) })
}

// collect removes a volume whose claim was gone before it was there.
func (c *cluster) collect(t *rapid.T) {
	name := some(t, c.orphans)
	if at, there := c.orphans[name]; there && !c.away[at.node] {
		delete(c.orphans, name)
		c.empty(at, name)
		c.forgetVolume(name)
	}
}

// end ends a pod with inline volumes, or removes the volumes of one that has ended.
func (c *cluster) end(*rapid.T) {
	if p := c.somePod(func(p *simPod) bool { return p.inline && !c.away[p.node] }); p != nil {
		c.endPod(p)
	}
}

func (c *cluster) endPod(p *simPod) {
	if !p.ended {
		p.ended = true
		node := p.node
		c.later("pod "+p.name, func() {
			c.l.Release(p.name)
			for _, claim := range p.claims {
				c.l.Linger(claim.Volume, c.soon())
				c.l.Gone(claim.Volume, node, c.soon())
			}
		})
		if len(p.made) > 0 {
			return
		}
	}
	delete(c.pods, p.name)
	for _, claim := range p.claims {
		c.empty(simVolume{node: p.node, group: claim.Group}, claim.Volume)
	}
}

// grow has somebody ask for more, or for less again.
func (c *cluster) grow(t *rapid.T) {
	name := some(t, c.pvs)
	if _, orphan := c.orphans[name]; name == "" || orphan || c.pvs[name].group == disk {
		return
	}
	size := c.pvs[name].size + capacity.Bytes(rapid.Int64Range(0, 12).Draw(t, "more"))
	c.wishes[name] = size
	c.later("claim "+name, func() {
		if _, there := c.pvs[name]; there {
			c.l.Grow(name, c.wishOf(name))
		}
	})
}

// leave takes a node out of the cluster, or brings one back: with its disks, or as
// another machine of the same name.
func (c *cluster) leave(t *rapid.T) {
	node := rapid.SampledFrom(simNodes).Draw(t, "node")
	if !c.away[node] {
		c.away[node] = true
		delete(c.events, "node "+node)
		c.later("node "+node, func() { c.l.Leave(node) })
		return
	}
	c.away[node], c.heard[node] = false, nil
	if rapid.IntRange(0, 2).Draw(t, "replaced") == 0 {
		c.disks[node] = newDisks()
	}
	c.publish(node)
}

// ail puts a group in trouble, or ends that.
func (c *cluster) ail(t *rapid.T) {
	node := rapid.SampledFrom(simNodes).Draw(t, "node")
	where := node + " " + rapid.SampledFrom(simGroups).Draw(t, "group")
	c.sick[where] = !c.sick[where]
	c.publish(node)
}

func (c *cluster) hear(t *rapid.T) {
	if len(c.events) > 0 {
		c.deliver(some(t, c.events))
	}
}

func (c *cluster) hearAgain(t *rapid.T) {
	node := rapid.SampledFrom(simNodes).Draw(t, "node")
	if len(c.heard[node]) > 0 && !c.away[node] {
		c.l.Report(node, rapid.SampledFrom(c.heard[node]).Draw(t, "old news"))
	}
}

// lose drops news of a node that newer news makes up for.
func (c *cluster) lose(t *rapid.T) {
	node := "node " + rapid.SampledFrom(simNodes).Draw(t, "node")
	if len(c.events[node]) > 1 {
		c.events[node] = c.events[node][1:]
	}
}

// wait lets time pass. What is kept only for a while is kept longer than news takes.
func (c *cluster) wait(t *rapid.T) {
	c.deliverAll()
	c.now = c.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
	for _, p := range c.pods {
		p.held = false // maybe
	}
	c.timeOut()
}

// clear brings all nodes back with their disks and removes everything. Then all is free.
func (c *cluster) clear() {
	clear(c.sick)
	for _, node := range simNodes {
		c.away[node] = false
		c.publish(node)
	}
	for _, name := range slices.Sorted(maps.Keys(c.pods)) {
		if p := c.pods[name]; p.inline {
			c.endPod(p)
		} else {
			c.delete(p)
		}
	}
	for _, p := range c.pods { // they had ended, and now what they had is removed
		c.endPod(p)
	}
	for name, at := range c.snaps {
		c.empty(at, name)
	}
	for name, at := range c.orphans {
		c.empty(at, name)
		c.forgetVolume(name)
	}
	c.deliverAll()
	c.l.Expire(c.now.Add(time.Hour))
	for _, node := range simNodes {
		view := look(c.l, "", node)
		for g, free := range view.Free {
			if name := view.Groups[g].Name; free != sizeOf(name) {
				c.t.Errorf("in the end group %s of %s has %s free of %d", name, node, free, sizeOf(name))
			}
		}
	}
	if left := c.l.leftovers(); left != "" {
		c.t.Errorf("in the end there are %s", left)
	}
}

// TestWhatIsPromisedFits lets pods come, land, get their volumes and go, while the
// ledger hears of it late, in any order between objects, with reports lost and
// repeated, and is built anew at any moment. Every volume finds the room it was
// promised, and in the end all is free.
func TestWhatIsPromisedFits(t *testing.T) {
	filled, sequences, steps := 0, 0, map[string]int{}
	check := rapid.MakeCheck(func(t *rapid.T) {
		c := newCluster(t)
		does := map[string]func(*rapid.T){}
		for name, do := range map[string]func(*rapid.T){
			"filter": c.filter, "filter more": c.filter, "race": c.race, "choose": c.choose, "unselect": c.unselect, "move": c.move,
			"make": c.make, "make more": c.make, "remove": c.remove, "collect": c.collect, "end": c.end,
			"grow": c.grow, "resize": c.resize, "snapshot": c.snapshot, "work": c.work, "work more": c.work, "leave": c.leave, "ail": c.ail,
			"hear": c.hear, "hear more": c.hear, "hear again": c.hearAgain, "lose": c.lose, "wait": c.wait,
			"restart": func(*rapid.T) { c.restart() },
		} {
			does[name] = func(t *rapid.T) { do(t); steps[name]++ }
		}
		for range 4 { // a long life
			t.Repeat(does)
		}
		sequences++
		filled += c.filled
		c.clear()
	})
	for range 6 { // some of what can go wrong is rare
		t.Run("", check)
	}
	if filled == 0 {
		t.Error("no volume was ever made")
	}
	var said []string
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		said = append(said, fmt.Sprintf("%s %d", name, steps[name]))
	}
	t.Logf("%d sequences made or grew %d volumes: %s", sequences, filled, strings.Join(said, ", "))
}
