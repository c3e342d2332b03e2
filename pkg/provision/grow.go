package provision

import (
	"context"
	"fmt"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

func (l *Logical) grow(_ context.Context, g Growth) (capacity.Bytes, error) {
	return 0, fmt.Errorf("%w volume %s: growing is not served yet", volume.ErrInvalid, g.ID)
}
