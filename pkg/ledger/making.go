package ledger

import "time"

// Making says that somebody makes the volume on the node: its place there was asked for.
// That is the newest news there is of its claim.
func (l *Ledger) Making(name, nodeName string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.making[name] = nodeName
}

// Made says that nobody makes the volume any more: its claim has it, or is gone.
func (l *Ledger) Made(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.making, name)
}

// OldNews reports whether the volume is being made on another node than its claim is
// heard to show, be it none. Whoever tells lags behind whoever has it made, so the place
// is not moved, which only asking for another one does. It is kept until then: perhaps it
// was given up.
func (l *Ledger) OldNews(name, selected string, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	making, asked := l.making[name]
	if !asked || making == selected {
		return false
	}
	l.linger(name, until)
	return true
}
