package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/volume"
)

// reasonLeftBehind is the reason of the event about a volume whose node is gone.
const reasonLeftBehind = "VolumeLeftOnNode"

// leftBehind tells, on the PersistentVolumes that name a volume, that its data stays on
// the disks of the node that left.
func leftBehind(core kubernetes.Interface, events record.EventRecorder, naming func(id string) []string) func(context.Context, string, driver.Place) {
	return func(ctx context.Context, id string, was driver.Place) {
		where := string(was.Kind)
		if was.Kind == volume.LVM {
			where = fmt.Sprintf("logical volume %s/%s", was.Group, volume.NameOf(id))
		}
		klog.FromContext(ctx).Info("Volume counts as deleted, its data stays on the disks of its node, which left the cluster", "volume", id, "node", was.Node, "where", where)
		for _, name := range naming(id) {
			events.Eventf(persistentVolume(ctx, core, name), corev1.EventTypeWarning, reasonLeftBehind,
				"node %s left the cluster: volume %s counts as deleted, and its data remains on the disks of that node (%s). If the node returns, `open-local orphans list %s` shows it",
				was.Node, id, where, was.Node)
		}
	}
}

// persistentVolume names an object, with its UID where that can be read: without it kubectl
// describe would not show the event.
func persistentVolume(ctx context.Context, core kubernetes.Interface, name string) *corev1.ObjectReference {
	about := &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolume", Name: name}
	if pv, err := core.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{}); err == nil {
		about.UID = pv.UID
	}
	return about
}
