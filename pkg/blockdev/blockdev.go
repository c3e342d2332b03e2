// Package blockdev looks at the block devices of a host: which there are, and
// whether one is provably blank. It only ever looks. It refuses to know what a
// device is wanted for, and takes no name, label or past for a proof: only what the
// kernel and the device itself say now.
package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/mounts"
)

// Host is the block layer of one host. Its methods may be called from any goroutine.
type Host struct {
	runner hostexec.Runner
	root   string // where we see the host's root file system
	seen   memory
}

// New returns the block devices of the host whose root file system is at root and
// whose programs r runs.
func New(r hostexec.Runner, root string) *Host { return &Host{runner: r, root: root} }

// Device is one block device.
type Device struct {
	Path       string // "/dev/sdb", "/dev/mapper/share-data"
	KernelName string // "sdb", "dm-0"
	Type       string // lsblk's word: "disk", "part", "lvm", "loop", "rom", "crypt", "mpath", "raid1"

	Size       capacity.Bytes
	ReadOnly   bool
	Rotational bool

	// FSType and PartitionTable are hints: they come from udev's memory and are
	// empty where no udev runs. Inspect asks the device itself.
	FSType         string
	PartitionTable string

	WWN, Serial, Model string // who the device is, where it says so
	PartUUID           string // of a partition, as its table has it
	UUID               string // of the file system on it, or of what else is
	// ID is who the device is, whatever it is called and wherever it is plugged in:
	// "wwn-0x5000c500a1b2c3d4". It is empty when nothing tells it from another.
	ID string

	Major, Minor uint32

	Mountpoints []string // where it is mounted itself
	Swap        bool     // it is swapped to
	Parents     []string // kernel names of what it lies on
	Children    []string // kernel names of what lies on it: partitions, volumes
	IsRoot      bool     // the root file system is on it, or on something on it
}

// MediaType is "hdd" for what rotates and "ssd" for all else.
func (d Device) MediaType() string {
	if d.Rotational {
		return "hdd"
	}
	return "ssd"
}

// alphabet is what names under /dev are made of.
var alphabet = regexp.MustCompile(`^/dev/[A-Za-z0-9+_.:@/-]+$`)

// ErrInvalidPath says that a path cannot be a device's.
var ErrInvalidPath = errors.New("not a plain path under /dev")

// ValidPath tells whether p may be the path of a device: absolute, clean, under
// /dev, and of letters that no program takes for more than a name.
func ValidPath(p string) error {
	if !alphabet.MatchString(p) || path.Clean(p) != p {
		return fmt.Errorf("device %q: %w", p, ErrInvalidPath)
	}
	return nil
}

// columns are those that lsblk has had since util-linux 2.33. What is mounted is
// read from the kernel: lsblk's column for it is younger.
const columns = "NAME,KNAME,PATH,TYPE,SIZE,RO,ROTA,FSTYPE,PTTYPE,UUID,PARTUUID,WWN,SERIAL,MODEL,MAJ:MIN"

// Devices lists all block devices that have a size, ordered by kernel name, with one
// process.
func (h *Host) Devices(ctx context.Context) ([]Device, error) {
	out, err := h.runner.Run(ctx, "lsblk", "--json", "--bytes", "--output", columns)
	if err != nil {
		return nil, fmt.Errorf("listing block devices: %w", err)
	}
	devices, err := ParseLsblk(out)
	if err != nil {
		return nil, fmt.Errorf("listing block devices: %w", err)
	}
	used, err := h.uses()
	if err != nil {
		return nil, fmt.Errorf("listing block devices: %w", err)
	}
	for i := range devices {
		d := &devices[i]
		d.Mountpoints, d.Swap = used.mounted[numberOf(d)], used.swaps[numberOf(d)]
	}
	markRoot(devices)
	h.identify(devices)
	return devices, nil
}

func numberOf(d *Device) uint64 { return unix.Mkdev(d.Major, d.Minor) }

// markRoot marks the devices below the root file system.
func markRoot(devices []Device) {
	byName := make(map[string]*Device, len(devices))
	for i := range devices {
		byName[devices[i].KernelName] = &devices[i]
	}
	var mark func(d *Device)
	mark = func(d *Device) {
		if d == nil || d.IsRoot {
			return
		}
		d.IsRoot = true
		for _, parent := range d.Parents {
			mark(byName[parent])
		}
	}
	for i := range devices {
		if slices.Contains(devices[i].Mountpoints, "/") {
			mark(&devices[i])
		}
	}
}

// uses is what the host's kernel does with devices, by device number.
type uses struct {
	mounted map[uint64][]string
	swaps   map[uint64]bool
}

// uses reads what the host's first process sees mounted, and the swaps. Mounts that
// only a container sees are found by opening the device, see Inspect.
func (h *Host) uses() (uses, error) {
	u := uses{mounted: map[uint64][]string{}, swaps: map[uint64]bool{}}
	data, err := os.ReadFile(filepath.Join(h.root, "proc/1/mountinfo"))
	if err != nil {
		return uses{}, err
	}
	all, err := mounts.ParseMountinfo(data)
	if err != nil {
		return uses{}, err
	}
	for _, m := range all {
		number := unix.Mkdev(m.Major, m.Minor)
		if m.Major == 0 { // made up, as by btrfs; or no device at all
			if number, err = h.number(m.Source); err != nil {
				continue
			}
		}
		if !slices.Contains(u.mounted[number], m.Target) {
			u.mounted[number] = append(u.mounted[number], m.Target)
		}
	}
	swaps, err := os.ReadFile(filepath.Join(h.root, "proc/swaps"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without swapping has none
		return uses{}, err
	}
	for _, device := range parseSwaps(string(swaps)) {
		if number, err := h.number(device); err == nil {
			u.swaps[number] = true
		}
	}
	return u, nil
}

// parseSwaps returns the paths in /proc/swaps, below its heading.
func parseSwaps(text string) []string {
	var paths []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[0], "/dev/") {
			paths = append(paths, fields[0])
		}
	}
	return paths
}

// number returns the number of the block device at path.
func (h *Host) number(path string) (uint64, error) {
	if err := ValidPath(path); err != nil {
		return 0, err
	}
	seen, err := devfile.Root(h.root).Resolve(path)
	if err != nil {
		return 0, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(seen, &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: seen, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s: %w", path, errNotBlock)
	}
	return stat.Rdev, nil
}

var errNotBlock = errors.New("not a block device")
