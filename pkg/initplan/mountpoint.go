package initplan

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // names are hashed, and no secrets: RFC 9562, version 5
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// MakeFileSystem makes a file system on a blank device.
type MakeFileSystem struct {
	Path   string // for which mount point
	Device string // as the spec spells it
	FSType string
	UUID   string // what it will be recognised by
}

func (MakeFileSystem) step() {}

func (s MakeFileSystem) String() string {
	return fmt.Sprintf("make an %s file system on %s for mount point %s", s.FSType, s.Device, s.Path)
}

// MountFileSystem mounts a file system that was made for its mount point.
type MountFileSystem struct {
	Path    string
	Device  string // as the node calls it
	FSType  string
	Options []string
	UUID    string // that it must have
}

func (MountFileSystem) step() {}

func (s MountFileSystem) String() string {
	return fmt.Sprintf("mount the %s file system on %s at %s", s.FSType, s.Device, s.Path)
}

// A FileSystem is one that was found on a device.
type FileSystem struct {
	Device, Resolved string
	Type, UUID       string
}

// A Mount is a file system that is mounted.
type Mount struct {
	Path     string
	Resolved string // which device it is on
	UUID     string
}

// The file systems that mount points are made with.
var fileSystemTypes = []string{"ext4", "ext3", "xfs", "btrfs"}

// DefaultFileSystem is that of a mount point whose spec names none.
const DefaultFileSystem = "ext4"

// FileSystemUUID is the UUID that the file system of a mount point is made with, so that
// it is recognised on whatever device it is found after the next boot.
func FileSystemUUID(node, mountPoint string) string {
	// The space of names is that of this API group.
	sum := sha1.Sum([]byte("csi.aliyun.com/v1alpha1\x00" + node + "\x00" + mountPoint)) //nolint:gosec // as above
	sum[6] = sum[6]&0x0f | 0x50
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// ownMounts are where the kernel and the system have what is no storage.
var ownMounts = []string{"/proc", "/sys", "/dev", "/run"}

// validMountPath reports whether something may be mounted there, whatever is there now.
func validMountPath(p string) bool {
	return len(p) <= 4096 && path.IsAbs(p) && path.Clean(p) == p && p != "/" &&
		!strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) &&
		!slices.ContainsFunc(ownMounts, func(own string) bool { return p == own || strings.HasPrefix(p, own+"/") })
}

var (
	optionAlphabet = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.=:/+-]*$`)
	// Options that make mount(8) do something else than mount that device there.
	otherOptions = []string{"bind", "rbind", "move", "remount", "loop", "noauto"}
)

func validOption(option string) bool {
	name, _, _ := strings.Cut(option, "=")
	return optionAlphabet.MatchString(option) && !slices.Contains(otherOptions, name)
}

// A mountWant is one mount point of the spec, made whole.
type mountWant struct {
	v1alpha1.MountPointToBeInited
	uuid string
}

// mountPoint plans for one mount point of the spec. A file system is made once, on a
// blank device. From then on it is that file system, wherever it is found, and none is
// made anew because it is not found.
func (p *planner) mountPoint(entry v1alpha1.MountPointToBeInited) {
	w := mountWant{entry, FileSystemUUID(p.seen.Name, entry.Path)}
	w.FsType = cmp.Or(w.FsType, DefaultFileSystem)
	if !p.sensible(w) || p.mounted(w) {
		return
	}
	if why := p.seen.Occupied[w.Path]; why != "" {
		p.because(w, NotEmpty, "%s %s, and mounting there would hide that", w.Path, why)
		return
	}
	var ours []FileSystem
	for _, fs := range p.seen.FileSystems {
		if fs.UUID == w.uuid {
			ours = append(ours, fs)
		}
	}
	switch len(ours) {
	case 0:
		p.makeFileSystem(w)
	case 1:
		p.steps = append(p.steps, MountFileSystem{Path: w.Path, Device: ours[0].Device, FSType: ours[0].Type, Options: w.Options, UUID: w.uuid})
	default:
		p.because(w, SameIdentity, "%s and %s both hold the file system that was made for it", ours[0].Device, ours[1].Device)
	}
}

func (p *planner) because(w mountWant, reason, format string, args ...any) {
	p.problems = append(p.problems, Problem{
		Area: OfMountPoints, Reason: reason, Object: w.Path, Message: fmt.Sprintf("mount point %.200q is not as specified: ", w.Path) + fmt.Sprintf(format, args...),
	})
}

// sensible reports whether the entry of the spec can be meant.
func (p *planner) sensible(w mountWant) bool {
	entries := 0
	for _, other := range p.mounts {
		if other.Path == w.Path {
			entries++
		}
	}
	bad := slices.IndexFunc(w.Options, func(option string) bool { return !validOption(option) })
	switch {
	case !validMountPath(w.Path):
		p.because(w, InvalidMountPath, "it is no plain absolute path, or one that the system needs")
	case entries > 1:
		p.because(w, MountListedTwice, "it is listed %d times", entries)
	case !slices.Contains(fileSystemTypes, w.FsType):
		p.because(w, UnsupportedFileSystem, "file system %.40q is none of %s", w.FsType, strings.Join(fileSystemTypes, ", "))
	case bad >= 0:
		p.because(w, InvalidMountOption, "%.80q cannot be an option of it", w.Options[bad])
	case !validPath(w.Device):
		p.because(w, InvalidDevicePath, "device %.80q is no plain path below /dev", w.Device)
	default:
		return true
	}
	return false
}

// mounted reports whether something is mounted there, and tells if it is the wrong thing.
func (p *planner) mounted(w mountWant) bool {
	for _, m := range p.seen.Mounts {
		if m.Path != w.Path {
			continue
		}
		if m.UUID != w.uuid && m.Resolved != p.seen.Devices[w.Device].Resolved {
			p.because(w, MountedOtherwise, "another device than %s is mounted there", w.Device)
		}
		return true
	}
	return false
}

// makeFileSystem plans for a mount point whose file system is nowhere to be found.
func (p *planner) makeFileSystem(w mountWant) {
	device := p.seen.Devices[w.Device]
	switch others := p.claims[device.Resolved]; {
	case slices.Contains(p.seen.KnownMounts, w.Path):
		p.because(w, MountPointMissing, "the file system that was made for it is not found on any device, and none is made anew; if its data is given up, take the mount point off the list until that is reported, and list it again")
	case device.Resolved == "":
		p.because(w, DeviceMissing, "the node has no device %s", w.Device)
	case len(others) > 1:
		p.because(w, DeviceListedTwice, "device %s is listed for %s", w.Device, strings.Join(others, " and "))
	case p.owner(device.Resolved) != "":
		p.because(w, InOtherGroup, "device %s is a physical volume of volume group %s", w.Device, p.owner(device.Resolved))
	case device.Orphan:
		p.because(w, OrphanPV, "device %s is a physical volume of no group that could be found", w.Device)
	case len(device.Objections) > 0:
		p.because(w, device.Objections[0].Reason, "device %s %s", w.Device, device.Objections[0].Message)
	default:
		p.steps = append(p.steps, MakeFileSystem{Path: w.Path, Device: w.Device, FSType: w.FsType, UUID: w.uuid})
	}
}
