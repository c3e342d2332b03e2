package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

// fromSysfs fills in what the kernel says of the device.
func (h *Host) fromSysfs(e *Evidence) error {
	dir, err := h.sysfs(e.Major, e.Minor)
	if err != nil {
		return err
	}
	e.KernelName = filepath.Base(dir)
	sectors, err := readNumber(dir, "size")
	if err != nil {
		return err
	}
	readOnly, err := readNumber(dir, "ro")
	if err != nil {
		return err
	}
	e.Size, e.ReadOnly = capacity.Bytes(sectors)*512, readOnly != 0
	if e.Type, err = kind(dir); err != nil {
		return err
	}
	queue := dir // a partition has its disk's
	if e.Type == "part" {
		queue = filepath.Dir(dir)
	}
	if e.Failing, err = failing(queue); err != nil {
		return err
	}
	if rotational, err := readNumber(queue, "queue/rotational"); err == nil {
		e.Rotational = rotational != 0
	}
	if e.Partitions, err = partitions(dir); err != nil {
		return err
	}
	e.Holders, err = names(filepath.Join(dir, "holders"))
	return err
}

// sysfs returns the directory in which the kernel describes a device.
func (h *Host) sysfs(major, minor uint32) (string, error) {
	link := filepath.Join(h.root, "sys/dev/block", number(major, minor))
	return filepath.EvalSymlinks(link) // its links are relative, so they stay below our root
}

func number(major, minor uint32) string { return fmt.Sprintf("%d:%d", major, minor) }

// fromUses fills in what the device, and all that lies on it, is used for.
func (h *Host) fromUses(e *Evidence, used uses) error {
	dir, err := h.sysfs(e.Major, e.Minor)
	if err != nil {
		return err
	}
	numbers, err := h.above(dir, 0)
	if err != nil {
		return err
	}
	for _, number := range numbers {
		e.Mountpoints = append(e.Mountpoints, used.mounted[number]...)
		e.Swap = e.Swap || used.swaps[number]
	}
	slices.Sort(e.Mountpoints)
	e.Mountpoints = slices.Compact(e.Mountpoints)
	e.IsRoot = slices.Contains(e.Mountpoints, "/")
	return nil
}

// above returns the number of a device and of everything that lies on it.
func (h *Host) above(dir string, depth int) ([]uint64, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d devices on top of each other", maxDepth)
	}
	data, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return nil, err
	}
	major, minor, err := parseNumber(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, err
	}
	numbers := []uint64{unix.Mkdev(major, minor)}
	parts, err := partitions(dir)
	if err != nil {
		return nil, err
	}
	holders, err := names(filepath.Join(dir, "holders"))
	if err != nil {
		return nil, err
	}
	next := make([]string, 0, len(parts)+len(holders))
	for _, part := range parts {
		next = append(next, filepath.Join(dir, part))
	}
	for _, holder := range holders {
		to, err := filepath.EvalSymlinks(filepath.Join(dir, "holders", holder))
		if err != nil {
			return nil, err
		}
		next = append(next, to)
	}
	for _, on := range next {
		more, err := h.above(on, depth+1)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, more...)
	}
	return numbers, nil
}

// kind tells what sort of device the kernel describes in dir.
func kind(dir string) (string, error) {
	name := filepath.Base(dir)
	if exists(dir, "partition") {
		return "part", nil
	}
	if exists(dir, "dm") {
		uuid, err := os.ReadFile(filepath.Join(dir, "dm/uuid"))
		if err != nil {
			return "", err
		}
		for prefix, kind := range map[string]string{"LVM-": "lvm", "CRYPT-": "crypt", "mpath-": "mpath"} {
			if bytes.HasPrefix(uuid, []byte(prefix)) {
				return kind, nil
			}
		}
		return "dm", nil
	}
	return kindOfName(name), nil
}

// kindOfName tells the sort of a device that the kernel names by it.
func kindOfName(name string) string {
	for prefix, kind := range map[string]string{"loop": "loop", "sr": "rom", "ram": "ram", "zram": "ram", "md": "raid"} {
		if number, ok := strings.CutPrefix(name, prefix); ok && strings.Trim(number, "0123456789") == "" {
			return kind
		}
	}
	return "disk"
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// partitions returns the names of the partitions of the disk described in dir.
func partitions(dir string) ([]string, error) {
	all, err := names(dir)
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, name := range all {
		if strings.HasPrefix(name, filepath.Base(dir)) && exists(dir, name+"/partition") {
			parts = append(parts, name)
		}
	}
	return parts, nil
}

// names returns what is in a directory; nil when it is empty or not there.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all, nil
}

func readNumber(dir, name string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s of %s: %w", name, filepath.Base(dir), err)
	}
	return n, nil
}
