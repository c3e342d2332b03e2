package blockdev

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// A Finding is what a survey found out about one device.
type Finding struct {
	Evidence
	Err error // why nothing is proven; there is no evidence then
}

// Survey finds out about many devices what Inspect does, by kernel name, and is made to
// be repeated: a device that is not blank by what the kernel says is not looked at
// further, and the signatures of one to which nothing was written since the last survey
// are those seen then. So it is good for telling, and not for acting upon.
func (h *Host) Survey(ctx context.Context, devices []Device) (map[string]Finding, error) {
	used, err := h.uses()
	if err != nil {
		return nil, fmt.Errorf("surveying block devices: %w", err)
	}
	found := make(map[string]Finding, len(devices))
	there := map[uint64]bool{}
	for i := range devices {
		d := &devices[i]
		e, err := h.survey(ctx, d, used)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("surveying block devices: %w", context.Cause(ctx))
		}
		if err != nil {
			found[d.KernelName] = Finding{Err: fmt.Errorf("inspecting device %q: %w", d.Path, err)}
			continue
		}
		found[d.KernelName], there[numberOf(d)] = Finding{Evidence: e}, true
	}
	h.seen.keep(there)
	return found, nil
}

func (h *Host) survey(ctx context.Context, d *Device, used uses) (Evidence, error) {
	e := Evidence{Path: d.Path}
	seen, err := h.locate(&e)
	if err != nil || !e.IsBlock {
		return e, err
	}
	if e.Major != d.Major || e.Minor != d.Minor {
		return Evidence{}, fmt.Errorf("it is another device than a moment ago")
	}
	if err := h.kernelSays(&e, used); err != nil || len(Objections(e)) > 0 {
		return e, err
	}
	if e.Busy, err = busy(seen); err != nil || e.Busy {
		return e, err
	}
	dir, err := h.sysfs(e.Major, e.Minor)
	if err != nil {
		return Evidence{}, err
	}
	before := writes(dir)
	if all, known := h.seen.recall(numberOf(d), before); known {
		e.Signatures = all
		return e, nil
	}
	if e.Signatures, err = h.signatures(ctx, e.Resolved); err == nil {
		h.seen.remember(numberOf(d), before, e.Signatures)
	}
	return e, err
}

// writes returns what differs when anything was written to the device described in
// dir, or it is another device: how much has been written and discarded, what the
// kernel numbered it when it appeared, and when that was. It is empty where the kernel
// does not count.
func writes(dir string) string {
	disk := dir
	if exists(dir, "partition") {
		disk = filepath.Dir(dir) // what is written to a disk may go to its partition
	}
	if fact(disk, "queue/iostats") != "1" {
		return ""
	}
	info, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	appeared, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	stamp := []string{fmt.Sprint(appeared.Ino), fact(disk, "diskseq"), fact(dir, "size")}
	for _, of := range []string{dir, disk} {
		fields := strings.Fields(fact(of, "stat")) // Documentation/block/stat.rst of the kernel
		if len(fields) < 11 {
			return ""
		}
		stamp = append(stamp, fields[4:7]...)
		if len(fields) >= 15 {
			stamp = append(stamp, fields[11:14]...)
		}
	}
	return strings.Join(stamp, " ")
}

// memory holds the signatures that surveys saw.
type memory struct {
	mu sync.Mutex           // guards of
	of map[uint64]signature // by device number
}

type signature struct {
	stamp string
	all   []Signature
}

func (m *memory) recall(number uint64, stamp string) ([]Signature, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen, ok := m.of[number]
	return seen.all, ok && stamp != "" && seen.stamp == stamp
}

func (m *memory) remember(number uint64, stamp string, all []Signature) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[uint64]signature{}
	}
	m.of[number] = signature{stamp: stamp, all: all}
}

// keep forgets all devices but those.
func (m *memory) keep(there map[uint64]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for number := range m.of {
		if !there[number] {
			delete(m.of, number)
		}
	}
}
