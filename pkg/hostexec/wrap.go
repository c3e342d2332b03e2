package hostexec

import (
	"context"
	"maps"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// Logged returns a Runner that logs every run of r at V(4), with how long it took
// and how it ended. Errors are returned, so they are not logged as errors here.
func Logged(r Runner) Runner {
	return RunnerFunc(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		start := time.Now()
		out, err := r.Run(ctx, name, args...)
		klog.FromContext(ctx).V(4).Info("Ran a host program",
			"command", commandLine(name, args), "duration", time.Since(start), "outputBytes", len(out), "err", err)
		return out, err
	})
}

// A Counter is a Runner that counts the runs of another by program, so that a
// test can hold an operation to its budget of processes. The commands of lvm
// count apart: "lvm lvcreate". Its methods may be called from any goroutine.
type Counter struct {
	runner Runner

	mu   sync.Mutex     // guards runs
	runs map[string]int // by program
}

// NewCounter returns a Counter in front of r.
func NewCounter(r Runner) *Counter {
	return &Counter{runner: r, runs: map[string]int{}}
}

// Run counts the program and runs it.
func (c *Counter) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	program := name
	if name == "lvm" && len(args) > 0 {
		program += " " + args[0]
	}
	c.mu.Lock()
	c.runs[program]++
	c.mu.Unlock()
	return c.runner.Run(ctx, name, args...)
}

// Runs returns how often each program was started since the last Reset.
func (c *Counter) Runs() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.runs)
}

// Total returns how many programs were started since the last Reset.
func (c *Counter) Total() int {
	total := 0
	for _, n := range c.Runs() {
		total += n
	}
	return total
}

// Reset starts counting anew.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.runs)
}
