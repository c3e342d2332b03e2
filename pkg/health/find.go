package health

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/mounts"
)

// finder tells which volumes are in use, from what is mounted where the kubelet hands
// volumes out. Nothing needs to be remembered for it, so it survives restarts.
type finder struct {
	mounts  mountTable
	devices namer
	known   known
	kubelet string // the kubelet's directory
	driver  string // the driver's name
}

// mountTable tells what is mounted: *mounts.Host.
type mountTable interface {
	Below(dir string) ([]mounts.Mount, error)
}

// namer tells which volume a device is: devfile.Root.
type namer interface {
	MappedName(number uint64) (string, error)
	Look(path string) (devfile.File, error)
}

// known are the logical volumes that are ours, by the names LVM gave them.
type known interface {
	Handle(volume string) (id string, ok bool)
}

// find returns the volumes in use, by their handles.
func (f finder) find() (map[string]Subject, error) {
	all, err := f.mounts.Below(f.kubelet)
	if err != nil {
		return nil, err
	}
	found := map[string]Subject{}
	for _, m := range all {
		id, s, ok := f.volume(m)
		if !ok {
			continue
		}
		had := found[id]
		found[id] = Subject{
			Device: s.Device, Mount: cmp.Or(had.Mount, s.Mount),
			Written: had.Written || s.Written, FrozenFS: had.FrozenFS || s.FrozenFS,
		}
	}
	return found, nil
}

// volume returns the volume that is mounted, if it is one of ours.
func (f finder) volume(m mounts.Mount) (id string, s Subject, ok bool) {
	s = subjectOf(m)
	switch {
	case m.FSType == "devtmpfs" || m.FSType == "tmpfs" && m.Root != "/":
		// A device is handed out by mounting its file from where all devices are.
		file, err := f.devices.Look(m.Target)
		if err != nil || file.Device == 0 {
			return "", s, false
		}
		s = Subject{Device: file.Device, Written: s.Written}
	case m.Major == 0 && strings.HasPrefix(m.Source, "/dev/"):
		// btrfs has a number of its own.
		file, err := f.devices.Look(m.Source)
		if err != nil || file.Device == 0 {
			return "", s, false
		}
		s.Device = file.Device
	}
	id, ok = f.handle(m, s.Device)
	return id, s, ok
}

// Access reports whether somebody may write through a mount, and whether the file
// system then does not let them: whoever mounts read-only asks both to be.
func Access(m mounts.Mount) (written, frozen bool) {
	written = !slices.Contains(m.Options, "ro")
	return written, written && slices.ContainsFunc(m.Super, func(option string) bool {
		return option == "ro" || option == "emergency_ro" // ext4 since Linux 6.15
	})
}

// subjectOf returns what a mount of a file system tells.
func subjectOf(m mounts.Mount) Subject {
	written, frozen := Access(m)
	return Subject{Device: unix.Mkdev(m.Major, m.Minor), Mount: m.Target, Written: written, FrozenFS: frozen}
}

// handle returns the handle of the volume that a device is. One that this process has
// never seen, because its group was gone already when it began, is ours if it is
// staged where ours are.
func (f finder) handle(m mounts.Mount, device uint64) (string, bool) {
	name, err := f.devices.MappedName(device)
	if err != nil {
		return "", false
	}
	if name == "" { // or it is gone, and only the mount still names it
		name, _ = strings.CutPrefix(m.Source, "/dev/mapper/")
	}
	_, volume, ok := splitName(name)
	if !ok {
		return "", false
	}
	if id, ours := f.known.Handle(volume); ours {
		return id, true
	}
	staged := filepath.Join(f.kubelet, "plugins/kubernetes.io/csi", f.driver) + "/"
	return volume, strings.HasPrefix(m.Target, staged)
}

// splitName undoes the name of LVM's device for a volume: a hyphen is between group
// and volume, and those in them are doubled.
func splitName(name string) (group, volume string, ok bool) {
	const hyphen = "\x00"
	group, volume, ok = strings.Cut(strings.ReplaceAll(name, "--", hyphen), "-")
	if !ok || group == "" || volume == "" || strings.Contains(volume, "-") {
		return "", "", false // a part of a volume has a name behind a third hyphen
	}
	return strings.ReplaceAll(group, hyphen, "-"), strings.ReplaceAll(volume, hyphen, "-"), true
}
