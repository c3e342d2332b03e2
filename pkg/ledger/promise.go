package ledger

import (
	"time"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// Choose makes promises of what is held together with the volume, by whichever pods:
// its claim shows that they land on the node. It returns false when no hold had the
// volume there; any hold that had it elsewhere is ended all the same. The promises
// end at until unless Confirm comes first: all that is known is that one of the
// claims has made its choice.
func (l *Ledger) Choose(name, nodeName string, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	chosen := false
	for _, h := range l.holds {
		for i := range h.claims {
			if h.claims[i].Volume == name {
				chosen = l.choose(h, nodeName, until) || chosen
				break
			}
		}
	}
	return chosen
}

// ChooseForPod makes promises on the node of what the pod holds: it has landed there.
// It returns false when the pod held nothing on the node.
func (l *Ledger) ChooseForPod(pod, nodeName string, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.holds[pod]
	return h != nil && l.choose(h, nodeName, until)
}

// choose ends the hold in favour of promises on the node. l.mu is held.
func (l *Ledger) choose(h *hold, nodeName string, until time.Time) bool {
	n, known := l.nodes[nodeName]
	var ref heldAt
	if known {
		ref, known = h.on(n)
	}
	l.release(h)
	if !known {
		return false
	}
	for i, id := range ref.spots() {
		if n.keeps(h.claims[i].Volume) || id == noGroup || h.claims[i].TakesNothing() {
			continue
		}
		spot := promised{id: id, size: h.claims[i].Size}
		if at := n.index(id); at >= 0 {
			spot.size = cost(&h.claims[i], &n.shape.groups[at])
		}
		l.promise(l.node(nodeName), h.claims[i].Volume, spot, until)
	}
	l.recount(n)
	return true
}

// promised is where a volume is promised.
type promised struct {
	id   groupID
	size capacity.Bytes
}

// promise promises the volume on n and nowhere else. The caller recounts n.
func (l *Ledger) promise(n *node, name string, spot promised, until time.Time) {
	if before := l.promises[name]; before != nil && before != n {
		l.unpromise(name)
	}
	e := n.volumes[name]
	if e.promised > 0 && e.promisedIn != spot.id && l.making[name].node == n.name {
		l.keepFormer(n, name, e, until)
	}
	e.promised, e.promisedIn = max(1, spot.size), spot.id
	l.set(n, name, e)
	l.promises[name] = n
	l.setDeadline(name, until)
}

// keepFormer keeps room where the volume was promised until now, because n was told of that
// and may be making it there still. No logical volume has a name with spaces.
func (l *Ledger) keepFormer(n *node, name string, was entry, until time.Time) {
	group := l.names.names[was.promisedIn]
	l.keep(n, Room{Volume: name + " in " + group, Node: n.name, Group: group, Size: was.promised, New: true}, kept{}, until)
}

// unpromise ends the promise of the volume, if there is one. l.mu is held.
func (l *Ledger) unpromise(name string) {
	n, promised := l.promises[name]
	if !promised {
		return
	}
	l.endPromise(name)
	l.set(n, name, l.unpromised(n, name, n.volumes[name]))
	l.recount(n)
	l.drop(n)
	l.ring()
}

// endPromise forgets that there was a promise of the volume.
func (l *Ledger) endPromise(name string) {
	delete(l.promises, name)
	delete(l.deadlines, name)
	delete(l.lingers, name)
}

// Promise promises the claims' places on the node, which the pod then no longer holds
// anywhere. It returns false, and changes nothing, when the node has changed since it
// was seen and they do not all fit now. A claim that is counted there already keeps
// the place it has, unless that is void.
func (l *Ledger) Promise(pod string, claims []volume.Claim, offer Offer, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.offered(&offer)
	if n == nil {
		return false
	}
	places, room := l.room(n, l.holds[pod], claims, &offer)
	if !room {
		return false
	}
	l.release(l.holds[pod])
	for i := range claims {
		if at := places[i]; at >= 0 && !claims[i].TakesNothing() {
			l.promise(n, claims[i].Volume, promised{id: n.shape.ids[at], size: cost(&claims[i], &n.shape.groups[at])}, until)
		}
	}
	l.recount(n)
	return true
}

// room returns where those claims go that have no place on n yet, and false when it has
// no room for them there even if what the hold has on n is given back.
func (l *Ledger) room(n *node, own *hold, claims []volume.Claim, offer *Offer) ([]capacity.Position, bool) {
	left := make([]capacity.Bytes, len(n.sums))
	for i := range n.sums {
		left[i] = n.sums[i].raw()
	}
	if ref, held := own.on(n); held {
		ref.giveBack(n, l.priced(own.claims), left, nil)
	}
	places := make([]capacity.Position, len(claims))
	for i := range claims {
		if places[i] = capacity.Nowhere; n.keeps(claims[i].Volume) {
			continue
		}
		at := offer.place(n, i)
		if at < 0 {
			return nil, false
		}
		g := &n.shape.groups[at]
		if !fits(&claims[i], g, left[at]) {
			return nil, false
		}
		left[at] -= cost(&claims[i], g)
		places[i] = at
	}
	return places, true
}

// Confirm makes the promise of the volume on the node last until it is forgotten: its
// claim shows the node. It returns false when there is no such promise, or it is void.
func (l *Ledger) Confirm(name, nodeName string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.promises[name]
	if n == nil || n.name != nodeName || n.void(n.volumes[name]) {
		return false
	}
	l.setDeadline(name, time.Time{})
	return true
}

// Forget ends the promise of the volume: its claim has left the node, and nobody is
// making the volume.
func (l *Ledger) Forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unpromise(name)
}

// Linger ends the promise of the volume at the latest by then, because its claim is
// gone, and as soon as the reports can tell: at once when one has named the volume, or
// when one does.
func (l *Ledger) Linger(name string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.linger(name, until)
}

// linger is Linger; l.mu is held.
func (l *Ledger) linger(name string, until time.Time) {
	n := l.promises[name]
	if n == nil {
		return
	}
	if n.volumes[name].seen {
		l.unpromise(name)
		return
	}
	l.setDeadline(name, until)
	l.lingers[name] = true
}

// Exists says that the volume lies on the node: a PersistentVolume or a running pod
// says so. That ends the promise of it.
func (l *Ledger) Exists(name, nodeName string, spot capacity.Spot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(nodeName)
	e := n.volumes[name]
	size, key := max(1, spot.Size), grower{n, name}
	e.existing, e.existingIn = size, l.names.id(spot.Group)
	if g, grows := l.grows[key]; grows && g.to > size {
		e.existing, l.grows[key] = g.to, growth{was: size, to: g.to}
	} else {
		delete(l.grows, key)
	}
	l.set(n, name, e)
	l.unpromise(name)
	l.recount(n)
	l.regrow(n, name)
	l.fulfil(name)
	l.ring()
}

// Gone says that what made the volume exist on the node is gone. It lingers as a
// promise until then, unless the reports can tell as with Linger.
func (l *Ledger) Gone(name, nodeName string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, known := l.nodes[nodeName]
	if !known || n.volumes[name].existing == 0 {
		return
	}
	e := n.volumes[name]
	spot := promised{id: e.existingIn, size: e.existing}
	e.existing = 0
	delete(l.grows, grower{n, name})
	if e.seen {
		l.set(n, name, e)
	} else {
		n.volumes[name] = e
		l.promise(n, name, spot, until)
		l.lingers[name] = true
	}
	l.recount(n)
	l.drop(n)
	l.ring()
}

// setDeadline says when the promise of the volume ends; the zero time is never.
func (l *Ledger) setDeadline(name string, until time.Time) {
	delete(l.lingers, name)
	if until.IsZero() {
		delete(l.deadlines, name)
		return
	}
	l.deadlines[name] = until
	l.due(until)
}

// due makes sure that Expire looks again by then.
func (l *Ledger) due(until time.Time) {
	if l.next.IsZero() || until.Before(l.next) {
		l.next = until
	}
}

// Expire ends the holds, promises and rooms whose time has come. It returns when to call
// again at the earliest, which is zero when nothing waits to expire.
func (l *Ledger) Expire(now time.Time) (next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next.IsZero() || now.Before(l.next) {
		return l.next
	}
	l.next = time.Time{}
	for _, h := range l.holds {
		if !now.Before(h.until) {
			l.expired.Holds++
			l.release(h)
		} else {
			l.due(h.until)
		}
	}
	for name, until := range l.deadlines {
		if !now.Before(until) {
			if l.lingers[name] {
				l.expired.Lingered++
			} else {
				l.expired.Promises++
			}
			l.unpromise(name)
		} else {
			l.due(until)
		}
	}
	for key, room := range l.rooms {
		if !now.Before(room.until) {
			l.expired.Rooms++
			l.unkeep(key)
		} else {
			l.due(room.until)
		}
	}
	return l.next
}
