package agent

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/fsnotify/fsnotify"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/volume"
)

// The reasons of what volumes have.
const (
	isTaken     = "Taken"
	partOfTaken = "PartOfTaken"
	isGone      = "DeviceGone"
)

// holdings is what whole devices and mount points volumes have.
type holdings []exclusive.Record

// of returns the record of the device, or file system, of that identity.
func (h holdings) of(id string) (exclusive.Record, bool) {
	i := slices.IndexFunc(h, func(r exclusive.Record) bool { return id != "" && r.ID == id })
	if i < 0 {
		return exclusive.Record{}, false
	}
	return h[i], true
}

func takenBy(volume string) initplan.Objection {
	return initplan.Objection{Reason: isTaken, Message: "belongs to volume " + volume}
}

// objections returns what is against each device, by kernel name, because a volume has
// it, or has what it is on or what is on it: a disk and its partitions are never both
// handed out.
func (h holdings) objections(all []blockdev.Device) map[string]initplan.Objection {
	against := map[string]initplan.Objection{}
	for _, d := range all {
		record, is := h.of(d.ID)
		if !is {
			continue
		}
		related := initplan.Objection{Reason: partOfTaken, Message: fmt.Sprintf("is connected with %s, which belongs to volume %s", d.Path, record.Volume)}
		for _, name := range slices.Concat(relatives(d, all, func(d blockdev.Device) []string { return d.Parents }), relatives(d, all, func(d blockdev.Device) []string { return d.Children })) {
			if _, has := against[name]; !has {
				against[name] = related
			}
		}
		against[d.KernelName] = takenBy(record.Volume)
	}
	return against
}

// relatives returns the kernel names of all that is reached from d by next.
func relatives(d blockdev.Device, all []blockdev.Device, next func(blockdev.Device) []string) []string {
	var reached []string
	todo := slices.Clone(next(d))
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if slices.Contains(reached, name) {
			continue
		}
		reached = append(reached, name)
		if i := slices.IndexFunc(all, func(d blockdev.Device) bool { return d.KernelName == name }); i >= 0 {
			todo = append(todo, next(all[i])...)
		}
	}
	return reached
}

// ofVolumes returns a problem for each volume whose device or mount point is not there
// or not well.
func (s sighting) ofVolumes() []initplan.Problem {
	var problems []initplan.Problem
	for _, r := range s.holdings {
		area, reason, message := s.troubleOf(r)
		if reason != noReason {
			problems = append(problems, initplan.Problem{
				Area: area, Reason: reason, Object: r.Volume, Message: fmt.Sprintf("volume %s: %s %s", r.Volume, r.ID, message),
			})
		}
	}
	return problems
}

func (s sighting) troubleOf(r exclusive.Record) (area initplan.Area, reason, message string) {
	if r.Kind == volume.MountPoint {
		isHere := slices.ContainsFunc(s.mounts, func(m fileSystem) bool { return m.Target == r.Path && m.id == r.ID })
		if !isHere {
			return initplan.OfMountPoints, initplan.MountPointMissing, "is not mounted at " + r.Path
		}
		return initplan.OfMountPoints, noReason, ""
	}
	i := slices.IndexFunc(s.disks, func(d disk) bool { return d.ID == r.ID })
	switch {
	case i < 0:
		return initplan.OfDevices, isGone, "is not on this node; it was " + r.Path
	case s.disks[i].sick.Reason != noReason:
		return initplan.OfDevices, s.disks[i].sick.Reason, s.disks[i].sick.Message
	}
	return initplan.OfDevices, noReason, ""
}

// watchBook calls changed when a volume was given something or gave it back, until ctx
// ends.
func watchBook(ctx context.Context, dir string, changed func()) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("watching which volumes have what: %w", err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching which volumes have what: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	if err := watcher.Add(dir); err != nil {
		return fmt.Errorf("watching %s: %w", dir, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			return fmt.Errorf("watching %s: %w", dir, err)
		case event := <-watcher.Events:
			if event.Name == dir { // it is gone, and is made anew
				return fmt.Errorf("watching %s: %w", dir, os.ErrNotExist)
			}
			changed()
		}
	}
}
