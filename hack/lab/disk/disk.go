// Package disk reads what a person writes about the disks of a lab and makes
// the sparse files that stand for them. It does not know which machine gets
// them.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Max is how many disks one machine can have: the kernel's driver knows 16,
// and the first is for the machine's own data.
const Max = 15

// Bytes is the size of a disk.
type Bytes int64

// units are binary, as LVM's are: 1G is 1 GiB.
var units = map[byte]Bytes{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}

// ParseBytes reads a size such as 512M or 4G. A number without a unit is refused,
// because nobody agrees on what it means.
func ParseBytes(s string) (Bytes, error) {
	digits, unit := s, byte(0)
	if len(s) > 0 {
		digits, unit = s[:len(s)-1], s[len(s)-1]
	}
	factor, known := units[unit]
	if !known {
		return 0, fmt.Errorf("size %q: want a number and one of K, M, G, T, for example 4G", s)
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("size %q: want a whole number above zero before the unit", s)
	}
	return Bytes(n) * factor, nil
}

// String writes the size as ParseBytes reads it.
func (b Bytes) String() string {
	for _, unit := range "TGMK" {
		if factor := units[byte(unit)]; b > 0 && b%factor == 0 {
			return fmt.Sprintf("%d%c", b/factor, unit)
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Parse reads a list such as "2x4G" or "4G,2x512M". The empty list is no disks.
func Parse(s string) ([]Bytes, error) {
	var disks []Bytes
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		count, size, several := strings.Cut(part, "x")
		if !several {
			count, size = "1", part
		}
		n, err := strconv.ParseUint(count, 10, 8)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("disks %q: %q: want COUNTxSIZE, for example 2x4G", s, part)
		}
		bytes, err := ParseBytes(size)
		if err != nil {
			return nil, fmt.Errorf("disks %q: %w", s, err)
		}
		for range n {
			disks = append(disks, bytes)
		}
	}
	if len(disks) > Max {
		return nil, fmt.Errorf("disks %q: %d disks, but a machine can have %d", s, len(disks), Max)
	}
	return disks, nil
}

// Device returns the name under which a machine sees its disk number i, counting
// from 1; 0 is the machine's own.
func Device(i int) string { return "/dev/ubd" + string(rune('a'+i)) }

// Alias returns the name that a virtual machine elsewhere would give disk i.
func Alias(i int) string { return "/dev/vd" + string(rune('a'+i)) }

// Create makes a sparse file of that size. A file that exists keeps its content
// and must have the size.
func Create(path string, size Bytes) error {
	if info, err := os.Stat(path); err == nil {
		if info.Size() != int64(size) {
			return fmt.Errorf("disk %s has %d bytes, not %s: remove it or ask for its size", path, info.Size(), size)
		}
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("looking at disk %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of disk %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("creating disk %s: %w", path, err)
	}
	return errors.Join(f.Truncate(int64(size)), f.Close())
}

// Copy copies a sparse file, holes as holes.
func Copy(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copying disk %s: %w", from, err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("copying disk %s: %w", from, err)
	}
	if err := Create(to, Bytes(info.Size())); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("copying disk %s: %w", from, err)
	}
	if err := errors.Join(copyData(in, out, info.Size()), out.Close()); err != nil {
		return errors.Join(fmt.Errorf("copying disk %s to %s: %w", from, to, err), os.Remove(to))
	}
	return nil
}

// copyData copies the parts of a file that hold data.
func copyData(in, out *os.File, size int64) error {
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only holes from here
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := in.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, end-start); err != nil {
			return err
		}
		at = end
	}
	return nil
}
