package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
	Shares     []string // directories of the host to write on
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	WorkingDir string // empty: the present one
}

// ErrTimeout says that the command did not end in time.
var ErrTimeout = errors.New("the command did not end in time")

// Run boots a machine with blank disks, runs the command in it as root and
// returns its exit code. The command sees the host's files and may write
// anywhere, but only writes in Shares reach the host: the others are gone with
// the machine. Nothing of the machine is left when Run returns, also when this
// process is killed.
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
	return Boot(ctx, kernel, Streams{options.Stdin, options.Stdout, options.Stderr})
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
		k.Disks = append(k.Disks, Disk{File: file, Serial: Serial(k.Name, i+1)})
	}
	cwd := options.WorkingDir
	if cwd == "" {
		var err error
		if cwd, err = os.Getwd(); err != nil {
			return Kernel{}, fmt.Errorf("finding the working directory: %w", err)
		}
	}
	shares, err := visible(cwd, argv[0], options.Shares)
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

// visible returns what to share: the directories that may be written on, and, to
// be read, the working directory and the program's if they would be hidden.
func visible(cwd, program string, writable []string) ([]guest.Share, error) {
	var shares []guest.Share
	wanted := []string{cwd}
	if strings.Contains(program, "/") {
		wanted = append(wanted, filepath.Dir(program))
	}
	for _, dir := range wanted {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("finding %s: %w", dir, err)
		}
		for _, hidden := range private {
			if strings.HasPrefix(abs, hidden+"/") {
				shares = append(shares, guest.Share{Path: abs})
			}
		}
	}
	for _, dir := range writable {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("finding %s: %w", dir, err)
		}
		if abs == "/" {
			return nil, errors.New("directory /: a command that went wrong could erase the host; share a directory below")
		}
		shares = append(shares, guest.Share{Path: abs, Writable: true})
	}
	return shares, nil
}
