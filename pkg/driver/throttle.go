package driver

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/volume"
)

// throttler holds volumes in use to their limits: *iolimit.Keeper.
type throttler interface {
	// Use begins, with the limits that were asked when the volume was made, and says
	// iolimit.ErrUnsupported or iolimit.ErrNoPods where there are some that do not hold.
	Use(ctx context.Context, id, device string, asked volume.Limits) error
	Release(ctx context.Context, id string) error
}

// A Subject is what an event is about: the pod where it is known, else the claim of
// the volume, else the volume.
type Subject struct {
	Volume                     string // its handle
	Namespace, PodName, PodUID string
}

// events tells people what becomes of volumes. It does not wait until they know.
type events interface {
	Warn(about Subject, reason, message string)
}

// ReasonNotThrottled is the reason of the event that a volume's limits do not hold.
const ReasonNotThrottled = "NotThrottled"

// throttle holds the volume's device, from now on and for every pod, to the limits
// that are kept with the volume, or else to those asked. On a node that cannot do that
// the volume can be used all the same, and an event says that it has no limit.
func (n *Node) throttle(ctx context.Context, id, device string, asked volume.Limits, attributes map[string]string) error {
	err := n.o.Throttler.Use(ctx, id, device, asked)
	if !errors.Is(err, iolimit.ErrUnsupported) && !errors.Is(err, iolimit.ErrNoPods) {
		return err
	}
	klog.FromContext(ctx).Info("A volume is not throttled", "volume", id, "reason", err.Error())
	n.o.Events.Warn(Subject{
		Volume: id, Namespace: attributes[keyPodNamespace], PodName: attributes[keyPodName], PodUID: attributes[keyPodUID],
	}, ReasonNotThrottled, "volume "+id+" is used without its limits: "+err.Error())
	return nil
}

// Keys that the kubelet adds to the attributes of a volume that is published.
const (
	keyPodNamespace = "csi.storage.k8s.io/pod.namespace"
	keyPodName      = "csi.storage.k8s.io/pod.name"
	keyPodUID       = "csi.storage.k8s.io/pod.uid"
)
