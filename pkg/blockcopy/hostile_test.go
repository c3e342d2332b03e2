package blockcopy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/open-local/open-local/pkg/hostexec"
)

// disk is a device of which a test changes bytes.
type disk struct {
	io.ReaderAt
	size    int64
	changes []change
	reads   int
}

// change is bytes that stand in place of others.
type change struct {
	at    int64
	bytes []byte
}

func (d *disk) ReadAt(p []byte, at int64) (int, error) {
	d.reads++
	n, err := d.ReaderAt.ReadAt(p, at)
	for _, c := range d.changes {
		first, end := max(c.at, at), min(c.at+int64(len(c.bytes)), at+int64(n))
		if first < end {
			copy(p[first-at:end-at], c.bytes[first-c.at:])
		}
	}
	return n, err
}

// made returns a file system that mkfs made in a file.
func made(t testing.TB, size int64, mkfs ...string) *disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := hostexec.OnHost("/").Run(t.Context(), mkfs[0], append(mkfs[1:], path)...); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return &disk{ReaderAt: file, size: size}
}

func le16(n uint16) []byte { return binary.LittleEndian.AppendUint16(nil, n) }
func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// resum puts right the checksum of an xfs structure that was changed.
func (d *disk) resum(t *testing.T, at, length int64, sum int) {
	t.Helper()
	p := make([]byte, length)
	if _, err := d.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	copy(p[sum:], []byte{0, 0, 0, 0})
	d.changes = append(d.changes, change{at + int64(sum), le32(crc32.Checksum(p, castagnoli))})
}

// wantDoubt wants a map not to be relied on, and not to take long.
func (d *disk) wantDoubt(t *testing.T) {
	t.Helper()
	d.reads = 0
	_, _, err := mapUsed(d, d.size)
	if !errors.Is(err, errDoubt) {
		t.Errorf("got %v, want a doubt", err)
	} else {
		t.Log(err)
	}
	if d.reads > 5000 {
		t.Errorf("it took %d reads", d.reads)
	}
}

func TestADoubtfulExtIsNotFollowed(t *testing.T) {
	const super, groups = 1024, 4096 // of blocks of 4 KiB
	plain := made(t, 160<<20, "mkfs.ext4", "-q", "-b", "4096", "-O", "^metadata_csum,^uninit_bg")
	summed := made(t, 160<<20, "mkfs.ext4", "-q", "-b", "4096")
	for name, test := range map[string]struct {
		of      *disk
		changes []change
	}{
		"mounted when the node died":       {plain, []change{{super + 0x60, le32(0x2C6)}}},
		"errors":                           {plain, []change{{super + 0x3A, le16(3)}}},
		"not unmounted":                    {plain, []change{{super + 0x3A, le16(0)}}},
		"an unknown incompat feature":      {plain, []change{{super + 0x60, le32(0x802C2)}}},
		"an unknown ro_compat feature":     {plain, []change{{super + 0x64, le32(0x40000)}}},
		"a journal elsewhere":              {plain, []change{{super + 0xE0, le32(0)}}},
		"revision 0":                       {plain, []change{{super + 0x4C, le32(0)}}},
		"huge blocks":                      {plain, []change{{super + 0x18, le32(0xFFFFFFFF)}}},
		"clusters":                         {plain, []change{{super + 0x1C, le32(4)}}},
		"no blocks":                        {plain, []change{{super + 0x4, le32(0)}}},
		"more blocks than the device has":  {plain, []change{{super + 0x4, le32(1 << 20)}}},
		"2^63 blocks":                      {plain, []change{{super + 0x150, le32(0xFFFFFFFF)}}},
		"no blocks in a group":             {plain, []change{{super + 0x20, le32(0)}}},
		"eight blocks in a group":          {plain, []change{{super + 0x20, le32(8)}}},
		"another first block":              {plain, []change{{super + 0x14, le32(7)}}},
		"short descriptors":                {plain, []change{{super + 0xFE, le16(0)}}},
		"long descriptors":                 {plain, []change{{super + 0xFE, le16(4096)}}},
		"no inodes":                        {plain, []change{{super + 0x28, le32(0)}}},
		"too many inodes":                  {plain, []change{{super + 0x28, le32(0xFFFFFFFF)}}},
		"inodes larger than blocks":        {plain, []change{{super + 0x58, le16(8192)}}},
		"all blocks reserved":              {plain, []change{{super + 0xCE, le16(0xFFFF)}}},
		"a bitmap behind the end":          {plain, []change{{groups, le32(0x7FFFFFFF)}}},
		"a bitmap at 2^63":                 {plain, []change{{groups + 0x20, le32(0xFFFFFFFF)}}},
		"an inode table that does not fit": {plain, []change{{groups + 8, le32(40959)}}},
		"a group that claims less":         {plain, []change{{groups + 0xC, le16(3)}}},
		"a bitmap of zeros":                {plain, []change{{groups, le32(20000)}}},
		"one bit in the super block":       {summed, []change{{super + 0x78, []byte{1}}}},
		"one bit in a descriptor":          {summed, []change{{groups + 0x14, []byte{1}}}},
		"another bitmap":                   {summed, []change{{groups, le32(20000)}}},
		"an unknown checksum":              {summed, []change{{super + 0x175, []byte{2}}}},
		"the signature of xfs as well":     {summed, []change{{0, []byte("XFSB")}}},
		"a device that was cut":            {summed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := *test.of
			d.changes = test.changes
			if name == "a device that was cut" {
				d.size /= 2
			}
			d.wantDoubt(t)
		})
	}
}

// xfsDisk is an xfs whose first group has free space in a tree of one leaf.
type xfsDisk struct {
	*disk
	leaf, log int64
}

func newXFSDisk(t *testing.T) xfsDisk {
	d := made(t, 320<<20, "mkfs.xfs", "-q", "-f", "-s", "size=512")
	agf, super := make([]byte, 512), make([]byte, 512)
	_, errAGF := d.ReadAt(agf, 512)
	_, errSuper := d.ReadAt(super, 0)
	if err := errors.Join(errAGF, errSuper); err != nil {
		t.Fatal(err)
	}
	start := binary.BigEndian.Uint64(super[48:])
	group, shift := start>>super[124], super[124]
	log := int64(group)*int64(binary.BigEndian.Uint32(super[84:])) + int64(start&(1<<shift-1))
	return xfsDisk{d, int64(binary.BigEndian.Uint32(agf[16:])) * 4096, log * 4096}
}

func TestADoubtfulXFSIsNotFollowed(t *testing.T) {
	x := newXFSDisk(t)
	if _, _, err := mapUsed(x.disk, x.size); err != nil {
		t.Fatal(err)
	}
	const agf = 512
	node := slices.Concat(be16(1), be16(1))                                            // level 1, one record
	child := be32(uint32(x.leaf / 4096))                                               // itself
	many := slices.Concat(be16(1), be16(300))                                          // level 1, 300 records,
	children := bytes.Repeat(child, 300)                                               // all of them itself
	empty := slices.Concat(be16(0), be16(0))                                           // level 0, no record
	block := func(offset int64, p []byte) change { return change{x.leaf + offset, p} } // of the tree
	for name, test := range map[string]struct {
		changes []change
		sum     string // of what the checksum is made right
	}{
		"another version":                   {[]change{{100, be16(0xB4A4)}}, "super"},
		"an unknown incompat feature":       {[]change{{216, be32(0x10003)}}, "super"},
		"needs repair":                      {[]change{{216, be32(0x13)}}, "super"},
		"an unknown ro_compat feature":      {[]change{{212, be32(0x10)}}, "super"},
		"a feature of the journal":          {[]change{{220, be32(1)}}, "super"},
		"unfinished":                        {[]change{{126, []byte{1}}}, "super"},
		"no blocks":                         {[]change{{8, be64(0)}}, "super"},
		"2^63 blocks":                       {[]change{{8, be64(1 << 63)}}, "super"},
		"2^40 blocks":                       {[]change{{8, be64(1 << 40)}}, "super"},
		"blocks of no bytes":                {[]change{{4, be32(0)}}, "super"},
		"huge blocks":                       {[]change{{4, be32(1 << 31)}}, "super"},
		"no sectors":                        {[]change{{102, be16(0)}}, "super"},
		"huge sectors":                      {[]change{{102, be16(32768)}}, ""},
		"no blocks in a group":              {[]change{{84, be32(0)}}, "super"},
		"other groups":                      {[]change{{88, be32(5)}}, "super"},
		"a realtime device":                 {[]change{{16, be64(100)}}, "super"},
		"a journal elsewhere":               {[]change{{48, be64(0)}}, "super"},
		"a journal behind the end":          {[]change{{48, be64(1 << 62)}}, "super"},
		"a journal of no blocks":            {[]change{{96, be32(0)}}, "super"},
		"a journal that does not fit":       {[]change{{96, be32(1 << 31)}}, "super"},
		"shifts beyond any number":          {[]change{{124, []byte{255}}}, "super"},
		"a wrong checksum":                  {[]change{{108, []byte("label")}}, ""},
		"a group with a wrong checksum":     {[]change{{agf + 56, be32(1)}}, ""},
		"a group of another number":         {[]change{{agf + 8, be32(1)}}, "agf"},
		"a group of another size":           {[]change{{agf + 12, be32(77)}}, "agf"},
		"a group that claims more":          {[]change{{agf + 52, be32(1)}}, "agf"},
		"a tree without levels":             {[]change{{agf + 28, be32(0)}}, "agf"},
		"a tree of 2^32 levels":             {[]change{{agf + 28, be32(1<<32 - 1)}}, "agf"},
		"a tree behind the end":             {[]change{{agf + 16, be32(1 << 31)}}, "agf"},
		"a tree in the super block":         {[]change{{agf + 16, be32(0)}}, "agf"},
		"a tree in another":                 {[]change{{agf + 16, be32(2)}}, "agf"},
		"a leaf with a wrong checksum":      {[]change{block(56, be32(77))}, ""},
		"a leaf of another group":           {[]change{block(48, be32(1))}, "leaf"},
		"a leaf of another place":           {[]change{block(16, be64(16000))}, "leaf"},
		"more records than fit":             {[]change{block(6, be16(0xFFFF))}, "leaf"},
		"free space in the super block":     {[]change{block(56, be32(0))}, "leaf"},
		"free space of no length":           {[]change{block(60, be32(0))}, "leaf"},
		"free space behind the end":         {[]change{block(60, be32(1<<32-1))}, "leaf"},
		"no free space where there is some": {[]change{block(6, be16(0))}, "leaf"},
		"free space twice":                  {[]change{block(6, be16(2)), block(56, slices.Concat(be32(100), be32(10), be32(100), be32(10)))}, "leaf"},
		"a node that is its own child":      {[]change{{agf + 28, be32(9)}, block(4, node), block(56+8*336, child)}, "both"},
		"a node of many that are itself":    {[]change{{agf + 28, be32(2)}, block(4, many), block(56+8*336, children)}, "both"},
		"a tree of empty leaves":            {[]change{{agf + 28, be32(2)}, block(4, empty)}, "both"},
		"no journal where it should be":     {[]change{{x.log, make([]byte, 512)}}, ""},
		"a journal of another cycle":        {[]change{{x.log + 4, be32(0xFFFFFFFF)}}, ""},
		"a journal with a hole":             {[]change{{x.log + 512, be32(0)}}, ""},
		"a journal with a later sector":     {[]change{{x.log + 1<<20, be32(9)}}, ""},
		"a record of another place":         {[]change{{x.log + 16, be64(1<<32 + 7)}}, ""},
		"a record of no bytes":              {[]change{{x.log + 12, be32(0)}}, ""},
		"a record of 2^32 bytes":            {[]change{{x.log + 12, be32(1<<32 - 1)}}, ""},
		"a record of many headers":          {[]change{{x.log + 320, be32(1<<32 - 1)}}, ""},
		"a record of another machine":       {[]change{{x.log + 300, be32(3)}}, ""},
		"a record with a wrong checksum":    {[]change{{x.log + 32, be32(3)}}, ""},
		"a tail behind the end":             {[]change{{x.log + 24, be64(1<<32 | 1<<31)}, {x.log + 521, []byte{0}}}, ""},
		"an operation that is cut short":    {[]change{{x.log + 516, be32(1 << 30)}, {x.log + 521, []byte{0}}}, ""},
		"a transaction without a start":     {[]change{{x.log + 516, be32(0)}, {x.log + 521, []byte{0}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := *x.disk
			d.changes = test.changes
			if test.sum == "super" {
				d.resum(t, 0, 512, xfsSuperSum)
			}
			if test.sum == "agf" || test.sum == "both" {
				d.resum(t, agf, 512, xfsFreeSum)
			}
			if test.sum == "leaf" || test.sum == "both" {
				d.resum(t, x.leaf, 4096, xfsBlockSum)
			}
			d.wantDoubt(t)
		})
	}
}

// operation is one of the journal.
func operation(id uint32, flags byte, region ...byte) []byte {
	return slices.Concat(be32(id), be32(uint32(len(region))), []byte{0x69, flags, 0, 0}, region)
}

func TestOnlyTheSuperBlockMayStandInAJournal(t *testing.T) {
	name := append(le32(logTransaction), make([]byte, 12)...)
	item := func(kind, regions, length uint16, at uint64) []byte {
		return slices.Concat(le16(kind), le16(regions), le16(0), le16(length), binary.LittleEndian.AppendUint64(nil, at), le32(1))
	}
	super := item(logBuffer, 2, 1, 0)
	for name, test := range map[string]struct {
		operations [][]byte
		harmless   bool
	}{
		"the super block":              {[][]byte{operation(7, logStart), operation(7, 0, name...), operation(7, 0, super...), operation(7, 0, 1, 2, 3, 4), operation(7, logCommit)}, true},
		"the super block twice":        {[][]byte{operation(7, logStart), operation(7, 0, name...), operation(7, 0, super...), operation(7, 0, 1), operation(7, 0, super...), operation(7, 0, 1), operation(7, logCommit)}, true},
		"nothing":                      {nil, true},
		"another block":                {[][]byte{operation(7, logStart), operation(7, 0, name...), operation(7, 0, item(logBuffer, 2, 1, 1)...)}, false},
		"an inode":                     {[][]byte{operation(7, logStart), operation(7, 0, name...), operation(7, 0, item(0x123B, 2, 1, 0)...)}, false},
		"more than the super block":    {[][]byte{operation(7, logStart), operation(7, 0, name...), operation(7, 0, item(logBuffer, 2, 8, 0)...)}, false},
		"an item that is cut short":    {[][]byte{operation(7, logStart), operation(7, 0, name...), operation(7, 0, super[:4]...)}, false},
		"an end before the data":       {[][]byte{operation(7, logStart), operation(7, 0, name...), operation(7, 0, super...), operation(7, logCommit)}, false},
		"a transaction without a name": {[][]byte{operation(7, logStart), operation(7, 0, super...)}, false},
		"an operation of another":      {[][]byte{operation(7, logStart), operation(8, 0, name...)}, false},
		"two at once":                  {[][]byte{operation(7, logStart), operation(8, logStart)}, false},
		"no beginning":                 {[][]byte{operation(7, 0, name...)}, false},
		"one that goes on elsewhere":   {[][]byte{operation(7, logStart), operation(7, 4, name...)}, false},
		"half an operation":            {[][]byte{{1, 2, 3}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			state := logState{sector: 512}
			err := state.follow(logRecord{count: uint32(len(test.operations)), data: slices.Concat(test.operations...)})
			if (err == nil) != test.harmless || err != nil && !errors.Is(err, errDoubt) {
				t.Errorf("got %v, harmless: %t", err, test.harmless)
			}
		})
	}
}

func FuzzMap(f *testing.F) {
	ext := made(f, 64<<20, "mkfs.ext4", "-q")
	old := made(f, 64<<20, "mkfs.ext2", "-q")
	xfs := made(f, 320<<20, "mkfs.xfs", "-q", "-f")
	f.Add(uint8(0), int64(1024+0x20), []byte{1})
	f.Add(uint8(1), int64(4096), []byte{255, 255, 255, 255})
	f.Add(uint8(2), int64(84), []byte{0, 0, 0, 64})
	f.Add(uint8(2), int64(512+16), []byte{0, 0, 0, 2})
	f.Add(uint8(3), int64(0), []byte("XFSB"))
	f.Fuzz(func(t *testing.T, which uint8, at int64, p []byte) {
		images := []*disk{ext, old, xfs, {ReaderAt: bytes.NewReader(make([]byte, 1<<20)), size: 1 << 20}}
		d := *images[int(which)%len(images)]
		d.changes = []change{{at, p}}
		used, name, err := mapUsed(&d, d.size)
		switch {
		case err == nil && (name == "" || used.bytes() <= 0 || used.bytes() > d.size):
			t.Errorf("a map of %q of %d bytes", name, used.bytes())
		case err != nil && !errors.Is(err, errDoubt) && !errors.Is(err, io.EOF):
			t.Error(err)
		}
	})
}

func TestAUseMapTellsWhatIsUsed(t *testing.T) {
	const grain = defaultGrain
	m := newUseMap(200*grain + 100)
	m.use(0, 1)
	m.use(grain*63, 2*grain)
	m.use(grain*100-1, 2)
	m.use(200*grain, 1000)
	m.use(-5, 2)
	m.use(1<<40, 5)
	m.free(63*grain+1, grain) // no grain wholly
	m.free(64*grain-1, grain+1)
	var got [][2]int64
	for at, length := range m.runs(1 << 20) {
		got = append(got, [2]int64{at, length})
	}
	want := [][2]int64{{0, grain}, {63 * grain, grain}, {99 * grain, 2 * grain}, {200 * grain, 100}}
	if !slices.Equal(got, want) || m.bytes() != 4*grain+100 {
		t.Errorf("got %v of %d bytes, want %v", got, m.bytes(), want)
	}
	m.use(0, 1<<40)
	if m.bytes() != m.size {
		t.Errorf("all of %d bytes are %d", m.size, m.bytes())
	}
	m.free(0, m.size)
	if m.bytes() != 0 {
		t.Errorf("nothing is %d bytes", m.bytes())
	}
	if huge := newUseMap(1 << 50); huge.grain > pieceSize || len(huge.words) > maxGrains/8 {
		t.Errorf("a map of 1 PiB has %d words of grains of %d bytes", len(huge.words), huge.grain)
	}
}
