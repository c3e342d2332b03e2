package volume

import (
	"crypto/sha256"
	"encoding/hex"
)

// CopyingTag is on a volume from the moment it exists until it is a whole copy of its
// source. What is on a volume with this tag is nobody's data.
const CopyingTag = TagPrefix + "state=copying"

const (
	tagCopy  = TagPrefix + "copy"
	tagClone = TagPrefix + "clone"
)

// CopyTag returns the tag that says of a volume what it began as a copy of: the handle
// of a snapshot or of a volume.
func CopyTag(source string) string { return tag(tagCopy, source) }

// CopyFromTags returns the handle of what a volume began as a copy of.
func CopyFromTags(tags []string) (string, bool) { return onlyValue(tagCopy, tags) }

// CloneTag returns the tag that says of a snapshot that it stands only while the volume
// with that handle is copied from it.
func CloneTag(target string) string { return tag(tagClone, target) }

// CloneFromTags returns the handle of the volume that is copied from a snapshot.
func CloneFromTags(tags []string) (string, bool) { return onlyValue(tagClone, tags) }

// CloneName returns the name of the logical volume from which the volume with the
// handle target is copied when it is a clone of another.
func CloneName(target string) string {
	const prefix = "clone-"
	if name := prefix + NameOf(target); spelt(name) {
		return name
	}
	sum := sha256.Sum256([]byte(target))
	return prefix + hex.EncodeToString(sum[:20])
}
