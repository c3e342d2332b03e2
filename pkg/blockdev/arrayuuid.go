package blockdev

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// arrayUUID returns the UUID that an array was made with. The kernel knows that of an
// array whose metadata it writes itself, and old kernels do not say it; of one that is
// managed from outside (IMSM, DDF), or that has no metadata, it says zeros. Then udev
// knows, from mdadm.
func arrayUUID(dir, remembered string) string {
	if uuid := fact(dir, "md/uuid"); strings.Trim(uuid, "0-") != "" {
		return uuid
	}
	if strings.Trim(remembered, "0:") == "" {
		return ""
	}
	switch version := fact(dir, "md/metadata_version"); {
	case strings.HasPrefix(version, "1."):
		return kernelSpelling(remembered, binary.BigEndian)
	case version == "0.90":
		return kernelSpelling(remembered, binary.NativeEndian)
	default:
		return remembered // no kernel spells it
	}
}

// kernelSpelling turns the UUID of an array as mdadm spells it, in four groups, into the
// five of a kernel that knows it: the array is the same after a newer kernel is booted.
// The kernel prints the bytes that are on the disk. mdadm does so as well where they are
// bytes (metadata 1.x: set_uuid); where they are four numbers (0.90: set_uuid0 and so
// on), it prints these, and order is that of their bytes.
func kernelSpelling(uuid string, order binary.AppendByteOrder) string {
	const groups, digits = 4, 8
	var b []byte
	for group := range strings.SplitSeq(uuid, ":") {
		number, err := strconv.ParseUint(group, 16, 32)
		if err != nil || len(group) != digits {
			return uuid
		}
		b = order.AppendUint32(b, uint32(number))
	}
	if len(b) != groups*4 {
		return uuid
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
