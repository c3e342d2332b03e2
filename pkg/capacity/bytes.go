// Package capacity describes what a node has and how much of it is taken. It is
// arithmetic: nothing here knows about Kubernetes, LVM or time.
package capacity

import (
	"math"
	"strconv"
)

// Bytes is a size on disk. It becomes a resource.Quantity or an lvcreate
// argument only at the edge that needs one.
type Bytes int64

// Binary multiples of a byte.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

// DefaultExtent is the extent size LVM gives a volume group that asks for none
// (vgcreate(8), --physicalextentsize).
const DefaultExtent = 4 * MiB

// Extents returns b rounded up to whole extents, which is what LVM takes from
// the group whatever was asked for. Any volume takes at least one extent. A
// size so near the largest number that it cannot be rounded up stays as it is;
// it fits nowhere either way.
func (b Bytes) Extents(extent Bytes) Bytes {
	if extent <= 0 {
		return b
	}
	if b <= 0 {
		return extent
	}
	rest := b % extent
	if rest == 0 || b > math.MaxInt64-extent {
		return b
	}
	return b + extent - rest
}

// Floor returns b rounded down to whole extents and never less than zero: what
// of a free space can really be given away.
func (b Bytes) Floor(extent Bytes) Bytes {
	if b <= 0 {
		return 0
	}
	if extent <= 0 {
		return b
	}
	return b - b%extent
}

// String writes b the way a person compares sizes: in the largest binary unit
// that keeps it exact, or with one decimal when none of MiB and above does.
func (b Bytes) String() string {
	if b < 0 {
		if b == math.MinInt64 {
			return "-8Ei"
		}
		return "-" + (-b).String()
	}
	units := []struct {
		name string
		size Bytes
	}{{"Ti", TiB}, {"Gi", GiB}, {"Mi", MiB}, {"Ki", KiB}}
	for _, unit := range units {
		if b >= unit.size && b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
		// 1.5Gi says more than 1536Mi, but 1.0Gi for 1Gi and one byte would lie.
		if b >= 10*unit.size && unit.size >= MiB {
			return strconv.FormatFloat(math.Floor(float64(b)/float64(unit.size)*10)/10, 'f', 1, 64) + unit.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
