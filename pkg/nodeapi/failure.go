package nodeapi

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/nodeapi/nodepb"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// ErrUnreachable says that the node did not answer: whether it did what was asked
// is not known.
var ErrUnreachable = errors.New("node does not answer")

// failures are the errors that keep their identity on the way from a node to the
// controller. The first that an error wraps is what it is; the more particular
// comes first.
var failures = []struct {
	err  error
	kind string
	code codes.Code
}{
	{volume.ErrInvalid, "invalid", codes.InvalidArgument},
	{lvm.ErrInvalid, "invalid-lvm", codes.InvalidArgument},
	{provision.ErrConflict, "conflict", codes.AlreadyExists},
	{provision.ErrBusy, "busy", codes.Aborted},
	{provision.ErrOutOfRange, "out-of-range", codes.OutOfRange},
	{provision.ErrUnmanaged, "unmanaged", codes.ResourceExhausted},
	{provision.ErrNotReady, "not-ready", codes.Unavailable},
	{provision.ErrNoDevice, "no-device", codes.ResourceExhausted}, // before what it wraps
	{exclusive.ErrConflict, "other-device", codes.AlreadyExists},
	{exclusive.ErrTaken, "taken", codes.FailedPrecondition},
	{exclusive.ErrGone, "device-gone", codes.FailedPrecondition},
	{exclusive.ErrOther, "device-changed", codes.FailedPrecondition},
	{exclusive.ErrNotOurs, "device-not-ours", codes.FailedPrecondition},
	{exclusive.ErrNotClean, "not-empty", codes.FailedPrecondition},
	{exclusive.ErrInUse, "mount-point-in-use", codes.FailedPrecondition},
	{wipe.ErrInUse, "device-in-use", codes.FailedPrecondition},
	{wipe.ErrNotClean, "not-blank", codes.FailedPrecondition},
	{lvm.ErrNoSpace, "no-space", codes.ResourceExhausted},
	{lvm.ErrVolumeNotFound, "volume-not-found", codes.NotFound},
	{lvm.ErrGroupNotFound, "group-not-found", codes.FailedPrecondition},
	{lvm.ErrHasSnapshots, "has-snapshots", codes.FailedPrecondition},
	{lvm.ErrInUse, "in-use", codes.FailedPrecondition},
	{provision.ErrLost, "lost", codes.FailedPrecondition},
	{lvm.ErrNotOurs, "not-ours", codes.FailedPrecondition},
	{lvm.ErrProtected, "protected", codes.FailedPrecondition},
	{lvm.ErrPartial, "partial", codes.FailedPrecondition},
	{lvm.ErrExported, "exported", codes.FailedPrecondition},
	{context.DeadlineExceeded, "deadline", codes.DeadlineExceeded},
	{context.Canceled, "canceled", codes.Canceled},
}

// encode is the interceptor that gives errors of the server their code and kind.
func encode(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err == nil {
		return resp, nil
	}
	for _, failure := range failures {
		if errors.Is(err, failure.err) {
			return nil, withKind(status.New(failure.code, err.Error()), failure.kind)
		}
	}
	if _, ok := status.FromError(err); ok {
		return nil, err
	}
	return nil, status.Error(codes.Internal, err.Error())
}

func withKind(s *status.Status, kind string) error {
	detailed, err := s.WithDetails(&nodepb.Failure{Kind: kind})
	if err != nil {
		return s.Err() // the code alone still says a lot
	}
	return detailed.Err()
}

// Error is what a node answered instead of success. It wraps the error that it
// was on the node, if that is one which callers ask about.
type Error struct {
	Address string // of the node
	Message string
	kind    error
}

// Error says which node failed, and with what.
func (e *Error) Error() string { return fmt.Sprintf("node at %s: %s", e.Address, e.Message) }

// Unwrap returns the error to compare with, or nil.
func (e *Error) Unwrap() error { return e.kind }

// decode turns what came over the wire into an error as it was on the node.
func decode(address string, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	return &Error{Address: address, Message: s.Message(), kind: kindOf(s)}
}

func kindOf(s *status.Status) error {
	for _, detail := range s.Details() {
		if said, ok := detail.(*nodepb.Failure); ok {
			for _, failure := range failures {
				if failure.kind == said.GetKind() {
					return failure.err
				}
			}
		}
	}
	// No detail: gRPC itself made the error, or a node of another version.
	switch s.Code() {
	case codes.Unavailable:
		return ErrUnreachable
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	}
	return nil
}
