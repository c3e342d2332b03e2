// Package devfile reaches the block devices of the host, and the paths they are
// handed out at, by their files and without starting a program: whether a device is
// there, its number, its size, which one is mounted where, and filling it with
// zeros. It does not know what is on a device or whose it is.
package devfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

// A Root is the directory at which the host's root file system is seen. Paths
// given to its methods are the host's own.
type Root string

// maxLinks is how many symbolic links one path may lead through, as in the kernel.
const maxLinks = 40

// Resolve returns where this process finds what the host calls path. Symbolic
// links are followed as the host would: /dev/group/volume may point to
// /dev/mapper/group-volume, which must not be looked for in our own /dev. The last
// parts of the path need not exist.
func (r Root) Resolve(path string) (string, error) {
	todo := split(path)
	at := "/"
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, part)
		target, err := os.Readlink(filepath.Join(string(r), next))
		switch {
		case err != nil:
			// No link, or nothing there yet: the name stands for itself. Whoever
			// opens the result learns more.
			at = next
			continue
		case links == maxLinks:
			return "", fmt.Errorf("resolving %s: %w", path, unix.ELOOP)
		}
		links++
		if filepath.IsAbs(target) {
			at = "/"
		}
		todo = append(split(target), todo...)
	}
	return filepath.Join(string(r), at), nil
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

// Exists reports whether there is anything at path, be it a link to nowhere.
func (r Root) Exists(path string) (bool, error) {
	dir, err := r.Resolve(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(filepath.Join(dir, filepath.Base(path)))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// A File is what is at a path.
type File struct {
	// FileSystem is the number of the device that the file lies on. For a directory
	// on which a file system of a block device is mounted, it is that device's.
	FileSystem uint64
	// Device is the number of the block device that the file stands for, or 0.
	Device uint64
	Dir    bool
}

// Look returns what is at path, behind symbolic links.
func (r Root) Look(path string) (File, error) {
	resolved, err := r.Resolve(path)
	if err != nil {
		return File{}, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(resolved, &stat); err != nil {
		return File{}, &fs.PathError{Op: "stat", Path: resolved, Err: err}
	}
	file := File{FileSystem: stat.Dev, Dir: stat.Mode&unix.S_IFMT == unix.S_IFDIR}
	if file.Dir && unix.Major(stat.Dev) == 0 {
		if number, is := r.below(resolved); is {
			file.FileSystem = number
		}
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		file.Device = stat.Rdev
	}
	return file, nil
}

// Alive reports whether the kernel still has the block device of that number. A
// file system can stay mounted, and look well, after its device is gone.
func (r Root) Alive(number uint64) bool {
	_, err := os.Stat(filepath.Join(string(r), "sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))))
	return err == nil
}

// Busy reports whether the device at path is mounted, in whatever mount namespace, or
// held by a driver or a program for itself. One that is not there is not busy.
func (r Root) Busy(path string) (bool, error) {
	resolved, err := r.Resolve(path)
	if err != nil {
		return false, err
	}
	file, err := os.OpenFile(resolved, os.O_RDONLY|unix.O_EXCL, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return false, file.Close()
}

// Size returns the size of the device at path.
func (r Root) Size(path string) (capacity.Bytes, error) {
	resolved, err := r.Resolve(path)
	if err != nil {
		return 0, err
	}
	file, err := os.Open(resolved)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	return sizeOf(file)
}

// sizeOf works for devices, whose Stat has no size, as for files.
func sizeOf(file *os.File) (capacity.Bytes, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("measuring %s: %w", file.Name(), err)
	}
	return capacity.Bytes(size), nil
}
