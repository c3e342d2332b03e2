//go:build !root

package driver_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/health"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// fakeHost is what the node's services need of a host, over the fake LVM and real
// directories: devices, file systems on them, and mounts that hold them open.
type fakeHost struct {
	node    *provisiontest.Node
	limits  *limits
	trouble trouble
	kubelet string                // its directory
	killer  *provisiontest.Killer // whom every step of the process passes

	mu       sync.Mutex // guards what follows
	contents map[string]string
	options  map[string]string         // of mkfs, by what blkid finds in contents
	filled   map[string]capacity.Bytes // how large the file system is
	mounted  map[string]*mount         // by path
	runs     map[string]int            // processes that the real thing starts
}

// mount is what is mounted at a path.
type mount struct {
	device  string // its path
	file    devfile.File
	options []string
	release func()
}

func newFakeHost(t testing.TB, groups map[string]capacity.Bytes) (*fakeHost, parts) {
	t.Helper()
	h := &fakeHost{
		node: provisiontest.New(t, groups), limits: newLimits(t), kubelet: t.TempDir(), killer: &provisiontest.Killer{},
		contents: map[string]string{}, options: map[string]string{}, filled: map[string]capacity.Bytes{},
		mounted: map[string]*mount{}, runs: map[string]int{},
	}
	p := parts{lvm: h.node.Host(), volumes: h.node.Provisioner, services: h.services(), wholes: h.reportWholes}
	for group := range groups {
		p.managed = append(p.managed, group)
	}
	return h, p
}

// services returns what a process of the node's plugin has. The volumes are those of the
// provisioner that runs now.
func (h *fakeHost) services() driver.NodeOptions {
	return driver.NodeOptions{
		Name: nodeName, Driver: volume.DefaultDriver, KubeletDir: h.kubelet, Inline: h.node.Provisioner,
		LVM: lvm.New(h.node.Counter), Files: h, Formatter: h, Mounter: h, Meter: h, Throttler: h.limits.keep(h), Events: h.limits,
		Examiner: health.NewExaminer(h, clock.RealClock{}), Standing: h.node.Standing,
		Devices: h.node.Disks.Given, MountPoints: h.node.Disks.Mounted,
	}
}

var errBusy = errors.New("device or resource busy")

// volume returns the volume whose device file is at path. A disk is one, too: its UUID
// is who it is.
func (h *fakeHost) volume(path string) (lvm.Volume, error) {
	if disk, is := h.node.Disks.At(path); is {
		return lvm.Volume{UUID: disk.ID, Size: disk.Size, KernelMajor: int(disk.Major), KernelMinor: int(disk.Minor), Active: true}, nil
	}
	group, name, _ := strings.Cut(strings.TrimPrefix(path, "/dev/"), "/")
	v, err := h.node.Host().Volume(context.Background(), group, name)
	if err != nil || !h.node.Reachable(group, name) {
		return lvm.Volume{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	return v, nil
}

func (h *fakeHost) Look(path string) (devfile.File, error) {
	if strings.HasPrefix(path, "/dev/") {
		v, err := h.volume(path)
		if err != nil {
			return devfile.File{}, err
		}
		return devfile.File{FileSystem: 1, Device: unix.Mkdev(uint32(v.KernelMajor), uint32(v.KernelMinor))}, nil
	}
	h.mu.Lock()
	m := h.mounted[path]
	h.mu.Unlock()
	if m != nil {
		return m.file, nil
	}
	if path == provisiontest.MountPath {
		return devfile.File{FileSystem: h.node.Disks.Number(), Dir: true}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return devfile.File{}, err
	}
	return devfile.File{FileSystem: 1, Dir: info.IsDir()}, nil
}

func (h *fakeHost) count(program string) { h.runs[program]++ }

// processes returns what was started since the last call, LVM and all others.
func (h *fakeHost) processes() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := maps.Clone(h.runs)
	maps.Copy(all, h.node.Counter.Runs())
	clear(h.runs)
	h.node.Counter.Reset()
	return all
}

func (h *fakeHost) Signature(_ context.Context, device string) (string, error) {
	v, err := h.volume(device)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count("blkid")
	return h.content(v), err
}

// content returns what a volume holds; a snapshot what its origin does. h.mu is held.
func (h *fakeHost) content(v lvm.Volume) string {
	if v.Origin != "" {
		v, _ = h.node.Host().Volume(context.Background(), v.Group, v.Origin)
	}
	if v.Group == "" {
		return strings.TrimSuffix(h.node.Disks.Contents()[v.UUID], provisiontest.Garbage)
	}
	return h.contents[v.UUID]
}

func (h *fakeHost) Format(ctx context.Context, device, fsType string, options ...string) error {
	if err := h.killer.Pass("before mkfs"); err != nil {
		return err
	}
	have, err := h.Signature(ctx, device)
	if err != nil {
		return err
	}
	if have != "" {
		return fmt.Errorf("%w: it holds %s", mounts.ErrNotBlank, have)
	}
	if err := h.put(device, fsType); err != nil {
		return err
	}
	v, err := h.volume(device)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.options[v.UUID], h.filled[v.UUID] = strings.Join(options, " "), v.Size
	h.mu.Unlock()
	return h.killer.Pass("after mkfs")
}

// put makes the device hold something.
func (h *fakeHost) put(device, what string) error {
	v, err := h.volume(device)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count("mkfs." + what)
	if v.Group == "" {
		h.node.Disks.Write(device, what)
		return err
	}
	h.contents[v.UUID] = what
	return err
}

func (h *fakeHost) Mount(_ context.Context, device, target, fsType string, options []string) error {
	if err := h.killer.Pass("before mount"); err != nil {
		return err
	}
	file, err := h.Look(device)
	if err != nil {
		return err
	}
	v, err := h.volume(device)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if err := h.killer.Pass("within mount"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count("mount")
	if have := h.content(v); have != fsType {
		return fmt.Errorf("mount: wrong fs type %s on %s, which holds %q", fsType, device, have)
	}
	if err := h.add(target, &mount{device: device, file: devfile.File{FileSystem: file.Device, Dir: true}, options: options}); err != nil {
		return err
	}
	return h.killer.Pass("after mount")
}

func (h *fakeHost) BindMount(_ context.Context, source, target string, options []string) error {
	if err := h.killer.Pass("before the bind mount"); err != nil {
		return err
	}
	file, err := h.Look(source)
	if err != nil {
		return err
	}
	if file.Dir {
		err = os.MkdirAll(target, 0o750)
	} else {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	device := source
	if m := h.mounted[source]; m != nil {
		device = m.device
	}
	if err := h.add(target, &mount{device: device, file: file, options: options}); err != nil {
		return err
	}
	return h.killer.Pass("after the bind mount")
}

// add mounts m and opens its device; h.mu is held.
func (h *fakeHost) add(target string, m *mount) error {
	if h.mounted[target] != nil {
		return fmt.Errorf("a second mount is stacked on %s", target)
	}
	group, name, _ := strings.Cut(strings.TrimPrefix(m.device, "/dev/"), "/")
	switch _, isDisk := h.node.Disks.At(m.device); {
	case isDisk:
		m.release = h.node.Disks.Open(m.device)
	case m.device == provisiontest.MountPath:
		h.node.Disks.Show(target)
		m.release = func() { h.node.Disks.Hide(target) }
	default:
		m.release = h.node.Open(group, name)
	}
	h.mounted[target] = m
	return nil
}

func (h *fakeHost) Unmount(_ context.Context, target string) error {
	if err := h.killer.Pass("before unmount"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.mounted[target]; m != nil {
		m.release()
		delete(h.mounted, target)
	}
	return h.killer.Pass("after unmount")
}

func (h *fakeHost) Remove(target string) error {
	if err := h.killer.Pass("before the target is removed"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mounted[target] != nil {
		return errBusy
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return h.killer.Pass("after the target is removed")
}

// reboot is a reboot of the node: nothing is mounted or active any more.
func (h *fakeHost) reboot() {
	h.node.Reboot()
	h.node.Disks.Reboot()
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.mounted)
}

func (h *fakeHost) Alive(number uint64) bool {
	if slices.ContainsFunc(h.node.Disks.All(), func(d blockdev.Device) bool { return unix.Mkdev(d.Major, d.Minor) == number }) {
		return true
	}
	report, err := h.node.Host().Report(context.Background())
	if err != nil {
		return false
	}
	for _, group := range report.Groups {
		for _, v := range group.Volumes {
			if v.Active && unix.Mkdev(uint32(v.KernelMajor), uint32(v.KernelMinor)) == number {
				return true
			}
		}
	}
	return false
}

func (h *fakeHost) at(path string) (*mount, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.mounted[path]; m != nil {
		return m, nil
	}
	return nil, &fs.PathError{Op: "statfs", Path: path, Err: fs.ErrNotExist}
}

func (h *fakeHost) Size(path string) (capacity.Bytes, error) {
	if strings.HasPrefix(path, "/dev/") {
		v, err := h.volume(path)
		return v.Size, err
	}
	m, err := h.at(path)
	if err != nil {
		return 0, err
	}
	v, err := h.volume(m.device)
	return v.Size, err
}

func (h *fakeHost) Usage(path string) (devfile.Usage, error) {
	m, err := h.at(path)
	if err != nil {
		return devfile.Usage{}, err
	}
	if m.device == provisiontest.MountPath {
		return devfile.Usage{Total: h.node.Disks.MountSize()}, nil
	}
	v, err := h.volume(m.device)
	h.mu.Lock()
	defer h.mu.Unlock()
	size := h.filled[v.UUID]
	return devfile.Usage{Total: size, Used: size / 4, Available: size - size/4, TotalInodes: 100, UsedInodes: 11, FreeInodes: 89}, err
}
