// Package initplan compares what a node's disks are for with what is on them,
// and answers steps and problems. It decides and does nothing: it knows no
// tool, no API client and no time, and no step it can answer destroys data.
package initplan

import (
	"fmt"
	"strings"
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

// A Node is what the agent saw, as far as planning needs it.
type Node struct {
	Groups []Group
	// Devices holds what each path of the spec leads to, under that path.
	Devices map[string]Device
	// Known names the groups that earlier reports of this node had.
	Known []string
}

// A Group is a volume group that LVM found on the node.
type Group struct {
	Name     string
	Devices  []string // paths of its physical volumes, symbolic links resolved
	Partial  bool     // a physical volume is missing
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
	StepFailed        = "StepFailed"
	NotSupportedYet   = "NotSupportedYet"
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
