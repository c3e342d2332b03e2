// Package provisiontest has a node for tests: the fake LVM with volume groups, the
// device files that its volumes would have, and a Provisioner over both.
package provisiontest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/utils/clock"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/lvm/lvmtest"
	"github.com/open-local/open-local/pkg/provision"
)

// Node is one node. Its fields may be replaced before New is called.
type Node struct {
	*lvmtest.Fake
	*provision.Provisioner
	Counter *hostexec.Counter // of every process the Provisioner starts
	Devices *Devices
	Groups  Managed
	Disks   *Disks
	// Standing is what the Provisioner remembers.
	Standing *provision.Standing
	Making   *begun.Volumes // outlives the process

	t      testing.TB
	killer *Killer // nil where nobody dies
	dead   atomic.Bool
	after  sync.Map // func() by command
}

// New returns a node with managed groups of the given sizes.
func New(t testing.TB, groups map[string]capacity.Bytes) *Node {
	t.Helper()
	n := &Node{Fake: lvmtest.NewFake(), Groups: Managed{}, t: t, Making: begun.NewVolumes(t.TempDir())}
	for name, size := range groups {
		n.AddGroup(name, "/dev/disk-"+name, size)
		n.Groups[name] = size
	}
	n.Counter = hostexec.NewCounter(n.mortal())
	n.Devices = &Devices{
		fake: n.Fake, zeroed: map[string]bool{}, content: map[string]string{}, renewed: map[string]Renewal{}, mounted: map[string]func(){},
	}
	n.Disks = newDisks(t, func() *Killer { return n.killer })
	n.Restart()
	t.Cleanup(func() { n.Close() })
	return n
}

// Restart replaces the process that provisions; the disks stay as they are.
func (n *Node) Restart() {
	if n.Provisioner != nil {
		n.Close()
	}
	n.dead.Store(false)
	n.Standing = provision.NewStanding()
	logical := &provision.Logical{
		Standing: n.Standing,
		Host:     lvm.New(n.Counter), Devices: n.Devices, Managed: n.Groups, Prefer: allocator.Binpack, Clock: clock.RealClock{},
		Copier: n.Devices, FileSystems: n.Devices, Scratch: "/scratch",
		Making: n.Making,
	}
	if err := logical.Recall(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	n.Counter.Reset() // looking back is done once, when the process begins
	n.Provisioner = provision.New(n.t.Context(), logical, n.Disks.wholes()...)
}

// Volumes returns "group/name" of every volume on the node, ordered.
func (n *Node) Volumes() []string {
	n.t.Helper()
	report, err := n.Host().Report(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, group := range report.Groups {
		for _, v := range group.Volumes {
			names = append(names, group.Name+"/"+v.Name)
		}
	}
	return names
}

// Volume returns one volume as LVM has it.
func (n *Node) Volume(group, name string) lvm.Volume {
	n.t.Helper()
	v, err := n.Host().Volume(context.Background(), group, name)
	if err != nil {
		n.t.Fatal(err)
	}
	return v
}

// Managed are the groups a node manages, and how much of each.
type Managed map[string]capacity.Bytes

// Managed returns m.
func (m Managed) Managed() (map[string]capacity.Bytes, error) {
	if m == nil {
		return nil, provision.ErrNotReady
	}
	return m, nil
}

// Devices are the device files of the fake's active volumes.
type Devices struct {
	// Zeroing, when set, is called while a device is being zeroed.
	Zeroing func(ctx context.Context, path string) error
	// Discarding is Zeroing for a device that is being discarded.
	Discarding func(ctx context.Context, path string) error
	// Requests is into how many requests discarding any device is divided.
	Requests int64
	// Copying, when set, is called in the middle of a copy, and Renewing while the file
	// system of one is made its own.
	Copying  func(ctx context.Context, source, target string) error
	Renewing func(ctx context.Context, device string) error

	fake    *lvmtest.Fake
	mu      sync.Mutex // guards what follows
	zeroed  map[string]bool
	content map[string]string  // by UUID of the volume
	renewed map[string]Renewal // by UUID of the volume
	mounted map[string]func()  // what unmounts, by directory

	announced []string
}

// volume returns the volume whose device file is at path.
func (d *Devices) volume(path string) (lvm.Volume, error) {
	group, name, _ := strings.Cut(strings.TrimPrefix(path, "/dev/"), "/")
	v, err := d.fake.Host().Volume(context.Background(), group, name)
	if err != nil || !d.fake.Reachable(group, name) {
		return lvm.Volume{}, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return v, nil
}

// Exists reports whether there is a device at path.
func (d *Devices) Exists(path string) (bool, error) {
	_, err := d.volume(path)
	return err == nil, nil
}

// Size returns the size of the device at path.
func (d *Devices) Size(path string) (capacity.Bytes, error) {
	v, err := d.volume(path)
	if err != nil {
		return 0, err
	}
	return d.fake.Shows(v.Group, v.Name), nil
}

// Announce keeps that the device at path changed.
func (d *Devices) Announce(path string) error {
	if _, err := d.volume(path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.announced = append(d.announced, path)
	return nil
}

// Announced returns the devices that were announced.
func (d *Devices) Announced() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.announced)
}

// alone returns the volume whose device file is at path, if nobody has it open.
func (d *Devices) alone(path string) (lvm.Volume, error) {
	v, err := d.volume(path)
	if err == nil && v.Attr[5] == 'o' {
		err = fmt.Errorf("%s: %w", path, unix.EBUSY)
	}
	return v, err
}

// Zero wipes the device at path.
func (d *Devices) Zero(ctx context.Context, path string, progress func(done, size capacity.Bytes)) error {
	v, err := d.alone(path)
	if err != nil {
		return err
	}
	if d.Zeroing != nil {
		if err := d.Zeroing(ctx, path); err != nil {
			return err
		}
	}
	progress(v.Size, v.Size)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zeroed[v.UUID] = true
	return nil
}

// Discards returns d.Requests.
func (d *Devices) Discards(path string) (int64, error) {
	_, err := d.volume(path)
	return d.Requests, err
}

// Discard forgets what is on the device at path.
func (d *Devices) Discard(ctx context.Context, path string, progress func(done, size capacity.Bytes)) error {
	v, err := d.alone(path)
	if err != nil {
		return err
	}
	if d.Requests == 0 {
		return errors.ErrUnsupported
	}
	if d.Discarding != nil {
		if err := d.Discarding(ctx, path); err != nil {
			return err
		}
	}
	progress(v.Size, v.Size)
	return nil
}

// Zeroed reports whether the device at path shows nothing of former tenants.
func (d *Devices) Zeroed(path string) bool {
	v, err := d.volume(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	return err == nil && d.zeroed[v.UUID]
}
