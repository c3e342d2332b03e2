package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A demo is a person at a terminal.
type demo struct {
	lab   string // the lab's program
	dir   string // the lab's state
	image string
	keep  bool
	free  string // the groups before anything was asked of them
}

func (d *demo) chapter(title string, since time.Duration) {
	fmt.Printf("\n━━ %s ━━ (%.0f s)\n\n", title, since.Seconds())
}

func (d *demo) say(text string) { fmt.Printf("# %s\n\n", text) }

// show types a command and lets its output be seen.
func (d *demo) show(ctx context.Context, command ...string) error {
	return d.showTo(ctx, os.Stdout, command...)
}

func (d *demo) showTo(ctx context.Context, out io.Writer, command ...string) error {
	fmt.Printf("$ %s\n", typed(command))
	err := d.execute(ctx, out, command)
	fmt.Println()
	return err
}

// ask runs a command for its answer.
func (d *demo) ask(ctx context.Context, command ...string) (string, error) {
	var out bytes.Buffer
	err := d.execute(ctx, &out, command)
	return out.String(), err
}

// gonePatience is how long something may take to go.
const gonePatience = time.Minute

// gone waits until a command lists nothing, and types it then.
func (d *demo) gone(ctx context.Context, command ...string) error {
	deadline := time.Now().Add(gonePatience)
	for {
		left, err := d.ask(ctx, command...)
		switch {
		case err != nil:
			return err
		case strings.TrimSpace(left) == "":
			return d.show(ctx, command...)
		case time.Now().After(deadline):
			return fmt.Errorf("%s still lists:\n%s", typed(command), left)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// quietly runs one of the lab's commands that has nothing to show.
func (d *demo) quietly(ctx context.Context, command ...string) error {
	return d.execute(ctx, os.Stdout, append([]string{"lab"}, command...))
}

func (d *demo) execute(ctx context.Context, out io.Writer, command []string) error {
	name, args := command[0], command[1:]
	switch name {
	case "lab":
		name, args = d.lab, append([]string{"--dir", d.dir}, args...)
	case "kubectl", "helm": // against the lab's cluster
		name, args = d.lab, append([]string{"--dir", d.dir, command[0]}, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", typed(command), err)
	}
	return nil
}

// typed is the command as somebody would type it.
func typed(command []string) string {
	words := make([]string, len(command))
	for i, word := range command {
		words[i] = word
		if strings.ContainsAny(word, " {}[]*$()<>;~\\") {
			words[i] = "'" + word + "'"
		}
	}
	return strings.Join(words, " ")
}
