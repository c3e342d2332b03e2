package volume

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/open-local/open-local/pkg/capacity"
)

// Parameters are the parameters of a StorageClass, parsed.
type Parameters struct {
	Kind   Kind
	Group  string          // the wanted volume group, or empty for any
	Media  Media           // the wanted media type, or empty for any
	FSType string          // never empty: DefaultFS where the class names none
	Layout capacity.Layout // how a logical volume lies in its group
	// MkfsOptions are arguments for mkfs. Whether they are allowed is known to
	// ValidMkfsOptions, and seen here only if the file system is named.
	MkfsOptions []string
	// Wipe is what becomes of the data of a volume that is deleted. It is never empty but
	// for a MountPoint, which is emptied file by file.
	Wipe Wipe
	Limits
}

// A Wipe is the wipe of a StorageClass: what becomes of the data of a volume that is
// deleted. Whatever it says, a volume that is handed out as a block device shows nothing
// of a former one, and no program recognises what was on a device that is handed out.
type Wipe string

// The ways to wipe. The words are those of the wipe parameter.
const (
	WipeNone    Wipe = "none"    // it stays where it is until it is overwritten
	WipeDiscard Wipe = "discard" // the disk is told to forget it, if it can
	WipeZero    Wipe = "zero"    // it is overwritten with zeros
)

// ValidWipe reports why there is no such way to wipe, or nil.
func ValidWipe(way Wipe) error {
	var ignored Wipe
	return oneOf(&ignored, string(way), WipeNone, WipeDiscard, WipeZero)
}

// field reads one parameter. They are applied in the order of the keys, so the
// first mistake reported does not depend on chance.
type field func(p *Parameters, value string) error

// fields holds every key that ParseParameters knows.
var fields = map[string]field{
	"volumeType": func(p *Parameters, value string) error {
		return oneOf(&p.Kind, value, LVM, MountPoint, Device)
	},
	"vgName": func(p *Parameters, value string) error {
		p.Group = value
		return ValidGroup(value)
	},
	"mediaType": func(p *Parameters, value string) error {
		return oneOf(&p.Media, value, SSD, HDD)
	},
	"lvmType": func(p *Parameters, value string) error {
		return setLayout(&p.Layout, value)
	},
	keyMkfsOptions: func(p *Parameters, value string) error {
		p.MkfsOptions = strings.Fields(value)
		return nil
	},
	keyWipe: func(p *Parameters, value string) error {
		p.Wipe = Wipe(value)
		return ValidWipe(p.Wipe)
	},
	"iops":          func(p *Parameters, value string) error { return setLimit(&p.IOPS, value) },
	"bps":           func(p *Parameters, value string) error { return setLimit(&p.BPS, value) },
	"fsType":        setFSType,
	kubeletFSType:   setFSType,
	legacyFSTypeKey: setFSType,
}

const (
	kubeletFSType   = kubeletKeys + "fstype"
	legacyFSTypeKey = "fstype" // csi-provisioner's own deprecated spelling
	keyWipe         = "wipe"
)

// ParseParameters reads the parameters of a StorageClass. Keys that csi-provisioner
// adds under csi.storage.k8s.io/ are accepted; any other unknown key is an
// error that names it, because a misspelt limit must not mean "unlimited".
// Every error is ErrInvalid.
func ParseParameters(params map[string]string) (Parameters, error) {
	p := Parameters{Layout: capacity.Linear}
	for _, key := range slices.Sorted(maps.Keys(params)) {
		set, known := fields[key]
		switch {
		case known:
			if err := set(&p, params[key]); err != nil {
				return Parameters{}, fmt.Errorf("%w parameter %q: %w", ErrInvalid, key, err)
			}
		case strings.HasPrefix(key, kubeletKeys):
		default:
			return Parameters{}, fmt.Errorf("%w parameter %q: not known; known are %s", ErrInvalid, key, knownKeys())
		}
	}
	if p.FSType == "" {
		p.FSType = DefaultFS // csi-provisioner keeps the key to itself: see MkfsOptions
	} else if err := ValidMkfsOptions(p.FSType, p.MkfsOptions); err != nil {
		return Parameters{}, fmt.Errorf("%w parameter %q: %w", ErrInvalid, keyMkfsOptions, err)
	}
	if p.Wipe == "" && p.Kind != MountPoint {
		p.Wipe = WipeDiscard
	} else if p.Wipe != "" && p.Kind == MountPoint {
		return Parameters{}, fmt.Errorf("%w parameter %q: a mount point is emptied file by file when its volume is deleted, and never wiped", ErrInvalid, keyWipe)
	}
	return p, p.validate()
}

// Like returns what all claims of the class have in common: where volumes of it may lie.
func (p Parameters) Like() Claim {
	limited := p.Limits != Limits{}
	return Claim{Kind: p.Kind.Lies(), Group: p.Group, Media: p.Media, Layout: p.Layout, WholeDisk: limited && p.Kind != LVM}
}

// validate checks what single keys cannot.
func (p Parameters) validate() error {
	switch {
	case p.Kind == "":
		return fmt.Errorf("%w parameters: volumeType is required: LVM, MountPoint or Device", ErrInvalid)
	case p.Kind == MountPoint && len(p.MkfsOptions) > 0:
		return fmt.Errorf("%w parameter %q: the file system of a mount point is there already", ErrInvalid, keyMkfsOptions)
	case p.Kind != LVM && p.Layout == capacity.Striped:
		return fmt.Errorf("%w parameter %q: only volumes of volumeType LVM are striped, not %s", ErrInvalid, "lvmType", p.Kind)
	case p.Kind != LVM && p.Group != "":
		return fmt.Errorf("%w parameter %q: only volumes of volumeType LVM lie in a volume group, not %s", ErrInvalid, "vgName", p.Kind)
	}
	return nil
}

func knownKeys() string {
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// oneOf sets into from value if it is one of the words allowed.
func oneOf[T ~string](into *T, value string, allowed ...T) error {
	if !slices.Contains(allowed, T(value)) {
		return fmt.Errorf("%q is none of %q", value, allowed)
	}
	*into = T(value)
	return nil
}

// setLayout reads lvmType.
func setLayout(into *capacity.Layout, value string) error {
	return oneOf(into, value, capacity.Linear, capacity.Striped)
}

// setFSType reads the file system type. Two keys may name it, if they agree.
func setFSType(p *Parameters, value string) error {
	if p.FSType != "" && p.FSType != value {
		return fmt.Errorf("%q contradicts %q given by another key", value, p.FSType)
	}
	if err := ValidFSType(value); err != nil {
		return err
	}
	p.FSType = value
	return nil
}

// ValidFSType reports whether volumes can have a file system of that name.
func ValidFSType(name string) error {
	var ignored string
	return oneOf(&ignored, name, Ext3, Ext4, XFS, Btrfs)
}

// setLimit reads iops or bps: a positive whole quantity such as 1024 or 1Mi.
func setLimit(into *int64, value string) error {
	quantity, err := resource.ParseQuantity(value)
	if err != nil {
		return fmt.Errorf("%q is not a quantity such as 1024 or 1Mi", value)
	}
	limit := quantity.Value() // rounded up, and cut to what an int64 holds
	if limit <= 0 || quantity.Cmp(*resource.NewQuantity(limit, resource.DecimalSI)) != 0 {
		return fmt.Errorf("%q is not a whole number above zero", value)
	}
	*into = limit
	return nil
}

func formatLimit(limit int64) string { return strconv.FormatInt(limit, 10) }
