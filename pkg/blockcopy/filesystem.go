package blockcopy

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// errDoubt says that the map of what a file system uses is not to be relied on. It is
// no failure: then everything is copied.
var errDoubt = errors.New("its map of free space is not relied on")

// doubt says what is not as the reader of a map expects it.
func doubt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDoubt, fmt.Errorf(format, args...))
}

// castagnoli is the checksum of both families of file systems.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// start is how much of a device tells what file system it has.
const start = 4096

// mapUsed returns what is in use of the file system on a device, and its name. Any
// doubt is an error: no such file system, a feature unknown here, a checksum that is
// wrong, a journal that was not written back.
func mapUsed(r io.ReaderAt, size int64) (*useMap, string, error) {
	if size < start {
		return nil, "", doubt("the device has %d bytes", size)
	}
	head := make([]byte, start)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, "", err
	}
	isXFS, isExt := bytes.HasPrefix(head, []byte("XFSB")), extMagic(head)
	var used *useMap
	var err error
	name := ""
	switch {
	case isXFS && isExt:
		err = doubt("it has the signatures of two")
	case isXFS:
		name = "xfs"
		used, err = mapXFS(r, size, head)
	case isExt:
		name = "ext"
		used, err = mapExt(r, size, head)
	default:
		err = doubt("no file system that has one which is understood here")
	}
	if err != nil {
		return nil, "", err
	}
	used.use(0, start)
	return used, name, nil
}
