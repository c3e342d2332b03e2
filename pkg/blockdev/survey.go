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
	// Contents stands for what is on an idle device that is not blank, see there.
	Contents string
	Err      error // why nothing is proven; there is no evidence then
}

// Survey finds out about many devices what Inspect does, by kernel name, and is made to
// be repeated: a device that is not blank by what the kernel says is not looked at
// further, and what is on one to which nothing was written since the last survey
// is what was seen then. So it is good for telling, and not for acting upon. Of devices for
// which kernelOnly is true it tells what the kernel says and asks nothing of them.
func (h *Host) Survey(ctx context.Context, devices []Device, kernelOnly func(Device) bool) (map[string]Finding, error) {
	used, err := h.uses()
	if err != nil {
		return nil, fmt.Errorf("surveying block devices: %w", err)
	}
	found := make(map[string]Finding, len(devices))
	there := map[uint64]bool{}
	for i := range devices {
		d := &devices[i]
		finding, err := h.survey(ctx, d, used, kernelOnly(*d))
		if ctx.Err() != nil {
			return nil, fmt.Errorf("surveying block devices: %w", context.Cause(ctx))
		}
		if err != nil {
			found[d.KernelName] = Finding{Err: fmt.Errorf("inspecting device %q: %w", d.Path, err)}
			continue
		}
		found[d.KernelName], there[numberOf(d)] = finding, true
	}
	h.seen.keep(there)
	return found, nil
}

func (h *Host) survey(ctx context.Context, d *Device, used uses, kernelOnly bool) (Finding, error) {
	f := Finding{Evidence: Evidence{Path: d.Path}}
	seen, err := h.locate(&f.Evidence)
	if err != nil || !f.IsBlock {
		return f, err
	}
	if f.Major != d.Major || f.Minor != d.Minor {
		return Finding{}, fmt.Errorf("it is another device than a moment ago")
	}
	if err := h.kernelSays(&f.Evidence, used); err != nil || kernelOnly || !idle(f.Evidence) {
		return f, err
	}
	if f.Busy, err = busy(seen); err != nil || f.Busy {
		return f, err
	}
	dir, err := h.sysfs(f.Major, f.Minor)
	if err != nil {
		return Finding{}, err
	}
	before := writes(dir)
	if on, known := h.seen.recall(numberOf(d), before); known {
		f.Signatures, f.Data, f.Contents = on.signatures, on.data, on.contents
		return f, nil
	}
	if err := h.read(ctx, &f); err != nil {
		return Finding{}, err
	}
	h.seen.remember(numberOf(d), content{before, f.Signatures, f.Data, f.Contents})
	return f, nil
}

// read finds out what is on an idle device.
func (h *Host) read(ctx context.Context, f *Finding) error {
	var err error
	if f.Signatures, err = h.signatures(ctx, f.Resolved); err != nil {
		return err
	}
	f.Data = h.data(f.Evidence)
	if len(f.Signatures)+len(f.Partitions) > 0 || f.Data != "" {
		f.Contents, err = h.Contents(f.Evidence)
	}
	return err
}

// idle reports whether nothing that the kernel knows keeps the device from being asked
// what is on it.
func idle(e Evidence) bool {
	for _, o := range Objections(e) {
		if o.Reason != HasPartitions {
			return false
		}
	}
	return true
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

// memory holds what surveys saw on devices.
type memory struct {
	mu sync.Mutex         // guards of
	of map[uint64]content // by device number
}

// content is what was seen on a device when stamp was what had been written to it.
type content struct {
	stamp      string
	signatures []Signature
	data       string
	contents   string
}

func (m *memory) recall(number uint64, stamp string) (content, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen, ok := m.of[number]
	return seen, ok && stamp != "" && seen.stamp == stamp
}

func (m *memory) remember(number uint64, seen content) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[uint64]content{}
	}
	m.of[number] = seen
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
