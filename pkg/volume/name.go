package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// The longest names. The device-mapper name of a volume is "group-volume" with
// every hyphen of either doubled, and has at most 127 bytes (lvm(8), VALID
// NAMES). A volume that takes at most 72 of them, hyphens doubled, leaves 54 to
// its group.
const (
	maxGroup  = 127
	maxVolume = 72
)

// lvmWord is what lvm(8) calls a valid name.
var lvmWord = regexp.MustCompile(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$`)

// Names that LVM keeps for itself (lvm(8), VALID NAMES).
var (
	reservedPrefixes = []string{"snapshot", "pvmove"}
	reservedParts    = []string{
		"_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog",
		"_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
	}
)

// ValidGroup reports why name cannot be a volume group's, or nil.
func ValidGroup(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a volume group needs a name")
	case len(name) > maxGroup:
		return fmt.Errorf("the volume group name %.20q… has %d bytes, LVM allows %d", name, len(name), maxGroup)
	case name == "." || name == ".." || !lvmWord.MatchString(name):
		return fmt.Errorf("%q is not a name LVM accepts for a volume group (letters, digits and + _ . -, not first a hyphen)", name)
	}
	return nil
}

// mapped is how a name looks that NameOf had to make.
var mapped = regexp.MustCompile(`^vol-[0-9a-f]{40}$`)

// NameOf returns the name of the logical volume for the volume handle id. A
// handle that LVM can spell is its own name; any other becomes "vol-" and the
// start of its SHA-256. No two handles in use share a name: a handle that looks
// like a made name is mapped as well.
func NameOf(id string) string {
	if spelt(id) && !mapped.MatchString(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "vol-" + hex.EncodeToString(sum[:20])
}

// spelt reports whether LVM accepts name for a logical volume and leaves room
// for the group in the device-mapper name.
func spelt(name string) bool {
	if len(name)+strings.Count(name, "-") > maxVolume || !lvmWord.MatchString(name) || name == "." || name == ".." {
		return false
	}
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	for _, part := range reservedParts {
		if strings.Contains(name, part) {
			return false
		}
	}
	return true
}

// ValidID reports whether id can be a volume handle: not empty, at most 128
// bytes as CSI suggests, and free of control characters.
func ValidID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w volume: the name is empty", ErrInvalid)
	case len(id) > 128:
		return fmt.Errorf("%w volume %.20q…: the name has %d bytes, 128 are allowed", ErrInvalid, id, len(id))
	}
	for _, r := range id {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("%w volume %q: the name has a control character", ErrInvalid, id)
		}
	}
	return nil
}

// DefaultPrefix begins the names of volumes made for claims, csi-provisioner's
// --volume-name-prefix.
const DefaultPrefix = "local"

// ForClaim returns the handle that csi-provisioner gives the volume of the claim
// with that UID.
func ForClaim(prefix, uid string) string { return prefix + "-" + uid }

// claimUID is what ForClaim puts at the end.
var claimUID = regexp.MustCompile(`-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// ClaimUID returns the UID of the claim that the volume with that handle was made for, or
// "" where the handle does not end in one.
func ClaimUID(id string) string {
	found := claimUID.FindStringSubmatch(id)
	if found == nil {
		return ""
	}
	return found[1]
}

// ForInline returns the handle that kubelet gives the inline volume of that name
// in the pod with that UID (k8s.io/kubernetes/pkg/volume/csi, makeVolumeHandle).
func ForInline(podUID, name string) string {
	sum := sha256.Sum256([]byte(podUID + name))
	return "csi-" + hex.EncodeToString(sum[:])
}

// inline is how a handle looks that ForInline returns.
var inline = regexp.MustCompile(`^csi-[0-9a-f]{64}$`)

// IsInline reports whether id looks like the handle of an inline volume. The kubelet
// alone gives such handles.
func IsInline(id string) bool { return inline.MatchString(id) }

// ours is how volumes look that earlier versions made, which carry no tags.
var ours = regexp.MustCompile(`^(local|snap)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^csi-[0-9a-f]{64}$`)

// LooksOurs reports whether a logical volume without tags has a name that open-local
// gives. That is enough to count it as ours and never enough to remove it.
func LooksOurs(name string) bool { return ours.MatchString(name) }
