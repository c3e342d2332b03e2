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

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// Hidden knows what the devices are called now that volumes have, and through which others
// they are seen: what is on them is their tenants' and nothing for the host to read.
type Hidden struct {
	Book *Book
	Host devices
	Root string // the host's root file system as this process sees it

	mu     sync.Mutex
	facts  string   // of which these were the answer
	called []string // the devices
	nodes  []string // they and their partitions, as the kernel calls them
}

// Names returns the paths in /dev of the devices that volumes have and of the loop devices
// over these and over logical volumes, and after lvm.Alias the other names of the devices
// and of their partitions. It starts a process (lsblk) only when the
// host's devices, or those that volumes have, changed since. With an error come the names
// that were known last.
func (h *Hidden) Names(ctx context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.look(ctx)
	aliases, unread := h.aliases()
	loops, unasked := h.loops()
	if err = errors.Join(err, unread, unasked); err != nil {
		err = fmt.Errorf("finding the devices that volumes have: %w", err)
	}
	return slices.Concat(h.called, loops, aliases), err
}

// loops returns the loop devices that show logical volumes, or devices that volumes have.
// LVM itself looks past the former (lvm.conf(5), devices/scan_lvs) and not past a loop device
// that kubelet puts over them; and it would wait for one whose volume is suspended.
func (h *Hidden) loops() ([]string, error) {
	all, err := devfile.Root(h.Root).Loops()
	var loops []string
	for _, l := range all {
		if l.Mapped || slices.Contains(h.nodes, "/dev/"+l.Shows) {
			loops = append(loops, l.Path)
		}
	}
	return loops, err
}

// look learns anew what the devices are called, if that may have changed.
func (h *Hidden) look(ctx context.Context) error {
	records, err := h.Book.List()
	if err != nil {
		return err
	}
	var ids []string
	for _, r := range records {
		if r.Kind == volume.Device {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		h.facts, h.called, h.nodes = "", nil, nil
		return nil
	}
	facts, err := h.factsOf(ids, h.called)
	if err != nil || facts == h.facts {
		return err
	}
	all, err := h.Host.Devices(ctx)
	if err != nil {
		return err
	}
	var names, nodes []string
	for i := range all {
		if d := &all[i]; d.ID != "" && slices.Contains(ids, d.ID) {
			names = append(names, d.Path)
			nodes = append(nodes, "/dev/"+d.KernelName)
			for j := range all {
				if all[j].Type == "part" && slices.Contains(all[j].Parents, d.KernelName) {
					nodes = append(nodes, "/dev/"+all[j].KernelName)
				}
			}
		}
	}
	facts, err = h.factsOf(ids, names)
	if err == nil {
		h.facts, h.called, h.nodes = facts, names, nodes
	}
	return err
}

// aliases returns the names besides those in called, most of them symbolic links. udev makes
// and moves these without anything that factsOf sees.
func (h *Hidden) aliases() ([]string, error) {
	if len(h.nodes) == 0 {
		return nil, nil
	}
	var aliases []string
	for _, node := range h.nodes {
		if !slices.Contains(h.called, node) {
			aliases = append(aliases, lvm.Alias+node)
		}
	}
	err := filepath.WalkDir(filepath.Join(h.Root, "dev"), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went away meanwhile
		}
		if err != nil || entry.Type() != fs.ModeSymlink {
			return err
		}
		name := h.onHost(path)
		target, err := devfile.Root(h.Root).Resolve(name)
		if err == nil && slices.Contains(h.nodes, h.onHost(target)) {
			aliases = append(aliases, lvm.Alias+name)
		}
		return nil // what links in circles leads to no device
	})
	return aliases, err
}

// onHost returns what the host calls a path of ours.
func (h *Hidden) onHost(path string) string {
	return "/" + strings.TrimPrefix(strings.TrimPrefix(path, filepath.Clean(h.Root)), "/")
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
