// Package begun remembers, over restarts, which changes of devices, and which logical
// volumes, were begun and are not known to have ended. Whoever finds one half done can
// tell by it that it was its own work, and go on. It refuses to know what the changes are,
// and what is on a device is no matter to it.
package begun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// File is where a host keeps the journal, in its root.
const File = "/var/lib/open-local/begun.json"

// A Change is of one device.
type Change struct {
	ID       string `json:"id"`                 // who the device is
	What     string `json:"what"`               // what it is to become
	Contents string `json:"contents,omitempty"` // what was on it, where that was to go
	// Done is when the change ended, of one that is remembered until somebody else was
	// told.
	Done *time.Time `json:"done,omitempty"`
	// Device is what the device was called when the change ended.
	Device string `json:"device,omitempty"`
}

func (c Change) same(other Change) bool {
	return c.ID == other.ID && c.What == other.What && c.Contents == other.Contents
}

// A Journal holds the changes of one host. What is written is on disk when a call returns, or was
// not written at all. One goroutine of one process writes.
type Journal struct {
	path string
}

// New returns the journal of the host whose root file system is at root.
func New(root string) *Journal { return &Journal{path: filepath.Join(root, File)} }

// List returns all changes in the order in which they were begun. A journal that cannot be
// read is an error.
func (j *Journal) List() ([]Change, error) {
	data, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was begun: %w", err)
	}
	var all []Change
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("reading what was begun: parsing %s: %w", j.path, err)
	}
	return all, nil
}

// Put remembers changes. One of the same device, to become the same, is replaced.
func (j *Journal) Put(changes ...Change) error { return j.edit(changes, changes) }

// Forget makes the journal know nothing of changes.
func (j *Journal) Forget(changes ...Change) error { return j.edit(changes, nil) }

// edit takes changes out and puts others in, and writes nothing where that is no news.
func (j *Journal) edit(out, in []Change) error {
	all, err := j.List()
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(all), func(c Change) bool { return slices.ContainsFunc(out, c.same) })
	if len(in) == 0 && len(left) == len(all) {
		return nil
	}
	if err := j.write(append(left, in...)); err != nil {
		return fmt.Errorf("remembering what was begun: %w", err)
	}
	return nil
}

func (j *Journal) write(all []Change) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Dir(j.path), filepath.Base(j.path), append(data, '\n'))
}
