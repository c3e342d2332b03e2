package blockdev

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
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
	device, size, err := h.open(path)
	if err != nil {
		return err
	}
	defer func() { _ = device.Close() }()
	if err := binary.Write(w, binary.LittleEndian, size); err != nil {
		return err
	}
	for _, edge := range edges(device, size) {
		if _, err := io.Copy(w, edge); err != nil {
			return err
		}
	}
	return nil
}

// open opens a device for looking, and returns its size in bytes.
func (h *Host) open(path string) (*os.File, int64, error) {
	seen, err := devfile.Root(h.root).Resolve(path)
	if err != nil {
		return nil, 0, err
	}
	device, err := os.OpenFile(seen, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, errors.Join(err, device.Close())
	}
	return device, size, nil
}

// edges returns both ends of a device, the first one first.
func edges(device io.ReaderAt, size int64) []io.Reader {
	length := min(int64(contentsEdge), size)
	return []io.Reader{io.NewSectionReader(device, 0, length), io.NewSectionReader(device, size-length, length)}
}

// data returns where on a device without signatures and partitions there is something all
// the same: a database that has the device for itself, what is encrypted without a
// heading, or what is left when only signatures were taken away. A disk that is new, was
// told to forget what it held or was filled with zeros shows one and the same byte
// throughout, most often zero, and what cannot be read is not proven to be nothing.
func (h *Host) data(e Evidence) string {
	if len(e.Signatures)+len(e.Partitions) > 0 {
		return ""
	}
	device, size, err := h.open(e.Resolved)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	defer func() { _ = device.Close() }()
	for i, edge := range edges(device, size) {
		where := []string{"in its first MiB", "in its last MiB"}[i]
		switch uniform, err := isUniform(edge); {
		case err != nil:
			return fmt.Sprintf("%s (%v)", where, err)
		case !uniform:
			return where
		}
	}
	return ""
}

// isUniform reports whether all of r is one and the same byte, again and again.
func isUniform(r io.Reader) (bool, error) {
	buffer, first := make([]byte, 64<<10), -1
	for {
		n, err := r.Read(buffer)
		if n > 0 && first < 0 {
			first = int(buffer[0])
		}
		if bytes.Count(buffer[:n], []byte{byte(max(first, 0))}) != n {
			return false, nil
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}
