package volume

const tagWipe = TagPrefix + "wipe"

// WipeTag returns the tag that keeps with a logical volume what becomes of its data.
func WipeTag(way Wipe) string { return tag(tagWipe, string(way)) }

// WipeFromTags returns what WipeTag keeps. A volume that says nothing, or nothing that can
// be read, is one of a class that says nothing.
func WipeFromTags(tags []string) Wipe {
	value, _ := onlyValue(tagWipe, tags)
	if ValidWipe(Wipe(value)) != nil {
		return WipeDiscard
	}
	return Wipe(value)
}
