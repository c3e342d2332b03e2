//go:build !root

package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/nodeapi"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

func TestEveryErrorHasItsCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want codes.Code
	}{
		{volume.ErrInvalid, codes.InvalidArgument},
		{provision.ErrConflict, codes.AlreadyExists},
		{provision.ErrBusy, codes.Aborted},
		{errInFlight, codes.Aborted},
		{provision.ErrOutOfRange, codes.OutOfRange},
		{ErrNoRoom, codes.ResourceExhausted},
		{lvm.ErrNoSpace, codes.ResourceExhausted},
		{provision.ErrUnmanaged, codes.ResourceExhausted},
		{ErrNodeUnavailable, codes.Unavailable},
		{nodeapi.ErrUnreachable, codes.Unavailable},
		{ErrUndecided, codes.Unavailable},
		{provision.ErrNotReady, codes.Unavailable},
		{ErrNoVolume, codes.NotFound},
		{fs.ErrNotExist, codes.NotFound},
		// Near misses: a volume that is not in its group is gone, a group that is not
		// there may come back with all that is in it.
		{lvm.ErrVolumeNotFound, codes.NotFound},
		{lvm.ErrGroupNotFound, codes.FailedPrecondition},
		{lvm.ErrInUse, codes.FailedPrecondition},
		{lvm.ErrHasSnapshots, codes.FailedPrecondition},
		{lvm.ErrNotOurs, codes.FailedPrecondition},
		{lvm.ErrProtected, codes.FailedPrecondition},
		{lvm.ErrPartial, codes.FailedPrecondition},
		{errNotStaged, codes.FailedPrecondition},
		{errFileSystem, codes.FailedPrecondition},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{errors.New("anything else"), codes.Internal},
	} {
		if got := codeOf.Code(fmt.Errorf("doing something: %w", test.err)); got != test.want {
			t.Errorf("%q has code %s, want %s", test.err, got, test.want)
		}
	}
}
