package blockcopy

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/bits"
)

// What is read of ext2, ext3 and ext4 (the kernel's Documentation/filesystems/ext4).
const (
	extSuperAt   = 1024 // of the super block, from the start of the device
	extSuperSize = 1024

	extStateClean = 1 // s_state: unmounted, no errors, no orphans

	extCompatJournal = 0x4

	extIncompatMetaBG   = 0x10
	extIncompat64Bit    = 0x80
	extIncompatCsumSeed = 0x2000
	// Those that leave the bitmaps as they are: filetype, meta_bg, extents, 64bit,
	// flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt and casefold.
	// Not among them is needs_recovery (0x4): the bitmaps may be in the journal.
	extIncompatKnown = 0x2 | extIncompatMetaBG | 0x40 | extIncompat64Bit | 0x200 | 0x400 |
		extIncompatCsumSeed | 0x4000 | 0x8000 | 0x10000 | 0x20000

	extSparseSuper  = 0x1
	extGdtCsum      = 0x10
	extMetadataCsum = 0x400
	// Beside these: large_file, huge_file, dir_nlink, extra_isize, quota, read-only,
	// project, verity and orphan_present. Not among them is bigalloc (0x200), whose
	// bitmaps count something else.
	extROKnown = extSparseSuper | 0x2 | 0x8 | extGdtCsum | 0x20 | 0x40 | 0x100 | extMetadataCsum | 0x1000 | 0x2000 | 0x8000 | 0x10000

	extCompatSparseSuper2 = 0x200

	extBlockUninit = 0x2 // bg_flags: the bitmap was never written; nothing but metadata is in use
)

func extMagic(head []byte) bool {
	return binary.LittleEndian.Uint16(head[extSuperAt+0x38:]) == 0xEF53
}

// ext is a file system whose map is being read.
type ext struct {
	r    io.ReaderAt
	used *useMap

	block, blocks, first int64 // size of a block, how many there are, the first in a group
	perGroup, groups     int64
	inodeTable           int64 // blocks of one
	reserved             int64 // blocks kept for a longer list of groups
	descSize             int64
	firstMeta            int64 // from this group of descriptors on they are spread out
	seed                 uint32
	uuid                 []byte
	compat, incompat, ro uint32

	descriptors   []byte // the block of them that was read last,
	descriptorsAt int64  // and where it lies
}

func mapExt(r io.ReaderAt, size int64, head []byte) (*useMap, error) {
	e := &ext{r: r, used: newUseMap(size)}
	if err := e.readSuper(head[extSuperAt:extSuperAt+extSuperSize], size); err != nil {
		return nil, err
	}
	for group := range e.groups {
		if err := e.readGroup(group); err != nil {
			return nil, err
		}
	}
	return e.used, nil
}

func (e *ext) readSuper(s []byte, size int64) error {
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(s[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(s[at:])) }
	e.compat, e.incompat, e.ro = uint32(u32(0x5C)), uint32(u32(0x60)), uint32(u32(0x64))
	if err := e.checkFeatures(s); err != nil {
		return err
	}
	e.uuid = s[0x68:0x78]
	e.seed = extSum(^uint32(0), e.uuid)
	if e.incompat&extIncompatCsumSeed != 0 {
		e.seed = uint32(u32(0x270))
	}
	e.descSize, e.blocks = 32, u32(0x4)
	if e.incompat&extIncompat64Bit != 0 {
		e.descSize = u16(0xFE)
		e.blocks |= u32(0x150) << 32
	}
	if logBlock := u32(0x18); logBlock > 2 || u32(0x1C) != logBlock {
		return doubt("ext block size of 2^%d KiB, clusters of 2^%d", logBlock, u32(0x1C))
	}
	e.block = 1024 << u32(0x18)
	e.first, e.perGroup, e.reserved, e.firstMeta = u32(0x14), u32(0x20), u16(0xCE), u32(0x104)
	if e.incompat&extIncompatMetaBG == 0 {
		e.firstMeta = int64(^uint32(0)) // never
	}
	return e.checkGeometry(u32(0x28), u16(0x58), size)
}

// checkFeatures doubts a file system that is not wholly understood or not at rest.
func (e *ext) checkFeatures(s []byte) error {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(s[at:]) }
	summed := e.ro&extMetadataCsum != 0
	switch state := binary.LittleEndian.Uint16(s[0x3A:]); {
	case u32(0x4C) != 1:
		return doubt("ext revision %d", u32(0x4C))
	case e.incompat&^extIncompatKnown != 0:
		return doubt("ext incompat features %#x", e.incompat&^extIncompatKnown)
	case e.ro&^extROKnown != 0:
		return doubt("ext ro_compat features %#x", e.ro&^extROKnown)
	case e.compat&extCompatSparseSuper2 != 0:
		return doubt("ext with sparse_super2")
	case state != extStateClean:
		return doubt("ext state %#x is not clean", state)
	case e.compat&extCompatJournal != 0 && u32(0xE0) == 0:
		return doubt("the journal is on another device")
	case summed && s[0x175] != 1:
		return doubt("ext checksum type %d", s[0x175])
	case summed && extSum(^uint32(0), s[:0x3FC]) != u32(0x3FC):
		return doubt("the super block has a wrong checksum")
	}
	return nil
}

func (e *ext) checkGeometry(inodesPerGroup, inodeSize, size int64) error {
	switch {
	case e.perGroup != 8*e.block:
		return doubt("%d blocks in an ext group, not %d", e.perGroup, 8*e.block)
	case e.first != 0 && e.block != 1024, e.first != 1 && e.block == 1024:
		return doubt("an ext of blocks of %d bytes begins at block %d", e.block, e.first)
	case e.blocks <= e.first || e.blocks > size/e.block:
		return doubt("an ext of %d blocks of %d bytes on a device of %d bytes", e.blocks, e.block, size)
	case e.descSize != 32 && e.descSize != 64:
		return doubt("ext descriptors of %d bytes", e.descSize)
	case inodesPerGroup < 1 || inodesPerGroup > 8*e.block, inodeSize < 128 || inodeSize > e.block:
		return doubt("%d inodes of %d bytes in an ext group", inodesPerGroup, inodeSize)
	case e.reserved > e.block/4:
		return doubt("%d blocks reserved for ext descriptors", e.reserved)
	}
	e.groups = (e.blocks - e.first + e.perGroup - 1) / e.perGroup
	e.inodeTable = (inodesPerGroup*inodeSize + e.block - 1) / e.block
	return nil
}

// extSum is the checksum as the kernel chains it, without the inversion at its ends.
func extSum(seed uint32, p []byte) uint32 { return ^crc32.Update(^seed, castagnoli, p) }

// groupStart returns the first block of a group.
func (e *ext) groupStart(group int64) int64 { return e.first + group*e.perGroup }

// groupBlocks returns how many blocks a group has; the last may have fewer.
func (e *ext) groupBlocks(group int64) int64 {
	return min(e.perGroup, e.blocks-e.groupStart(group))
}

// useBlocks marks blocks as used. Those that do not exist are a doubt.
func (e *ext) useBlocks(first, count int64) error {
	if first < e.first || count < 0 || first > e.blocks-count {
		return doubt("ext metadata at the blocks %d to %d of %d", first, first+count, e.blocks)
	}
	e.used.use(first*e.block, count*e.block)
	return nil
}

// extGroup is a group's descriptor.
type extGroup struct {
	blockBitmap, inodeBitmap, inodeTable int64
	free                                 int64
	flags                                uint16
	bitmapSum                            uint32
	bitmapSumMask                        uint32 // 16 bits only in a short descriptor
}

// readGroup marks what is in use in one group, and the metadata that describes it,
// wherever that lies.
func (e *ext) readGroup(group int64) error {
	g, err := e.descriptor(group)
	if err != nil {
		return err
	}
	for _, part := range [][2]int64{{g.blockBitmap, 1}, {g.inodeBitmap, 1}, {g.inodeTable, e.inodeTable}} {
		if err := e.useBlocks(part[0], part[1]); err != nil {
			return err
		}
	}
	if g.flags&extBlockUninit != 0 && e.ro&(extGdtCsum|extMetadataCsum) != 0 {
		return e.useBlocks(e.groupStart(group), min(e.backups(group), e.groupBlocks(group)))
	}
	return e.readBitmap(group, g)
}

func (e *ext) readBitmap(group int64, g extGroup) error {
	bitmap := make([]byte, e.block)
	if _, err := e.r.ReadAt(bitmap, g.blockBitmap*e.block); err != nil {
		return err
	}
	if e.ro&extMetadataCsum != 0 && extSum(e.seed, bitmap)&g.bitmapSumMask != g.bitmapSum {
		return doubt("the block bitmap of ext group %d has a wrong checksum", group)
	}
	begin, count, taken := e.groupStart(group), e.groupBlocks(group), int64(0)
	for i := int64(0); i*8 < count; i++ {
		octet := bitmap[i]
		if rest := count - i*8; rest < 8 {
			octet &= 1<<rest - 1
		}
		if octet != 0 {
			taken += int64(bits.OnesCount8(octet))
			e.used.use((begin+i*8)*e.block, min(8, count-i*8)*e.block)
		}
	}
	if free := count - taken; free != g.free {
		return doubt("ext group %d has %d free blocks and claims %d", group, free, g.free)
	}
	return nil
}

// backups returns how many blocks at the start of a group whose bitmap was never
// written hold copies of the super block and the descriptors.
func (e *ext) backups(group int64) int64 {
	perBlock := e.block / e.descSize
	all := (e.groups + perBlock - 1) / perBlock
	super := int64(0)
	if e.hasSuper(group) {
		super = 1
	}
	switch {
	case group/perBlock >= e.firstMeta:
		return super + 1
	case super == 0:
		return 0
	}
	return super + min(all, e.firstMeta) + e.reserved
}

// hasSuper reports whether a group begins with a copy of the super block.
func (e *ext) hasSuper(group int64) bool {
	if e.ro&extSparseSuper == 0 || group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		power := base
		for power < group {
			power *= base
		}
		if power == group {
			return true
		}
	}
	return false
}

// descriptorBlock returns the block in which the descriptor of a group lies.
func (e *ext) descriptorBlock(group int64) int64 {
	perBlock := e.block / e.descSize
	if group/perBlock < e.firstMeta {
		return e.first + 1 + group/perBlock
	}
	home := group - group%perBlock
	at := e.groupStart(home)
	if e.hasSuper(home) {
		at++
	}
	return at
}

func (e *ext) descriptor(group int64) (extGroup, error) {
	at := e.descriptorBlock(group)
	if err := e.useBlocks(at, 1); err != nil {
		return extGroup{}, err
	}
	if at != e.descriptorsAt {
		e.descriptors = make([]byte, e.block)
		if _, err := e.r.ReadAt(e.descriptors, at*e.block); err != nil {
			return extGroup{}, err
		}
		e.descriptorsAt = at
	}
	offset := group % (e.block / e.descSize) * e.descSize
	d := e.descriptors[offset : offset+e.descSize]
	if sum := binary.LittleEndian.Uint16(d[0x1E:]); !e.descriptorSum(uint32(group), d, sum) {
		return extGroup{}, doubt("the descriptor of ext group %d has a wrong checksum", group)
	}
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(d[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(d[at:])) }
	g := extGroup{
		blockBitmap: u32(0), inodeBitmap: u32(4), inodeTable: u32(8), free: u16(0xC),
		flags: uint16(u16(0x12)), bitmapSum: uint32(u16(0x18)), bitmapSumMask: 0xFFFF,
	}
	if e.descSize == 64 {
		g.blockBitmap |= u32(0x20) << 32
		g.inodeBitmap |= u32(0x24) << 32
		g.inodeTable |= u32(0x28) << 32
		g.free |= u16(0x2C) << 16
		g.bitmapSum |= uint32(u16(0x38)) << 16
		g.bitmapSumMask = ^uint32(0)
	}
	return g, nil
}

// descriptorSum reports whether a descriptor has the checksum it should have.
func (e *ext) descriptorSum(group uint32, d []byte, want uint16) bool {
	number := binary.LittleEndian.AppendUint32(nil, group)
	switch {
	case e.ro&extMetadataCsum != 0:
		sum := extSum(extSum(e.seed, number), d[:0x1E])
		sum = extSum(sum, []byte{0, 0})
		return uint16(extSum(sum, d[0x20:])) == want
	case e.ro&extGdtCsum != 0:
		sum := crc16(crc16(crc16(^uint16(0), e.uuid), number), d[:0x1E])
		return crc16(sum, d[0x20:]) == want
	}
	return true
}

// crc16 is the checksum of descriptors in file systems with uninit_bg (polynomial
// 0x8005, least bit first).
func crc16(sum uint16, p []byte) uint16 {
	for _, b := range p {
		sum ^= uint16(b)
		for range 8 {
			carry := sum & 1
			sum >>= 1
			if carry != 0 {
				sum ^= 0xA001
			}
		}
	}
	return sum
}
