package devtest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"testing"
	"unicode/utf16"
)

// Sizes of a partition table (UEFI specification, chapter 5), in bytes and in sectors.
const (
	sector       = 512
	headerSize   = 92
	entrySize    = 128
	entries      = 128
	entrySectors = entries * entrySize / sector
)

// linuxData is the type of a partition for data, as it stands on disk.
var linuxData = [16]byte{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}

// A Partition is from the start of one MiB of a disk to that of another.
type Partition struct{ From, To int64 }

// GPT writes a partition table on a disk, both copies of it. The kernel has to be told to
// look at it.
func GPT(t testing.TB, disk string, partitions ...Partition) {
	t.Helper()
	if err := writeGPT(disk, partitions); err != nil {
		t.Fatalf("making a partition table on %s: %v", disk, err)
	}
}

func writeGPT(disk string, partitions []Partition) error {
	file, err := os.OpenFile(disk, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	last := size/sector - 1
	table, id := table(partitions), random()
	for at, content := range map[int64][]byte{
		0:                   protectiveMBR(last),
		1:                   header(id, 1, last, 2, table),
		2:                   table,
		last - entrySectors: table,
		last:                header(id, last, 1, last-entrySectors, table),
	} {
		if _, err := file.WriteAt(content, at*sector); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

func random() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

func table(partitions []Partition) []byte {
	const mib = 1 << 20 / sector
	var b bytes.Buffer
	for i, p := range partitions {
		id := random()
		b.Write(linuxData[:])
		b.Write(id[:])
		put(&b, uint64(p.From*mib), uint64(p.To*mib-1), uint64(0), utf16.Encode([]rune{'a' + rune(i)}))
		b.Write(make([]byte, (i+1)*entrySize-b.Len()))
	}
	b.Write(make([]byte, entries*entrySize-b.Len()))
	return b.Bytes()
}

// header is the one at sector own, of which the other copy is at sector other.
func header(id [16]byte, own, other, at int64, table []byte) []byte {
	write := func(sum uint32) []byte {
		var b bytes.Buffer
		b.WriteString("EFI PART")
		put(&b, uint32(1<<16), uint32(headerSize), sum, uint32(0), uint64(own), uint64(other), uint64(2+entrySectors), uint64(max(own, other)-entrySectors-1))
		b.Write(id[:])
		put(&b, uint64(at), uint32(entries), uint32(entrySize), crc32.ChecksumIEEE(table))
		return b.Bytes()
	}
	return append(write(crc32.ChecksumIEEE(write(0))), make([]byte, sector-headerSize)...)
}

// protectiveMBR tells older programs that the disk is taken.
func protectiveMBR(last int64) []byte {
	mbr := make([]byte, sector)
	copy(mbr[446:], []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	binary.LittleEndian.PutUint32(mbr[458:], uint32(last))
	copy(mbr[510:], []byte{0x55, 0xaa})
	return mbr
}

func put(b *bytes.Buffer, values ...any) {
	for _, value := range values {
		_ = binary.Write(b, binary.LittleEndian, value) // into memory
	}
}
