package blockdev

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
)

// contentsEdge is how much of either end of a device counts as its contents. Whoever
// mounts a file system, or writes a table, changes something there.
const contentsEdge = capacity.MiB

// Contents returns what stands for all that is on a device, and on its partitions, at
// this moment: 16 digits that are others as soon as anybody has used it. Two devices
// with the same on them may have the same.
func (h *Host) Contents(e Evidence) (string, error) {
	sum := sha256.New()
	paths := []string{e.Resolved}
	for _, partition := range e.Partitions {
		paths = append(paths, "/dev/"+partition)
	}
	for _, path := range paths {
		if err := h.addEdges(sum, path); err != nil {
			return "", fmt.Errorf("reading what is on %s: %w", path, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// addEdges writes the size of a device and both its ends to w.
func (h *Host) addEdges(w io.Writer, path string) error {
	seen, err := devfile.Root(h.root).Resolve(path)
	if err != nil {
		return err
	}
	device, err := os.OpenFile(seen, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = device.Close() }()
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := binary.Write(w, binary.LittleEndian, size); err != nil {
		return err
	}
	edge := min(int64(contentsEdge), size)
	for _, at := range []int64{0, size - edge} {
		if _, err := io.Copy(w, io.NewSectionReader(device, at, edge)); err != nil {
			return err
		}
	}
	return nil
}
