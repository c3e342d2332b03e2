package volume

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-local/open-local/pkg/capacity"
)

// A SnapshotPolicy is the parameters of a VolumeSnapshotClass, parsed.
type SnapshotPolicy struct {
	// ReadOnly says that a volume made of the snapshot shows the snapshot itself.
	ReadOnly bool
	// Space is what a snapshot gets at first for what is overwritten, Step by how much
	// that grows at least, and Threshold how full it is then, in percent.
	Space, Step capacity.Bytes
	Threshold   int
}

// DefaultSnapshotPolicy is what a class says that says nothing.
var DefaultSnapshotPolicy = SnapshotPolicy{Space: 4 * capacity.GiB, Step: capacity.GiB, Threshold: 50}

// SpaceFor returns the space with which a snapshot of a volume of that size begins: no
// more than it can ever need, where the size is known and not zero.
func (p SnapshotPolicy) SpaceFor(size capacity.Bytes) capacity.Bytes {
	if size <= 0 {
		return p.Space
	}
	return min(p.Space, capacity.SnapshotSpace(size))
}

// CloneSpace returns the space with which the snapshot begins from which a volume of that
// size is copied. It grows like that of any snapshot.
func CloneSpace(size capacity.Bytes) capacity.Bytes {
	return min(capacity.GiB, capacity.SnapshotSpace(size))
}

const snapshotKeys = "csi.aliyun.com/"

// snapshotFields holds every key that ParseSnapshotParameters knows.
var snapshotFields = map[string]func(p *SnapshotPolicy, value string) error{
	snapshotKeys + "readonly": func(p *SnapshotPolicy, value string) error {
		var word string
		err := oneOf(&word, value, "true", "false")
		p.ReadOnly = word == "true"
		return err
	},
	snapshotKeys + "snapshot-initial-size":        func(p *SnapshotPolicy, value string) error { return setSize(&p.Space, value) },
	snapshotKeys + "snapshot-expansion-size":      func(p *SnapshotPolicy, value string) error { return setSize(&p.Step, value) },
	snapshotKeys + "snapshot-expansion-threshold": func(p *SnapshotPolicy, value string) error { return setPercent(&p.Threshold, value) },
}

// ParseSnapshotParameters reads the parameters of a VolumeSnapshotClass. Keys that
// csi-snapshotter adds are accepted; any other unknown key is an error that names it.
// Every error is ErrInvalid.
func ParseSnapshotParameters(params map[string]string) (SnapshotPolicy, error) {
	p := DefaultSnapshotPolicy
	for _, key := range slices.Sorted(maps.Keys(params)) {
		set, known := snapshotFields[key]
		switch {
		case known:
			if err := set(&p, params[key]); err != nil {
				return SnapshotPolicy{}, fmt.Errorf("%w parameter %q: %w", ErrInvalid, key, err)
			}
		case !strings.HasPrefix(key, kubeletKeys):
			return SnapshotPolicy{}, fmt.Errorf("%w parameter %q: not known; known are %s", ErrInvalid, key,
				strings.Join(slices.Sorted(maps.Keys(snapshotFields)), ", "))
		}
	}
	return p, nil
}

// setPercent reads a share such as 50%, with or without its sign.
func setPercent(into *int, value string) error {
	percent, err := strconv.Atoi(strings.TrimSuffix(value, "%"))
	if err != nil || percent < 1 || percent > 99 {
		return fmt.Errorf("%q is not a share such as 50%%, from 1%% to 99%%", value)
	}
	*into = percent
	return nil
}

// Tags that a snapshot carries beside those that every volume may have. DeletedTag is on a
// volume that is deleted and stays because snapshots of it stand.
const (
	DeletedTag = TagPrefix + "state=deleted"

	tagReadOnly       = TagPrefix + "readonly"
	tagGrow           = TagPrefix + "grow"
	tagThreshold      = TagPrefix + "threshold"
	tagSourceSize     = TagPrefix + "source-size"
	tagVolumeSnapshot = TagPrefix + "volumesnapshot"
)

// Tags returns the tags that keep with a snapshot how its space grows and how it is
// restored.
func (p SnapshotPolicy) Tags() []string {
	tags := []string{
		tag(tagGrow, strconv.FormatInt(int64(p.Step), 10)),
		tag(tagThreshold, strconv.Itoa(p.Threshold)),
	}
	if p.ReadOnly {
		tags = append(tags, tag(tagReadOnly, "true"))
	}
	return tags
}

// SnapshotPolicyFromTags returns what tags keep. What they do not say, or say badly, is
// as in DefaultSnapshotPolicy.
func SnapshotPolicyFromTags(tags []string) SnapshotPolicy {
	p := DefaultSnapshotPolicy
	if step, ok := number(tagGrow, tags); ok {
		p.Step = capacity.Bytes(step)
	}
	if threshold, ok := number(tagThreshold, tags); ok && threshold < 100 {
		p.Threshold = int(threshold)
	}
	readOnly, _ := onlyValue(tagReadOnly, tags)
	p.ReadOnly = readOnly == "true"
	return p
}

// SourceSizeTag returns the tag that keeps how large a volume was, in bytes, when a
// snapshot was made of it.
func SourceSizeTag(size capacity.Bytes) string {
	return tag(tagSourceSize, strconv.FormatInt(int64(size), 10))
}

// SourceSizeFromTags returns what SourceSizeTag keeps.
func SourceSizeFromTags(tags []string) (capacity.Bytes, bool) {
	size, ok := number(tagSourceSize, tags)
	return capacity.Bytes(size), ok
}

// VolumeSnapshotTag returns the tag that says of a snapshot which VolumeSnapshot it is
// for.
func VolumeSnapshotTag(namespace, name string) string {
	return tag(tagVolumeSnapshot, namespace+"/"+name)
}

// VolumeSnapshotFromTags returns the VolumeSnapshot that a snapshot is for.
func VolumeSnapshotFromTags(tags []string) (namespace, name string, ok bool) {
	value, _ := onlyValue(tagVolumeSnapshot, tags)
	namespace, name, ok = strings.Cut(value, "/")
	return namespace, name, ok && namespace != "" && name != ""
}

// number returns the whole number above zero that tags keep under the key.
func number(key string, tags []string) (int64, bool) {
	value, _ := onlyValue(key, tags)
	n, err := strconv.ParseInt(value, 10, 64)
	return n, err == nil && n > 0
}

// DefaultSnapshotPrefix begins the handles of snapshots, csi-snapshotter's
// --snapshot-name-prefix.
const DefaultSnapshotPrefix = "snap"

// ForSnapshot returns the handle that csi-snapshotter gives the snapshot of the
// VolumeSnapshot with that UID.
func ForSnapshot(prefix, uid string) string { return prefix + "-" + uid }

// Counted reports whether a logical volume with these tags and that name counts as one
// of open-local's, whatever it is: a volume, a snapshot, or what a clone is copied
// from. One that carries none of our tags counts if the first open-local gave such
// names.
func Counted(name string, tags []string) bool {
	marked := false
	for _, t := range tags {
		marked = marked || strings.HasPrefix(t, TagPrefix)
	}
	if !marked {
		return LooksOurs(name)
	}
	for _, of := range []func([]string) (string, bool){IDFromTags, SnapshotFromTags, SourceFromTags} {
		if _, ok := of(tags); ok {
			return true
		}
	}
	return false
}
