package provision

import (
	"context"
	"fmt"

	"github.com/open-local/open-local/pkg/volume"
)

func (l *Logical) modify(_ context.Context, m Modification) error {
	return fmt.Errorf("%w volume %s: changing limits is not served yet", volume.ErrInvalid, m.ID)
}
