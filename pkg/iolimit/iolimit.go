// Package iolimit caps what all pods of a node together may read from and write to
// one block device: a line of io.max on the cgroup (version 2) that holds all pods.
// The limit so belongs to the device, whoever uses it, and covers what the kernel
// writes back later. It starts no process. It does not know which pod asked, where a
// device comes from, or why it is limited.
package iolimit

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/volume"
)

var (
	// ErrUnsupported says that this node cannot limit: it has cgroups of version 1, or
	// of both, or a kernel without the io controller. Trying again does not help.
	ErrUnsupported = errors.New("this node cannot limit input and output")
	// ErrNoPods says that there is no cgroup of all pods, such as before the kubelet has
	// made it.
	ErrNoPods = errors.New("no cgroup of all pods")
)

// parents are the names that the cgroup of all pods has: with the cgroup driver
// systemd, and with cgroupfs.
var parents = []string{"kubepods.slice", "kubepods"}

// A Root is the directory at which the host's cgroups are seen.
type Root string

// Of returns the line that holds reads and writes to limits, each.
func Of(limits volume.Limits) Line {
	bps, iops := uint64(max(limits.BPS, 0)), uint64(max(limits.IOPS, 0))
	if iops >= math.MaxUint32 {
		iops = 0 // the kernel takes this for no limit, and says "max" when asked
	}
	return Line{ReadBPS: bps, WriteBPS: bps, ReadIOPS: iops, WriteIOPS: iops}
}

// Set holds the device of that number to limits; none takes its line away. Where that
// is so already nothing is written. It reports whether anything was.
func (r Root) Set(device uint64, limits volume.Limits) (changed bool, err error) {
	want := Of(limits)
	files, err := r.files(want != Line{})
	if err != nil {
		return false, err
	}
	for _, file := range files {
		lines, err := read(file)
		if err != nil {
			return changed, err
		}
		if lines[device] == want {
			continue
		}
		if err := write(file, want.format(device)); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// Lines returns what each device, by its number, is held to. Where there are two
// cgroups of pods it is that of the first which holds the device at all.
func (r Root) Lines() (map[uint64]Line, error) {
	files, err := r.files(false)
	if err != nil {
		return nil, err
	}
	all := map[uint64]Line{}
	for _, file := range files {
		lines, err := read(file)
		if err != nil {
			return nil, err
		}
		for device, line := range lines {
			if _, known := all[device]; !known {
				all[device] = line
			}
		}
	}
	return all, nil
}

// files returns the io.max files of the cgroups of all pods. There can be two, when
// the kubelet's cgroup driver was changed: the one without pods does no harm. A cgroup
// that has none, because nobody wanted the controller, gets it if one must be.
func (r Root) files(must bool) ([]string, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	var files []string
	found := false
	for _, parent := range parents {
		if there, err := exists(filepath.Join(string(r), parent)); err != nil {
			return nil, err
		} else if !there {
			continue
		}
		found = true
		file := filepath.Join(string(r), parent, "io.max")
		there, err := exists(file)
		if err == nil && !there && must {
			err = write(filepath.Join(string(r), "cgroup.subtree_control"), "+io")
		}
		if err != nil {
			return nil, err
		}
		if there || must {
			files = append(files, file)
		}
	}
	if !found {
		return nil, fmt.Errorf("%w: neither of %q is in %s", ErrNoPods, parents, r)
	}
	return files, nil
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// usable says why this node cannot limit, if so. With cgroups of both versions the
// directory holds one for each controller of version 1, and io is one of those.
func (r Root) usable() error {
	data, err := os.ReadFile(filepath.Join(string(r), "cgroup.controllers"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s holds cgroups of version 1; version 2 is needed", ErrUnsupported, r)
	case err != nil:
		return err
	case !slices.Contains(strings.Fields(string(data)), "io"):
		return fmt.Errorf("%w: the cgroups at %s have no io controller, only %q", ErrUnsupported, r, strings.TrimSpace(string(data)))
	}
	return nil
}

func read(file string) (map[uint64]Line, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the io controller is on and there is no %s (the kernel wants CONFIG_BLK_DEV_THROTTLING)", ErrUnsupported, file)
	}
	if err != nil {
		return nil, err
	}
	lines, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return lines, nil
}

// write puts text into a file of the kernel, in one system call, as a shell does it.
func write(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %q: %w", text, err)
	}
	return nil
}
