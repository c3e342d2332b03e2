package initplan

import (
	"fmt"
	"slices"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// wipe plans for one entry of the list of devices to be wiped. The entry is used up when
// it was carried out, and void when the device is not as it says: whatever was put on
// the device since is not what somebody agreed to lose.
func (p *planner) wipe(entry v1alpha1.DeviceToBeWiped) {
	if slices.Contains(p.seen.Wiped, entry) {
		return
	}
	var found []Disk
	for _, d := range p.seen.Disks {
		if d.ID == entry.ID {
			found = append(found, d)
		}
	}
	because := func(reason, format string, args ...any) {
		p.problems = append(p.problems, Problem{
			Area: OfDevices, Reason: reason, Object: entry.ID, Message: fmt.Sprintf("device %.80s was not wiped: ", entry.ID) + fmt.Sprintf(format, args...),
		})
	}
	switch {
	case len(found) == 0:
		because(DeviceMissing, "the node has no such device")
		return
	case len(found) > 1:
		because(SameIdentity, "%s and %s both say that they are it", found[0].Path, found[1].Path)
		return
	}
	switch d := found[0]; {
	case d.Blank: // as it was to be
	case len(d.Keep) > 0:
		because(d.Keep[0].Reason, "%s %s", d.Path, d.Keep[0].Message)
	case d.Contents != entry.Contents && (d.HalfWiped == "" || d.HalfWiped != entry.Contents):
		because(ContentsChanged, "the contents of %s are %s, and the spec has %.64s; somebody has used it since", d.Path, d.Contents, entry.Contents)
	default:
		p.steps = append(p.steps, WipeDevice{ID: d.ID, Device: d.Path, Contents: d.Contents, Agreed: entry.Contents})
	}
}
