package blockdev

import (
	"bytes"
	"context"
	"encoding/json"
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
	"github.com/open-local/open-local/pkg/devfile"
)

// Evidence is what was found out about one device, all of it just now.
type Evidence struct {
	Path     string // as asked
	Resolved string // the device node, symbolic links followed: "/dev/sdb"

	Exists, IsBlock bool // nothing below is known when either is false

	KernelName   string
	Type         string // "disk", "part", "lvm", "crypt", "mpath", "dm", "raid", "loop", "rom", "ram"
	Major, Minor uint32
	Size         capacity.Bytes
	ReadOnly     bool
	Rotational   bool

	Partitions  []string // kernel names
	Holders     []string // kernel names of what the kernel has built on it
	Mountpoints []string // of it or of anything on it
	IsRoot      bool     // the root file system is on it, or on something on it
	Swap        bool     // it, or something on it, is swapped to
	Busy        bool     // the kernel refuses to give it to us alone
	Signatures  []Signature
}

// Signature is something on a device that a program would recognise.
type Signature struct {
	Type   string // "ext4", "LVM2_member", "gpt"
	Offset int64
	UUID   string
	Label  string
}

// Inspect finds out about the device at path. What does not exist, or is no device,
// is evidence, too; an error means that something could not be found out, and then
// nothing is proven. It starts one program at most.
func (h *Host) Inspect(ctx context.Context, path string) (Evidence, error) {
	e := Evidence{Path: path}
	if err := h.inspect(ctx, &e); err != nil {
		return Evidence{}, fmt.Errorf("inspecting device %q: %w", path, err)
	}
	return e, nil
}

func (h *Host) inspect(ctx context.Context, e *Evidence) error {
	if err := ValidPath(e.Path); err != nil {
		return err
	}
	seen, err := devfile.Root(h.root).Resolve(e.Path)
	if err != nil {
		return err
	}
	e.Resolved = "/" + strings.TrimPrefix(strings.TrimPrefix(seen, filepath.Clean(h.root)), "/")
	if err := ValidPath(e.Resolved); err != nil {
		return err
	}
	number, err := h.number(e.Resolved)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return nil
	case errors.Is(err, errNotBlock):
		e.Exists = true
		return nil
	case err != nil:
		return err
	}
	e.Exists, e.IsBlock, e.Major, e.Minor = true, true, unix.Major(number), unix.Minor(number)
	if err := h.fromSysfs(e); err != nil {
		return err
	}
	if err := h.fromUses(e); err != nil {
		return err
	}
	if e.Busy, err = busy(seen); err != nil || e.Size == 0 {
		return err
	}
	e.Signatures, err = h.signatures(ctx, e.Resolved)
	return err
}

// busy asks the kernel to give us the device alone, for a moment and for reading.
// It refuses for what is mounted, in whatever namespace, swapped to, or built upon.
func busy(seen string) (bool, error) {
	fd, err := unix.Open(seen, unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return false, unix.Close(fd)
	case errors.Is(err, unix.EBUSY):
		return true, nil
	case errors.Is(err, unix.ENOMEDIUM):
		return false, nil // a drive without its medium has no size either
	}
	return false, &fs.PathError{Op: "open", Path: seen, Err: err}
}

// signatures asks wipefs, which lists every signature, not only the one that would
// win, and reads the device itself.
func (h *Host) signatures(ctx context.Context, device string) ([]Signature, error) {
	out, err := h.runner.Run(ctx, "wipefs", "--no-act", "--json", "--", device)
	if err != nil {
		return nil, err
	}
	return ParseWipefs(out)
}

// ParseWipefs reads what "wipefs --no-act --json" printed.
func ParseWipefs(data []byte) ([]Signature, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil // what some versions print when there is none
	}
	var doc struct {
		Signatures *[]struct {
			Offset *string `json:"offset"`
			Type   *string `json:"type"`
			UUID   *string `json:"uuid"`
			Label  *string `json:"label"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("parsing wipefs's output: %w", err)
	}
	if doc.Signatures == nil {
		return nil, errors.New("parsing wipefs's output: it has no signatures")
	}
	var all []Signature
	for _, s := range *doc.Signatures {
		if text(s.Type) == "" {
			return nil, errors.New("parsing wipefs's output: a signature without a type")
		}
		offset, err := strconv.ParseInt(text(s.Offset), 0, 64)
		if err != nil {
			return nil, fmt.Errorf("parsing wipefs's output: offset of %s: %w", *s.Type, err)
		}
		all = append(all, Signature{Type: *s.Type, Offset: offset, UUID: text(s.UUID), Label: text(s.Label)})
	}
	return all, nil
}

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
	link := filepath.Join(h.root, "sys/dev/block", fmt.Sprintf("%d:%d", major, minor))
	return filepath.EvalSymlinks(link) // its links are relative, so they stay below our root
}

// fromUses fills in what the device, and all that lies on it, is used for.
func (h *Host) fromUses(e *Evidence) error {
	used, err := h.uses()
	if err != nil {
		return err
	}
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
