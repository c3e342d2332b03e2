package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// deviceFinder finds the disk or partition of a volume by who it is, whatever it is called
// now, and remembers of a volume that it has its file system: *exclusive.Devices.
type deviceFinder interface {
	Find(ctx context.Context, ref exclusive.Ref) (exclusive.Taken, error)
	NoteFormatted(volume string) error
}

// mountPointFinder finds the file system of a volume, and that it is mounted:
// *exclusive.MountPoints.
type mountPointFinder interface {
	Find(ctx context.Context, ref exclusive.Ref) (exclusive.Mounted, error)
}

// ref is what the PersistentVolume says of what the volume has for itself.
func (h handed) ref() exclusive.Ref {
	return exclusive.Ref{Volume: h.id, ID: h.context.Identity, Path: h.context.Path}
}

// located is the device of a volume, as it is called now.
type located struct {
	path   string
	number uint64
	// given is what the node remembers of a disk or partition; nothing for a logical volume.
	given exclusive.Record
}

// device returns the device of the volume.
func (n *Node) device(ctx context.Context, h handed) (located, error) {
	if h.context.Kind == volume.Device {
		return n.whole(ctx, h)
	}
	path, number, err := n.logical(ctx, h)
	return located{path: path, number: number}, err
}

// whole returns the disk or partition of the volume. It is handed out as it was given: a
// PersistentVolume that was written anew may ask for a raw device to be a file system,
// which would be made over the data. Of one that was not given here nobody knows.
func (n *Node) whole(ctx context.Context, h handed) (located, error) {
	taken, err := n.o.Devices.Find(ctx, h.ref())
	switch {
	case err != nil:
		return located{}, err
	case taken.Adopted, taken.Block == h.access.block:
		return located{path: taken.Path, number: unix.Mkdev(taken.Major, taken.Minor), given: taken.Record}, nil
	case taken.Block:
		return located{}, fmt.Errorf("%w: %s was given to volume %s as a raw block device and is asked for as a file system, which its data would not survive: its PersistentVolume wants volumeMode: Block",
			errFileSystem, taken.Path, h.id)
	}
	return located{}, fmt.Errorf("%w: %s was given to volume %s with a file system and is asked for as a raw block device: its PersistentVolume wants volumeMode: Filesystem",
		errFileSystem, taken.Path, h.id)
}

// logical returns the path and the number of a logical volume. Only if it is not
// there LVM is asked to make it appear, and an active volume without device files
// is given them; no volume is ever made here.
func (n *Node) logical(ctx context.Context, h handed) (path string, number uint64, err error) {
	name := volume.NameOf(h.id)
	if h.shows() {
		name = volume.NameOf(h.context.Snapshot)
	}
	path = lvm.DevicePath(h.context.Group, name)
	file, err := n.o.Files.Look(path)
	for _, appear := range []func(ctx context.Context, group, name string) error{n.o.LVM.ActivateVolume, n.o.LVM.MakeDevices} {
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := appear(ctx, h.context.Group, name); err != nil {
			return "", 0, err
		}
		file, err = n.o.Files.Look(path)
	}
	switch {
	case err != nil:
		return "", 0, fmt.Errorf("looking at the device of volume %s: %w", h.id, err)
	case file.Device == 0:
		return "", 0, fmt.Errorf("looking at the device of volume %s: %s is not a block device", h.id, path)
	}
	return path, file.Device, nil
}

// publishMountPoint shows the mounted file system of the volume to a pod. What is shown is
// looked at once more when it is: were it unmounted in between, the pod would write to a
// directory of another disk.
func (n *Node) publishMountPoint(ctx context.Context, h handed, options []string, attributes map[string]string) error {
	found, err := n.o.MountPoints.Find(ctx, h.ref())
	if err != nil {
		return err
	}
	if err := n.throttle(ctx, h.id, found.Source, h.context.Limits, attributes); err != nil {
		return err
	}
	if done, err := n.mounted(h.path, found.Number); done || err != nil {
		return err
	}
	if err := n.o.Mounter.BindMount(ctx, found.Path, h.path, options); err != nil {
		return err
	}
	done, err := n.mounted(h.path, found.Number)
	if done || err != nil {
		return err
	}
	return errors.Join(fmt.Errorf("%s was unmounted meanwhile: %w", found.Path, exclusive.ErrGone), n.o.Mounter.Unmount(ctx, h.path))
}
