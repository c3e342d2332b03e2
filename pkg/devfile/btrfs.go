package devfile

import (
	"bytes"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// btrfsDevice is struct btrfs_ioctl_dev_info_args of the kernel's linux/btrfs.h.
type btrfsDevice struct {
	id   uint64
	_    [16]byte // its UUID
	_    [2]uint64
	_    [379]uint64
	path [1024]byte
}

// below returns the number of the device that the btrfs of a directory lies on. A
// directory of btrfs itself has a number that was made up and that no device has.
// What is no btrfs, or spans several devices and has lost the first, is none.
func (r Root) below(dir string) (number uint64, is bool) {
	const getDevice = 0xD000941E // BTRFS_IOC_DEV_INFO
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.BTRFS_SUPER_MAGIC {
		return 0, false
	}
	file, err := os.Open(dir)
	if err != nil {
		return 0, false
	}
	defer func() { _ = file.Close() }()
	first := btrfsDevice{id: 1}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), getDevice, uintptr(unsafe.Pointer(&first))); errno != 0 { //nolint:gosec // the kernel fills it
		return 0, false
	}
	name, _, _ := bytes.Cut(first.path[:], []byte{0})
	path, err := r.Resolve(string(name))
	if err != nil {
		return 0, false
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, false
	}
	return stat.Rdev, true
}
