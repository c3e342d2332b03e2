package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processFile holds the number of the lab's first process and when it started, so
// that another process with that number, after a reboot, is not taken for it.
func processFile(dir string) string { return filepath.Join(dir, "process") }

func writeProcess(dir string, pid int) error {
	text := fmt.Sprintf("%d %s\n", pid, startTime(pid))
	if err := os.WriteFile(processFile(dir), []byte(text), 0o644); err != nil {
		return fmt.Errorf("noting the lab's process: %w", err)
	}
	return nil
}

// running tells whether the lab in dir is alive, and its first process.
func running(dir string) (bool, int) {
	text, err := os.ReadFile(processFile(dir))
	if err != nil {
		return false, 0
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		return false, 0
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || startTime(pid) != fields[1] {
		return false, 0
	}
	return true, pid
}

// startTime is when a process started, in ticks since the boot of the host, or
// empty if there is no such process or it has ended.
func startTime(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// stop ends the lab's first process, and with it, by the kernel's hand, every
// process, mount and card of the lab.
func stop(dir string) error {
	alive, pid := running(dir)
	if !alive {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stopping the lab's process %d: %w", pid, err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if alive, _ := running(dir); !alive {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("stopping the lab: process %d does not end", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// remove deletes what a lab leaves: all but its logs.
func remove(dir string) error {
	if err := stop(dir); err != nil {
		return err
	}
	paths := []string{runtimeDir(dir)}
	for _, name := range []string{"bin", "disks", "etcd", "images", "kinds", "pki", "process", "kubeconfig", "lab.json", "scheduler.yaml"} {
		paths = append(paths, filepath.Join(dir, name))
	}
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// lock makes sure that one Up at a time works on dir. The kernel takes the lock
// back if this process dies.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the lab's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the lab's directory: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking the lab's directory: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for another lab up in %s: %w", dir, context.Cause(ctx)), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
