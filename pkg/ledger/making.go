package ledger

import "time"

// An attempt is that somebody makes a volume on a node.
type attempt struct {
	node string // its name
	id   string // told by who asked for the place
}

// Making says that somebody makes the volume on the node: its place there was asked for
// in that attempt. That is the newest news there is of its claim.
func (l *Ledger) Making(name, nodeName, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.making[name] = attempt{nodeName, id}
}

// Made says that nobody makes the volume any more: its claim has it, or is gone.
func (l *Ledger) Made(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.making, name)
}

// Refused says that in that attempt the node refused to make the volume, and is at it no
// more. That ends the promise of it there. It returns false, and changes nothing, when the
// place was asked for again since: perhaps the volume is being made.
func (l *Ledger) Refused(name, nodeName, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, is := l.making[name]; !is || last != (attempt{nodeName, id}) {
		return false
	}
	delete(l.making, name)
	if n := l.promises[name]; n != nil && n.name == nodeName {
		l.unpromise(name)
	}
	return true
}

// OldNews reports whether the volume is being made on another node than its claim is
// heard to show, be it none. Whoever tells lags behind whoever has it made, so the place
// is not moved, which only asking for another one does. It is kept until then: perhaps it
// was given up.
func (l *Ledger) OldNews(name, selected string, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	making, asked := l.making[name]
	if !asked || making.node == selected {
		return false
	}
	l.linger(name, until)
	return true
}
