package volume

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/open-local/open-local/pkg/capacity"
)

// DefaultInlineSize is the size of an inline volume that names none.
const DefaultInlineSize = capacity.GiB

// An Inline is what a pod asks of an inline ephemeral volume. It comes from
// whoever may create a pod: a group named here exists only if the node says so.
type Inline struct {
	Group  string
	Size   capacity.Bytes // as asked, before rounding to extents
	Layout capacity.Layout
	Limits
}

// ParseInline reads the volumeAttributes of an inline volume. Keys that kubelet
// adds under csi.storage.k8s.io/ are left alone; any other key but vgName, size,
// lvmType, iops and bps is an error. Every error is ErrInvalid.
func ParseInline(attributes map[string]string) (Inline, error) {
	inline := Inline{Size: DefaultInlineSize, Layout: capacity.Linear}
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[key]
		var err error
		switch {
		case key == keyGroup:
			inline.Group, err = value, ValidGroup(value)
		case key == "size":
			err = setSize(&inline.Size, value)
		case key == "lvmType":
			err = setLayout(&inline.Layout, value)
		case key == keyIOPS:
			err = setLimit(&inline.IOPS, value)
		case key == keyBPS:
			err = setLimit(&inline.BPS, value)
		case strings.HasPrefix(key, kubeletKeys):
		default:
			err = fmt.Errorf("not known; known are %s, %s, lvmType, size, %s", keyBPS, keyIOPS, keyGroup)
		}
		if err != nil {
			return Inline{}, fmt.Errorf("%w inline volume attribute %q: %w", ErrInvalid, key, err)
		}
	}
	if inline.Group == "" {
		return Inline{}, fmt.Errorf("%w inline volume: %q is required", ErrInvalid, keyGroup)
	}
	return inline, nil
}

// setSize reads a size: a positive whole number of bytes such as 1Gi.
func setSize(into *capacity.Bytes, value string) error {
	quantity, err := resource.ParseQuantity(value)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 1Gi", value)
	}
	size := quantity.Value() // rounded up, and cut to what an int64 holds
	if size <= 0 || quantity.Cmp(*resource.NewQuantity(size, resource.BinarySI)) != 0 {
		return fmt.Errorf("%q is not a whole number of bytes above zero", value)
	}
	*into = capacity.Bytes(size)
	return nil
}
