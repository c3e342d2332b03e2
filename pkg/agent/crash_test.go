package agent

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/wipe"
)

// A mortal is a station of which every program that the agent runs, and everything that
// it writes, is a chance to die, before, after, and where that leaves something half done,
// within.
type mortal struct {
	*station
	killer *provisiontest.Killer

	mu         sync.Mutex        // guards what follows
	data       map[string]string // by path: where there is what nobody recognises
	unfinished map[string]bool   // by path: an xfs that says that it was never finished
	made       map[string]int    // by path: file systems that were finished
	wiped      map[string]int    // by path: wipes that were finished
	agreed     bool              // a wipe had nothing left to look at
	inUse      map[string]bool   // by path: what some program has for itself
	noWipe     error             // why no wipe comes so far as to look
}

// The disks of a mortal. Two of them are nobody's business.
const (
	one, other    = "/dev/vdc", "/dev/vdd"
	theirs, blank = "/dev/vdy", "/dev/vdz"
)

func newMortal(t *testing.T, k *provisiontest.Killer) *mortal {
	t.Helper()
	m := &mortal{
		station: newStation(t, one, other, theirs, blank), killer: k,
		data: map[string]string{}, unfinished: map[string]bool{}, made: map[string]int{}, wiped: map[string]int{},
		inUse: map[string]bool{},
	}
	m.put(theirs, "ext4")
	m.client.PrependReactor("patch", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		err := k.Pass("report")
		return err != nil, nil, err
	})
	return m
}

// Where there is data that nobody recognises: where an agent leaves some, and where
// somebody else does.
const halfDone, ofSomebody = "in its first MiB", "in its first MiB, and its last one"

// put has somebody else write what programs recognise on a disk.
func (m *mortal) put(path, signature string) {
	m.fake.Sign(path, signature)
	m.block.change(func() {
		m.block.signatures[path] = signature
		delete(m.block.uuids, path)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, path)
	delete(m.unfinished, path)
}

// putRaw has somebody else write what nobody recognises over a disk.
func (m *mortal) putRaw(path string) {
	m.put(path, "")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[path] = ofSomebody
}

// use has somebody else have a disk for itself, or let it go.
func (m *mortal) use(path string, inUse bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inUse[path] = inUse
}

// wantRaw checks that what putRaw wrote is as it was.
func (m *mortal) wantRaw(path string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data[path] != ofSomebody {
		m.t.Errorf("after death %q the data of somebody on %s became %q", m.killer.Struck(), path, m.data[path])
	}
}

// on returns what is on a disk: who would recognise it.
func (m *mortal) on(path string) string {
	report, err := m.fake.Host().Report(context.Background())
	if err != nil {
		panic(err)
	}
	for _, pv := range report.Orphans {
		if pv.Device == path {
			return "LVM2_member"
		}
	}
	for _, g := range report.Groups {
		if slices.ContainsFunc(g.PhysicalVolumes, func(pv lvm.PhysicalVolume) bool { return pv.Device == path }) {
			return "LVM2_member of " + g.Name
		}
	}
	m.block.mu.Lock()
	defer m.block.mu.Unlock()
	return m.block.signatures[path]
}

// life is the host of one process of the agent.
func (m *mortal) life() Host {
	host := m.host()
	host.Groups = lvm.New(hostexec.RunnerFunc(m.lvmProcess))
	host.Devices, host.Mounts, host.Wiper, host.Begun = m, m, m, mortalJournal{begun.New(m.root), m.killer}
	return host
}

func (m *mortal) lvmProcess(ctx context.Context, name string, args ...string) ([]byte, error) {
	command := name + " " + args[0]
	if err := m.killer.Pass("before " + command); err != nil {
		return nil, err
	}
	if args[0] == "vgcreate" || args[0] == "vgextend" {
		if err := m.killer.Pass("within " + command); err != nil {
			at := slices.Index(args, "--")
			if _, err := m.fake.Run(ctx, "lvm", append([]string{"pvcreate", "--"}, args[at+2:]...)...); err != nil {
				m.t.Errorf("half a %s: %v", command, err)
			}
			return nil, err
		}
	}
	out, err := m.fake.Run(ctx, name, args...)
	if args[0] == "fullreport" {
		return out, err // the next point is the same
	}
	if died := m.killer.Pass("after " + command); died != nil {
		return nil, died
	}
	return out, err
}

func (m *mortal) Devices(ctx context.Context) ([]blockdev.Device, error) {
	if err := m.killer.Pass("lsblk"); err != nil {
		return nil, err
	}
	return m.block.Devices(ctx)
}

func (m *mortal) Inspect(ctx context.Context, path string) (blockdev.Evidence, error) {
	if err := m.killer.Pass("wipefs --no-act"); err != nil {
		return blockdev.Evidence{}, err
	}
	return m.inspect(ctx, path)
}

func (m *mortal) inspect(ctx context.Context, path string) (blockdev.Evidence, error) {
	on := m.on(path)
	e, err := m.block.Inspect(ctx, path)
	if strings.HasPrefix(on, "LVM2_member") {
		e.Signatures = []blockdev.Signature{{Type: "LVM2_member"}}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(e.Signatures) == 0 {
		e.Data = m.data[path]
	}
	e.Busy = m.inUse[path]
	return e, err
}

func (m *mortal) Survey(ctx context.Context, devices []blockdev.Device, _ func(blockdev.Device) bool) (map[string]blockdev.Finding, error) {
	if err := m.killer.Pass("a survey"); err != nil {
		return nil, err
	}
	found := map[string]blockdev.Finding{}
	for _, d := range devices {
		e, err := m.inspect(ctx, d.Path)
		found[d.KernelName] = blockdev.Finding{Evidence: e, Err: err, Contents: contentsOf(e)}
	}
	return found, nil
}

func contentsOf(e blockdev.Evidence) string {
	switch {
	case len(e.Signatures) > 0:
		return "contents of " + e.Signatures[0].Type
	case e.Data != "":
		return "contents of data " + e.Data
	}
	return ""
}

func (m *mortal) Signature(ctx context.Context, path string) (string, error) {
	if err := m.killer.Pass("blkid"); err != nil {
		return "", err
	}
	return m.signature(path), nil
}

func (m *mortal) signature(path string) string {
	on := m.on(path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unfinished[path] {
		return ""
	}
	return on
}

// Format leaves, where it is cut short, data that nobody recognises, and of an xfs a
// super block that says so.
func (m *mortal) Format(ctx context.Context, path, fsType string, options ...string) error {
	if err := m.killer.Pass("before mkfs"); err != nil {
		return err
	}
	if on := m.signature(path); on != "" {
		return fmt.Errorf("%w: it holds %s", mounts.ErrNotBlank, on)
	}
	m.put(path, "")
	died := m.killer.Pass("within mkfs")
	if died == nil || fsType == "xfs" {
		if err := m.block.Format(ctx, path, fsType, options...); err != nil {
			return err
		}
	}
	m.mu.Lock()
	if died != nil {
		m.data[path], m.unfinished[path] = halfDone, fsType == "xfs"
		m.mu.Unlock()
		return died
	}
	m.made[path]++
	m.mu.Unlock()
	return m.killer.Pass("after mkfs")
}

func (m *mortal) Mount(ctx context.Context, device, target, fsType string, options []string) error {
	if err := m.killer.Pass("before mount"); err != nil {
		return err
	}
	m.mu.Lock()
	unfinished := m.unfinished[device]
	m.mu.Unlock()
	if unfinished {
		return fmt.Errorf("mounting %s: bad superblock", device)
	}
	if err := m.block.Mount(ctx, device, target, fsType, options); err != nil {
		return err
	}
	return m.killer.Pass("after mount")
}

// Wipe looks, takes signatures first, and both ends last.
func (m *mortal) Wipe(ctx context.Context, order wipe.Order, _ func(done, of capacity.Bytes)) error {
	if err := m.killer.Pass("before a wipe looks"); err != nil {
		return err
	}
	if m.noWipe != nil {
		return m.noWipe
	}
	e, err := m.inspect(ctx, order.Path)
	if err != nil {
		return err
	}
	if on := contentsOf(e); order.Contents != "" && on != order.Contents {
		return fmt.Errorf("%w: %s", wipe.ErrChanged, on)
	}
	m.agreed = true
	if err := order.Begin(); err != nil {
		return err
	}
	m.put(order.Path, "")
	m.mu.Lock()
	m.data[order.Path] = halfDone
	m.mu.Unlock()
	if err := m.killer.Pass("after wipefs, before the ends are zeroed"); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.data, order.Path)
	m.wiped[order.Path]++
	m.mu.Unlock()
	return m.killer.Pass("after the ends are zeroed")
}

// A mortalJournal is on disk as a whole or not at all.
type mortalJournal struct {
	*begun.Journal
	killer *provisiontest.Killer
}

func (j mortalJournal) Put(changes ...begun.Change) error {
	if err := j.killer.Pass("before something is remembered"); err != nil {
		return err
	}
	if err := j.Journal.Put(changes...); err != nil {
		return err
	}
	return j.killer.Pass("after something is remembered")
}

func (j mortalJournal) Forget(changes ...begun.Change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := j.killer.Pass("before something is forgotten"); err != nil {
		return err
	}
	if err := j.Journal.Forget(changes...); err != nil {
		return err
	}
	return j.killer.Pass("after something is forgotten")
}

// An initChapter is something that the spec asks for, and the agent is cut short in it.
type initChapter struct {
	name   string
	before func(*mortal) // on a node where no agent runs yet
	spec   func(*v1alpha1.NodeLocalStorage)
	after  func(*mortal) // how it is then
	points int           // at which the process may die
	disks  []string      // that it is about
}

func groupOf(devices ...string) func(*mortal) {
	return func(m *mortal) {
		if _, err := m.fake.Run(context.Background(), "lvm", append([]string{"vgcreate", "--", "pool"}, devices...)...); err != nil {
			m.t.Fatal(err)
		}
	}
}

func wantGroup(size capacity.Bytes, devices ...string) func(*mortal) {
	return func(m *mortal) {
		m.t.Helper()
		g := m.group("pool")
		if !slices.Equal(g.PhysicalVolumes, devices) || g.Total != int64(size) || g.Condition != v1alpha1.StorageReady {
			m.t.Errorf("group %+v, want one on %v of %s", g, devices, size)
		}
		m.wantCondition("GroupsReady", "True AsSpecified")
	}
}

func mountedAs(fsType string) func(*v1alpha1.NodeLocalStorage) {
	return func(nls *v1alpha1.NodeLocalStorage) {
		mountOn(one)(nls)
		nls.Spec.ResourceToBeInited.MountPoints[0].FsType = fsType
	}
}

func wantMounted(m *mortal) {
	m.t.Helper()
	got := m.mountPoint()
	if got.Device != one || got.Condition != v1alpha1.StorageReady || got.ID != "fsuuid-"+initplan.FileSystemUUID("n1", mountPoint) {
		m.t.Errorf("mount point %+v", got)
	}
	m.wantCondition("MountPointsReady", "")
	table, err := os.ReadFile(filepath.Join(m.root, "proc/1/mountinfo"))
	if err != nil || strings.Count(string(table), mountPoint) != 1 {
		m.t.Errorf("it is mounted %d times, %v", strings.Count(string(table), mountPoint), err)
	}
}

// leaveToWipe is what the spec names.
var leaveToWipe = v1alpha1.DeviceToBeWiped{ID: "serial-vdc", Contents: "contents of xfs"}

func wantWiped(m *mortal) {
	m.t.Helper()
	if diff := cmp.Diff(map[string]int{one: 1}, m.wiped); diff != "" {
		m.t.Errorf("wiped to the end (-want +got):\n%s", diff)
	}
	var got []v1alpha1.DeviceToBeWiped
	for _, w := range m.status().Wiped {
		got = append(got, v1alpha1.DeviceToBeWiped{ID: w.ID, Contents: w.Contents})
	}
	if diff := cmp.Diff([]v1alpha1.DeviceToBeWiped{leaveToWipe}, got); diff != "" {
		m.t.Errorf("reported as wiped (-want +got):\n%s", diff)
	}
	m.wantCondition("DevicesReady", "")
}

var initChapters = []initChapter{
	{
		name: "make a group", spec: pool(one, other), after: wantGroup(2*gib, one, other), points: 19, disks: []string{one, other},
	},
	{
		name: "extend a group", before: groupOf(one), spec: pool(one, other), after: wantGroup(2*gib, one, other), points: 17, disks: []string{other},
	},
	{
		name: "grow into a disk",
		before: func(m *mortal) {
			groupOf(one)(m)
			m.fake.GrowDisk(one, 2*gib+capacity.MiB)
			m.block.change(func() { m.block.list[0].Size = 2*gib + capacity.MiB })
		},
		spec: pool(one), after: wantGroup(2*gib, one), points: 10,
	},
	{name: "make an ext4 and mount it", spec: mountedAs("ext4"), after: wantMounted, points: 25, disks: []string{one}},
	{name: "make an xfs and mount it", spec: mountedAs("xfs"), after: wantMounted, points: 25, disks: []string{one}},
	{
		name: "mount again after a boot",
		before: func(m *mortal) {
			uuid := initplan.FileSystemUUID("n1", mountPoint)
			m.put(one, "xfs")
			m.block.change(func() { m.block.uuids = map[string]string{one: uuid} })
			m.made[one] = 1
		},
		spec: mountedAs("xfs"), after: wantMounted, points: 12,
	},
	{
		name: "wipe a disk and offer it", before: func(m *mortal) { m.put(one, "xfs") },
		spec: func(nls *v1alpha1.NodeLocalStorage) {
			nls.Spec.ListConfig.Devices.Include = []string{one}
			nls.Spec.ResourceToBeInited.Wipe = []v1alpha1.DeviceToBeWiped{leaveToWipe}
		},
		after: func(m *mortal) {
			wantWiped(m)
			if diff := cmp.Diff([]string{one}, m.status().FilteredStorageInfo.Devices); diff != "" {
				m.t.Errorf("offered (-want +got):\n%s", diff)
			}
			// The leave is used up, by whichever agent used it.
			m.put(one, "xfs")
			m.agent.Changed()
			m.pass(time.Minute)
			if got := m.on(one); got != "xfs" || m.wiped[one] != 1 {
				m.t.Errorf("what somebody put there again became %q, after %d wipes", got, m.wiped[one])
			}
		},
		points: 15, disks: []string{one},
	},
	{
		name: "wipe a disk and make a group of it", before: func(m *mortal) { m.put(one, "xfs") },
		spec: wiped(leaveToWipe.ID, leaveToWipe.Contents, one),
		after: func(m *mortal) {
			wantWiped(m)
			wantGroup(gib, one)(m)
		},
		points: 29, disks: []string{one},
	},
}

// TestInitMayDieAnywhere ends the agent at each point of each chapter, with its node or
// alone. The next one finishes what the first began.
func TestInitMayDieAnywhere(t *testing.T) {
	total := 0
	for _, c := range initChapters {
		for how, powerCut := range map[string]bool{"": false, ", with its node": true} {
			t.Run(c.name+how, func(t *testing.T) {
				points := provisiontest.Everywhere(t, func(t *testing.T, k *provisiontest.Killer) {
					t.Helper()
					synctest.Test(t, func(t *testing.T) { c.live(newMortal(t, k), powerCut) })
				})
				if points != c.points {
					t.Errorf("%d points to die at, want %d", points, c.points)
				}
				total += points
			})
		}
	}
	t.Logf("%d points to die at in %d chapters", total, 2*len(initChapters))
}

// die runs an agent until it dies or has nothing more to do.
func (c initChapter) die(m *mortal) {
	m.t.Helper()
	if c.before != nil {
		c.before(m)
	}
	m.apply(c.spec)
	m.killer.Aim()
	m.startOn(m.life())
	m.pass(time.Second)
	m.stop()
	m.pass(time.Second)
	m.killer.Revive()
}

// goOn runs another agent for long enough to try everything again.
func (m *mortal) goOn() {
	m.t.Helper()
	m.startOn(m.life())
	m.pass(11 * time.Minute)
}

func (c initChapter) live(m *mortal, powerCut bool) {
	m.t.Helper()
	c.die(m)
	if powerCut {
		m.file("proc/1/mountinfo", "1 0 253:1 / / rw,relatime - ext4 /dev/vda1 rw\n")
	}
	m.goOn()
	c.after(m)
	m.wantNothingElse()
}

// wantNothingElse checks that nothing was done to other disks, that nothing was made
// twice, and that nothing is left of the work.
func (m *mortal) wantNothingElse() {
	m.t.Helper()
	after := m.killer.Struck()
	if got := m.on(theirs); got != "ext4" {
		m.t.Errorf("after death %q a disk of somebody else holds %q", after, got)
	}
	if got := m.on(blank); got != "" {
		m.t.Errorf("after death %q a disk that is not listed holds %q", after, got)
	}
	for path, times := range maps.All(m.made) {
		if times != 1 || path != one {
			m.t.Errorf("after death %q %d file systems were made on %s", after, times, path)
		}
	}
	if left, err := begun.New(m.root).List(); err != nil || len(left) > 0 {
		m.t.Errorf("after death %q it is still remembered that %+v was begun, %v", after, left, err)
	}
	m.stop()
	m.pass(time.Second)
}

// TestADiskThatSomebodyUsesAfterADeathIsTheirs ends the agent at each point of each
// chapter, and has somebody write to the disks that were being made something. Nothing of
// what was begun is a reason to touch a file system. What nobody recognises can be told
// from what is half done only where nothing was begun.
func TestADiskThatSomebodyUsesAfterADeathIsTheirs(t *testing.T) {
	for _, c := range initChapters {
		if c.disks == nil {
			continue // nothing is made of a blank disk
		}
		for how, usurp := range map[string]func(initChapter, *mortal){"": initChapter.usurp, ", with raw data": initChapter.usurpRaw} {
			t.Run(c.name+how, func(t *testing.T) {
				provisiontest.Everywhere(t, func(t *testing.T, k *provisiontest.Killer) {
					t.Helper()
					synctest.Test(t, func(t *testing.T) { usurp(c, newMortal(t, k)) })
				})
			})
		}
	}
}

func (c initChapter) usurp(m *mortal) {
	m.t.Helper()
	c.die(m)
	made, done := maps.Clone(m.made), maps.Clone(m.wiped)
	taken := c.toTake(m)
	for _, path := range taken {
		m.put(path, "btrfs")
	}
	m.goOn()
	for _, path := range taken {
		if got := m.on(path); got != "btrfs" {
			m.t.Errorf("after death %q the file system of somebody on %s became %q", m.killer.Struck(), path, got)
		}
	}
	if len(taken) > 0 && (!maps.Equal(made, m.made) || !maps.Equal(done, m.wiped)) {
		m.t.Errorf("after death %q file systems made %v, then %v; wiped %v, then %v", m.killer.Struck(), made, m.made, done, m.wiped)
	}
	if len(taken) > 0 {
		if left := m.begun(); len(left) > 0 {
			m.t.Errorf("after death %q it is still remembered that %+v was begun", m.killer.Struck(), left)
		}
	}
	m.stop()
	m.pass(time.Second)
}

func (c initChapter) usurpRaw(m *mortal) {
	m.t.Helper()
	c.die(m)
	left := m.begun()
	if !m.agreed && slices.ContainsFunc(left, func(c begun.Change) bool { return c.What == toWipe }) {
		m.t.Errorf("after death %q it is remembered that a wipe was begun, and it did not come so far", m.killer.Struck())
	}
	var theirs []string
	for _, path := range c.toTake(m) {
		m.putRaw(path)
		if !slices.ContainsFunc(left, func(c begun.Change) bool { return c.ID == "serial-"+filepath.Base(path) }) {
			theirs = append(theirs, path)
		}
	}
	m.goOn()
	for _, path := range theirs {
		m.wantRaw(path)
	}
	m.stop()
	m.pass(time.Second)
}

// toTake returns the disks of the chapter, blank or half made something. One that is what
// it was to become serves, and is left out.
func (c initChapter) toTake(m *mortal) []string {
	m.t.Helper()
	var free []string
	for _, path := range c.disks {
		on := m.on(path)
		if strings.HasPrefix(on, "LVM2_member of ") || m.made[path] > 0 {
			continue
		}
		if on == "LVM2_member" {
			if _, err := m.fake.Run(context.Background(), "lvm", "pvremove", "--", path); err != nil {
				m.t.Fatal(err)
			}
		}
		free = append(free, path)
	}
	return free
}

// begun returns what is remembered to have been begun and not to have ended.
func (m *mortal) begun() changes {
	m.t.Helper()
	left, err := begun.New(m.root).List()
	if err != nil {
		m.t.Fatal(err)
	}
	return slices.DeleteFunc(left, func(c begun.Change) bool { return c.Done != nil })
}

// rawToWipe is the leave to wipe a disk on which there is halfDone.
var rawToWipe = v1alpha1.DeviceToBeWiped{ID: "serial-vdc", Contents: "contents of data " + halfDone}

// newRaw is a mortal whose spec has that leave for a disk that holds just that.
func newRaw(t *testing.T) *mortal {
	t.Helper()
	m := newMortal(t, &provisiontest.Killer{})
	m.data[one] = halfDone
	m.apply(wiped(rawToWipe.ID, rawToWipe.Contents, one))
	return m
}

// wantVoid runs another agent, to which the leave is none for what somebody else wrote.
func (m *mortal) wantVoid() {
	m.t.Helper()
	m.goOn()
	m.wantRaw(one)
	m.wantCondition("DevicesReady", "False ContentsChanged")
	if left := m.begun(); len(left) > 0 {
		m.t.Errorf("it is remembered that %+v was begun", left)
	}
	m.stop()
	m.pass(time.Second)
}

// TestAWipeThatNeverTouchedADiskIsNoLeaveForWhatComesNext has a wipe fail before it could
// change anything, and the agent be away while somebody uses the disk.
func TestAWipeThatNeverTouchedADiskIsNoLeaveForWhatComesNext(t *testing.T) {
	for name, why := range map[string]error{
		"the agent is told to stop": context.Canceled,
		"it cannot be read":         syscall.EIO,
		"it is in use":              wipe.ErrInUse,
		"it has changed":            wipe.ErrChanged,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newRaw(t)
				m.noWipe = why
				m.startOn(m.life())
				m.pass(time.Second)
				m.stop()
				m.pass(time.Second)
				if left := m.begun(); len(left) > 0 {
					t.Errorf("it is remembered that %+v was begun", left)
				}
				m.noWipe = nil
				m.putRaw(one)
				m.wantVoid()
			})
		})
	}
}

// TestAWipeThatWasBegunIsForgottenWhenNothingOfItIsLeftToDo has an agent die right after
// it began, and the next one see why that is no leave any more.
func TestAWipeThatWasBegunIsForgottenWhenNothingOfItIsLeftToDo(t *testing.T) {
	for name, see := range map[string]func(m *mortal){
		"the disk is as it was": func(m *mortal) {
			m.noWipe = syscall.EIO
			m.startOn(m.life())
			m.pass(time.Second)
			m.noWipe = nil
		},
		"somebody uses the disk": func(m *mortal) {
			m.putRaw(one)
			m.use(one, true)
			m.startOn(m.life())
			m.pass(time.Second)
			m.use(one, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newRaw(t)
				if err := begun.New(m.root).Put(begun.Change{ID: rawToWipe.ID, What: toWipe, Contents: rawToWipe.Contents}); err != nil {
					t.Fatal(err)
				}
				see(m)
				m.stop()
				m.pass(time.Second)
				m.putRaw(one)
				m.wantVoid()
			})
		})
	}
}
