package capacity

import (
	"fmt"
	"slices"
)

// A Layout says how a volume lies on the physical volumes of its group. What it
// costs is a function of the layout, so that mirrors and thin volumes can come
// without touching those who ask.
type Layout string

// The layouts. The words are those of the lvmType parameter.
const (
	Linear  Layout = "linear"   // extents one after another wherever there is room
	Striped Layout = "striping" // the same number of extents on each of several physical volumes
)

// A Media is what the disks below a group are made of, such as "ssd".
type Media string

// A Kind says how volumes lie in a group.
type Kind string

// The kinds. The words are those of the volumeType parameter, but for Cut.
const (
	Cut        Kind = ""           // a volume group: volumes are cut from it
	Device     Kind = "Device"     // a disk: one volume takes all of it
	MountPoint Kind = "MountPoint" // a mounted file system: one volume takes all of it
)

// Whole reports whether one volume takes all of a group.
func (k Kind) Whole() bool { return k != Cut }

// String says it to a person.
func (k Kind) String() string {
	switch k {
	case Cut:
		return "volume group"
	case MountPoint:
		return "mount point"
	}
	return "device"
}

// A Group is a volume group, or a disk or a file system that is given whole, as a
// decision sees it: promises are already taken off Free. Nothing in it can be changed through a copy, so copying a slice of
// groups copies them.
type Group struct {
	Name    string // of a disk or a file system its path
	Kind    Kind
	Size    Bytes  // all that volumes of ours may ever fill
	Free    Bytes  // what is not yet promised; whole extents, never negative
	Extent  Bytes  // the unit of allocation; zero of what is given whole
	Media   Media  // what all its disks are made of; empty when mixed or not known
	Trouble string // why nothing new may be put there; empty when all is well
	// Partition says of what is given whole that it is a part of a disk, or lies on one: the
	// kernel holds only whole disks to limits.
	Partition bool
	Disks     *Disks // how Free lies on them; nil when not known, and then nothing is striped
}

// A Node is what one node has to give.
type Node struct {
	Name   string
	Groups []Group // ordered by name
}

// Clone returns a copy that shares nothing with n.
func (n Node) Clone() Node {
	n.Groups = slices.Clone(n.Groups)
	return n
}

// Group returns the group of that name for reading or taking from, or nil.
func (n *Node) Group(name string) *Group {
	for i := range n.Groups {
		if n.Groups[i].Name == name {
			return &n.Groups[i]
		}
	}
	return nil
}

// A Position is that of a group among the groups of its node: what a Spot is where the
// node is known.
type Position int16

// Nowhere is the position of a volume that takes no group.
const Nowhere Position = -1

// A Spot is the place one volume has, or is promised, on a node.
type Spot struct {
	Group  string
	Size   Bytes // what the volume takes from the group, in whole extents
	Layout Layout
}

// Take removes spot's size from its group. It returns an error, and changes
// nothing, when the group is not there or has less than that.
func (n *Node) Take(spot Spot) error {
	group := n.Group(spot.Group)
	if group == nil {
		return fmt.Errorf("taking %s on node %q: no volume group %q", spot.Size, n.Name, spot.Group)
	}
	if spot.Size > group.Free {
		return fmt.Errorf("taking %s on node %q: volume group %q has %s free", spot.Size, n.Name, spot.Group, group.Free)
	}
	group.Free -= spot.Size
	return nil
}

// LargestFree returns the largest volume that any single group of n could still
// take, in bytes.
func (n Node) LargestFree() Bytes {
	var largest Bytes
	for _, group := range n.Groups {
		if group.Trouble == "" {
			largest = max(largest, group.Free)
		}
	}
	return largest
}
