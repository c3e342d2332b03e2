package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/pkg/lvm/lvmtest"
	"github.com/open-local/open-local/pkg/provision"
)

func TestTroubleIsToldOnTheVolumeSnapshot(t *testing.T) {
	events := record.NewFakeRecorder(1)
	events.IncludeObject = true
	watcher := watchSnapshots(nil, lvmtest.NewFake().Host(), t.TempDir(), events)
	trouble := provision.Trouble{Reason: provision.SnapshotLost, Message: "it ran full"}
	watcher.Tell(t.Context(), trouble) // about one whose object is not known
	trouble.Snapshot = provision.Watched{
		Group: "pool", Name: "snap-1", ID: "my-snaps-3f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c33", Namespace: "default", VolumeSnapshot: "nightly",
	}
	watcher.Tell(t.Context(), trouble)
	want := "Warning SnapshotLost it ran full involvedObject{kind=VolumeSnapshot,apiVersion=snapshot.storage.k8s.io/v1}"
	if diff := cmp.Diff(want, <-events.Events); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if about := volumeSnapshot(trouble.Snapshot); about.UID != "3f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c33" || about.Name != "nightly" || about.Namespace != "default" {
		t.Errorf("it is about %v", about)
	}
}
