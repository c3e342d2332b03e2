package devmapper

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel and we exchange begins with a struct dm_ioctl of 312 bytes, in the
// machine's byte order (linux/dm-ioctl.h):
//
//	 0  version[3]    12  data_size     16  data_start   20  target_count
//	24  open_count    28  flags         32  event_nr     40  dev (64 bits)
//	48  name[128]    176  uuid[129]    305  data[7]
//
// From data_start on follow the answers, each a struct dm_target_spec of 40 bytes and a
// string that ends in a zero:
//
//	 0  sector_start (64 bits)   8  length (64 bits)   16  status
//	20  next, from data_start    24  target_type[16]
const (
	headerSize = 312
	specSize   = 40

	atVersion, atDataSize, atDataStart, atTargetCount, atFlags, atName = 0, 12, 16, 20, 28, 48
	atNext, atKind, kindSize                                           = 20, 24, 16

	firstBuffer, largestBuffer = 1 << 10, 1 << 19 // bytes
)

var order = binary.NativeEndian

// target is one piece of a device's table.
type target struct{ kind, status string }

// request returns the question about the device of that name, with room for an answer.
func request(name string, size int) ([]byte, error) {
	if name == "" || len(name) >= unix.DM_NAME_LEN || bytes.IndexByte([]byte(name), 0) >= 0 {
		return nil, fmt.Errorf("%q cannot be the name of a device", name)
	}
	buffer := make([]byte, size)
	order.PutUint32(buffer[atVersion:], unix.DM_VERSION_MAJOR) // the oldest minor will do
	order.PutUint32(buffer[atDataSize:], uint32(size))
	order.PutUint32(buffer[atDataStart:], headerSize)
	order.PutUint32(buffer[atFlags:], unix.DM_NOFLUSH_FLAG) // asking must not wait for IO
	copy(buffer[atName:atName+unix.DM_NAME_LEN-1], name)
	return buffer, nil
}

// parseTargets reads the answer. full says that it was cut because it did not fit.
func parseTargets(buffer []byte) (targets []target, full bool, err error) {
	if order.Uint32(buffer[atFlags:])&unix.DM_BUFFER_FULL_FLAG != 0 {
		return nil, true, nil
	}
	start, count := int(order.Uint32(buffer[atDataStart:])), int(order.Uint32(buffer[atTargetCount:]))
	if start > len(buffer) {
		return nil, false, fmt.Errorf("the answer begins at byte %d of %d", start, len(buffer))
	}
	answer, at := buffer[start:], 0
	for range count {
		if at < 0 || at+specSize > len(answer) {
			return nil, false, fmt.Errorf("target %d of %d is at byte %d of %d", len(targets), count, at, len(answer))
		}
		spec := answer[at:]
		targets = append(targets, target{kind: text(spec[atKind : atKind+kindSize]), status: text(spec[specSize:])})
		at = int(order.Uint32(spec[atNext:]))
	}
	return targets, false, nil
}

// text returns what stands before the first zero.
func text(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return string(before)
}

// ioctl hands the buffer to the kernel, which answers in it.
func ioctl(fd, command uintptr, buffer []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, command, uintptr(unsafe.Pointer(&buffer[0]))) //nolint:gosec // the kernel's interface
	runtime.KeepAlive(buffer)
	if errno != 0 {
		return errno
	}
	return nil
}
