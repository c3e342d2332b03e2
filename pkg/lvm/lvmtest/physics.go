package lvmtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
)

func (p *physical) free() int64 { return p.total - p.used }

func (g *group) free() (extents int64) {
	for _, pv := range g.pvs {
		extents += pv.free()
	}
	return extents
}

func (g *group) total() (extents int64) {
	for _, pv := range g.pvs {
		extents += pv.total
	}
	return extents
}

func (g *group) missing() []*physical {
	return slices.DeleteFunc(slices.Clone(g.pvs), func(pv *physical) bool { return !pv.disk.lost })
}

func (g *group) snapshotsOf(origin *logical) []*logical {
	var all []*logical
	for _, v := range g.volumes {
		if v.origin == origin.name {
			all = append(all, v)
		}
	}
	return all
}

// allowed returns the physical volumes of g that are among devices, or all.
func (g *group) allowed(devices []string) ([]*physical, *failure) {
	if len(devices) == 0 {
		return g.pvs, nil
	}
	var pvs []*physical
	for _, device := range devices {
		i := slices.IndexFunc(g.pvs, func(pv *physical) bool { return pv.disk.path == device })
		if i < 0 {
			return nil, failed("Physical Volume %q not found in Volume Group %q.", device, g.name)
		}
		pvs = append(pvs, g.pvs[i])
	}
	return pvs, nil
}

func (v *logical) extents() (extents int64) {
	for _, s := range v.segments {
		extents += s.each * int64(len(s.on))
	}
	return extents
}

func (v *logical) partial() bool {
	for _, s := range v.segments {
		if slices.ContainsFunc(s.on, func(pv *physical) bool { return pv.disk.lost }) {
			return true
		}
	}
	return false
}

// allocate takes extents from pvs, the same number from each of as many as there
// are stripes, the emptiest first. It takes all or nothing.
func allocate(pvs []*physical, name string, extents int64, stripes int) ([]segment, *failure) {
	var segments []segment
	for left := extents; left > 0; {
		pvs = slices.SortedStableFunc(slices.Values(pvs), func(a, b *physical) int { return cmp.Compare(b.free(), a.free()) })
		on := slices.Clone(pvs[:stripes])
		each := min(on[stripes-1].free(), left/int64(stripes))
		if each == 0 {
			release(segments)
			return nil, failed("Insufficient suitable allocatable extents for logical volume %s: %d more required", name, left)
		}
		for _, pv := range on {
			pv.used += each
		}
		segments = append(segments, segment{on: on, each: each})
		left -= each * int64(stripes)
	}
	return segments, nil
}

func release(segments []segment) {
	for _, s := range segments {
		for _, pv := range s.on {
			pv.used -= s.each
		}
	}
}

func (g *group) remove(v *logical) string {
	release(v.segments)
	delete(g.volumes, v.name)
	return fmt.Sprintf("  Logical volume %q successfully removed.\n", v.name)
}

// lvremoveOf removes what is selected of a whole group, and goes on after a failure.
func (f *Fake) lvremoveOf(l line) (string, *failure) {
	g, problem := f.usable(l.positional[0])
	if problem != nil {
		return "", problem
	}
	var out strings.Builder
	defer f.discard(l, g, maps.Clone(g.volumes))
	for _, name := range slices.Sorted(maps.Keys(g.volumes)) {
		v := g.volumes[name]
		if v == nil {
			continue // it went with its origin
		}
		said, failed := g.removeSelected(v, l.last("--select"))
		out.WriteString(said)
		if failed != nil {
			problem = failed
		}
	}
	return out.String(), problem
}

// removeSelected removes v, with its snapshots, if it is selected.
func (g *group) removeSelected(v *logical, selection string) (string, *failure) {
	selected, problem := selects(selection, g, v)
	if problem != nil || !selected {
		return "", problem
	}
	if v.holders > 0 {
		return "", failed("Logical volume %s/%s in use.", g.name, v.name)
	}
	var out strings.Builder
	for _, gone := range append(g.snapshotsOf(v), v) {
		out.WriteString(g.remove(gone))
	}
	return out.String(), nil
}

// pvcreate makes physical volumes that are in no group, as a vgcreate that is cut short
// leaves them.
func (f *Fake) pvcreate(l line) (string, *failure) {
	if problem := f.mayJoin(l.positional); problem != nil {
		return "", problem
	}
	for _, device := range l.positional {
		f.initialise(f.disks[device])
	}
	return "", nil
}

// pvremove makes disks blank that are in no group.
func (f *Fake) pvremove(l line) (string, *failure) {
	for _, device := range l.positional {
		switch d := f.disks[device]; {
		case d == nil || d.lost || d.pv == nil:
			return "", failed("No PV found on device %s.", device)
		case d.pv.group != nil:
			return "", failed("PV %s is used by VG %s so please use vgreduce first.", device, d.pv.group.name)
		default:
			d.pv = nil
		}
	}
	return "", nil
}

func (f *Fake) initialise(d *disk) {
	if d.pv == nil {
		d.pv = &physical{disk: d, uuid: f.uuid()}
	}
}

// mayJoin refuses what cannot become a member of a group.
func (f *Fake) mayJoin(devices []string) *failure {
	for _, device := range devices {
		d := f.disks[device]
		switch {
		case d == nil || d.lost:
			return failed("No device found for %s.", device)
		case d.pv != nil && d.pv.group != nil:
			return failed("Physical volume '%s' is already in volume group '%s'\n  Unable to add physical volume '%s' to volume group '%s'\n"+
				"  %s: physical volume not initialized.", device, d.pv.group.name, device, d.pv.group.name, device)
		case d.signature != "":
			return failed("WARNING: %s signature detected on %s at offset 1080. Wipe it? [y/n]: [n]\n  Aborted wiping of %s.\n"+
				"  1 existing signature left on the device.", d.signature, device, d.signature)
		case d.size < metadata+extent:
			return failed("Device %s too small.", device)
		}
	}
	return nil
}

// join makes disks members of g, after looking at all of them.
func (f *Fake) join(g *group, devices []string) *failure {
	if problem := f.mayJoin(devices); problem != nil {
		return problem
	}
	for _, device := range devices {
		d := f.disks[device]
		f.initialise(d)
		d.pv.group = g
		d.pv.total = int64((d.size - metadata).Floor(extent) / extent)
		g.pvs = append(g.pvs, d.pv)
	}
	return nil
}

// uuid makes up an identity in LVM's form. It is different each time.
func (f *Fake) uuid() string {
	f.serial++
	digits := fmt.Sprintf("%032d", f.serial)
	parts := []string{digits[:6], digits[6:10], digits[10:14], digits[14:18], digits[18:22], digits[22:26], digits[26:]}
	return strings.Join(parts, "-")
}

func bytesOf(extents int64) string {
	return fmt.Sprint(int64(capacity.Bytes(extents) * extent))
}
