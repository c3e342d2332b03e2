// Package lvm speaks to the host's LVM: it is the only package that can spell
// lvcreate. Verbs are methods of a Host, rows of LVM's reports are structs, and a
// failure that callers ask about is one of the errors of this package. It refuses
// to know about Kubernetes, and why a volume is wanted.
//
// Every verb is one process where all goes well. A command that changes metadata
// is never killed: it runs to its end even when the caller's context ends, because
// a killed LVM leaves a group half written. The caller then finds what happened by
// looking.
package lvm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
)

// ProtectedTag is the tag that keeps a volume, or all volumes of a group, from
// being removed.
const ProtectedTag = "protected"

// maxChanges bounds how many commands that change metadata run at once. LVM makes
// those of one group wait for each other anyhow; a caller that gives up while it
// waits here leaves no process behind.
const maxChanges = 4

// Host is the LVM of one host. Its methods may be called from any goroutine.
type Host struct {
	runner  hostexec.Runner
	changes chan struct{} // holds one element per running change
	hidden  func(context.Context) []string
	own     hosts
}

// New returns the LVM that r reaches.
func New(r hostexec.Runner) *Host {
	return &Host{runner: r, changes: make(chan struct{}, maxChanges)}
}

// Group is a volume group.
type Group struct {
	Name, UUID string
	Size, Free capacity.Bytes // whole extents
	Extent     capacity.Bytes // the unit of allocation
	Partial    bool           // physical volumes are missing; LVM refuses most changes
	MissingPVs int
	Exported   bool // taken out of use by an administrator; LVM refuses all changes
	Tags       []string

	PhysicalVolumes []PhysicalVolume
	Volumes         []Volume // those LVM shows: parts of pools and mirrors are not among them
}

// Protected reports whether the volumes of g must never be removed.
func (g Group) Protected() bool { return slices.Contains(g.Tags, ProtectedTag) }

// Volume returns the volume of that name.
func (g Group) Volume(name string) (Volume, bool) {
	for _, v := range g.Volumes {
		if v.Name == name {
			return v, true
		}
	}
	return Volume{}, false
}

// PhysicalVolume is a device that LVM uses or may use.
type PhysicalVolume struct {
	Device, UUID string         // Device is empty when the device is missing
	Size, Free   capacity.Bytes // what volumes can have of it, less than the device
	Missing      bool
	Allocatable  bool // false also for one that is in no group
}

// Volume is a logical volume.
type Volume struct {
	Name, Group, UUID string
	Size              capacity.Bytes // of a thick snapshot: its copy-on-write space
	Tags              []string

	Layout  string // LVM's words: "linear", "striped", "thin,sparse"
	Role    string // LVM's words: "public", "public,snapshot,thicksnapshot"
	SegType string // of the first segment
	Stripes int    // of the first segment; 0 for a thin volume
	Attr    string // the ten letters of lvs(8)

	Active   bool
	Open     bool // mounted, or held open by a program
	ReadOnly bool

	Origin      string   // what a snapshot is of
	Pool        string   // the pool of a thin volume
	DataPercent *float64 // how full a snapshot or pool is; nil when it has no such thing

	KernelMajor, KernelMinor int       // the device number; -1 when inactive
	Health                   string    // empty when well, else LVM's words: "partial"
	Made                     time.Time // when it was, in UTC; zero where LVM does not know
}

// HasTag reports whether v carries the tag.
func (v Volume) HasTag(tag string) bool { return slices.Contains(v.Tags, tag) }

// Protected reports whether v itself must never be removed.
func (v Volume) Protected() bool { return v.HasTag(ProtectedTag) }

// HasSnapshots reports whether v has thick snapshots, which LVM would remove
// together with it.
func (v Volume) HasSnapshots() bool {
	return slices.Contains(strings.Split(v.Role, ","), roleThickOrigin)
}

// roleThickOrigin is LVM's word for a volume that has thick snapshots.
const roleThickOrigin = "thickorigin"

// Report is all that LVM knows about a host.
type Report struct {
	Groups  []Group
	Orphans []PhysicalVolume // in no group
}

// Group returns the group of that name.
func (r Report) Group(name string) (Group, bool) {
	for _, g := range r.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

// Layout says how a new volume lies on the physical volumes of its group.
type Layout struct {
	Type    string // TypeLinear when empty
	Stripes int    // for TypeStriped: over how many physical volumes, at least 2
}

// The types of layout that a volume can be created with.
const (
	TypeLinear  = "linear"
	TypeStriped = "striped"
)

// DevicePath is where the host has the device of a volume.
func DevicePath(group, name string) string { return "/dev/" + group + "/" + name }

// read runs a command that changes nothing. It may be killed.
func (h *Host) read(ctx context.Context, args ...string) ([]byte, error) {
	out, err := h.runner.Run(ctx, "lvm", h.withHidden(ctx, args)...)
	return out, classify(err)
}

// change runs a command that changes metadata, to its end.
func (h *Host) change(ctx context.Context, args ...string) ([]byte, error) {
	select {
	case h.changes <- struct{}{}:
		defer func() { <-h.changes }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("waiting for a turn to run lvm %s: %w", args[0], context.Cause(ctx))
	}
	out, err := h.runner.Run(context.WithoutCancel(ctx), "lvm", h.withHidden(ctx, args)...)
	return out, classify(err)
}
