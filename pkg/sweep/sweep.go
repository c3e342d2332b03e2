// Package sweep removes inline volumes whose pods are gone. The kubelet has an inline
// volume removed when its pod ends, but it forgets pods that were deleted while the node
// was down. It asks the API server about single pods, and only while this node has
// inline volumes; it watches nothing. How a volume is removed it does not know.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// Every is how often inline volumes are looked at, and Again how soon after not all of
// them could be: when a node begins, the API server may be out of reach.
const (
	Every = 10 * time.Minute
	Again = time.Minute
)

// volumes are the inline volumes of this node: *provision.Provisioner. To name them
// takes no process.
type volumes interface {
	Inlines(ctx context.Context) ([]provision.Inline, error)
	RemoveInline(ctx context.Context, id string, proven bool) error
}

// devices tells without a process whether somebody has a device mounted or otherwise
// for himself: devfile.Root.
type devices interface {
	Busy(path string) (bool, error)
}

// Sweeper removes inline volumes whose pods are gone. All fields must be set.
type Sweeper struct {
	Volumes volumes
	Devices devices
	Pods    typedcorev1.PodsGetter
	Events  record.EventRecorder
	Clock   clock.WithTicker
}

// Run sweeps at once and then every so often, until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	ticker := s.Clock.NewTicker(Again)
	defer ticker.Stop()
	for {
		swept := s.Clock.Now()
		err := s.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Not all inline volumes could be looked at", "again", Again)
		}
		for waiting := true; waiting; waiting = err == nil && s.Clock.Since(swept) < Every {
			select {
			case <-ticker.C():
			case <-ctx.Done():
				return
			}
		}
	}
}

// Sweep removes what can be removed now. The error tells of all that could not be
// looked at or removed; another sweep tries again.
func (s *Sweeper) Sweep(ctx context.Context) error {
	all, err := s.Volumes.Inlines(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range all {
		if v.Pod == (volume.Pod{}) {
			continue // nobody can tell whose it was
		}
		if err := s.look(ctx, v); err != nil {
			errs = append(errs, fmt.Errorf("inline volume %s/%s of pod %s: %w", v.Group, v.ID, v.Pod, err))
		}
	}
	return errors.Join(errs...)
}

// look removes the volume if its pod will never use it again and nobody uses it now.
func (s *Sweeper) look(ctx context.Context, v provision.Inline) error {
	why, err := s.gone(ctx, v.Pod)
	if err != nil || why == "" {
		return err
	}
	busy, err := s.Devices.Busy(lvm.DevicePath(v.Group, volume.NameOf(v.ID)))
	if err != nil || busy {
		return err
	}
	if err := s.Volumes.RemoveInline(ctx, v.ID, false); err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Removed an inline volume without a pod", "volume", v.ID, "group", v.Group, "pod", v.Pod.String(), "why", why)
	s.Events.Eventf(&corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: v.Pod.Namespace, Name: v.Pod.Name, UID: types.UID(v.Pod.UID)},
		corev1.EventTypeNormal, "InlineVolumeRemoved", "removed the inline volume %s from volume group %s: %s", v.ID, v.Group, why)
	return nil
}

// gone returns why the pod will never use its volumes again, or "". Only a clear answer
// of the API server about this very pod counts: no answer is an error.
func (s *Sweeper) gone(ctx context.Context, of volume.Pod) (why string, err error) {
	pod, err := s.Pods.Pods(of.Namespace).Get(ctx, of.Name, metav1.GetOptions{})
	switch {
	case notThere(err, of.Name):
		return "the pod was deleted", nil
	case err != nil:
		return "", fmt.Errorf("asking for the pod: %w", err)
	case string(pod.UID) != of.UID && pod.Annotations[corev1.MirrorPodAnnotationKey] != of.UID:
		return "the pod was deleted and made anew", nil
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return "the pod has ended", nil
	}
	return "", nil
}

// notThere reports whether err says that there is no pod of that name. Anything between
// here and the API server may answer "not found" as well, but knows no name.
func notThere(err error, name string) bool {
	said, is := errors.AsType[*apierrors.StatusError](err)
	return is && apierrors.IsNotFound(err) && said.ErrStatus.Details != nil && said.ErrStatus.Details.Name == name
}
