package volume

import (
	"strconv"
	"strings"
)

// Limits are what the IO of a volume is held to, reads and writes each. Zero is
// unlimited.
type Limits struct {
	IOPS int64 // operations a second
	BPS  int64 // bytes a second
}

const (
	tagIOPS = TagPrefix + "iops"
	tagBPS  = TagPrefix + "bps"
)

// LimitTags returns the tags that keep the limits with a logical volume.
func LimitTags(l Limits) []string {
	var tags []string
	if l.IOPS > 0 {
		tags = append(tags, tagIOPS+"="+formatLimit(l.IOPS))
	}
	if l.BPS > 0 {
		tags = append(tags, tagBPS+"="+formatLimit(l.BPS))
	}
	return tags
}

// LimitsFromTags returns the limits that tags keep. Of a limit that is there more
// than once, as a change that was cut short leaves it, the smallest counts; one that
// cannot be read is none.
func LimitsFromTags(tags []string) Limits {
	var l Limits
	for _, t := range tags {
		key, value, _ := strings.Cut(t, "=")
		var into *int64
		switch key {
		case tagIOPS:
			into = &l.IOPS
		case tagBPS:
			into = &l.BPS
		default:
			continue
		}
		if limit, err := strconv.ParseInt(value, 10, 64); err == nil && limit > 0 && (*into == 0 || limit < *into) {
			*into = limit
		}
	}
	return l
}
