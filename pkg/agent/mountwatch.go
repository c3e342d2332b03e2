package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/mounts"
)

// mountPause is how long mounts are left alone after they were read: pods come and
// go in crowds, and none of their mounts is reported.
const mountPause = 200 * time.Millisecond

// watchMounts calls changed when what is mounted where storage could be is something
// else, until ctx ends. What is no storage counts, too: it may have been in the way.
// The kernel says when anything is mounted or unmounted, by making the file of the
// host's first process ready for poll(2).
func watchMounts(ctx context.Context, root string, changed func()) error {
	// Each change is said once to whoever polls the open file first. os.Open would have Go
	// itself poll it, and some changes would never be heard here.
	path := filepath.Join(root, "proc/1/mountinfo")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watching the host's mounts: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }()
	ended, end, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("watching the host's mounts: %w", err)
	}
	defer func() { _ = ended.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = end.Close() })
	defer func() {
		if stop() {
			_ = end.Close()
		}
	}()

	var before []mounts.Mount
	for first := true; ; first = false {
		now, err := readMounts(file)
		if err != nil {
			return err
		}
		if !first && !reflect.DeepEqual(before, now) {
			changed()
		}
		before = now
		select {
		case <-ctx.Done():
		case <-time.After(mountPause):
		}
		if err := pollMounts(int(file.Fd()), int(ended.Fd())); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// readMounts reads the whole file from its beginning.
func readMounts(file *os.File) ([]mounts.Mount, error) {
	content, err := io.ReadAll(io.NewSectionReader(file, 0, math.MaxInt64))
	if err != nil {
		return nil, fmt.Errorf("reading the host's mounts: %w", err)
	}
	all, err := mounts.ParseMountinfo(content)
	if err != nil {
		return nil, fmt.Errorf("reading the host's mounts: %w", err)
	}
	return slices.DeleteFunc(all, passing), nil
}

// passing tells mounts of pods, which come and go in crowds, from those that matter. One
// of a disk matters wherever it is: a mount point of the spec that is missing can only be
// mounted again when its device is mounted nowhere. Volumes of groups do not.
func passing(m mounts.Mount) bool {
	ofDisk := m.Major != 0 && !strings.HasPrefix(m.Source, "/dev/mapper/") && !strings.HasPrefix(m.Source, "/dev/dm-")
	return noisy(m.Target) && (!ofDisk || !strings.Contains(m.Target, "/kubelet/"))
}

// pollMounts waits until something was mounted or unmounted, or ended was closed at
// its other end.
func pollMounts(mountinfo, ended int) error {
	for {
		waiting := []unix.PollFd{{Fd: int32(mountinfo), Events: unix.POLLPRI}, {Fd: int32(ended), Events: unix.POLLIN}}
		_, err := unix.Poll(waiting, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("waiting for the host's mounts: %w", err)
		}
		return nil
	}
}
