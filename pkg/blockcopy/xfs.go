package blockcopy

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// What is read of xfs, of version 5 alone (the kernel's fs/xfs/libxfs/xfs_format.h).
const (
	xfsVersion = 5

	xfsIncompatMetaUUID = 0x4
	// ftype, spinodes, meta_uuid, bigtime, nrext64, exchrange and parent. Not among
	// them is needsrepair (0x10).
	xfsIncompatKnown = 0x1 | 0x2 | xfsIncompatMetaUUID | 0x8 | 0x20 | 0x40 | 0x80
	xfsROKnown       = 0x1 | 0x2 | 0x4 | 0x8 // finobt, rmapbt, reflink, inobtcount

	xfsSuperSum = 224 // where its checksum stands
	xfsFreeSum  = 216 // that of an AGF
	xfsBlockSum = 52  // that of a block of a short B-tree

	xfsBlockHeader = 56
	xfsMaxLevels   = 9
)

// xfs is a file system whose map is being read.
type xfs struct {
	r    io.ReaderAt
	used *useMap

	block, sector, blocks int64
	agBlocks, agCount     int64
	logStart, logBlocks   int64 // of the journal, in blocks from the start of the device
	uuid                  []byte
}

func mapXFS(r io.ReaderAt, size int64, head []byte) (*useMap, error) {
	x := &xfs{r: r, used: newUseMap(size)}
	if err := x.readSuper(head, size); err != nil {
		return nil, err
	}
	if err := x.readLog(); err != nil {
		return nil, err
	}
	x.used.use(0, x.blocks*x.block)
	for ag := range x.agCount {
		if err := x.readFree(ag); err != nil {
			return nil, err
		}
	}
	return x.used, nil
}

func (x *xfs) readSuper(head []byte, size int64) error {
	s := head
	u16 := func(at int) int64 { return int64(binary.BigEndian.Uint16(s[at:])) }
	u32 := func(at int) int64 { return int64(binary.BigEndian.Uint32(s[at:])) }
	u64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(s[at:])) }
	x.block, x.sector, x.blocks = u32(4), u16(102), u64(8)
	x.agBlocks, x.agCount = u32(84), u32(88)
	x.logBlocks = u32(96)
	x.uuid = s[32:48]
	if u32(216)&xfsIncompatMetaUUID != 0 {
		x.uuid = s[248:264]
	}
	if err := checkXFSFeatures(s); err != nil {
		return err
	}
	switch {
	case x.block < 1024 || x.block > 65536 || x.block != 1<<s[120]:
		return doubt("xfs blocks of %d bytes", x.block)
	case x.sector < 512 || x.sector > start || x.sector&(x.sector-1) != 0 || x.sector > x.block:
		return doubt("xfs sectors of %d bytes", x.sector)
	case !summed(s[:x.sector], xfsSuperSum):
		return doubt("the super block has a wrong checksum")
	case x.blocks < 1 || x.blocks > size/x.block:
		return doubt("an xfs of %d blocks of %d bytes on a device of %d bytes", x.blocks, x.block, size)
	case x.agBlocks < 64 || x.agCount != (x.blocks+x.agBlocks-1)/x.agBlocks:
		return doubt("%d xfs groups of %d blocks", x.agCount, x.agBlocks)
	}
	return x.locateLog(uint64(u64(48)), uint(s[124]))
}

// checkXFSFeatures doubts a file system that is not wholly understood.
func checkXFSFeatures(s []byte) error {
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(s[at:]) }
	incompat, ro, log := u32(216), u32(212), u32(220)
	switch version := binary.BigEndian.Uint16(s[100:]) & 0xF; {
	case version != xfsVersion:
		return doubt("xfs version %d", version)
	case incompat&^xfsIncompatKnown != 0, ro&^xfsROKnown != 0, log != 0:
		return doubt("xfs features incompat %#x, ro_compat %#x, log %#x", incompat, ro, log)
	case s[126] != 0:
		return doubt("the xfs is unfinished")
	case binary.BigEndian.Uint64(s[16:]) != 0, binary.BigEndian.Uint64(s[24:]) != 0:
		return doubt("the xfs has a realtime device")
	}
	return nil
}

// locateLog finds the journal, which is given as a group and a block in it.
func (x *xfs) locateLog(at uint64, agShift uint) error {
	if at == 0 || agShift > 31 || int64(1)<<agShift < x.agBlocks {
		return doubt("the journal is on another device, or 2^%d blocks are in an xfs group of %d", agShift, x.agBlocks)
	}
	group, inGroup := at>>agShift, int64(at&(1<<agShift-1))
	if group >= uint64(x.agCount) || inGroup+x.logBlocks > x.agBlocks {
		return doubt("the journal at group %d block %d", group, inGroup)
	}
	x.logStart = int64(group)*x.agBlocks + inGroup
	if x.logBlocks < 1 || x.logStart+x.logBlocks > x.blocks {
		return doubt("a journal of %d xfs blocks", x.logBlocks)
	}
	return nil
}

// summed reports whether a structure has the checksum it says.
func summed(p []byte, at int) bool {
	sum := crc32.Update(0, castagnoli, p[:at])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, castagnoli, p[at+4:])
	return sum == binary.LittleEndian.Uint32(p[at:])
}

// xfsGroup is an allocation group, of whose free space the B-tree by block number is
// walked.
type xfsGroup struct {
	number, length int64
	lone           bool  // the root of its tree is a leaf: the only one that may be empty
	free           int64 // blocks that have been found free
	next           int64 // nothing may be free below this any more: the walk is in order
}

func (x *xfs) readFree(number int64) error {
	agf := make([]byte, x.sector)
	if _, err := x.r.ReadAt(agf, number*x.agBlocks*x.block+x.sector); err != nil {
		return err
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(agf[at:]) }
	length := min(x.agBlocks, x.blocks-number*x.agBlocks)
	root, levels := u32(16), u32(28)
	switch {
	case string(agf[:4]) != "XAGF" || u32(4) != 1 || int64(u32(8)) != number || !bytes.Equal(agf[64:80], x.uuid):
		return doubt("the free space of xfs group %d is not where it should be", number)
	case !summed(agf, xfsFreeSum):
		return doubt("the header of xfs group %d has a wrong checksum", number)
	case int64(u32(12)) != length:
		return doubt("xfs group %d has %d blocks, not %d", number, u32(12), length)
	case levels < 1 || levels > xfsMaxLevels:
		return doubt("the free space of xfs group %d has %d levels", number, levels)
	}
	group := &xfsGroup{number: number, length: length, lone: levels == 1}
	if err := x.walk(group, root, int(levels)-1); err != nil {
		return err
	}
	if group.free != int64(u32(52)) {
		return doubt("xfs group %d has %d free blocks and claims %d", number, group.free, u32(52))
	}
	return nil
}

// walk takes what a B-tree below a block says is free off the map. It ends however
// the tree is: each leaf must lie behind the one before, and each block has one.
func (x *xfs) walk(g *xfsGroup, at uint32, level int) error {
	if at == 0 || int64(at) >= g.length {
		return doubt("a block of free space at %d in xfs group %d", at, g.number)
	}
	b := make([]byte, x.block)
	address := (g.number*x.agBlocks + int64(at)) * x.block
	if _, err := x.r.ReadAt(b, address); err != nil {
		return err
	}
	records := int64(binary.BigEndian.Uint16(b[6:]))
	most := (x.block - xfsBlockHeader) / 8
	if level > 0 {
		most = (x.block - xfsBlockHeader) / 12
	}
	switch {
	case string(b[:4]) != "AB3B" || int(binary.BigEndian.Uint16(b[4:])) != level,
		binary.BigEndian.Uint64(b[16:]) != uint64(address/512), int64(binary.BigEndian.Uint32(b[48:])) != g.number,
		!bytes.Equal(b[32:48], x.uuid):
		return doubt("block %d in xfs group %d is not of its free space", at, g.number)
	case !summed(b, xfsBlockSum):
		return doubt("block %d in xfs group %d has a wrong checksum", at, g.number)
	case records > most, records == 0 && !g.lone:
		return doubt("block %d in xfs group %d has %d records", at, g.number, records)
	case level == 0:
		return x.readLeaf(g, b[xfsBlockHeader:xfsBlockHeader+8*records])
	}
	children := b[xfsBlockHeader+8*most:]
	for i := range records {
		if err := x.walk(g, binary.BigEndian.Uint32(children[4*i:]), level-1); err != nil {
			return err
		}
	}
	return nil
}

func (x *xfs) readLeaf(g *xfsGroup, records []byte) error {
	for ; len(records) > 0; records = records[8:] {
		first, count := int64(binary.BigEndian.Uint32(records)), int64(binary.BigEndian.Uint32(records[4:]))
		if first == 0 || count == 0 || first < g.next || first+count > g.length {
			return doubt("%d free blocks at %d in xfs group %d", count, first, g.number)
		}
		x.used.free((g.number*x.agBlocks+first)*x.block, count*x.block)
		g.free += count
		g.next = first + count
	}
	return nil
}
