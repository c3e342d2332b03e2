package agent

import "time"

// A pace turns a storm of events into few looks: it is due when no event has come
// for quiet, or when the first of those waiting has waited for most.
type pace struct {
	quiet, most time.Duration

	first, last time.Time // of the events since the last take; zero without any
}

// event notes that something happened.
func (p *pace) event(now time.Time) {
	if p.first.IsZero() {
		p.first = now
	}
	p.last = now
}

// due returns when the waiting events have waited enough, or false without any.
func (p *pace) due() (time.Time, bool) {
	if p.first.IsZero() {
		return time.Time{}, false
	}
	return earlier(p.last.Add(p.quiet), p.first.Add(p.most)), true
}

// take forgets the waiting events: a look will see what they were about.
func (p *pace) take() { p.first, p.last = time.Time{}, time.Time{} }

// A backoff spaces the repetitions of something that fails.
type backoff struct {
	shortest, longest time.Duration

	step  time.Duration
	until time.Time // zero while all is well
}

func (b *backoff) failed(now time.Time) {
	b.step = min(max(b.shortest, 2*b.step), b.longest)
	b.until = now.Add(b.step)
}

func (b *backoff) succeeded() { b.step, b.until = 0, time.Time{} }

// waits reports whether it is too early to try again.
func (b *backoff) waits(now time.Time) bool { return now.Before(b.until) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
