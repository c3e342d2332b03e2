package hostexec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// maxStdout bounds what a program may print. The report of a node with
	// thousands of volumes is a few MiB.
	maxStdout = 64 << 20
	// maxStderr bounds what is kept of a program's complaints.
	maxStderr = 16 << 10
	// pipeGrace is how long output is still read after the program itself has
	// ended. A daemon it left behind (dmeventd, lvmpolld) may hold the pipe open
	// for ever; it is not waited for.
	pipeGrace = 2 * time.Second
)

// searchPath is where the host keeps its programs, in the order they are tried.
var searchPath = [...]string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"}

// ErrNotInstalled says that the host has no program of that name.
var ErrNotInstalled = errors.New("program is not installed on the host")

// OnHost returns a Runner that runs the host's own programs: root is where the
// host's root file system is mounted ("/" when we run on the host itself), and
// becomes the root directory of the program. The program starts with an empty
// environment but for a fixed PATH and locale, reads nothing from standard input
// (a question it asks is answered by end of file), and gets a process group of
// its own, which is killed as a whole when ctx ends.
func OnHost(root string) Runner {
	return onHost(root, maxStdout)
}

// onHost is OnHost with a bound of the caller's choice on what a program prints.
func onHost(root string, limit int) Runner {
	return RunnerFunc(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("running %s: %w", commandLine(name, args), context.Cause(ctx))
		}
		for _, path := range candidates(name) {
			out, err := run(command(ctx, root, path, args), limit, name, args)
			if errors.Is(err, errNoSuchFile) {
				continue
			}
			if err != nil && ctx.Err() != nil {
				return nil, fmt.Errorf("running %s: %w", commandLine(name, args), context.Cause(ctx))
			}
			return out, err
		}
		return nil, fmt.Errorf("running %s: %w (root directory %s)", commandLine(name, args), ErrNotInstalled, root)
	})
}

// candidates lists the paths at which a program may be. They are tried by
// starting them, because only the kernel resolves a path inside the host's root
// the way the host does.
func candidates(name string) []string {
	if strings.ContainsRune(name, '/') {
		return []string{name}
	}
	paths := make([]string, 0, len(searchPath))
	for _, dir := range searchPath {
		paths = append(paths, dir+"/"+name)
	}
	return paths
}

func command(ctx context.Context, root, path string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.Env = environment(root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if filepath.Clean(root) != "/" {
		cmd.SysProcAttr.Chroot = root
	}
	// A program's children share its group; killing only the program would leave
	// them running with our pipe in their hands.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeGrace
	return cmd
}

// environment is all that a program inherits. LVM waits for udev to finish with
// every device it makes; where no udev runs it would wait for ever, so it is told.
func environment(root string) []string {
	env := []string{"PATH=" + strings.Join(searchPath[:], ":"), "LC_ALL=C"}
	if _, err := os.Stat(filepath.Join(root, "/run/udev/control")); errors.Is(err, fs.ErrNotExist) {
		env = append(env, "DM_DISABLE_UDEV=1")
	}
	return env
}

// errNoSuchFile says that the program could not be started because it is not there.
var errNoSuchFile = errors.New("no such file")

func run(cmd *exec.Cmd, limit int, name string, args []string) ([]byte, error) {
	stdout, stderr := &bounded{limit: limit}, &bounded{limit: maxStderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errNoSuchFile
		}
		return nil, fmt.Errorf("starting %s: %w", commandLine(name, args), err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return nil, &ExitError{Name: name, Args: args, Code: exit.ExitCode(), Stderr: string(stderr.kept)}
	case errors.Is(err, exec.ErrWaitDelay):
		// The program ended well; something it left behind still holds the pipe.
	case err != nil:
		return nil, fmt.Errorf("running %s: %w", commandLine(name, args), err)
	}
	if stdout.overflowed {
		return nil, fmt.Errorf("running %s: it printed more than %d bytes", commandLine(name, args), limit)
	}
	return stdout.kept, nil
}

// bounded keeps the first limit bytes written to it and swallows the rest, so
// that a program never fails or blocks because we do not want to hear more.
type bounded struct {
	kept       []byte
	limit      int
	overflowed bool
}

// Write keeps what still fits of p and never fails.
func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.limit-len(b.kept))
	b.kept = append(b.kept, p[:keep]...)
	if keep < len(p) {
		b.overflowed = true
	}
	return len(p), nil
}
