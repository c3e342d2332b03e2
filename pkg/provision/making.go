package provision

import (
	"context"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// making is what outlives processes about volumes that are being made: *begun.Volumes.
type making interface {
	Begin(name string) (token string, err error)
	Token(name string) (string, error)
	End(name string) error
}

// unmake removes a volume whose lvcreate is not known to have ended, and reports whether
// it was one. LVM commits a volume to its metadata, with all tags, before it clears its
// beginning (lvcreate(8), --zero and --wipesignatures): if it dies in between the volume
// looks whole, and may begin with the file system of a former tenant, which would be
// mounted as this one's. Nobody has been given such a volume. Block volumes and copies
// say themselves that they are not done.
func (l *Logical) unmake(ctx context.Context, id string, have lvm.Volume) (bool, error) {
	token, err := l.Making.Token(have.Name)
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", id, err)
	}
	if token == "" || !have.HasTag(volume.MadeTag(token)) {
		return false, nil
	}
	klog.FromContext(ctx).Info("Removing a volume whose making was cut short, to make it again", "volume", id, "group", have.Group, "name", have.Name)
	err = l.Host.RemoveVolume(ctx, have.Group, have.Name, volume.IDTag(id), volume.MadeTag(token))
	if err != nil {
		return false, fmt.Errorf("volume %s: removing what its making left when it was cut short: %w", id, err)
	}
	return true, nil
}
