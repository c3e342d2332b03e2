package blockdev

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// partUUID reads from the disk itself the UUID that its partition table gives to the
// partition of that number, as the kernel and udev spell it. Without udev lsblk does
// not know it. sector is the disk's logical block size. A table that cannot be
// understood gives none.
func partUUID(disk io.ReaderAt, sector int64, number int) (string, error) {
	// The first sector, whatever follows, is that of the oldest kind of table
	// (Linux: block/partitions/msdos.c).
	const signatureAt, table, entry, protective = 440, 446, 16, 0xee
	boot := make([]byte, 512)
	if _, err := disk.ReadAt(boot, 0); err != nil {
		return "", err
	}
	if !bytes.Equal(boot[510:], []byte{0x55, 0xaa}) {
		return "", nil
	}
	for i := range 4 {
		if boot[table+entry*i+4] == protective {
			return gptUUID(disk, sector, number)
		}
	}
	signature := binary.LittleEndian.Uint32(boot[signatureAt:])
	if signature == 0 {
		return "", nil // nobody numbered the table
	}
	return fmt.Sprintf("%08x-%02x", signature, number), nil
}

// gptUUID reads the first of the two tables (UEFI specification, 5.3). Where it is
// damaged nothing is said: who uses the second is about to repair the first.
func gptUUID(disk io.ReaderAt, sector int64, number int) (string, error) {
	const entriesAt, countAt, sizeAt, most = 72, 80, 84, 4096
	header := make([]byte, 92)
	if _, err := disk.ReadAt(header, sector); err != nil {
		return "", err
	}
	count, size := binary.LittleEndian.Uint32(header[countAt:]), binary.LittleEndian.Uint32(header[sizeAt:])
	at := binary.LittleEndian.Uint64(header[entriesAt:])
	if string(header[:8]) != "EFI PART" || number < 1 || uint64(number) > uint64(count) || size < 128 || size > most || at > 1<<40 {
		return "", nil
	}
	entry := make([]byte, 32)
	if _, err := disk.ReadAt(entry, int64(at)*sector+int64(number-1)*int64(size)); err != nil {
		return "", err
	}
	id := entry[16:]
	if bytes.Equal(id, make([]byte, 16)) {
		return "", nil
	}
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(id), binary.LittleEndian.Uint16(id[4:]),
		binary.LittleEndian.Uint16(id[6:]), id[8:10], id[10:16]), nil
}
