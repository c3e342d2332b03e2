package provision

import (
	"context"
	"fmt"

	"github.com/open-local/open-local/pkg/volume"
)

func (l *Logical) snapshot(_ context.Context, spec SnapshotSpec) (Snapshot, error) {
	return Snapshot{}, fmt.Errorf("%w snapshot %s: snapshots are not served yet", volume.ErrInvalid, spec.ID)
}

func (l *Logical) removeSnapshot(_ context.Context, r SnapshotRemoval) error {
	return fmt.Errorf("%w snapshot %s: snapshots are not served yet", volume.ErrInvalid, r.ID)
}
