package mounts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Grow makes the file system that is mounted at target fill its device. One that
// does already stays as it is, and that takes no process where it can be seen. Once
// begun it runs to its end.
func (h *Host) Grow(ctx context.Context, device, target, fsType string) error {
	if err := errors.Join(ctx.Err(), validDevice(device), validTarget(target), validFSType(fsType)); err != nil {
		return fmt.Errorf("growing the file system of %q: %w", device, err)
	}
	if h.fills(device, target, fsType) {
		return nil
	}
	args := fileSystems[fsType].grow(device, target)
	if _, err := h.runner.Run(context.WithoutCancel(ctx), args[0], args[1:]...); err != nil {
		return fmt.Errorf("growing the %s of %s: %w", fsType, device, err)
	}
	return nil
}

// fills reports whether the file system is certainly as large as its device. Whatever
// goes wrong in finding out, the program that grows finds too, and says it better.
func (h *Host) fills(device, target, fsType string) bool {
	file, err := h.open(device, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	of, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false
	}
	size, err := fileSystems[fsType].size(h, device, target)
	return err == nil && size == of
}

// The super block of ext3 and ext4 (struct ext4_super_block in the kernel's
// fs/ext4/ext4.h). The kernel keeps it in the cache of the device, so what is read
// there is never old, mounted or not.
const (
	extStart      = 1024
	extBlocks     = 0x4
	extLogBlock   = 0x18 // the size of a block is 1024 << this
	extMagic      = 0x38
	extIncompat   = 0x60
	extBlocksHigh = 0x150

	extIsMagic  = 0xEF53
	extHas64bit = 0x80
)

func (h *Host) sizeOfExt(device, _ string) (int64, error) {
	file, err := h.open(device, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	super := make([]byte, 1024)
	if _, err := file.ReadAt(super, extStart); err != nil {
		return 0, err
	}
	logBlock := binary.LittleEndian.Uint32(super[extLogBlock:])
	if binary.LittleEndian.Uint16(super[extMagic:]) != extIsMagic || logBlock > 6 {
		return 0, fmt.Errorf("%s holds no ext3 or ext4", device)
	}
	blocks := uint64(binary.LittleEndian.Uint32(super[extBlocks:]))
	if binary.LittleEndian.Uint32(super[extIncompat:])&extHas64bit != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(super[extBlocksHigh:])) << 32
	}
	return int64(blocks << (10 + logBlock)), nil
}

// xfsGeometry is struct xfs_fsop_geom_v1 of the kernel's fs/xfs/libxfs/xfs_fs.h. The
// super block on the disk may be older than the file system in memory.
type xfsGeometry struct {
	BlockSize  uint32
	_          [7]uint32
	DataBlocks uint64
	_          [72]byte
}

func (h *Host) sizeOfXFS(_, target string) (int64, error) {
	const getGeometry = 0x80705864 // XFS_IOC_FSGEOMETRY_V1
	var geometry xfsGeometry
	err := h.ask(target, getGeometry, unsafe.Pointer(&geometry)) //nolint:gosec // the kernel fills it
	return int64(geometry.DataBlocks) * int64(geometry.BlockSize), err
}

// btrfsDevice is struct btrfs_ioctl_dev_info_args of the kernel's linux/btrfs.h.
type btrfsDevice struct {
	ID    uint64
	_     [16]byte
	_     uint64 // how much of it is used
	Total uint64
	_     [4056]byte
}

func (h *Host) sizeOfBtrfs(_, target string) (int64, error) {
	const getDevice = 0xD000941E // BTRFS_IOC_DEV_INFO
	only := btrfsDevice{ID: 1}
	err := h.ask(target, getDevice, unsafe.Pointer(&only)) //nolint:gosec // the kernel fills it
	return int64(only.Total), err
}

// ask asks the file system that is mounted at target.
func (h *Host) ask(target string, request uintptr, answer unsafe.Pointer) error {
	at, err := h.seen(target)
	if err != nil {
		return err
	}
	dir, err := os.Open(at)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(answer)); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
