package provisiontest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// MountPath is where Disks have a file system mounted, and MountID which.
const (
	MountPath = "/mnt/data"
	MountID   = "fsuuid-of-mount"
)

// Garbage is on a disk that nobody recognises anything on, and that is not empty.
const Garbage = "bytes"

// Disks are the disks of a node, a file system that is mounted there, and the book of who
// has what. The book and the file system are real files, in a directory of the test. What
// needs a process of the node has a point to die at on either side.
type Disks struct {
	Given   *exclusive.Devices
	Mounted *exclusive.MountPoints
	Book    *exclusive.Book
	// Wiping, when set, is called while a disk is being wiped.
	Wiping func()

	killer func() *Killer
	root   string

	mu     sync.Mutex // guards what follows
	disks  []blockdev.Device
	on     map[string]string // what is on each disk, by identity
	open   map[string]int    // how often each disk is mounted, by identity
	binds  []string          // where the mounted file system is shown, too
	unplug bool              // the file system is not mounted
	parted bool              // its device is a partition
}

// newDisks returns disks of 1, 2 and 4 GiB: /dev/sda on ssd, /dev/sdb and /dev/sdc on hdd.
func newDisks(t testing.TB, killer func() *Killer) *Disks {
	t.Helper()
	d := &Disks{root: t.TempDir(), killer: killer, on: map[string]string{}, open: map[string]int{}}
	for i, name := range []string{"sda", "sdb", "sdc"} {
		d.disks = append(d.disks, blockdev.Device{
			Path: "/dev/" + name, KernelName: name, Type: "disk", ID: fmt.Sprintf("wwn-%d", i+1), Size: capacity.GiB << i, Rotational: i > 0,
			Major: 8, Minor: uint32(16 * i),
		})
	}
	if err := os.MkdirAll(filepath.Join(d.root, MountPath), 0o755); err != nil {
		t.Fatal(err)
	}
	d.Book = exclusive.NewBook(d.root)
	book := mortalBook{d.Book, d}
	d.Given = &exclusive.Devices{Book: book, Host: d, Wiper: d, Zero: d.zero}
	d.Mounted = &exclusive.MountPoints{Book: book, Host: d, Mounts: d, Root: devfile.Root(d.root)}
	return d
}

// wholes returns what a process that has just begun serves.
func (d *Disks) wholes() []provision.Whole {
	book := mortalBook{d.Book, d}
	return []provision.Whole{
		provision.NewDevices(d.Given, book, d, allocator.Binpack, clock.RealClock{}),
		provision.NewMountPoints(d.Mounted, book, d, allocator.Binpack),
	}
}

// pass is a point to die at.
func (d *Disks) pass(point string) error {
	if k := d.killer(); k != nil {
		return k.Pass(point)
	}
	return nil
}

func (d *Disks) at(path string) (blockdev.Device, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.disks, func(disk blockdev.Device) bool { return disk.Path == path })
	if i < 0 {
		return blockdev.Device{}, false
	}
	return d.disks[i], true
}

// At returns the disk that is called so now.
func (d *Disks) At(path string) (blockdev.Device, bool) { return d.at(path) }

// On returns what is on the disk that is called so now; empty for nothing.
func (d *Disks) On(path string) string {
	disk, _ := d.at(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.on[disk.ID]
}

// Write has something be on a disk.
func (d *Disks) Write(path, what string) {
	disk, _ := d.at(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on[disk.ID] = what
}

// Open mounts a disk or opens it for itself; what it returns ends that.
func (d *Disks) Open(path string) (release func()) {
	disk, _ := d.at(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[disk.ID]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open[disk.ID]--
	}
}

// Swap gives two disks each other's names, as a reboot may.
func (d *Disks) Swap(a, b string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.disks {
		switch d.disks[i].Path {
		case a:
			d.disks[i].Path = b
		case b:
			d.disks[i].Path = a
		}
	}
}

// Partition has every device be a partition.
func (d *Disks) Partition() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parted = true
	for i := range d.disks {
		d.disks[i].Type = "part"
	}
}

// Unplug takes a disk off the node.
func (d *Disks) Unplug(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disks = slices.DeleteFunc(d.disks, func(disk blockdev.Device) bool { return disk.Path == path })
}

// Reboot is a reboot of the node: nothing uses a disk any more.
func (d *Disks) Reboot() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.open)
	d.binds = nil
}

// Dir returns the directory that the file system at MountPath really is.
func (d *Disks) Dir() string { return filepath.Join(d.root, MountPath) }

// Show and Hide say where the mounted file system is shown to a pod, and where no more.
func (d *Disks) Show(target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.binds = append(d.binds, target)
}

// Hide ends Show.
func (d *Disks) Hide(target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.binds = slices.DeleteFunc(d.binds, func(bind string) bool { return bind == target })
}

// Umount takes the file system off MountPath, or puts it back.
func (d *Disks) Umount(off bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unplug = off
}

// Number is that of the device of the mounted file system.
func (d *Disks) Number() uint64 {
	var stat unix.Stat_t
	if err := unix.Stat(d.Dir(), &stat); err != nil {
		return 0
	}
	return stat.Dev
}

func (d *Disks) mount() mounts.Mount {
	number := d.Number()
	return mounts.Mount{
		Target: MountPath, Root: "/", FSType: "ext4", Source: "/dev/mounted",
		Major: unix.Major(number), Minor: unix.Minor(number),
	}
}

// IsMounted implements the part of a host that knows mounts.
func (d *Disks) IsMounted(target string) (mounts.Mount, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mount(), target == MountPath && !d.unplug, nil
}

// Below implements the part of a host that knows mounts.
func (d *Disks) Below(dir string) ([]mounts.Mount, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir != "/" {
		return nil, nil
	}
	all := []mounts.Mount{d.mount()}
	for _, bind := range d.binds {
		m := d.mount()
		m.Target = bind
		all = append(all, m)
	}
	return all, nil
}

// Devices returns the disks, and the device of the mounted file system.
func (d *Disks) Devices(context.Context) ([]blockdev.Device, error) {
	return d.All(), d.pass("looking at all disks")
}

// All returns what Devices does.
func (d *Disks) All() []blockdev.Device {
	number := d.Number()
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := "disk"
	if d.parted {
		kind = "part"
	}
	return append(slices.Clone(d.disks), blockdev.Device{
		Path: "/dev/mounted", Type: kind, UUID: "of-mount", Major: unix.Major(number), Minor: unix.Minor(number),
	})
}

// Owners returns which volume has what, by identity.
func (d *Disks) Owners() map[string]string {
	records, err := d.Book.List()
	if err != nil {
		return map[string]string{"the book": err.Error()}
	}
	owners := map[string]string{}
	for _, r := range records {
		owners[r.ID] = r.Volume
	}
	return owners
}

// Offers offers what an agent would.
func (d *Disks) Offers(kind volume.Kind) ([]provision.Offer, error) {
	owners := d.Owners()
	var offers []provision.Offer
	if kind == volume.MountPoint {
		entries, err := os.ReadDir(d.Dir())
		if err == nil && len(entries) == 0 && owners[MountID] == "" && !d.unplug {
			offers = append(offers, provision.Offer{Identity: MountID, Path: MountPath, Size: d.MountSize()})
		}
		return offers, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, disk := range d.disks {
		what := d.on[disk.ID]
		if owners[disk.ID] == "" && (what == "" || what == Garbage) && d.open[disk.ID] == 0 {
			offers = append(offers, provision.Offer{Identity: disk.ID, Path: disk.Path, Size: disk.Size, Media: volume.Media(disk.MediaType())})
		}
	}
	return offers, nil
}

// MountSize is what the mounted file system has.
func (d *Disks) MountSize() capacity.Bytes {
	usage, err := devfile.Root(d.root).Usage(MountPath)
	if err != nil {
		return 0
	}
	return usage.Total
}

// Contents returns what is on all disks, by identity.
func (d *Disks) Contents() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.on)
}
