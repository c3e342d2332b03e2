package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/devmapper"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// watchSnapshots returns what keeps the space of the node's snapshots ahead of what is
// written, and tells of trouble on their VolumeSnapshots.
func watchSnapshots(volumes *provision.Provisioner, host *lvm.Host, hostRoot string, events record.EventRecorder) *provision.Watcher {
	return &provision.Watcher{
		Volumes: volumes, Gauge: devmapper.New(hostRoot), Host: host, Devices: devfile.Root(hostRoot), Clock: clock.RealClock{},
		Tell: func(_ context.Context, t provision.Trouble) {
			if about := volumeSnapshot(t.Snapshot); about != nil {
				events.Event(about, corev1.EventTypeWarning, t.Reason, t.Message)
			}
		},
	}
}

// volumeSnapshot returns the object that the snapshot is for, or nil where that is not
// known.
func volumeSnapshot(s provision.Watched) *corev1.ObjectReference {
	if s.VolumeSnapshot == "" {
		return nil
	}
	return &corev1.ObjectReference{
		APIVersion: "snapshot.storage.k8s.io/v1", Kind: "VolumeSnapshot", Namespace: s.Namespace, Name: s.VolumeSnapshot,
		UID: types.UID(volume.ClaimUID(s.ID)), // handles of snapshots end in a UID, too
	}
}
