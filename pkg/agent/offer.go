package agent

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/initplan"
)

// The reasons why something is not offered to claims, beside those of package blockdev.
const (
	notInspected    = "NotInspected"
	inGroup         = "InVolumeGroup"
	noIdentity      = "NoIdentity"
	listedForGroup  = "ListedForVolumeGroup"
	listedForMount  = "ListedForMountPoint"
	notSelected     = "NotSelected"
	isBind          = "IsBind"
	mountedTwice    = "MountedTwice"
	hasMountsBelow  = "HasMountsBelow"
	notEmpty        = "NotEmpty"
	notListable     = "NotListable"
	noReason        = ""
	selectedNowhere = "is not selected by listConfig."
)

// A disk is a block device worth reporting.
type disk struct {
	blockdev.Device
	// refused says why it is not offered, whatever is selected; its Reason is empty when
	// nothing is against it.
	refused initplan.Objection
	// blank is false of what nobody looked at, too.
	blank bool
	// contents stands for what is on it, where it is not blank and not in use.
	contents string
	// halfWiped is what was on it when a wipe began that was cut short.
	halfWiped string
	// volume has it; empty when none does.
	volume string
	// sick says what is wrong with the disk itself.
	sick initplan.Objection
	// keep says why it is not to be wiped, whoever asks.
	keep []initplan.Objection
}

// survey finds out which of all block devices are worth reporting, and what keeps each
// from being offered, and the file systems on idle ones. owners names the group of each physical
// volume, "" for one that is in none, by identity; known is what else is known already.
func (a *Agent) survey(ctx context.Context, all []blockdev.Device, owners map[string]string, known sighting) ([]disk, []initplan.FileSystem, error) {
	held := known.holdings
	var worth []blockdev.Device
	for _, d := range all {
		if a.worthReporting(d) {
			worth = append(worth, d)
		}
	}
	slices.SortFunc(worth, byName(func(d blockdev.Device) string { return d.Path }))
	found, err := a.host.Devices.Survey(ctx, worth, func(d blockdev.Device) bool {
		_, is := held.of(d.ID) // what a tenant writes to its device is no news
		return is
	})
	if err != nil {
		return nil, nil, err
	}
	twins := map[string][]string{}
	for _, d := range worth {
		if d.ID != "" {
			twins[d.ID] = append(twins[d.ID], d.Path)
		}
	}
	against := held.objections(all)
	within := groupsWithin(all, owners, a.identity)
	disks, systems := make([]disk, 0, len(worth)), []initplan.FileSystem(nil)
	for _, d := range worth {
		owner, isMember := owners[a.identity(d.Path)]
		objections := a.objections(found[d.KernelName])
		if isMember {
			objections = slices.Insert(objections, countSevere(objections), memberOf(owner))
		}
		seen := disk{Device: d}
		if i := slices.IndexFunc(objections, func(o initplan.Objection) bool { return slices.Contains(sickly, o.Reason) }); i >= 0 {
			seen.sick = objections[i]
		}
		if objection, is := against[d.KernelName]; is {
			objections = slices.Insert(objections, 0, objection)
			if record, is := held.of(d.ID); is {
				seen.volume = record.Volume
			}
		}
		seen.blank = len(objections) == 0
		seen.keep = slices.DeleteFunc(slices.Clone(objections), removedByWiping)
		for _, group := range within[d.KernelName] {
			seen.keep = append(seen.keep, memberOf(group))
		}
		if len(seen.keep) == 0 {
			seen.contents = found[d.KernelName].Contents
			seen.halfWiped = known.begun.halfWiped(d.ID, found[d.KernelName].Evidence)
			if fs, is := fileSystemOn(d.Path, a.identity(d.Path), found[d.KernelName].Signatures); is {
				systems = append(systems, fs)
			}
		}
		if objections = append(objections, withoutIdentity(d, twins[d.ID])...); len(objections) > 0 {
			seen.refused = objections[0]
		}
		disks = append(disks, seen)
	}
	return disks, systems, nil
}

// groupsWithin returns the groups of which a partition of each device, by kernel name,
// is a physical volume.
func groupsWithin(all []blockdev.Device, owners map[string]string, identity func(string) string) map[string][]string {
	within := map[string][]string{}
	for _, d := range all {
		if group := owners[identity(d.Path)]; group != "" {
			for _, parent := range d.Parents {
				within[parent] = append(within[parent], group)
			}
		}
	}
	return within
}

// removedByWiping tells objections that wiping a device is meant to overcome.
func removedByWiping(o initplan.Objection) bool {
	return o.Reason == blockdev.HasSignature || o.Reason == blockdev.HasData || o.Reason == blockdev.HasPartitions || o.Reason == initplan.OrphanPV
}

// worthReporting tells devices that could be storage of their own, disks and what is
// made of them, from logical volumes and what comes and goes.
func (a *Agent) worthReporting(d blockdev.Device) bool {
	switch d.Type {
	case "lvm", "rom", "ram":
		return false
	}
	return a.matches(d.KernelName)
}

func (a *Agent) matches(kernelName string) bool {
	at := a.pattern.FindStringIndex(kernelName)
	return at != nil && at[0] == 0 && at[1] == len(kernelName)
}

// objections are those against the blankness of a device. A loop device that the
// pattern asks for is as good as a disk.
func (a *Agent) objections(found blockdev.Finding) []initplan.Objection {
	if found.Err != nil {
		return []initplan.Objection{{Reason: notInspected, Message: fmt.Sprintf("could not be inspected: %v", found.Err)}}
	}
	var all []initplan.Objection
	for _, o := range blockdev.Objections(found.Evidence) {
		if o.Reason != blockdev.WrongType || found.Type != "loop" || !a.matches(found.KernelName) {
			all = append(all, initplan.Objection(o))
		}
	}
	return all
}

// countSevere returns how many of the objections a person wants to hear before that a
// device is in a volume group: it is not there, or not well.
func countSevere(objections []initplan.Objection) int {
	severe := []string{notInspected, blockdev.NotFound, blockdev.NotABlock, blockdev.WrongType, blockdev.IsRoot, blockdev.IsFailing, blockdev.IsReadOnly}
	for i, o := range objections {
		if !slices.Contains(severe, o.Reason) {
			return i
		}
	}
	return len(objections)
}

func memberOf(group string) initplan.Objection {
	if group == "" {
		return initplan.Objection{Reason: initplan.OrphanPV, Message: "is a physical volume of no group that could be found"}
	}
	return initplan.Objection{Reason: inGroup, Message: "is a physical volume of volume group " + group}
}

// withoutIdentity objects to a device that could be mistaken for another.
func withoutIdentity(d blockdev.Device, sameID []string) []initplan.Objection {
	if d.ID == "" {
		return []initplan.Objection{{Reason: noIdentity, Message: "has no WWN, serial number or partition UUID: after the next boot nobody could tell which disk it is"}}
	}
	for _, other := range sameID {
		if other != d.Path {
			return []initplan.Objection{{Reason: initplan.SameIdentity, Message: fmt.Sprintf("says that it is %s, and so does %s", d.ID, other)}}
		}
	}
	return nil
}

// unoffered says why a disk is not offered to claims, or has an empty Reason.
func (s sighting) unoffered(d disk, selector initplan.Selector) initplan.Objection {
	switch listed := s.listedFor[d.KernelName]; {
	case d.refused.Reason != noReason:
		return d.refused
	case listed.Reason != noReason:
		return listed
	case !selector.Matches(d.Path):
		return initplan.Objection{Reason: notSelected, Message: selectedNowhere + "devices"}
	}
	return initplan.Objection{}
}

// newNameless reports whether there is a device that nothing tells from another and
// that was not among those of the last look: udev may be about to say who it is.
func (s sighting) newNameless(last *view) bool {
	return slices.ContainsFunc(s.disks, func(d disk) bool {
		return d.ID == "" && (last == nil || !slices.ContainsFunc(last.seen.disks, func(old disk) bool { return old.Path == d.Path && old.ID == "" }))
	})
}

// sickly are the reasons for which a disk that was selected is a problem: it was to be
// there, and it is not well or not fit.
var sickly = []string{blockdev.IsFailing, blockdev.IsReadOnly, notInspected, noIdentity, initplan.SameIdentity}

// ofDevices returns a problem for each selected disk, and for each that a volume has,
// that is not well.
func (s sighting) ofDevices(selector initplan.Selector) []initplan.Problem {
	var problems []initplan.Problem
	for _, d := range s.disks {
		if slices.Contains(sickly, d.refused.Reason) && selector.Matches(d.Path) {
			problems = append(problems, initplan.Problem{
				Area: initplan.OfDevices, Reason: d.refused.Reason, Object: d.Path,
				Message: fmt.Sprintf("device %s is not offered: it %s", d.Path, d.refused.Message),
			})
		}
	}
	return append(problems, s.ofVolumes()...)
}

// DefaultPattern says which block devices are looked at where nobody says otherwise, by
// the kernel's name: SATA, SAS, NVMe, virtio, Xen, IDE, MMC, DASD, persistent memory and
// User-Mode Linux, with their partitions; arrays; and mapped devices, such as multipath.
const DefaultPattern = `(s|v|xv|h|ub|das)d[a-z]+[0-9]*|(nvme[0-9]+n|mmcblk)[0-9]+(p[0-9]+)?|pmem[0-9.]+s?(p[0-9]+)?|md[_0-9A-Za-z]+|dm-[0-9]+`

// compilePattern reads an expression that is to match the whole of a name.
func compilePattern(expression string) (*regexp.Regexp, error) {
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q of devices is not a regular expression: %w", expression, err)
	}
	compiled.Longest()
	return compiled, nil
}
