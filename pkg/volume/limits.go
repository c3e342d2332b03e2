package volume

import (
	"fmt"
	"maps"
	"slices"
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

// unlimited is how a change, and the tag that keeps it, says that there is no limit.
const unlimited = "max"

// A LimitChange says which limits are to be others: nil leaves one as it is, zero
// takes it off.
type LimitChange struct {
	IOPS, BPS *int64
}

// ParseLimitChange reads the parameters of a VolumeAttributesClass: iops and bps,
// each a positive whole quantity or "max". Any other key is an error that names it.
// Every error is ErrInvalid.
func ParseLimitChange(parameters map[string]string) (LimitChange, error) {
	var c LimitChange
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		var into **int64
		switch key {
		case keyIOPS:
			into = &c.IOPS
		case keyBPS:
			into = &c.BPS
		default:
			return LimitChange{}, fmt.Errorf("%w parameter %q: it cannot be changed; what can are %s and %s", ErrInvalid, key, keyBPS, keyIOPS)
		}
		limit := new(int64)
		if value := parameters[key]; value != unlimited {
			if err := setLimit(limit, value); err != nil {
				return LimitChange{}, fmt.Errorf("%w parameter %q: %w, nor %s", ErrInvalid, key, err, unlimited)
			}
		}
		*into = limit
	}
	return c, nil
}

// Of returns l with the change made.
func (c LimitChange) Of(l Limits) Limits {
	if c.IOPS != nil {
		l.IOPS = *c.IOPS
	}
	if c.BPS != nil {
		l.BPS = *c.BPS
	}
	return l
}

// KeptLimits returns what tags say of limits: nil where they say nothing, zero where
// they say that there is none, whatever was asked when the volume was made.
func KeptLimits(tags []string) LimitChange {
	l := LimitsFromTags(tags)
	kept := func(limit int64, key string) *int64 {
		if limit == 0 && !slices.Contains(tags, key+"="+unlimited) {
			return nil
		}
		return &limit
	}
	return LimitChange{IOPS: kept(l.IOPS, tagIOPS), BPS: kept(l.BPS, tagBPS)}
}

// RetagLimits returns the tags to add to, and to take from, a volume that has these
// tags, so that they keep the change.
func (c LimitChange) RetagLimits(tags []string) (add, del []string) {
	for _, limit := range []struct {
		key string
		to  *int64
	}{{tagIOPS, c.IOPS}, {tagBPS, c.BPS}} {
		if limit.to == nil {
			continue
		}
		want := limit.key + "=" + unlimited
		if *limit.to > 0 {
			want = limit.key + "=" + formatLimit(*limit.to)
		}
		if !slices.Contains(tags, want) {
			add = append(add, want)
		}
		for _, t := range tags {
			if strings.HasPrefix(t, limit.key+"=") && t != want {
				del = append(del, t)
			}
		}
	}
	return add, del
}
