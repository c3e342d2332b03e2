package mounts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// edge is how much of either end of a device is read. Signatures stand there.
const edge = 128 << 10

// readEdges reads both ends of a device. blkid(8) says the same of a device that
// holds nothing and of one that cannot be read, and the second must never be
// formatted.
func (h *Host) readEdges(device string) error {
	file, err := h.open(device, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	size, err := file.Seek(0, io.SeekEnd)
	switch {
	case err != nil:
		return err
	case size == 0:
		return errors.New("it has no size")
	}
	buffer := make([]byte, min(edge, size))
	for _, at := range []int64{0, size - int64(len(buffer))} {
		if _, err := file.ReadAt(buffer, at); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) open(device string, flag int) (*os.File, error) {
	path, err := h.root.Resolve(device)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag, 0)
}

// The start of an xfs super block (xfs_dsb in the kernel's fs/xfs/libxfs/xfs_format.h).
// mkfs.xfs sets the byte first and clears it when all else is written; a file system
// with the byte set is refused by every kernel, so nothing was ever stored in it.
const (
	xfsInProgress = 126
	xfsStart      = 512
)

var xfsMagic = []byte("XFSB")

// unfinished reports whether the device holds an xfs whose mkfs was cut short.
func (h *Host) unfinished(device string) (bool, error) {
	file, err := h.open(device, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	start := make([]byte, xfsStart)
	if _, err := io.ReadFull(file, start); err != nil {
		return false, err
	}
	return bytes.HasPrefix(start, xfsMagic) && start[xfsInProgress] == 1, nil
}

// clearUnfinished takes away the signature of an xfs whose mkfs was cut short, so that
// mkfs, which is never forced, can start anew.
func (h *Host) clearUnfinished(device string) error {
	is, err := h.unfinished(device)
	if err != nil || !is {
		return err
	}
	file, err := h.open(device, os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(make([]byte, xfsStart), 0)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("clearing an unfinished xfs: %w", err)
	}
	return nil
}
