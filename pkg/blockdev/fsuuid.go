package blockdev

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/devfile"
)

// superBlocks are where the file systems that volumes have keep who they are.
var superBlocks = []struct {
	magicAt int64
	magic   []byte
	uuidAt  int64
}{
	{1024 + 0x38, []byte{0x53, 0xef}, 1024 + 0x68}, // ext2, ext3, ext4
	{0, []byte("XFSB"), 32},
	{0x10000 + 64, []byte("_BHRfS_M"), 0x10000 + 32}, // btrfs
}

// fileSystemUUID reads the UUID of the file system on a device, which may be mounted.
// Without udev lsblk does not know it. Of a file system that it does not know it says
// nothing.
func fileSystemUUID(device io.ReaderAt) string {
	for _, super := range superBlocks {
		magic, id := make([]byte, len(super.magic)), make([]byte, 16)
		if _, err := device.ReadAt(magic, super.magicAt); err != nil || !bytes.Equal(magic, super.magic) {
			continue
		}
		if _, err := device.ReadAt(id, super.uuidAt); err != nil || bytes.Equal(id, make([]byte, 16)) {
			continue
		}
		return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	}
	return ""
}

// mountedUUID returns the UUID of the file system on a device that is mounted, or "".
func (h *Host) mountedUUID(d *Device) string {
	seen, err := devfile.Root(h.root).Resolve(d.Path)
	if err != nil {
		return ""
	}
	device, err := os.OpenFile(seen, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = device.Close() }()
	return fileSystemUUID(device)
}
