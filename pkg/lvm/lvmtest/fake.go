// Package lvmtest has a fake of LVM for tests, and the examination that the fake
// and real LVM both pass. The fake is a hostexec.Runner: it understands the
// commands that package lvm gives and prints what lvm2 2.03.16 prints, so all of
// package lvm runs over it and processes can be counted. It refuses to know more
// LVM than that; a command it has not seen fails the way LVM fails at a misspelt one.
package lvmtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
)

const (
	extent   = capacity.DefaultExtent
	metadata = capacity.MiB // what LVM keeps of each disk for itself
)

// Fake is the LVM of a host that has only what AddDisk gave it. It has physics:
// extents, disks that fill up, names that are taken, volumes that are open. Its
// methods may be called from any goroutine.
type Fake struct {
	// Before and After, when set, are called around every command that changes
	// something, with its command line ("lvm lvcreate --yes ..."). An error from
	// Before is the command's and it changes nothing; an error from After is the
	// command's although it has changed everything: a crash at either side. They
	// must not be set while commands run.
	Before, After func(command string) error
	// Other runs every program that is not lvm. Without it there is none.
	Other hostexec.Runner

	mu     sync.Mutex // guards the fields below
	disks  map[string]*disk
	groups map[string]*group
	serial int // of the last thing that got a UUID or a minor number

	discarded []string // "group/name" of volumes, in the order in which they were
}

// Discarded returns the volumes, as "group/name", that were removed with the order to
// discard what they had.
func (f *Fake) Discarded() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.discarded)
}

type disk struct {
	path      string
	size      capacity.Bytes
	signature string // "ext4", for one that LVM must not go over
	lost      bool
	pv        *physical // nil until LVM has initialised the disk
}

type physical struct {
	disk  *disk
	uuid  string
	group *group // nil for an orphan
	total int64  // extents; 0 for an orphan
	used  int64
}

type group struct {
	name, uuid string
	exported   bool
	tags       []string
	pvs        []*physical
	volumes    map[string]*logical
}

type logical struct {
	name, uuid string
	origin     string
	shows      int64 // of a snapshot: the extents of its origin when it was made
	filled     int64 // of a snapshot: bytes of its space that are taken
	invalid    bool  // of a snapshot: its space ran full
	readOnly   bool
	tags       []string
	stripes    int
	segments   []segment
	inactive   bool
	unlinked   bool // active without its files in /dev
	minor      int
	holders    int // who has it open
}

// segment is the same number of extents on each of some physical volumes.
type segment struct {
	on   []*physical
	each int64
}

// NewFake returns a host without disks.
func NewFake() *Fake {
	return &Fake{disks: map[string]*disk{}, groups: map[string]*group{}}
}

// Host returns the LVM of the fake as package lvm sees it.
func (f *Fake) Host() *lvm.Host { return lvm.New(f) }

// AddDisk gives the host a blank disk.
func (f *Fake) AddDisk(path string, size capacity.Bytes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disks[path] = &disk{path: path, size: size}
}

// AddGroup gives the host a volume group of one new disk, just large enough for
// volumes of size in all.
func (f *Fake) AddGroup(name, device string, size capacity.Bytes) {
	f.AddDisk(device, size.Extents(extent)+metadata)
	if _, err := f.run([]string{"vgcreate", "--", name, device}); err != nil {
		panic(fmt.Sprintf("lvmtest: making group %q: %v", name, err))
	}
}

// GrowDisk makes a disk larger, as its platform does.
func (f *Fake) GrowDisk(device string, size capacity.Bytes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk(device).size = size
}

// Sign puts a signature such as "ext4" on a disk, or takes it off with "".
func (f *Fake) Sign(device, signature string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk(device).signature = signature
}

// Lose makes a disk unreachable; Find brings it back as it was.
func (f *Fake) Lose(device string) { f.setLost(device, true) }

// Find brings back a disk that Lose took away.
func (f *Fake) Find(device string) { f.setLost(device, false) }

func (f *Fake) setLost(device string, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk(device).lost = lost
}

// Open opens a volume, as mounting it does; what it returns closes it again.
func (f *Fake) Open(group, name string) (closeVolume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.mustGroup(group).volumes[name]
	if v == nil {
		panic(fmt.Sprintf("lvmtest: no volume %s/%s to open", group, name))
	}
	v.holders++
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		v.holders = max(0, v.holders-1)
	})
}

// Unlink takes the files of a volume in /dev away, as an lvcreate leaves it that was
// ended just before it would have made them.
func (f *Fake) Unlink(group, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mustGroup(group).volumes[name].unlinked = true
}

// Reachable reports whether a volume has its files in /dev.
func (f *Fake) Reachable(group, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.groups[group]
	if g == nil || g.volumes[name] == nil {
		return false
	}
	v := g.volumes[name]
	return !v.inactive && !v.unlinked
}

// Reboot closes and deactivates every volume.
func (f *Fake) Reboot() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.groups {
		for _, v := range g.volumes {
			v.inactive, v.unlinked, v.holders = true, false, 0
		}
	}
}

// Export takes a group out of use, as vgexport does; Import undoes it.
func (f *Fake) Export(group string) { f.setExported(group, true) }

// Import puts a group that Export took back into use.
func (f *Fake) Import(group string) { f.setExported(group, false) }

func (f *Fake) setExported(group string, exported bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mustGroup(group).exported = exported
}

// TagGroup sets the tags of a group.
func (f *Fake) TagGroup(group string, tags ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mustGroup(group).tags = slices.Clone(tags)
}

func (f *Fake) disk(path string) *disk {
	d := f.disks[path]
	if d == nil {
		panic(fmt.Sprintf("lvmtest: no disk %s", path))
	}
	return d
}

func (f *Fake) mustGroup(name string) *group {
	g := f.groups[name]
	if g == nil {
		panic(fmt.Sprintf("lvmtest: no group %q", name))
	}
	return g
}

// Run is one process.
func (f *Fake) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("running %s: %w", name, err)
	}
	if name != "lvm" || len(args) == 0 {
		if f.Other == nil {
			return nil, fmt.Errorf("running %s: %w", name, hostexec.ErrNotInstalled)
		}
		return f.Other.Run(ctx, name, args...)
	}
	if args[0] == "fullreport" {
		return f.run(args)
	}
	command := "lvm " + strings.Join(args, " ")
	if f.Before != nil {
		if err := f.Before(command); err != nil {
			return nil, err
		}
	}
	out, err := f.run(args)
	if err == nil && f.After != nil {
		if err := f.After(command); err != nil {
			return nil, err
		}
	}
	return out, err
}

// run carries out one command of LVM under the lock.
func (f *Fake) run(args []string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	command, known := commands[args[0]]
	if !known {
		return nil, exit(args, &failure{2, fmt.Sprintf("Command does not exist: %q.", args[0])})
	}
	line, problem := parse(command, args[1:])
	if problem != nil {
		return nil, exit(args, problem)
	}
	out, problem := command.run(f, line)
	if problem != nil {
		return nil, exit(args, problem)
	}
	return []byte(out), nil
}

// failure is what LVM says on standard error and exits with.
type failure struct {
	code int
	said string
}

func failed(format string, args ...any) *failure {
	return &failure{5, fmt.Sprintf(format, args...)}
}

func exit(args []string, problem *failure) error {
	return &hostexec.ExitError{Name: "lvm", Args: args, Code: problem.code, Stderr: "  " + problem.said + "\n"}
}
