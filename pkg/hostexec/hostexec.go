// Package hostexec runs the host's own programs to completion. It is the only
// door from this project to the operating system's programs: no other package
// imports os/exec, and nothing here starts a shell. It refuses to know what a
// program does or why it is run.
package hostexec

import (
	"context"
	"fmt"
	"strings"
)

// Runner runs one program to completion and returns what it printed to its
// standard output. A program that exits non-zero is always an *ExitError; output
// is never returned with an error.
type Runner interface {
	Run(ctx context.Context, name string, args ...string) ([]byte, error)
}

// RunnerFunc is a function that is a Runner.
type RunnerFunc func(ctx context.Context, name string, args ...string) ([]byte, error)

// Run calls f.
func (f RunnerFunc) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return f(ctx, name, args...)
}

// ExitError is a program that ran and failed. It is always used by pointer.
type ExitError struct {
	Name   string
	Args   []string
	Code   int    // exit status; -1 when a signal ended the program
	Stderr string // what the program said, at most maxStderr bytes of it
}

// Error reads "lvm vgextend share /dev/sdb: exit 5: what it said on one line".
func (e *ExitError) Error() string {
	status := fmt.Sprintf("exit %d", e.Code)
	if e.Code < 0 {
		status = "ended by a signal"
	}
	text := commandLine(e.Name, e.Args) + ": " + status
	if said := strings.Join(strings.Fields(e.Stderr), " "); said != "" {
		text += ": " + said
	}
	return text
}

// maxCommandLine bounds a command line in a message: a report names forty columns.
const maxCommandLine = 200

// commandLine writes a command as a person would type it, for messages only.
func commandLine(name string, args []string) string {
	line := strings.Join(append([]string{name}, args...), " ")
	if len(line) > maxCommandLine {
		line = strings.ToValidUTF8(line[:maxCommandLine], "") + "..."
	}
	return line
}
