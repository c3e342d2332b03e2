package lvmtest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
)

// snapshotHeader is what a snapshot takes of its own space before anything is copied.
const snapshotHeader = 128 * capacity.KiB

// Overwrite writes size bytes to places of a volume that no one has written to since
// its youngest snapshot was made, so every snapshot of it must keep what was there.
// One that has no room for it is lost.
func (f *Fake) Overwrite(group, name string, size capacity.Bytes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.mustGroup(group)
	v := g.volumes[name]
	if v == nil {
		panic(fmt.Sprintf("lvmtest: no volume %s/%s to overwrite", group, name))
	}
	for _, snapshot := range g.snapshotsOf(v) {
		snapshot.filled += int64(size)
		if snapshot.filled > snapshot.extents()*int64(extent) {
			snapshot.invalid = true
		}
	}
}

// SnapshotUse returns how many bytes a snapshot's space has and how many are taken,
// as the device-mapper would tell. It panics if there is no such snapshot; see Reachable.
func (f *Fake) SnapshotUse(group, name string) (taken, space capacity.Bytes, invalid bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.mustGroup(group).volumes[name]
	if v == nil || v.origin == "" {
		panic(fmt.Sprintf("lvmtest: no snapshot %s/%s", group, name))
	}
	return capacity.Bytes(v.filled), capacity.Bytes(v.extents()) * extent, v.invalid
}

// Shows returns how large the device of a volume is: of a snapshot, what its origin
// was when it was made.
func (f *Fake) Shows(group, name string) capacity.Bytes {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.mustGroup(group).volumes[name]
	switch {
	case v == nil:
		return 0
	case v.origin != "":
		return capacity.Bytes(v.shows) * extent
	}
	return capacity.Bytes(v.extents()) * extent
}

// Part makes a snapshot what an lvcreate that dies early leaves of it: a volume with its
// name and tags, of the size of its space.
func (f *Fake) Part(group, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.mustGroup(group).volumes[name]
	if v == nil || v.origin == "" {
		panic(fmt.Sprintf("lvmtest: no snapshot %s/%s", group, name))
	}
	v.origin, v.shows, v.filled = "", 0, 0
}

func (f *Fake) snapshot(l line) (string, *failure) {
	groupName, name, _ := strings.Cut(l.positional[0], "/")
	g, problem := f.usable(groupName)
	if problem != nil {
		return "", problem
	}
	if problem := g.whole(); problem != nil {
		return "", problem
	}
	origin := g.volumes[name]
	if origin == nil {
		return "", failed("Snapshot origin LV %s not found in Volume group %s.", name, groupName)
	}
	if origin.origin != "" {
		return "", failed("Snapshots of snapshots are not supported.")
	}
	v := &logical{
		name: l.last("--name"), tags: withTags(nil, l.all("--addtag")), stripes: 1,
		origin: origin.name, shows: origin.extents(), filled: int64(snapshotHeader),
		readOnly: l.last("--permission") == "r",
	}
	size, problem := extentsOf(l.last("--size"), 1)
	if problem != nil {
		return "", problem
	}
	return f.add(g, v, bytesOf(v.atMost(size))+"b", nil)
}

// activeWith returns v and what becomes active and inactive with it: its snapshots, or
// of a snapshot all that is of the same origin.
func (g *group) activeWith(v *logical) []*logical {
	if v.origin != "" {
		v = g.volumes[v.origin]
	}
	return append(g.snapshotsOf(v), v)
}

func (g *group) deactivate(v *logical) *failure {
	for _, with := range g.activeWith(v) {
		if with.holders > 0 {
			return failed("Logical volume %s/%s in use.", g.name, with.name)
		}
	}
	for _, with := range g.activeWith(v) {
		with.inactive, with.unlinked = true, false
	}
	return nil
}

// atMost bounds the extents of a snapshot by what it can ever need.
func (v *logical) atMost(extents int64) int64 {
	if v.origin == "" {
		return extents
	}
	return min(extents, int64(capacity.SnapshotSpace(capacity.Bytes(v.shows)*extent).Extents(extent)/extent))
}

// percent is how full a snapshot is.
func (v *logical) percent() string {
	switch {
	case v.origin == "":
		return ""
	case v.invalid:
		return "100.00"
	}
	return strconv.FormatFloat(100*float64(v.filled)/float64(v.extents()*int64(extent)), 'f', 2, 64)
}
