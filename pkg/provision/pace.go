package provision

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/capacity"
)

const (
	// maxCopies is how many volumes are copied at once. Two keep the disks of a node
	// busy; more would only make each other slow, and all else on these disks.
	maxCopies = 2
	// paceEvery is how often a copy logs how far it is.
	paceEvery = 5 * time.Second
)

// say is how long work tells what it is at, for others who ask. What it is given is
// called by them at any time.
type say func(status func() string)

// turns lets maxCopies copies be made at once. Its zero value is ready.
type turns struct {
	once sync.Once
	busy chan struct{} // holds one element per copy
}

// begin waits for a turn. What it returns ends it.
func (t *turns) begin(ctx context.Context, say say) (end func(), err error) {
	t.once.Do(func() { t.busy = make(chan struct{}, maxCopies) })
	say(func() string { return fmt.Sprintf("waiting until fewer than %d other volumes are copied", maxCopies) })
	select {
	case t.busy <- struct{}{}:
		return func() { <-t.busy }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a turn to copy: %w", context.Cause(ctx))
	}
}

// pace is how far a copy is. Its methods may be called from any goroutine.
type pace struct {
	clock clock.PassiveClock
	began time.Time

	mu          sync.Mutex // guards what follows
	done, total capacity.Bytes
	at, logged  time.Time
}

func newPace(c clock.PassiveClock) *pace {
	now := c.Now()
	return &pace{clock: c, began: now, at: now, logged: now}
}

// step takes in how much is done, and reports whether it is time to log that.
func (p *pace) step(done, total capacity.Bytes) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total, p.at = done, total, p.clock.Now()
	if p.at.Sub(p.logged) < paceEvery {
		return false
	}
	p.logged = p.at
	return true
}

func (p *pace) elapsed() time.Duration { return p.clock.Since(p.began) }

// String reads "copied 3.1Gi of 20Gi (15 %), 480Mi/s".
func (p *pace) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	percent, rate := 0.0, capacity.Bytes(0)
	if p.total > 0 {
		percent = 100 * float64(p.done) / float64(p.total)
	}
	if took := p.at.Sub(p.began).Seconds(); took > 0 {
		rate = capacity.Bytes(float64(p.done) / took)
	}
	return fmt.Sprintf("copied %s of %s (%.0f %%), %s/s", about(p.done), about(p.total), percent, about(rate))
}

// about writes a size with two or three digits.
func about(b capacity.Bytes) string {
	for _, unit := range []struct {
		size capacity.Bytes
		name string
	}{{capacity.TiB, "Ti"}, {capacity.GiB, "Gi"}, {capacity.MiB, "Mi"}, {capacity.KiB, "Ki"}} {
		value := float64(b) / float64(unit.size)
		switch {
		case value >= 10, value >= 1 && b%unit.size == 0:
			return fmt.Sprintf("%.0f%s", value, unit.name)
		case value >= 1:
			return fmt.Sprintf("%.1f%s", value, unit.name)
		}
	}
	return fmt.Sprint(int64(b))
}
