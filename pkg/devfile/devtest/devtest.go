// Package devtest makes devices that tests have written to blank again, as whoever looks
// at one wants it: nothing at either end. It knows no device but those that it is told.
package devtest

import (
	"errors"
	"io"
	"os"
	"testing"
)

// edge is how much of either end is cleared, in bytes: more than anybody looks at.
const edge = 4 << 20

// Blank fills both ends of devices with zeros, whatever is on them.
func Blank(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := blank(path); err != nil {
			t.Errorf("making %s blank: %v", path, err)
		}
	}
}

func blank(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	zeros := make([]byte, min(edge, size))
	_, first := file.WriteAt(zeros, 0)
	_, last := file.WriteAt(zeros, size-int64(len(zeros)))
	return errors.Join(first, last, file.Sync(), file.Close())
}
