package devfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysfs returns the directory in which the kernel tells of the block device of that
// number.
func (r Root) sysfs(number uint64) string {
	return filepath.Join(string(r), "sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number)))
}

// fact reads a small file of the kernel's about a device; one that is not there is "".
func (r Root) fact(number uint64, name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(r.sysfs(number), name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// Suspended reports whether a mapped device holds back all that is asked of it.
func (r Root) Suspended(number uint64) (bool, error) {
	value, err := r.fact(number, "dm/suspended")
	return value == "1", err
}

// ReadOnly reports whether the kernel refuses to write to the device.
func (r Root) ReadOnly(number uint64) (bool, error) {
	value, err := r.fact(number, "ro")
	return value == "1", err
}

// MappedName returns the name that a mapped device of LVM has, such as
// "share-my--data"; any other device has none.
func (r Root) MappedName(number uint64) (string, error) {
	uuid, err := r.fact(number, "dm/uuid")
	if err != nil || !strings.HasPrefix(uuid, "LVM-") {
		return "", err
	}
	return r.fact(number, "dm/name")
}

// ExtErrors returns how many errors ext4 has found in the file system on the device
// since it was last checked; other file systems do not say.
func (r Root) ExtErrors(number uint64) (int64, error) {
	link, err := os.Readlink(r.sysfs(number))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	data, err := os.ReadFile(filepath.Join(string(r), "sys/fs/ext4", filepath.Base(link), "errors_count"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// Work returns how long the reads and writes that the device has finished took together,
// in milliseconds, and how many it is at now. One that waits for the device's turn,
// because it is limited, is not among them. Kernels before 6.4 count what has only
// begun among what is finished, so the time tells.
func (r Root) Work(number uint64) (finished, running uint64, err error) {
	value, err := r.fact(number, "stat")
	if err != nil || value == "" {
		return 0, 0, err
	}
	fields := strings.Fields(value)
	if len(fields) < 9 { // Documentation/block/stat.rst of the kernel
		return 0, 0, fmt.Errorf("reading what device %d:%d did: %q has %d fields", unix.Major(number), unix.Minor(number), value, len(fields))
	}
	var numbers [3]uint64
	for i, field := range []string{fields[3], fields[7], fields[8]} {
		if numbers[i], err = strconv.ParseUint(field, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("reading what device %d:%d did: %w", unix.Major(number), unix.Minor(number), err)
		}
	}
	return numbers[0] + numbers[1], numbers[2], nil
}

// block is how much ReadFirst reads: what every disk gives at once.
const block = 4096

// ReadFirst reads the first block of the device of that number from the disk itself,
// not from memory. It may wait for as long as the device does, whatever becomes of ctx.
func (r Root) ReadFirst(ctx context.Context, number uint64) error {
	link, err := os.Readlink(r.sysfs(number))
	if err != nil {
		return err
	}
	path := filepath.Join(string(r), "dev", filepath.Base(link))
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return err
	}
	if stat.Rdev != number || ctx.Err() != nil {
		return ctx.Err() // another device has that name now, so this one is gone
	}
	// A disk writes directly only to memory that is aligned, as pages are.
	memory, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(memory) }()
	for range 2 {
		// The first read also tells of a write from memory that failed before it.
		if _, err = file.ReadAt(memory, 0); err == nil {
			break
		}
	}
	return err
}

// Announce has all who listen to the kernel's events of block devices look at the device
// at path, when something happened to it that the kernel itself keeps silent about.
func (r Root) Announce(path string) error {
	file, err := r.Look(path)
	switch {
	case err != nil:
		return fmt.Errorf("announcing a change of %s: %w", path, err)
	case file.Device == 0:
		return fmt.Errorf("announcing a change of %s: it is not a block device", path)
	}
	// Documentation/ABI/testing/sysfs-uevent
	if err := os.WriteFile(filepath.Join(r.sysfs(file.Device), "uevent"), []byte("change"), 0); err != nil {
		return fmt.Errorf("announcing a change of %s: %w", path, err)
	}
	return nil
}
