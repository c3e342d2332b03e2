// Package driver answers CSI calls: it translates them into what packages
// provision, lvm and mounts do, and errors into codes. The controller's side knows
// where volumes are only through its directory, and makes them through the nodes;
// it knows no API client and no LVM. The node's side touches only its own node.
package driver

import (
	"context"
	"errors"
	"io/fs"

	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/nodeapi"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/rpc"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

var (
	// ErrNoVolume says that a volume is in no report of a live node and in no
	// PersistentVolume: it does not exist.
	ErrNoVolume = errors.New("no such volume")
	// ErrNoSnapshot says that a snapshot is in no report.
	ErrNoSnapshot = errors.New("no such snapshot")
	// ErrNodeUnavailable says that a node is missing or cannot be reached now. Its
	// volumes are not gone.
	ErrNodeUnavailable = errors.New("node is not available")
	// ErrNoRoom says that the scheduler found no room for the volume.
	ErrNoRoom = errors.New("no room")
	// ErrUndecided says that the scheduler did not answer where a volume goes.
	ErrUndecided = errors.New("scheduler extender does not answer")

	errInFlight   = errors.New("another call for this volume is under way")
	errBadToken   = errors.New("starting token is not one that was given out")
	errShown      = errors.New("volumes show the snapshot itself")
	errLost       = errors.New("snapshot ran full and is lost")
	errNotStaged  = errors.New("volume is not staged")
	errOther      = errors.New("something else is mounted there")
	errFileSystem = errors.New("wrong file system")
	// errInlineGroup says that a pod which has a node already asks for a group that
	// is not managed there. Nobody looks for another node.
	errInlineGroup = errors.New("no inline volume can be made in that group")
	errReadOnly    = errors.New("file system is read-only")
)

// A Place is where a volume lies.
type Place struct {
	Node  string
	Kind  volume.Kind
	Group string
	// Identity is who the device or file system of a volume that is in no group is, and Path
	// what that was called.
	Identity, Path string
	Size           capacity.Bytes
	// Proven says that a PersistentVolume names this node and this group.
	Proven bool
	// Snapshot is the handle of the snapshot that the volume shows, of which nothing is
	// its own; or empty.
	Snapshot string
}

// codeOf is the only place where an error of ours becomes a gRPC code.
//
// csi-provisioner gives a claim back to the scheduler on ResourceExhausted, so
// only an error after which nothing is left on the node may be that. It repeats
// the call for Aborted, Unavailable, DeadlineExceeded and Canceled.
var codeOf = rpc.Table{
	{Err: volume.ErrInvalid, Code: codes.InvalidArgument},
	{Err: lvm.ErrInvalid, Code: codes.InvalidArgument},
	{Err: errInlineGroup, Code: codes.FailedPrecondition}, // before what it wraps
	{Err: provision.ErrConflict, Code: codes.AlreadyExists},
	{Err: provision.ErrBusy, Code: codes.Aborted},
	{Err: errInFlight, Code: codes.Aborted},
	{Err: errBadToken, Code: codes.Aborted}, // as CSI says for ListVolumes
	{Err: ErrNodeUnavailable, Code: codes.Unavailable},
	{Err: nodeapi.ErrUnreachable, Code: codes.Unavailable},
	{Err: ErrUndecided, Code: codes.Unavailable},
	{Err: provision.ErrNotReady, Code: codes.Unavailable},
	{Err: provision.ErrOutOfRange, Code: codes.OutOfRange},
	{Err: ErrNoRoom, Code: codes.ResourceExhausted},
	{Err: provision.ErrUnmanaged, Code: codes.ResourceExhausted}, // on this node; there are others
	{Err: lvm.ErrNoSpace, Code: codes.ResourceExhausted},
	{Err: provision.ErrNoDevice, Code: codes.ResourceExhausted}, // before what it wraps
	{Err: exclusive.ErrConflict, Code: codes.AlreadyExists},
	{Err: exclusive.ErrTaken, Code: codes.FailedPrecondition},
	{Err: exclusive.ErrGone, Code: codes.FailedPrecondition}, // it may come back
	{Err: exclusive.ErrOther, Code: codes.FailedPrecondition},
	{Err: exclusive.ErrNotOurs, Code: codes.FailedPrecondition},
	{Err: exclusive.ErrNotReady, Code: codes.FailedPrecondition},
	{Err: exclusive.ErrInUse, Code: codes.FailedPrecondition},
	{Err: exclusive.ErrNotClean, Code: codes.FailedPrecondition},
	{Err: wipe.ErrInUse, Code: codes.FailedPrecondition},
	{Err: wipe.ErrNotClean, Code: codes.FailedPrecondition},
	{Err: ErrNoVolume, Code: codes.NotFound},
	{Err: ErrNoSnapshot, Code: codes.NotFound},
	{Err: errShown, Code: codes.FailedPrecondition},
	{Err: errLost, Code: codes.FailedPrecondition},
	{Err: lvm.ErrVolumeNotFound, Code: codes.NotFound},
	{Err: lvm.ErrGroupNotFound, Code: codes.FailedPrecondition}, // missing, not gone
	{Err: lvm.ErrInUse, Code: codes.FailedPrecondition},
	{Err: provision.ErrLost, Code: codes.FailedPrecondition},
	{Err: lvm.ErrNotOurs, Code: codes.FailedPrecondition},
	{Err: lvm.ErrProtected, Code: codes.FailedPrecondition},
	{Err: lvm.ErrPartial, Code: codes.FailedPrecondition},
	{Err: lvm.ErrExported, Code: codes.FailedPrecondition},
	{Err: errNotStaged, Code: codes.FailedPrecondition},
	{Err: mounts.ErrMountedOtherwise, Code: codes.FailedPrecondition},
	{Err: mounts.ErrNotBlank, Code: codes.FailedPrecondition},
	{Err: mounts.ErrAmbiguous, Code: codes.FailedPrecondition},
	{Err: mounts.ErrBusy, Code: codes.FailedPrecondition},
	{Err: mounts.ErrUnsupported, Code: codes.InvalidArgument},
	{Err: errOther, Code: codes.FailedPrecondition},
	{Err: errFileSystem, Code: codes.FailedPrecondition},
	{Err: errReadOnly, Code: codes.FailedPrecondition},
	{Err: fs.ErrNotExist, Code: codes.NotFound},
	{Err: context.DeadlineExceeded, Code: codes.DeadlineExceeded},
	{Err: context.Canceled, Code: codes.Canceled},
}
