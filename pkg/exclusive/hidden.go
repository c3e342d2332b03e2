package exclusive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/open-local/open-local/pkg/volume"
)

// Hidden knows what the devices are called now that volumes have: what is on them is
// their tenants' and nothing for the host to read.
type Hidden struct {
	Book *Book
	Host devices
	Root string // the host's root file system as this process sees it

	mu     sync.Mutex
	facts  string // of which names was the answer
	called []string
}

// Names returns the paths in /dev of the devices that volumes have. It starts a process
// (lsblk) only when the host's devices, or those that volumes have, changed since. With an
// error come the names that were known last.
func (h *Hidden) Names(ctx context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	names, err := h.names(ctx)
	if err != nil {
		return h.called, fmt.Errorf("finding the devices that volumes have: %w", err)
	}
	h.called = names
	return names, nil
}

func (h *Hidden) names(ctx context.Context) ([]string, error) {
	records, err := h.Book.List()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range records {
		if r.Kind == volume.Device {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		h.facts = ""
		return nil, nil
	}
	facts, err := h.factsOf(ids, h.called)
	if err != nil {
		return nil, err
	}
	if facts == h.facts {
		return h.called, nil
	}
	all, err := h.Host.Devices(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range all {
		if all[i].ID != "" && slices.Contains(ids, all[i].ID) {
			names = append(names, all[i].Path)
		}
	}
	h.facts, err = h.factsOf(ids, names)
	return names, err
}

// factsOf returns what changes when devices with these names may be others: the list of
// all disks and partitions, and the number that the kernel (from 5.15 on) gives to each
// disk that appears and to no other.
func (h *Hidden) factsOf(ids, names []string) (string, error) {
	partitions, err := os.ReadFile(filepath.Join(h.Root, "proc/partitions"))
	if err != nil {
		return "", err
	}
	facts := append(slices.Clone(ids), string(partitions))
	for _, name := range names {
		sequence, err := os.ReadFile(filepath.Join(h.Root, "sys/class/block", filepath.Base(name), "diskseq"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		facts = append(facts, name, string(sequence))
	}
	return strings.Join(facts, "\n"), nil
}
