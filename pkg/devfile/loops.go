package devfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Loop is a loop device that shows another block device.
type Loop struct {
	Path string // in /dev
	// Shows is what the kernel calls the device that it shows, and Mapped whether that is
	// one of the device-mapper, such as a logical volume.
	Shows  string
	Mapped bool
}

// Loops returns the loop devices that show other block devices (loop(4)). Kubelet puts one
// over each block volume while a pod has it.
func (r Root) Loops() ([]Loop, error) {
	bound, err := filepath.Glob(filepath.Join(string(r), "sys/block/loop*/loop"))
	if err != nil {
		return nil, err
	}
	var loops []Loop
	for _, dir := range bound {
		loop, shows, err := r.loop("/dev/" + filepath.Base(filepath.Dir(dir)))
		if err != nil {
			return nil, err
		}
		if shows {
			loops = append(loops, loop)
		}
	}
	return loops, nil
}

// loop returns what a loop device shows, and whether that is a block device. Asking reads
// nothing of what is shown.
func (r Root) loop(path string) (Loop, bool, error) {
	file, err := os.OpenFile(filepath.Join(string(r), path), os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return Loop{}, false, nil // it went away
	}
	if err != nil {
		return Loop{}, false, fmt.Errorf("asking what loop device %s shows: %w", path, err)
	}
	defer func() { _ = file.Close() }()
	status, err := unix.IoctlLoopGetStatus64(int(file.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return Loop{}, false, nil // it shows nothing any more
	}
	if err != nil {
		return Loop{}, false, fmt.Errorf("asking what loop device %s shows: %w", path, err)
	}
	if status.Rdevice == 0 {
		return Loop{}, false, nil // a file
	}
	at, err := filepath.EvalSymlinks(r.sysfs(status.Rdevice))
	if errors.Is(err, fs.ErrNotExist) {
		return Loop{Path: path}, true, nil // of a device that is gone
	}
	if err != nil {
		return Loop{}, false, fmt.Errorf("asking what loop device %s shows: %w", path, err)
	}
	_, err = os.Stat(filepath.Join(at, "dm"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Loop{}, false, fmt.Errorf("asking what loop device %s shows: %w", path, err)
	}
	return Loop{Path: path, Shows: filepath.Base(at), Mapped: err == nil}, true, nil
}
