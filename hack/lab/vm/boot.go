package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/open-local/open-local/hack/lab/guest"
	"github.com/open-local/open-local/hack/lab/pulse"
	"github.com/open-local/open-local/hack/lab/wire"
)

// Streams are those of the command in a machine. Stdin nil is an empty input.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// CrashError says that the machine ended before its command did.
type CrashError struct {
	Err     error    // how the kernel's process ended
	Console []string // the last lines of the machine's console
}

// Error shows the end of the console, because nothing else tells what happened.
func (e *CrashError) Error() string {
	return fmt.Sprintf("the machine stopped before the command ended (%v); its console ends with:\n\t%s", e.Err, strings.Join(e.Console, "\n\t"))
}

// Unwrap returns how the kernel's process ended.
func (e *CrashError) Unwrap() error { return e.Err }

// Boot starts a machine that has a job or a seed to do and returns the exit code
// of that. It runs in a process namespace of its own, so that ending the first
// process ends all, as happens when ctx or this process does.
func Boot(ctx context.Context, k Kernel, streams Streams) (int, error) {
	line, err := openLine()
	if err != nil {
		return 0, err
	}
	defer line.close()
	k.SerialIn, k.SerialOut = line.farIn, line.farOut
	if err := os.Remove(k.Console()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("clearing the console: %w", err)
	}
	cmd, err := k.Start(func(cmd *exec.Cmd) { Contain(cmd, k.Init, line.lifeline) })
	if err != nil {
		return 0, fmt.Errorf("%w (does this system allow new process namespaces?)", err)
	}
	line.closeFar()
	ended, over := make(chan error, 1), make(chan struct{})
	go func() { ended <- cmd.Wait(); close(over); line.closeFar() }()
	go pulse.Keep(cmd.Process.Pid, over)
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()

	conn := wire.New(line.nearOut, line.nearIn)
	result, lost := follow(conn, streams)
	if lost != nil {
		_ = cmd.Process.Kill()
	}
	err = <-ended
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case lost != nil:
		return 0, &CrashError{Err: errors.Join(lost, err), Console: Tail(k.Console(), 25)}
	case result.Error != "":
		return result.Code, errors.New(result.Error)
	}
	return result.Code, nil
}

// Contain makes cmd run below reaper in a new process namespace. When lifeline
// is not nil, the whole namespace ends when the lifeline's other end closes.
func Contain(cmd *exec.Cmd, reaper string, lifeline *os.File) {
	cmd.Args = append([]string{reaper, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = reaper
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("%s=%d", guest.FilesVariable, 3+len(cmd.ExtraFiles)))
	if lifeline != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, lifeline)
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", guest.LifelineVariable, 2+len(cmd.ExtraFiles)))
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
}

func follow(conn *wire.Conn, streams Streams) (wire.Result, error) {
	if err := conn.AwaitReady(); err != nil {
		return wire.Result{}, err
	}
	go func() { _ = conn.SendInput(streams.Stdin) }() // the machine may be gone: then Receive tells
	return conn.Receive(streams.Stdout, streams.Stderr)
}

// Tail returns the last lines of a file, as far as there are any.
func Tail(file string, lines int) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	all := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(data), "\r", "")), "\n")
	return all[max(0, len(all)-lines):]
}
