package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/initplan"
)

// What devices are to become, as the journal of what was begun has it.
const (
	ofGroup = "volume group "
	ofMount = "mount point "
	toWipe  = "blank"
)

func toGroup(name string) string { return ofGroup + name }

func toMount(path string) string { return ofMount + path }

// changes are those that were begun on this node and are not known to have ended.
//
//	             Put                    Forget
//	(none) --------------> begun -----------------------> (none)
//	  the device is blank   |   it was seen to be what it was to become, to be blank
//	  or was to be wiped,   |   still, to hold something else, or to be wanted no more;
//	  and that is next      |   of a wipe, to be as it was before, or in use
//	                        |
//	                        | a wipe was done       Forget
//	                        +--------------> done ---------> (none)
//	                                           it is reported
type changes []begun.Change

// has reports whether the device of that identity was to become what, and nobody knows
// that it did. A device that nothing tells from another never was.
func (c changes) has(id, what string) bool {
	return id != "" && what != "" && slices.ContainsFunc(c, func(c begun.Change) bool { return c.ID == id && c.What == what && c.Done == nil })
}

// halfWiped returns what was on a device when a wipe of it began that was cut short, and
// "" when there was none. Signatures go first: what has one again is somebody's. Nothing
// tells what has none from what the wipe left, so a wipe is in the journal for as short as
// can be: from right before its first byte until somebody sees what became of it.
func (c changes) halfWiped(id string, e blockdev.Evidence) string {
	i := slices.IndexFunc(c, func(c begun.Change) bool { return c.ID == id && c.What == toWipe && c.Done == nil })
	if id == "" || i < 0 || len(e.Signatures) > 0 {
		return ""
	}
	return c[i].Contents
}

// idsOf returns who devices are, where they say so, by identity.
func (a *Agent) idsOf(all []blockdev.Device) map[string]string {
	ids := map[string]string{}
	for _, d := range all {
		ids[a.identity(d.Path)] = d.ID
	}
	return ids
}

// wanted returns what the devices of the spec are to become, by the paths that it names. One that is
// to become two things becomes nothing.
func wanted(spec v1alpha1.StorageSpec) map[string]string {
	wants := map[string]string{}
	want := func(path, what string) {
		if had, is := wants[path]; is && had != what {
			what = ""
		}
		wants[path] = what
	}
	for _, vg := range spec.ResourceToBeInited.VGs {
		for _, path := range vg.Devices {
			want(path, toGroup(vg.Name))
		}
	}
	for _, mount := range spec.ResourceToBeInited.MountPoints {
		want(mount.Device, toMount(mount.Path))
	}
	return wants
}

// goOn takes from what is against a device what the agent itself may have left there when
// it was making it what it is to become: data that nobody recognises; for a group, a
// physical volume that is in none; for a mount point, a file system that says itself that
// it was never finished.
func (a *Agent) goOn(ctx context.Context, device *listed, what string) {
	ours := []string{blockdev.HasData}
	if device.unfinished = a.isUnfinished(ctx, device.evidence, what); device.unfinished {
		ours, device.Orphan = append(ours, blockdev.HasSignature), false
	}
	device.Objections = slices.DeleteFunc(device.Objections, func(o initplan.Objection) bool { return slices.Contains(ours, o.Reason) })
}

func (a *Agent) isUnfinished(ctx context.Context, e blockdev.Evidence, what string) bool {
	const physicalVolume = "LVM2_member"
	switch {
	case len(e.Signatures) == 0:
		return false
	case strings.HasPrefix(what, ofGroup):
		return !slices.ContainsFunc(e.Signatures, func(s blockdev.Signature) bool { return s.Type != physicalVolume })
	}
	found, err := a.host.Mounts.Signature(ctx, e.Path)
	return err == nil && found == "" // what cannot be told is left alone
}

// settle brings the journal up to what was seen: wipes that were done are remembered by
// the agent, and then by the report; of what else was begun only that is kept which
// somebody will go on with.
func (a *Agent) settle(nls *v1alpha1.NodeLocalStorage, seen sighting) error {
	var over []begun.Change
	for _, c := range seen.begun {
		at := slices.IndexFunc(seen.disks, func(d disk) bool { return d.ID == c.ID })
		isReported := func(w v1alpha1.WipedDevice) bool { return w.ID == c.ID && w.Contents == c.Contents }
		switch {
		case c.Done != nil && slices.ContainsFunc(nls.Status.Wiped, isReported):
			over = append(over, c)
		case c.Done != nil:
			a.rememberWiped(c)
		case at < 0: // it may come back as it is
		case c.What == toWipe && seen.disks[at].blank:
			if err := a.wipedNow(c, seen.disks[at].Path); err != nil {
				return err
			}
		case a.isOver(c, seen.disks[at], seen, nls.Spec.StorageSpec):
			over = append(over, c)
		}
	}
	return a.host.Begun.Forget(over...)
}

// isOver reports whether nobody will go on with a change of a disk.
func (a *Agent) isOver(c begun.Change, d disk, seen sighting, spec v1alpha1.StorageSpec) bool {
	if c.What == toWipe {
		isWanted := slices.Contains(spec.ResourceToBeInited.Wipe, v1alpha1.DeviceToBeWiped{ID: c.ID, Contents: c.Contents})
		return !isWanted || isSomebodys(d) || len(d.keep) == 0 && (d.contents == c.Contents || d.halfWiped != c.Contents)
	}
	identity, isWanted := a.identity(d.Path), false
	for path, what := range wanted(spec) {
		isWanted = isWanted || what == c.What && a.identity(path) == identity
	}
	isUsed := slices.Contains([]string{inGroup, blockdev.IsMounted, blockdev.HasSignature}, d.refused.Reason)
	return !isWanted || d.blank || isUsed && !seen.unfinished[identity]
}

// isSomebodys reports whether somebody uses a disk. What is on it when they let go of it is
// theirs, though nobody may recognise it.
func isSomebodys(d disk) bool {
	uses := []string{isTaken, partOfTaken, inGroup, blockdev.IsRoot, blockdev.IsMounted, blockdev.IsSwap, blockdev.HasHolder, blockdev.IsInUse}
	return slices.ContainsFunc(d.keep, func(o initplan.Objection) bool { return slices.Contains(uses, o.Reason) })
}

// wipedNow remembers that a device was wiped.
func (a *Agent) wipedNow(c begun.Change, path string) error {
	now := time.Now().UTC().Truncate(time.Second)
	c.Done, c.Device = &now, path
	if err := a.host.Begun.Put(c); err != nil {
		return err
	}
	a.rememberWiped(c)
	return nil
}

// rememberWiped notes a wipe that was done, to be reported.
func (a *Agent) rememberWiped(c begun.Change) {
	is := func(w v1alpha1.WipedDevice) bool { return w.ID == c.ID && w.Contents == c.Contents }
	if !slices.ContainsFunc(a.wiped, is) {
		a.wiped = append(a.wiped, v1alpha1.WipedDevice{ID: c.ID, Contents: c.Contents, Device: c.Device, Time: metav1.NewTime(*c.Done).Rfc3339Copy()})
	}
}
