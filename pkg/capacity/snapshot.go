package capacity

// SnapshotChunk is the piece that a snapshot copies when the first byte of it is
// overwritten. LVM's own 4 KiB save space where little is written here and there, but
// every read of a snapshot, and every write beside one, is cut into such pieces.
const SnapshotChunk = 64 * KiB

// exceptionSize is what the device-mapper writes down for each piece copied, in bytes.
const exceptionSize = 16

// SnapshotSpace returns the space with which a snapshot of a volume of that size can
// never be full: room for every piece, for the list of them and for a header. More
// than that, in whole extents, LVM does not give.
func SnapshotSpace(origin Bytes) Bytes {
	pieces := origin.Extents(SnapshotChunk) / SnapshotChunk
	lists := pieces/(SnapshotChunk/exceptionSize) + 1 // the last one has room for its end
	return (1 + pieces + lists) * SnapshotChunk
}
