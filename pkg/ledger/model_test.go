package ledger

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// The model says the same as the ledger, slowly: it keeps what it was told in lists
// and computes what is free from all of them whenever it is asked.
type model struct {
	reports  map[string]*Report                   // by node; nil when it left
	existing map[string]map[string]modelSpot      // by node, then volume
	promises map[string]modelPromise              // by volume
	holds    map[string]modelHold                 // by pod
	seen     map[string]map[string]bool           // by node, then volume
	wishes   map[string]capacity.Bytes            // by volume
	grows    map[string]map[string]capacity.Bytes // by node, then volume: the size counted
	rooms    map[string]map[string]modelRoom      // by node, then volume
}

type modelRoom struct {
	modelSpot
	until    time.Time
	new      bool
	recalled bool
}

type modelSpot struct {
	group string
	size  capacity.Bytes
}

type modelPromise struct {
	modelSpot
	node    string
	until   time.Time
	lingers bool
}

type modelHold struct {
	claims []volume.Claim
	on     map[string][]string // by node, the groups of the claims; "" for counted ones
	until  time.Time
}

func newModel() *model {
	m := &model{
		reports:  map[string]*Report{},
		existing: map[string]map[string]modelSpot{},
		promises: map[string]modelPromise{},
		holds:    map[string]modelHold{},
		seen:     map[string]map[string]bool{},
		wishes:   map[string]capacity.Bytes{},
		grows:    map[string]map[string]capacity.Bytes{},
		rooms:    map[string]map[string]modelRoom{},
	}
	for _, node := range nodeNames {
		m.existing[node] = map[string]modelSpot{}
		m.seen[node] = map[string]bool{}
		m.grows[node] = map[string]capacity.Bytes{}
		m.rooms[node] = map[string]modelRoom{}
	}
	return m
}

// listed returns where the node's report lists the volume, and its size.
func (m *model) listed(node, name string) (spot modelSpot, ok bool) {
	if m.reports[node] == nil {
		return modelSpot{}, false
	}
	for _, g := range m.reports[node].Groups {
		for _, v := range g.Volumes {
			if v.Name == name {
				return modelSpot{g.Name, v.Size}, true
			}
		}
	}
	return modelSpot{}, false
}

// counted returns the group in which the node counts the volume, and how much of it
// is not in the listed size.
func (m *model) counted(node, name string) (spot modelSpot, ok bool) {
	listed, isListed := m.listed(node, name)
	existing, exists := m.existing[node][name]
	promise, promised := m.promises[name]
	promised = promised && promise.node == node
	room, kept := m.rooms[node][name]
	wants := max(existing.size, m.grows[node][name], room.size)
	if promised {
		wants = max(wants, promise.size)
	}
	switch {
	case isListed:
		return modelSpot{listed.group, max(0, wants-listed.size).Floor(1)}, true
	case exists:
		return modelSpot{existing.group, wants}, true
	case promised:
		return modelSpot{promise.group, wants}, true
	case kept:
		return modelSpot{room.group, wants}, true
	}
	return modelSpot{}, false
}

// keeps reports whether the volume has its place on the node.
func (m *model) keeps(node, name string) bool {
	_, counted := m.counted(node, name)
	return counted && !m.void(node, name)
}

// void reports whether the volume is only promised, where nothing may be put.
func (m *model) void(node, name string) bool {
	promise, promised := m.promises[name]
	_, listed := m.listed(node, name)
	_, exists := m.existing[node][name]
	_, kept := m.rooms[node][name]
	if !promised || promise.node != node || listed || exists || kept || m.reports[node] == nil {
		return false
	}
	g := m.group(node, promise.group)
	return !g.Managed || g.Trouble != ""
}

// names returns every volume anybody ever spoke of.
func (m *model) names() []string { return volumeNames }

// free returns what every managed group of the node has free, as the pod sees it.
func (m *model) free(node, pod string) map[string]capacity.Bytes {
	if m.reports[node] == nil {
		return nil
	}
	free := map[string]capacity.Bytes{}
	for _, g := range m.reports[node].Groups {
		if !g.Managed {
			continue
		}
		left := base(g)
		for _, name := range m.names() {
			if spot, ok := m.counted(node, name); ok && spot.group == g.Name && spot.size > 0 {
				left -= spot.size.Extents(g.Extent)
			}
		}
		for holder, h := range m.holds {
			if holder == pod {
				continue
			}
			for i, group := range h.on[node] {
				if !m.keeps(node, h.claims[i].Volume) && group == g.Name {
					left -= m.cost(node, g.Name, h.claims[i])
				}
			}
		}
		free[g.Name] = left
	}
	return free
}

// base is what a group would have free if nothing were promised.
func base(g Group) capacity.Bytes {
	left := g.Allocatable
	for _, v := range g.Volumes {
		if v.Ours {
			left -= v.Size
		}
	}
	return min(left, g.Available).Floor(g.Extent)
}

// group returns the group of that name in the node's report; managed or not.
func (m *model) group(node, name string) Group {
	if m.reports[node] != nil {
		for _, g := range m.reports[node].Groups {
			if g.Name == name {
				return g
			}
		}
	}
	return Group{Extent: extentSize}
}

func (m *model) cost(node, group string, claim volume.Claim) capacity.Bytes {
	if g := m.group(node, group); g.Kind.Whole() {
		return g.Allocatable
	}
	most := claim.Size.Extents(extentSize)
	if claim.Layout == capacity.Striped {
		for n := 2; n <= len(m.group(node, group).Disks); n++ {
			most = max(most, claim.Size.Extents(extentSize*capacity.Bytes(n)))
		}
	}
	return most
}

// lies reports whether a claim that costs no more than what is free can lie in the
// group as it wants to.
func (m *model) lies(node, group string, claim volume.Claim, free capacity.Bytes) bool {
	g := m.group(node, group)
	if g.Kind.Whole() {
		return claim.Size <= g.Allocatable
	}
	if claim.Layout != capacity.Striped {
		return true
	}
	for n := 2; n <= len(g.Disks); n++ {
		part, room := claim.Size.Extents(extentSize*capacity.Bytes(n))/capacity.Bytes(n), 0
		for _, disk := range g.Disks {
			if disk-max(0, base(g)-free) >= part {
				room++
			}
		}
		if room >= n {
			return true
		}
	}
	return false
}

func (m *model) report(node string, r Report) {
	m.reports[node] = &r
	for _, name := range m.names() {
		spot, listed := m.listed(node, name)
		promise, promised := m.promises[name]
		_, exists := m.existing[node][name]
		if room, kept := m.rooms[node][name]; kept && listed && (room.new || spot.size >= room.size) {
			m.unkeep(node, name)
		}
		_, kept := m.rooms[node][name]
		switch {
		case listed:
			m.seen[node][name] = true
			if promised && promise.node == node && promise.lingers {
				m.unpromise(name)
			}
		case promised && promise.node == node, !exists && !kept:
			delete(m.seen[node], name)
		}
	}
}

// lacks reports whether more is counted in the group of the volume than it has.
func (m *model) lacks(node, name string) bool {
	spot, _ := m.counted(node, name)
	free, managed := m.free(node, "nobody")[spot.group]
	return managed && free < 0
}

// grow tries to count the volume as large as it is wished to be.
func (m *model) grow(node, name string) {
	existing, exists := m.existing[node][name]
	if wish := m.wishes[name]; !exists || wish <= existing.size {
		delete(m.grows[node], name)
	} else if m.grows[node][name] != wish {
		m.grows[node][name] = wish
		if m.lacks(node, name) {
			delete(m.grows[node], name)
		}
	}
}

// review is what a report makes of wishes.
func (m *model) review(node string) {
	for _, name := range m.names() {
		if m.grows[node][name] > 0 && m.lacks(node, name) {
			delete(m.grows[node], name)
		}
	}
	for _, name := range m.names() {
		m.grow(node, name)
	}
}

// fulfil forgets a wish that has come true on every node where the volume exists.
func (m *model) fulfil(name string) {
	exists, open := false, false
	for _, node := range nodeNames {
		if existing, here := m.existing[node][name]; here {
			exists, open = true, open || existing.size < m.wishes[name]
		}
	}
	if m.wishes[name] == 0 || exists && !open {
		delete(m.wishes, name)
	}
}

func (m *model) leave(node string) {
	m.report(node, Report{})
	m.reports[node] = nil
}

type modelOffer struct {
	node   string
	groups []string // of the claims
}

// hold returns the refused offers.
func (m *model) hold(pod string, claims []volume.Claim, offers []modelOffer, until time.Time) (refused []int) {
	delete(m.holds, pod)
	h := modelHold{claims: claims, on: map[string][]string{}, until: until}
	for i, offer := range offers {
		free, groups, fits := m.free(offer.node, pod), []string{}, m.reports[offer.node] != nil
		for c, claim := range claims {
			if m.keeps(offer.node, claim.Volume) {
				groups = append(groups, "")
				continue
			}
			group := offer.groups[c]
			if _, there := free[group]; !there {
				fits = false
				break
			}
			before := free[group]
			free[group] -= m.cost(offer.node, group, claim)
			fits = fits && free[group] >= 0 && m.lies(offer.node, group, claim, before)
			groups = append(groups, group)
		}
		if !fits {
			refused = append(refused, i)
			continue
		}
		h.on[offer.node] = groups
	}
	if len(h.on) > 0 {
		m.holds[pod] = h
	}
	for _, claim := range claims {
		if p, ok := m.promises[claim.Volume]; ok && !p.until.IsZero() && p.until.Before(until) {
			p.until = until
			m.promises[claim.Volume] = p
		}
	}
	return refused
}

func (m *model) choose(pod, node string, until time.Time) bool {
	h, holds := m.holds[pod]
	if !holds {
		return false
	}
	delete(m.holds, pod)
	groups, here := h.on[node]
	if !here {
		return false
	}
	for i, group := range groups {
		if !m.keeps(node, h.claims[i].Volume) && group != "" {
			size := h.claims[i].Size.Extents(extentSize)
			if m.isManaged(node, group) {
				size = m.cost(node, group, h.claims[i])
			}
			m.promise(h.claims[i].Volume, modelPromise{modelSpot{group, size}, node, until, false})
		}
	}
	return true
}

func (m *model) isManaged(node, group string) bool {
	return m.group(node, group).Managed
}

func (m *model) promise(name string, p modelPromise) {
	m.unpromise(name)
	m.promises[name] = p
}

func (m *model) unpromise(name string) {
	p, ok := m.promises[name]
	delete(m.promises, name)
	if _, counted := m.counted(p.node, name); ok && !counted {
		delete(m.seen[p.node], name)
	}
}

// keep keeps room for what no claim waits for, or says what is lacking.
func (m *model) keep(want Room, until time.Time) *Lack {
	if m.reports[want.Node] == nil {
		return &Lack{Unreported: true}
	}
	if spot, listed := m.listed(want.Node, want.Volume); listed && (want.New || spot.size >= want.Size) {
		return nil
	}
	before, again := m.rooms[want.Node][want.Volume]
	asked := modelRoom{modelSpot: modelSpot{want.Group, want.Size}, until: until, new: want.New}
	if again {
		asked.group, asked.new = before.group, before.new
	}
	if before.recalled {
		delete(m.rooms[want.Node], want.Volume) // the answer is as if it were not there
	} else {
		asked.size = max(before.size, want.Size)
	}
	if before.until.After(until) {
		asked.until = before.until
	}
	free := m.free(want.Node, "nobody")
	extra := func(in string) capacity.Bytes {
		if spot, _ := m.counted(want.Node, want.Volume); spot.size > 0 {
			return spot.size.Extents(m.group(want.Node, in).Extent)
		}
		return 0
	}
	m.rooms[want.Node][want.Volume] = asked
	spot, _ := m.counted(want.Node, want.Volume)
	more := extra(spot.group)
	delete(m.rooms[want.Node], want.Volume)
	if again && !before.recalled {
		m.rooms[want.Node][want.Volume] = before
	}
	less := extra(spot.group)
	if left, managed := free[spot.group]; managed && more > less && more-less > left {
		if again {
			m.rooms[want.Node][want.Volume] = before
		}
		return &Lack{Wants: more - less, Free: max(0, left), Held: m.heldIn(want.Node, spot.group)}
	}
	asked.size = max(before.size, want.Size)
	m.rooms[want.Node][want.Volume] = asked
	return nil
}

// recall keeps room whatever is free.
func (m *model) recall(room Room, until time.Time) {
	_, kept := m.rooms[room.Node][room.Volume]
	spot, listed := m.listed(room.Node, room.Volume)
	if shown := listed && (room.New || spot.size >= room.Size); m.reports[room.Node] != nil && !kept && !shown {
		m.rooms[room.Node][room.Volume] = modelRoom{modelSpot{room.Group, room.Size}, until, room.New, true}
	}
}

// heldIn is what all pods hold of the group.
func (m *model) heldIn(node, group string) (held capacity.Bytes) {
	for _, h := range m.holds {
		for i, in := range h.on[node] {
			if !m.keeps(node, h.claims[i].Volume) && in == group {
				held += m.cost(node, group, h.claims[i])
			}
		}
	}
	return held
}

func (m *model) unkeep(node, name string) {
	delete(m.rooms[node], name)
	if _, counted := m.counted(node, name); !counted {
		delete(m.seen[node], name)
	}
}

func (m *model) expire(now time.Time) {
	for node, rooms := range m.rooms {
		for name, room := range rooms {
			if !now.Before(room.until) {
				m.unkeep(node, name)
			}
		}
	}
	maps.DeleteFunc(m.holds, func(_ string, h modelHold) bool { return !now.Before(h.until) })
	for name, p := range m.promises {
		if !p.until.IsZero() && !now.Before(p.until) {
			m.unpromise(name)
		}
	}
}

const extentSize = 4

var (
	nodeNames   = []string{"n1", "n2", "n3"}
	groupNames  = []string{"a", "b"}
	allGroups   = append([]string{"/dev/c"}, groupNames...) // with a disk that is given whole
	volumeNames = []string{"v0", "v1", "v2", "v3", "v4", "v5"}
	podNames    = []string{"p0", "p1", "p2"}
	start       = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func drawReport(t *rapid.T) Report {
	r := Report{}
	unused := slices.Clone(volumeNames)
	for _, name := range allGroups {
		if rapid.IntRange(0, 9).Draw(t, "missing") == 0 {
			continue
		}
		g := Group{
			Name:        name,
			Managed:     rapid.IntRange(0, 9).Draw(t, "managed") > 0,
			Allocatable: capacity.Bytes(rapid.Int64Range(0, 100).Draw(t, "allocatable")),
			Available:   capacity.Bytes(rapid.Int64Range(0, 100).Draw(t, "available")),
			Extent:      extentSize,
		}
		if rapid.IntRange(0, 9).Draw(t, "troubled") == 0 {
			g.Trouble = "DiskFault"
		}
		if name == allGroups[0] {
			g.Kind, g.Extent, g.Available = capacity.Device, 0, g.Allocatable
		}
		for range rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "disks") {
			g.Disks = append(g.Disks, extentSize*capacity.Bytes(rapid.Int64Range(0, 15).Draw(t, "disk")))
		}
		for range rapid.IntRange(0, 3).Draw(t, "volumes") {
			if len(unused) == 0 {
				break
			}
			at := rapid.IntRange(0, len(unused)-1).Draw(t, "volume")
			g.Volumes = append(g.Volumes, Volume{
				Name: unused[at],
				Size: extentSize * capacity.Bytes(rapid.Int64Range(1, 8).Draw(t, "size")),
				Ours: rapid.Bool().Draw(t, "ours"),
			})
			unused = slices.Delete(unused, at, at+1)
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

func drawClaims(t *rapid.T) []volume.Claim {
	var claims []volume.Claim
	for _, name := range volumeNames {
		if rapid.IntRange(0, 2).Draw(t, "claimed") == 0 {
			claims = append(claims, volume.Claim{
				Volume: name,
				Size:   capacity.Bytes(rapid.Int64Range(1, 30).Draw(t, "wants")),
				Kind:   rapid.SampledFrom([]capacity.Kind{capacity.Cut, capacity.Cut, capacity.Device}).Draw(t, "kind"),
				Layout: rapid.SampledFrom([]capacity.Layout{capacity.Linear, capacity.Linear, capacity.Striped}).Draw(t, "layout"),
			})
		}
	}
	return claims
}

// drawOffer draws a place for every claim; whether they fit there is another matter.
func drawOffer(t *rapid.T, l *Ledger, node string, claims []volume.Claim) (Offer, modelOffer) {
	m := modelOffer{node: node}
	for range claims {
		m.groups = append(m.groups, rapid.SampledFrom(allGroups).Draw(t, "spot"))
	}
	return offer(l, node, m.groups...), m
}

// A sight is what some pod saw of the nodes a while ago, and where it fitted then.
type sight struct {
	views  Views
	claims []volume.Claim
	offers []Offer
	model  []modelOffer
}

// see looks at all nodes and finds places for claims that are counted nowhere.
func see(l *Ledger, m *model, pod string, claims []volume.Claim) *sight {
	s := &sight{}
	for _, claim := range claims {
		if !slices.ContainsFunc(nodeNames, func(on string) bool { _, counted := m.counted(on, claim.Volume); return counted }) {
			s.claims = append(s.claims, claim)
		}
	}
	l.See(pod, nodeNames, &s.views)
	planner := allocator.NewPlanner(s.claims, allocator.Binpack)
	for i, node := range nodeNames {
		view := s.views.At(i)
		places, err := planner.Fit(view.Groups, view.Free, nil)
		if err != nil || !view.Reported || len(s.claims) == 0 {
			continue
		}
		o := modelOffer{node: node}
		for _, at := range places {
			o.groups = append(o.groups, view.Groups[at].Name)
		}
		s.offers, s.model = append(s.offers, view.Offer(places)), append(s.model, o)
	}
	return s
}

// TestTheLedgerAgreesWithAnObviousOne does anything in any order, any number of times,
// and asks after each step what every pod sees of every node.
func TestTheLedgerAgreesWithAnObviousOne(t *testing.T) {
	sequences, steps := 0, 0
	check := rapid.MakeCheck(func(t *rapid.T) {
		sequences++
		l, m, now, sights := New(), newModel(), start, map[string]*sight{}
		node := func() string { return rapid.SampledFrom(nodeNames).Draw(t, "node") }
		pod := func() string { return rapid.SampledFrom(podNames).Draw(t, "pod") }
		name := func() string { return rapid.SampledFrom(volumeNames).Draw(t, "name") }
		group := func() string { return rapid.SampledFrom(allGroups).Draw(t, "group") }
		soon := func() time.Time {
			return now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second)
		}
		same := func(what string, got, want any) {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s (-model +ledger):\n%s", what, diff)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				on, r := node(), drawReport(t)
				same("first", l.Report(on, r), m.reports[on] == nil)
				m.report(on, r)
				m.review(on)
			},
			"grow": func(t *rapid.T) {
				what, size := name(), capacity.Bytes(rapid.Int64Range(0, 40).Draw(t, "wish"))
				l.Grow(what, size)
				m.wishes[what] = size
				for _, on := range nodeNames {
					m.grow(on, what)
				}
				m.fulfil(what)
			},
			"keep": func(t *rapid.T) {
				want, until := Room{Volume: name(), Node: node(), Group: group(), New: rapid.Bool().Draw(t, "new")}, soon()
				want.Size = capacity.Bytes(rapid.Int64Range(1, 40).Draw(t, "wants"))
				same("lacking", l.Keep(want, until), m.keep(want, until))
			},
			"recall": func(t *rapid.T) {
				room, until := Room{Volume: name(), Node: node(), Group: group(), New: rapid.Bool().Draw(t, "new")}, soon()
				room.Size = capacity.Bytes(rapid.Int64Range(1, 40).Draw(t, "wants"))
				l.Recall(room, until)
				m.recall(room, until)
			},
			"unkeep": func(*rapid.T) { what, on := name(), node(); l.Unkeep(what, on); m.unkeep(on, what) },
			"leave":  func(*rapid.T) { on := node(); l.Leave(on); m.leave(on) },
			"hold": func(t *rapid.T) {
				who, claims, until := pod(), drawClaims(t), soon()
				var offers []Offer
				var alikes []modelOffer
				for _, on := range nodeNames {
					if len(claims) > 0 && m.reports[on] != nil && rapid.Bool().Draw(t, "offered") {
						o, alike := drawOffer(t, l, on, claims)
						offers, alikes = append(offers, o), append(alikes, alike)
					}
				}
				same("refused", l.Hold(who, claims, offers, until), m.hold(who, claims, alikes, until))
			},
			"look": func(t *rapid.T) {
				who := pod()
				sights[who] = see(l, m, who, drawClaims(t))
			},
			"hold what was seen": func(*rapid.T) {
				who, until := pod(), soon()
				if s := sights[who]; s != nil {
					same("refused", l.Hold(who, s.claims, s.offers, until), m.hold(who, s.claims, s.model, until))
				}
			},
			"release": func(*rapid.T) { who := pod(); l.Release(who); delete(m.holds, who) },
			"narrow": func(*rapid.T) {
				who, to := pod(), node()
				l.Narrow(who, []string{to})
				if h := m.holds[who]; len(h.on) > 1 {
					maps.DeleteFunc(h.on, func(on string, _ []string) bool { return on != to })
					if len(h.on) == 0 {
						delete(m.holds, who)
					}
				}
			},
			"choose": func(*rapid.T) {
				who, on, until := pod(), node(), soon()
				same("chosen", l.ChooseForPod(who, on, until), m.choose(who, on, until))
			},
			"promise": func(t *rapid.T) {
				who, on, claims, until := pod(), node(), drawClaims(t), soon()
				o, offer := drawOffer(t, l, on, claims)
				before := m.holds[who]
				promised := l.Promise(who, claims, o, until)
				refused := len(m.hold(who, claims, []modelOffer{offer}, start)) > 0 || (len(claims) == 0 && m.reports[on] == nil)
				same("promised", promised, !refused)
				delete(m.holds, who)
				if refused {
					if before.on != nil {
						m.holds[who] = before
					}
					return
				}
				for i, claim := range claims {
					if !m.keeps(on, claim.Volume) {
						m.promise(claim.Volume, modelPromise{modelSpot{offer.groups[i], m.cost(on, offer.groups[i], claim)}, on, until, false})
					}
				}
			},
			"confirm": func(*rapid.T) {
				what, on := name(), node()
				p, ok := m.promises[what]
				confirmed := ok && p.node == on && !m.void(on, what)
				same("confirmed", l.Confirm(what, on), confirmed)
				if confirmed {
					p.until, p.lingers = time.Time{}, false
					m.promises[what] = p
				}
			},
			"forget": func(*rapid.T) { what := name(); l.Forget(what); m.unpromise(what) },
			"linger": func(*rapid.T) {
				what, until := name(), soon()
				l.Linger(what, until)
				if p, ok := m.promises[what]; ok && m.seen[p.node][what] {
					m.unpromise(what)
				} else if ok {
					p.until, p.lingers = until, true
					m.promises[what] = p
				}
			},
			"exists": func(t *rapid.T) {
				what, on, spot := name(), node(), modelSpot{group(), capacity.Bytes(rapid.Int64Range(1, 30).Draw(t, "size"))}
				l.Exists(what, on, capacity.Spot{Group: spot.group, Size: spot.size})
				m.existing[on][what] = spot
				m.unpromise(what)
				m.grow(on, what)
				m.fulfil(what)
			},
			"gone": func(*rapid.T) {
				what, on, until := name(), node(), soon()
				l.Gone(what, on, until)
				spot, ok := m.existing[on][what]
				spot.size = max(spot.size, m.grows[on][what])
				delete(m.grows[on], what)
				seen := m.seen[on][what]
				delete(m.existing[on], what)
				if ok && !seen {
					m.promise(what, modelPromise{spot, on, until, true})
				}
				if _, counted := m.counted(on, what); !counted {
					delete(m.seen[on], what)
				}
			},
			"expire": func(*rapid.T) { now = soon(); l.Expire(now); m.expire(now) },
			"": func(*rapid.T) {
				steps++
				var views Views
				for _, who := range append(podNames, "nobody") {
					l.See(who, nodeNames, &views)
					for i, on := range nodeNames {
						same(fmt.Sprintf("what %s sees of %s", who, on), freeOf(views.At(i)), atLeastNothing(m.free(on, who)))
					}
				}
				for _, what := range volumeNames {
					place, counted := l.Where(what)
					if _, ok := m.counted(place.Node, what); ok != counted {
						t.Fatalf("%s is counted: %t, but the model says %t", what, counted, ok)
					}
					if spot, _ := m.counted(place.Node, what); spot.group != place.Group {
						t.Fatalf("%s is in %q, but the model says %q", what, place.Group, spot.group)
					}
					if void := m.void(place.Node, what); void != place.Void {
						t.Fatalf("the place of %s is void: %t, but the model says %t", what, place.Void, void)
					}
				}
			},
		})
	})
	for range 6 { // some of what can go wrong is rare
		t.Run("", check)
	}
	t.Logf("%d sequences of %d events", sequences, steps)
}

func freeOf(view View) map[string]capacity.Bytes {
	if !view.Reported {
		return nil
	}
	free := map[string]capacity.Bytes{}
	for i, g := range view.Groups {
		free[g.Name] = view.Free[i]
	}
	return free
}

func atLeastNothing(free map[string]capacity.Bytes) map[string]capacity.Bytes {
	for name := range free {
		free[name] = max(0, free[name])
	}
	return free
}
