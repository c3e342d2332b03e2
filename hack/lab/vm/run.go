package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/open-local/open-local/hack/lab/build"
	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/guest"
	"github.com/open-local/open-local/hack/lab/wire"
)

// Options are what Run takes besides the command.
type Options struct {
	Disks      []disk.Bytes
	Memory     disk.Bytes
	SCSI       int        // how many disks with an identity, in memory
	SCSISize   disk.Bytes // the size of each
	Timeout    time.Duration
	Keep       string   // directory for disks and console; empty: a temporary one
	Shares     []string // directories of the host to write on, besides the working directory
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	WorkingDir string // empty: the present one
}

// ErrTimeout says that the command did not end in time.
var ErrTimeout = errors.New("the command did not end in time")

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

// Run boots a machine with blank disks, runs the command in it as root and
// returns its exit code. Writes reach the host only in the working directory
// and in the Shares. Nothing of the machine is left when Run returns, also when
// this process is killed.
func Run(ctx context.Context, argv []string, options Options) (int, error) {
	if options.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, options.Timeout, fmt.Errorf("%w: %s", ErrTimeout, options.Timeout))
		defer cancel()
	}
	dir := options.Keep
	if dir == "" {
		temp, err := os.MkdirTemp("", "lab-vm-")
		if err != nil {
			return 0, fmt.Errorf("making a directory for the machine: %w", err)
		}
		defer os.RemoveAll(temp)
		dir = temp
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return 0, fmt.Errorf("making a directory for the machine: %w", err)
	}
	kernel, err := prepare(ctx, argv, dir, options)
	if err != nil {
		return 0, err
	}
	return run(ctx, kernel, options)
}

// prepare makes the disks and describes the machine.
func prepare(ctx context.Context, argv []string, dir string, options Options) (Kernel, error) {
	k := Kernel{Name: "vm", Dir: dir, Init: filepath.Join(dir, "init"), Memory: options.Memory}
	if err := build.Own(ctx, "guest/init", k.Init); err != nil {
		return Kernel{}, err
	}
	for i, size := range options.Disks {
		file := filepath.Join(dir, fmt.Sprintf("disk%d.img", i+1))
		if err := disk.Create(file, size); err != nil {
			return Kernel{}, err
		}
		k.Disks = append(k.Disks, file)
	}
	cwd := options.WorkingDir
	if cwd == "" {
		var err error
		if cwd, err = os.Getwd(); err != nil {
			return Kernel{}, fmt.Errorf("finding the working directory: %w", err)
		}
	}
	shares, err := shared(append([]string{cwd}, options.Shares...), argv[0])
	if err != nil {
		return Kernel{}, err
	}
	k.Config = guest.Config{
		Hostname: "vm", Shares: shares, Disks: len(k.Disks), SCSI: options.SCSI, SCSISizeMB: int(options.SCSISize >> 20),
		Job: &wire.Command{Argv: argv, Env: os.Environ(), Dir: cwd},
	}
	return k, nil
}

// private are directories that a machine does not have in common with the host,
// so what lies below must be shared to be seen.
var private = []string{"/tmp", "/run", "/mnt", "/var/run", "/dev/shm"}

// shared returns the directories to share, made absolute, the program's among
// them if it would be hidden otherwise.
func shared(dirs []string, program string) ([]guest.Share, error) {
	if strings.Contains(program, "/") {
		abs, err := filepath.Abs(program)
		if err != nil {
			return nil, fmt.Errorf("finding %s: %w", program, err)
		}
		for _, hidden := range private {
			if strings.HasPrefix(abs, hidden+"/") {
				dirs = append(dirs, filepath.Dir(abs))
			}
		}
	}
	var out []guest.Share
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("finding %s: %w", dir, err)
		}
		if abs == "/" {
			return nil, errors.New("directory /: sharing all would let the machine write on the host; work in a directory below")
		}
		out = append(out, guest.Share{Path: abs, Writable: true})
	}
	return out, nil
}

// run starts the kernel in a process namespace of its own, so that ending its
// first process ends all, and follows the command.
func run(ctx context.Context, k Kernel, options Options) (int, error) {
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
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); line.closeFar() }()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()

	conn := wire.New(line.nearOut, line.nearIn)
	result, lost := follow(conn, options)
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

func follow(conn *wire.Conn, options Options) (wire.Result, error) {
	if err := conn.AwaitReady(); err != nil {
		return wire.Result{}, err
	}
	go sendInput(conn, options.Stdin)
	return conn.Receive(options.Stdout, options.Stderr)
}

func sendInput(conn *wire.Conn, stdin io.Reader) {
	if stdin != nil {
		if _, err := io.Copy(conn.Output(wire.Stdin), stdin); err != nil {
			return
		}
	}
	_ = conn.Write(wire.Stdin, nil) // the machine may be gone: then Receive tells
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
