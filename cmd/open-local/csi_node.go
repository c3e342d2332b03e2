package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// recallEvery is how often a node tries to learn which volumes it has.
const recallEvery = 10 * time.Second

// recalled looks at the volumes of the node until it knows them, or returns false when
// ctx ends first. Calls that need to know look for themselves meanwhile.
func recalled(ctx context.Context, logical *provision.Logical) bool {
	for {
		err := logical.Recall(ctx)
		if err == nil {
			return true
		}
		klog.FromContext(ctx).Error(err, "The volumes of this node are not known yet")
		select {
		case <-ctx.Done():
			return false
		case <-time.After(recallEvery):
		}
	}
}

// waitFor waits until the channel is closed, but not for ever: LVM may hang behind the
// very disk that is not well.
func waitFor(ctx context.Context, closed <-chan struct{}, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-closed:
	case <-time.After(most):
	}
}

// owners knows whose a volume is.
type owners interface {
	Claim(id string) (namespace, name string, ok bool)
}

// teller sends events about volumes.
type teller struct {
	events record.EventRecorder
	owners owners
}

// Warn sends a warning.
func (t teller) Warn(about driver.Subject, reason, message string) {
	t.events.Event(t.reference(about), corev1.EventTypeWarning, reason, message)
}

// The reasons of events about a volume's condition are those of Kubernetes' own health
// monitor, so that whoever watches for them finds ours.
const (
	reasonAbnormal = "VolumeConditionAbnormal"
	reasonNormal   = "VolumeConditionNormal"
)

// Abnormal says that a volume is not well.
func (t teller) Abnormal(id, reason, message string) {
	t.Warn(driver.Subject{Volume: id}, reasonAbnormal, reason+": "+message)
}

// Normal says that a volume is well again.
func (t teller) Normal(id, message string) {
	t.events.Event(t.reference(driver.Subject{Volume: id}), corev1.EventTypeNormal, reasonNormal, message)
}

// reference names the object that people look at. Without its UID kubectl describe
// would not show the event there.
func (t teller) reference(about driver.Subject) *corev1.ObjectReference {
	if about.PodName != "" {
		return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: about.Namespace, Name: about.PodName, UID: types.UID(about.PodUID)}
	}
	if namespace, name, ok := t.owners.Claim(about.Volume); ok {
		return &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name, UID: types.UID(volume.ClaimUID(about.Volume))}
	}
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolume", Name: about.Volume}
}
