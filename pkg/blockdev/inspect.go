package blockdev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
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
	Failing      string // the kernel's word for a disk that it has given up: "offline"

	Partitions  []string // kernel names
	Holders     []string // kernel names of what the kernel has built on it
	Mountpoints []string // of it or of anything on it
	IsRoot      bool     // the root file system is on it, or on something on it
	Swap        bool     // it, or something on it, is swapped to
	Busy        bool     // the kernel refuses to give it to us alone
	Signatures  []Signature
	// Data says where there is something that nobody recognises, on a device without
	// signatures: "in its first MiB".
	Data string
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
	seen, err := h.locate(e)
	if err != nil || !e.IsBlock {
		return err
	}
	used, err := h.uses()
	if err != nil {
		return err
	}
	if err := h.kernelSays(e, used); err != nil || e.Failing != "" {
		return err // one that the kernel has given up answers nobody
	}
	if e.Busy, err = busy(seen); err != nil || e.Size == 0 {
		return err
	}
	if e.Signatures, err = h.signatures(ctx, e.Resolved); err == nil {
		e.Data = h.data(*e)
	}
	return err
}

// locate finds the device at the path of e, and returns where this process sees it.
func (h *Host) locate(e *Evidence) (seen string, err error) {
	if err := ValidPath(e.Path); err != nil {
		return "", err
	}
	if seen, err = devfile.Root(h.root).Resolve(e.Path); err != nil {
		return "", err
	}
	e.Resolved = "/" + strings.TrimPrefix(strings.TrimPrefix(seen, filepath.Clean(h.root)), "/")
	if err := ValidPath(e.Resolved); err != nil {
		return "", err
	}
	number, err := h.number(e.Resolved)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return seen, nil
	case errors.Is(err, errNotBlock):
		e.Exists = true
		return seen, nil
	case err != nil:
		return "", err
	}
	e.Exists, e.IsBlock, e.Major, e.Minor = true, true, unix.Major(number), unix.Minor(number)
	return seen, nil
}

// kernelSays fills in what the kernel knows of the device without asking the device.
func (h *Host) kernelSays(e *Evidence, used uses) error {
	if err := h.fromSysfs(e); err != nil {
		return err
	}
	return h.fromUses(e, used)
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
