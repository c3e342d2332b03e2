package mounts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// The super block of btrfs (struct btrfs_super_block in the kernel's
// include/uapi/linux/btrfs_tree.h), of which there are up to three.
const (
	btrfsSuperSize = 4096

	btrfsSum      = 0x20 // from here on it is summed, and the sum stands before
	btrfsID       = 0x20
	btrfsAddress  = 0x30
	btrfsMagic    = 0x40
	btrfsLog      = 0x60 // the journal of what was synced since the last commit
	btrfsIncompat = 0xBC
	btrfsSumType  = 0xC4
	btrfsTreeID   = 0x23B // the UUID in the trees, where it is another

	btrfsHasTreeID = 1 << 10
	btrfsCRC32C    = 0
)

var (
	btrfsSupers = []int64{64 << 10, 64 << 20, 256 << 30}
	btrfsIs     = []byte("_BHRfS_M")
)

// newBtrfsID gives a btrfs a UUID of its own. The trees keep the old one, and the super
// block says so, as btrfstune -m makes it; but that would commit a transaction, after
// which the kernel could not replay the journal that a snapshot of a mounted btrfs may
// have. So only the super blocks are changed here. Those with another checksum than
// the usual are left to the program, if there is no journal.
func (h *Host) newBtrfsID(ctx context.Context, device string) error {
	file, err := h.open(device, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0F|0x40, id[8]&0x3F|0x80
	for i, at := range btrfsSupers {
		if at+btrfsSuperSize > size {
			break
		}
		super := make([]byte, btrfsSuperSize)
		if _, err := file.ReadAt(super, at); err != nil {
			return err
		}
		err := checkBtrfs(super, at)
		switch {
		case errors.Is(err, errOtherSum) && i == 0:
			return h.tuneBtrfs(ctx, device, super)
		case err != nil && i == 0:
			return err
		case err != nil:
			continue // a copy that is not there; mkfs makes none where the file system ends before
		}
		renameBtrfs(super, id)
		if _, err := file.WriteAt(super, at); err != nil {
			return err
		}
	}
	return file.Sync()
}

var errOtherSum = errors.New("its checksum is of another kind")

// checkBtrfs tells why that is not the super block at that place.
func checkBtrfs(super []byte, at int64) error {
	switch {
	case !bytes.Equal(super[btrfsMagic:btrfsMagic+len(btrfsIs)], btrfsIs), binary.LittleEndian.Uint64(super[btrfsAddress:]) != uint64(at):
		return fmt.Errorf("no super block of btrfs at byte %d", at)
	case binary.LittleEndian.Uint16(super[btrfsSumType:]) != btrfsCRC32C:
		return errOtherSum
	case binary.LittleEndian.Uint32(super) != crc32.Checksum(super[btrfsSum:], crc32.MakeTable(crc32.Castagnoli)):
		return fmt.Errorf("the super block of btrfs at byte %d has a wrong checksum", at)
	}
	return nil
}

// renameBtrfs gives a super block another UUID.
func renameBtrfs(super []byte, id [16]byte) {
	features := binary.LittleEndian.Uint64(super[btrfsIncompat:])
	if features&btrfsHasTreeID == 0 {
		copy(super[btrfsTreeID:], super[btrfsID:btrfsID+len(id)])
		binary.LittleEndian.PutUint64(super[btrfsIncompat:], features|btrfsHasTreeID)
	}
	copy(super[btrfsID:], id[:])
	binary.LittleEndian.PutUint32(super, crc32.Checksum(super[btrfsSum:], crc32.MakeTable(crc32.Castagnoli)))
}

// tuneBtrfs lets btrfstune(8) give a btrfs a UUID of its own.
func (h *Host) tuneBtrfs(ctx context.Context, device string, super []byte) error {
	if binary.LittleEndian.Uint64(super[btrfsLog:]) != 0 {
		return fmt.Errorf("btrfs with a journal that is not written back, and %w: stop what writes to its source and try again", errOtherSum)
	}
	_, err := h.runner.Run(ctx, "btrfstune", "-f", "-m", device)
	return err
}
