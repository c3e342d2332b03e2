package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// pause is the time between the end of a program and its next start.
const pause = time.Second

// A component is one program of the control plane. It is started again whenever
// it ends.
type component struct {
	name string
	argv []string
	log  *slog.Logger

	mu       sync.Mutex // guards the fields below
	process  *os.Process
	restarts int
}

// run keeps the program running until ctx ends.
func (c *component) run(ctx context.Context, logs string) error {
	file, err := os.OpenFile(filepath.Join(logs, c.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", c.name, err)
	}
	defer file.Close()
	for {
		err := c.once(ctx, file)
		if ctx.Err() != nil {
			return nil
		}
		c.log.Warn("A program of the control plane ended and is started again", "program", c.name, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (c *component) once(ctx context.Context, log *os.File) error {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	c.mu.Lock()
	c.process = cmd.Process
	c.mu.Unlock()
	err := cmd.Wait()
	c.mu.Lock()
	c.process = nil
	c.restarts++
	c.mu.Unlock()
	return err
}

// restart kills the program, so that it starts afresh.
func (c *component) restart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil // about to start anyway
	}
	return c.process.Kill()
}

func (c *component) status() Component {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Component{Name: c.name, Running: c.process != nil, Restarts: c.restarts}
}
