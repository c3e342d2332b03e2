package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Run runs the command, passing its outputs to c and input and signals from c,
// and returns how it ended. It does not write the Exit frame, so that the
// caller can tidy up before it says that all is over.
func Run(ctx context.Context, c *Conn, command Command) Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, err := prepare(ctx, command)
	if err != nil {
		return Result{Code: 126, Error: err.Error()}
	}
	cmd.Stdout, cmd.Stderr = c.Output(Stdout), c.Output(Stderr)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return Result{Code: 126, Error: fmt.Sprintf("making an input for %s: %v", command.Argv[0], err)}
	}
	if err := cmd.Start(); err != nil {
		code := 126
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, syscall.ENOENT) {
			code = 127
		}
		return Result{Code: code, Error: fmt.Sprintf("starting %s: %v", command.Argv[0], err)}
	}
	go func() {
		feed(c, cmd, stdin)
		cancel() // nobody is there to see the rest
	}()
	return resultOf(cmd.Wait())
}

func prepare(ctx context.Context, command Command) (*exec.Cmd, error) {
	if len(command.Argv) == 0 {
		return nil, errors.New("no command given")
	}
	cmd := exec.CommandContext(ctx, command.Argv[0], command.Argv[1:]...)
	cmd.Dir, cmd.Env = command.Dir, command.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A grandchild that keeps the outputs open must not keep us.
	cmd.WaitDelay = 2 * time.Second
	return cmd, nil
}

// feed passes input and signals to the command until the stream ends.
func feed(c *Conn, cmd *exec.Cmd, stdin io.WriteCloser) {
	defer stdin.Close()
	for {
		kind, payload, err := c.Read()
		switch {
		case err != nil:
			return
		case kind == Stdin && len(payload) == 0:
			stdin.Close()
		case kind == Stdin:
			_, _ = stdin.Write(payload) // a command need not read its input
			if c.Write(Taken, nil) != nil {
				return
			}
		case kind == Signal && len(payload) == 1:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.Signal(payload[0]))
		}
	}
}

func resultOf(err error) Result {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return Result{}
	case !errors.As(err, &exit):
		return Result{Code: 126, Error: err.Error()}
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return Result{Code: 128 + int(status.Signal())}
	}
	return Result{Code: exit.ExitCode()}
}

// Request reads the Start frame that opens a request.
func (c *Conn) Request() (Command, error) {
	kind, payload, err := c.Read()
	if err != nil {
		return Command{}, fmt.Errorf("reading a request: %w", err)
	}
	if kind != Start {
		return Command{}, fmt.Errorf("request opens with a frame of kind %d, not %d", kind, Start)
	}
	var command Command
	if err := json.Unmarshal(payload, &command); err != nil {
		return Command{}, fmt.Errorf("decoding a request: %w", err)
	}
	return command, nil
}
