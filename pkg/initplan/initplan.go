// Package initplan compares what a node's disks are for with what is on them,
// and answers steps and problems. It decides and does nothing: it knows no
// tool, no API client and no time. The one step that destroys data, WipeDevice, is only
// ever answered for a device that the spec names by what it is and by what is on it.
package initplan

import (
	"fmt"
	"strings"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// A Step is one change to the node. Steps are plain values: they can be
// compared and printed, and only the agent can carry them out.
type Step interface {
	fmt.Stringer
	step()
}

// CreateGroup makes a volume group out of blank devices.
type CreateGroup struct {
	Group   string
	Devices []string // paths as the spec spells them
}

func (CreateGroup) step() {}

func (s CreateGroup) String() string {
	return fmt.Sprintf("create volume group %s from %s", s.Group, strings.Join(s.Devices, ", "))
}

// ExtendGroup adds blank devices to a volume group.
type ExtendGroup struct {
	Group   string
	Devices []string // paths as the spec spells them
}

func (ExtendGroup) step() {}

func (s ExtendGroup) String() string {
	return fmt.Sprintf("extend volume group %s by %s", s.Group, strings.Join(s.Devices, ", "))
}

// GrowDevice makes a physical volume fill its device, which has become larger.
type GrowDevice struct {
	Group  string
	Device string // as the node calls it
}

func (GrowDevice) step() {}

func (s GrowDevice) String() string {
	return fmt.Sprintf("grow volume group %s into what %s has become larger by", s.Group, s.Device)
}

// WipeDevice destroys all that is on a device.
type WipeDevice struct {
	ID       string // who the device is
	Device   string // as the node calls it
	Contents string // what is on it and on no account anything else
	// Agreed is what the spec says is on it: the same, unless a wipe was cut short.
	Agreed string
}

func (WipeDevice) step() {}

func (s WipeDevice) String() string {
	if s.Contents != s.Agreed {
		return fmt.Sprintf("go on destroying all that was on %s (%s, contents %s), as the spec asks", s.Device, s.ID, s.Agreed)
	}
	return fmt.Sprintf("destroy all that is on %s (%s, contents %s), as the spec asks", s.Device, s.ID, s.Contents)
}

// A Node is what the agent saw, as far as planning needs it.
type Node struct {
	Name   string
	Groups []Group
	// Devices holds what each path of the spec leads to, under that path.
	Devices map[string]Device
	// Known names the groups that earlier reports of this node had.
	Known []string
	// FileSystems are those found on devices that nothing uses.
	FileSystems []FileSystem
	Mounts      []Mount
	// KnownMounts are the mount points of which earlier reports had the file system that
	// was made for them.
	KnownMounts []string
	// Occupied says why nothing can be mounted at paths of the spec where nothing is
	// mounted, such as "is not empty".
	Occupied map[string]string
	// Disks are all devices that something could be destroyed on.
	Disks []Disk
	// Wiped are the entries of the spec's wipe list that were carried out before.
	Wiped []v1alpha1.DeviceToBeWiped
}

// A Disk is a device of the node, as far as wiping it is concerned.
type Disk struct {
	ID, Path string
	// Contents stands for what is on it; empty when it is blank, or could not be looked at.
	Contents string
	Blank    bool
	// HalfWiped is what was on it when a wipe began that was cut short, where nothing that
	// anybody would recognise is on it since; else it is empty.
	HalfWiped string
	// Keep says why it is not to be wiped, whoever asks; empty when nothing is against it.
	Keep []Objection
}

// A Group is a volume group that LVM found on the node.
type Group struct {
	Name     string
	Devices  []string // paths of its physical volumes, symbolic links resolved
	Partial  bool     // a physical volume is missing
	Missing  []string // what is known of those that are missing
	Grown    []string // paths of devices that have become larger than their physical volumes
	Exported bool     // somebody is moving it to another machine
}

// A Device is what one path of the spec leads to. The zero Device means that the
// node has no such device.
type Device struct {
	// Resolved is the path with symbolic links resolved: two paths lead to one
	// device if and only if this is equal.
	Resolved string
	// Orphan is true for a physical volume that is in none of Groups. Its
	// group may come back with another disk.
	Orphan bool
	// Objections say why the device is not provably blank, the weightiest first.
	Objections []Objection
}

// An Objection is one reason not to touch a device.
type Objection struct {
	Reason  string // one word in CamelCase
	Message string // begins with a verb: "is mounted at /var"
}

// An Area says which part of the spec a problem is about. There is one condition
// for each.
type Area string

// The areas of the spec.
const (
	OfSpec        Area = "SpecValid"
	OfGroups      Area = "GroupsReady"
	OfMountPoints Area = "MountPointsReady"
	OfDevices     Area = "DevicesReady"
)

// The reasons of problems, beside those of objections to devices.
const (
	BadExpression     = "BadExpression"
	BadReservation    = "BadReservation"
	InvalidGroupName  = "InvalidGroupName"
	InvalidDevicePath = "InvalidDevicePath"
	NoDevices         = "NoDevices"
	DeviceMissing     = "DeviceMissing"
	DeviceListedTwice = "DeviceListedTwice"
	InOtherGroup      = "InOtherGroup"
	OrphanPV          = "OrphanPhysicalVolume"
	GroupPartial      = "GroupPartial"
	GroupExported     = "GroupExported"
	GroupAmbiguous    = "GroupAmbiguous"
	GroupMissing      = "GroupMissing"
	SameIdentity      = "SameIdentity"
	ContentsChanged   = "ContentsChanged"
	StepFailed        = "StepFailed"

	InvalidMountPath      = "InvalidMountPath"
	InvalidMountOption    = "InvalidMountOption"
	UnsupportedFileSystem = "UnsupportedFileSystem"
	MountListedTwice      = "MountPointListedTwice"
	MountedOtherwise      = "MountedOtherwise"
	MountPointMissing     = "MountPointMissing"
	NotEmpty              = "NotEmpty"
)

// A Problem is something the spec asks for that is not done, and why.
type Problem struct {
	Area    Area
	Reason  string // one word in CamelCase
	Object  string // the group, device or expression it is about; may be empty
	Message string // a sentence that names the object
}

func (p Problem) String() string { return p.Reason + ": " + p.Message }

func groupProblem(reason, object, format string, args ...any) Problem {
	return Problem{Area: OfGroups, Reason: reason, Object: object, Message: fmt.Sprintf(format, args...)}
}
