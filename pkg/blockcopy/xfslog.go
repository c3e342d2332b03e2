package blockcopy

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// The journal of xfs (the kernel's fs/xfs/libxfs/xfs_log_format.h). The map of free
// space can be relied on when nothing is left in it to be written elsewhere: after an
// unmount, and in a snapshot of a mounted file system too. For that the kernel was
// asked to freeze it: then all has been written back, and it journals the super block
// once more so that the journal does not look clean.
const (
	logSector  = 512
	logMagic   = 0xFEEDBABE
	logFormat  = 1 // of what is inside: written by a little-endian machine
	logHeader  = 328
	logExt     = 260       // of a further header, one for each
	logPerHead = 64        // sectors that one header keeps the first words of
	logMost    = 256 << 10 // of one record
	logRecords = 64        // left in a journal before it counts as not written back

	logStart   = 0x01
	logCommit  = 0x02
	logUnmount = 0x20

	logBuffer      = 0x123C     // type of an item: a part of a metadata buffer
	logTransaction = 0x5452414E // begins a transaction
)

// xfsLog is a journal: a ring of records, each written over the oldest. The cycle
// counts how often the ring was filled; each sector begins with it.
type xfsLog struct {
	r       io.ReaderAt
	at      int64 // on the device, in bytes
	sectors int64
	sector  int64 // of the file system: how long the super block is

	head  int64  // the sector that will be written next
	cycle uint32 // of the sectors before head
	last  int64  // the sector where the last record begins
	old   int64  // the last sector behind head where one begins
}

// readLog tells whether the journal leaves the map of free space to be relied on.
func (x *xfs) readLog() error {
	l := &xfsLog{r: x.r, at: x.logStart * x.block, sectors: x.logBlocks * x.block / logSector, sector: x.sector}
	if err := l.findHead(); err != nil {
		return err
	}
	last, err := l.record(l.last)
	if err != nil {
		return err
	}
	if last.next != l.head%l.sectors {
		return doubt("the last record of the journal ends at sector %d, the journal at %d", last.next, l.head)
	}
	if last.count == 1 && len(last.data) >= 12 && last.data[9]&logUnmount != 0 {
		return nil
	}
	return l.onlySuper(last.tail)
}

// findHead finds where the sectors of one cycle end, behind which those of the
// cycle before must follow without exception.
func (l *xfsLog) findHead() error {
	l.head, l.last, l.old = l.sectors, -1, -1
	chunk := make([]byte, defaultGrain)
	for first := int64(0); first < l.sectors; first += defaultGrain / logSector {
		chunk = chunk[:min(defaultGrain, (l.sectors-first)*logSector)]
		if _, err := l.r.ReadAt(chunk, l.at+first*logSector); err != nil {
			return err
		}
		for i := range int64(len(chunk) / logSector) {
			if err := l.place(first+i, chunk[i*logSector:]); err != nil {
				return err
			}
		}
	}
	if l.last < 0 {
		l.last = l.old
	}
	if l.last < 0 {
		return doubt("the journal has no record")
	}
	return nil
}

// place takes in the sector after those it was called for before.
func (l *xfsLog) place(i int64, sector []byte) error {
	cycle, begins := binary.BigEndian.Uint32(sector), false
	if cycle == logMagic {
		cycle, begins = binary.BigEndian.Uint32(sector[4:]), true
	}
	switch {
	case i == 0:
		l.cycle = cycle
	case cycle == l.cycle-1 && l.head == l.sectors:
		l.head = i
	}
	before := i < l.head
	switch {
	case cycle == 0 && before, before && cycle != l.cycle, !before && cycle != l.cycle-1:
		return doubt("sector %d of the journal has cycle %d, the first has %d", i, cycle, l.cycle)
	case begins && before:
		l.last = i
	case begins:
		l.old = i
	}
	return nil
}

// logRecord is what one write to the journal put there.
type logRecord struct {
	tail  uint64 // the oldest record that is not written back: cycle and sector
	count uint32 // of operations
	data  []byte // the operations
	next  int64  // the sector behind it
}

// record reads the record that begins at a sector.
func (l *xfsLog) record(at int64) (logRecord, error) {
	h, err := l.read(at, 1)
	if err != nil {
		return logRecord{}, err
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	length, size := int64(u32(12)), int64(u32(320))
	cycle := l.cycle
	if at >= l.head {
		cycle--
	}
	switch {
	case u32(0) != logMagic, u32(8) != 2, u32(300) != logFormat, u32(4) != cycle:
		return logRecord{}, doubt("no record begins at sector %d of the journal", at)
	case binary.BigEndian.Uint64(h[16:]) != uint64(cycle)<<32|uint64(at):
		return logRecord{}, doubt("the record at sector %d of the journal is of another place", at)
	case length < 12 || length > logMost || size > logMost:
		return logRecord{}, doubt("the record at sector %d of the journal has %d bytes", at, length)
	}
	heads := max(1, (size+logPerHead*logSector-1)/(logPerHead*logSector))
	sectors := (length + logSector - 1) / logSector
	if sectors > heads*logPerHead || heads+sectors > l.sectors {
		return logRecord{}, doubt("the record at sector %d of the journal has %d bytes and %d headers", at, length, heads)
	}
	all, err := l.read(at, heads+sectors)
	if err != nil {
		return logRecord{}, err
	}
	record := logRecord{
		tail: binary.BigEndian.Uint64(h[24:]), count: u32(40),
		data: all[heads*logSector:], next: (at + heads + sectors) % l.sectors,
	}
	if want := binary.LittleEndian.Uint32(h[32:]); want != 0 && logSum(all, heads, length) != want {
		return logRecord{}, doubt("the record at sector %d of the journal has a wrong checksum", at)
	}
	for i := range sectors {
		from := 44 + 4*i
		if i >= logPerHead {
			from = i/logPerHead*logSector + 4 + 4*(i%logPerHead)
		}
		copy(record.data[i*logSector:], all[from:from+4])
	}
	record.data = record.data[:length]
	return record, nil
}

// logSum is the checksum of a record as it lies on disk.
func logSum(all []byte, heads, length int64) uint32 {
	sum := crc32.Update(0, castagnoli, all[:32])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, castagnoli, all[36:logHeader])
	for i := int64(1); i < (length+logPerHead*logSector-1)/(logPerHead*logSector); i++ {
		sum = crc32.Update(sum, castagnoli, all[i*logSector:i*logSector+logExt])
	}
	return crc32.Update(sum, castagnoli, all[heads*logSector:heads*logSector+length])
}

// read reads sectors, from the start of the ring again behind its end.
func (l *xfsLog) read(at, count int64) ([]byte, error) {
	p := make([]byte, count*logSector)
	first := min(count, l.sectors-at)
	if _, err := l.r.ReadAt(p[:first*logSector], l.at+at*logSector); err != nil || first == count {
		return p, err
	}
	_, err := l.r.ReadAt(p[first*logSector:], l.at)
	return p, err
}

// onlySuper tells whether the records from tail on change the super block alone.
func (l *xfsLog) onlySuper(tail uint64) error {
	at := int64(uint32(tail))
	if at >= l.sectors {
		return doubt("the tail of the journal is at sector %d of %d", at, l.sectors)
	}
	state := logState{sector: l.sector}
	for range logRecords {
		record, err := l.record(at)
		if err != nil {
			return err
		}
		if err := state.follow(record); err != nil {
			return err
		}
		if at = record.next; at == l.head%l.sectors {
			if state.open {
				return doubt("a transaction in the journal has no end")
			}
			return nil
		}
	}
	return doubt("the journal has more than %d records that may not be written back", logRecords)
}

// logState is where in a transaction the reader is.
type logState struct {
	sector  int64
	open    bool   // a transaction has begun,
	id      uint32 // that one,
	named   bool   // and has said what it is
	regions int    // what is left of the item that is being read
}

func (s *logState) follow(record logRecord) error {
	data := record.data
	for range record.count {
		if len(data) < 12 {
			return doubt("an operation in the journal is cut short")
		}
		id, length, flags := binary.BigEndian.Uint32(data), int64(binary.BigEndian.Uint32(data[4:])), data[9]
		if length > int64(len(data)-12) {
			return doubt("an operation in the journal is cut short")
		}
		if err := s.operation(id, flags, data[12:12+length]); err != nil {
			return err
		}
		data = data[12+length:]
	}
	return nil
}

func (s *logState) operation(id uint32, flags byte, region []byte) error {
	switch {
	case flags == logUnmount:
		return nil
	case flags == logStart && !s.open && len(region) == 0:
		*s = logState{sector: s.sector, open: true, id: id}
		return nil
	case !s.open || id != s.id:
		return doubt("an operation in the journal is of a transaction that has not begun")
	case flags == logCommit && s.named && s.regions == 0:
		s.open = false
		return nil
	case flags != 0:
		return doubt("an operation in the journal is of kind %#x", flags)
	case !s.named:
		s.named = len(region) >= 16 && binary.LittleEndian.Uint32(region) == logTransaction
		if !s.named {
			return doubt("a transaction in the journal does not say what it is")
		}
		return nil
	case s.regions > 0:
		s.regions--
		return nil
	}
	return s.item(region)
}

// item begins an item of a transaction, which must be the super block.
func (s *logState) item(format []byte) error {
	if len(format) < 20 {
		return doubt("an item in the journal is cut short")
	}
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(format[at:])) }
	if u16(0) != logBuffer || u16(2) < 1 || u16(6)*logSector != s.sector || binary.LittleEndian.Uint64(format[8:]) != 0 {
		return doubt("the journal holds what is not written back: an item of type %#x", u16(0))
	}
	s.regions = int(u16(2)) - 1
	return nil
}
