package volume

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Every logical volume that open-local makes carries tags that say whose it is.
// LVM keeps them in its metadata, so they outlive the cluster's memory of the
// volume. A value that LVM cannot spell is written in base64 under the same key
// with "64" behind it.
const (
	tagID      = TagPrefix + "id"
	tagDriver  = TagPrefix + "driver"
	tagCluster = TagPrefix + "cluster"
	tagClaim   = TagPrefix + "claim"
	tagMade    = TagPrefix + "made"

	tagSnapshot = TagPrefix + "snapshot"
	tagSource   = TagPrefix + "source"
	tagCreated  = TagPrefix + "created"
	tagPod      = TagPrefix + "pod"

	encoded = "64"
)

// TagPrefix begins every tag of open-local. The first open-local set none.
const TagPrefix = "open-local."

// maxTag is the longest tag LVM takes, in bytes (lvm(8), TAGS).
const maxTag = 1024

// tagEncoding uses only letters that LVM accepts in a tag.
var tagEncoding = base64.RawURLEncoding

// IDTag returns the tag that ties a logical volume to the volume handle id. Every
// handle that ValidID accepts has one, and IDFromTags reads it back.
func IDTag(id string) string {
	return tag(tagID, id)
}

// IDFromTags returns the volume handle that one of tags names. It returns false
// when there is none, and also when a tag cannot be read or two disagree:
// a volume of doubtful ownership is nobody's to touch.
func IDFromTags(tags []string) (string, bool) { return onlyValue(tagID, tags) }

// onlyValue returns the value of the tags with that key, if they can be read and
// agree.
func onlyValue(key string, tags []string) (string, bool) {
	var only string
	for _, t := range tags {
		value, has, readable := tagValue(key, t)
		switch {
		case !has:
		case !readable, only != "" && only != value:
			return "", false
		default:
			only = value
		}
	}
	return only, only != ""
}

// MadeTag returns the tag that says of a logical volume in which attempt it was made. Nobody
// reads what is in it: a volume has the tag of one attempt, or not.
func MadeTag(token string) string { return tag(tagMade, token) }

// SnapshotTag returns the tag that ties a logical volume to the snapshot handle id.
func SnapshotTag(id string) string { return tag(tagSnapshot, id) }

// SnapshotFromTags returns the snapshot handle that tags name, as IDFromTags does
// for volumes.
func SnapshotFromTags(tags []string) (string, bool) { return onlyValue(tagSnapshot, tags) }

// SourceTag returns the tag that says of a snapshot which volume it is of.
func SourceTag(volumeID string) string { return tag(tagSource, volumeID) }

// SourceFromTags returns the handle of the volume that a snapshot is of.
func SourceFromTags(tags []string) (string, bool) { return onlyValue(tagSource, tags) }

// CreatedTag returns the tag that keeps when a snapshot was made.
func CreatedTag(at time.Time) string { return tag(tagCreated, strconv.FormatInt(at.UnixNano(), 10)) }

// CreatedFromTags returns when a snapshot was made.
func CreatedFromTags(tags []string) (time.Time, bool) {
	value, ok := onlyValue(tagCreated, tags)
	nanoseconds, err := strconv.ParseInt(value, 10, 64)
	return time.Unix(0, nanoseconds), ok && err == nil
}

// PodTag returns the tag that says of an inline volume which pod it is of.
func PodTag(namespace, name, uid string) string {
	return tag(tagPod, namespace+"/"+name+"/"+uid)
}

// PodFromTags returns the pod that an inline volume is of.
func PodFromTags(tags []string) (namespace, name, uid string, ok bool) {
	value, ok := onlyValue(tagPod, tags)
	parts := strings.Split(value, "/")
	if !ok || len(parts) != 3 || slices.Contains(parts, "") {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}

// DriverFromTags returns the CSI driver that tags name, or false when they name
// none that can be read.
func DriverFromTags(tags []string) (string, bool) {
	for _, t := range tags {
		if value, isDriver, readable := tagValue(tagDriver, t); isDriver {
			return value, readable
		}
	}
	return "", false
}

// OwnerTags returns the tags that tell a person, and a later search for leaks,
// who a logical volume is for: the CSI driver's name, the UID of the cluster
// and the claim. A part that is not known, or too long for a tag, is left out.
func OwnerTags(driver, cluster, namespace, claim string) []string {
	owner := ""
	if claim != "" {
		owner = namespace + "/" + claim
	}
	var tags []string
	for _, part := range []struct{ key, value string }{
		{tagDriver, driver}, {tagCluster, cluster}, {tagClaim, owner},
	} {
		if part.value == "" {
			continue
		}
		if t := tag(part.key, part.value); len(t) <= maxTag {
			tags = append(tags, t)
		}
	}
	return tags
}

// ClaimFromTags returns the claim that a logical volume is for.
func ClaimFromTags(tags []string) (namespace, name string, ok bool) {
	value, ok := onlyValue(tagClaim, tags)
	namespace, name, split := strings.Cut(value, "/")
	return namespace, name, ok && split && namespace != "" && name != ""
}

// ClusterFromTags returns the identity of the cluster that a logical volume was made in.
func ClusterFromTags(tags []string) (string, bool) { return onlyValue(tagCluster, tags) }

// ValidTag reports whether LVM accepts t as a tag.
func ValidTag(t string) bool {
	return t != "" && t[0] != '-' && len(t) <= maxTag && taggable(t)
}

func tag(key, value string) string {
	if taggable(value) {
		return key + "=" + value
	}
	return key + encoded + "=" + tagEncoding.EncodeToString([]byte(value))
}

// tagValue returns the value of t if t has that key, in either spelling.
// readable is false when the value is empty or not base64 where it says so.
func tagValue(key, t string) (value string, hasKey, readable bool) {
	if value, ok := strings.CutPrefix(t, key+"="); ok {
		return value, true, value != ""
	}
	if value, ok := strings.CutPrefix(t, key+encoded+"="); ok {
		raw, err := tagEncoding.DecodeString(value)
		return string(raw), true, err == nil && len(raw) > 0
	}
	return "", false, false
}

// taggable reports whether s consists of letters that LVM accepts in a tag.
func taggable(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			return false
		}
		return !strings.ContainsRune("_+.-/=!:&#", rune(c))
	})
}
