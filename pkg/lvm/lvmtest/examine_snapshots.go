package lvmtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
)

// The checks of Examine that are about snapshots.

func (s *subject) snapshot(t *testing.T, origin, name string, size capacity.Bytes, tags ...string) {
	t.Helper()
	noError(t, s.host.CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: s.Group, Origin: origin, Name: name, Size: size, Tags: tags}))
}

func createdSnapshot(t *testing.T, s *subject) {
	s.create(t, "data", 16*mib, "claim=a")
	s.counter.Reset()
	s.snapshot(t, "data", "snap", 4*mib, "ours", "of=data")
	if diff := cmp.Diff(map[string]int{"lvm lvcreate": 1}, s.counter.Runs()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	snap, data := s.volume(t, "snap"), s.volume(t, "data")
	if !snap.IsSnapshot() || snap.HasSnapshots() || snap.Origin != "data" || snap.Size != 4*mib || snap.Invalid() || !snap.Active || snap.ReadOnly {
		t.Errorf("the snapshot is reported as %+v", snap)
	}
	if diff := cmp.Diff([]string{"of=data", "ours"}, snap.Tags); diff != "" {
		t.Errorf("tags of the snapshot (-want +got):\n%s", diff)
	}
	if snap.DataPercent == nil || *snap.DataPercent > 10 {
		t.Errorf("a new snapshot is said to be full to %v", snap.DataPercent)
	}
	if data.IsSnapshot() || !data.HasSnapshots() || data.Invalid() || data.Size != 16*mib {
		t.Errorf("the origin is reported as %+v", data)
	}
	s.wantFree(t, 44*mib)
	wantError(t, s.host.CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: s.Group, Origin: "data", Name: "snap", Size: mib}), lvm.ErrExists)
	wantError(t, s.host.CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: s.Group, Origin: "missing", Name: "other", Size: mib}), lvm.ErrVolumeNotFound)
	wantError(t, s.host.CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: "no-such-group", Origin: "data", Name: "other", Size: mib}), lvm.ErrGroupNotFound)
	s.wantVolumes(t, "data", "snap")
}

func snapshotSpace(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	need := capacity.SnapshotSpace(8 * mib).Extents(extent)
	s.snapshot(t, "data", "snap", 40*mib)
	if got := s.volume(t, "snap").Size; got != need {
		t.Errorf("a snapshot of 8 MiB got %s, it can need %s", got, need)
	}
	s.snapshot(t, "data", "small", 1)
	for _, to := range []capacity.Bytes{8 * mib, need, 40 * mib} {
		noError(t, s.host.ExtendVolume(t.Context(), s.Group, "small", to))
		if got, want := s.volume(t, "small").Size, min(to, need); got != want {
			t.Errorf("a snapshot extended to %s has %s, want %s", to, got, want)
		}
	}
	s.Overwrite(t, "data", 8*mib) // every byte of it
	for _, name := range []string{"small", "snap"} {
		if v := s.volume(t, name); v.Invalid() || v.DataPercent == nil || *v.DataPercent < 60 {
			t.Errorf("a snapshot with room for everything is reported as %+v", v)
		}
	}
}

func snapshotWithoutRoom(t *testing.T, s *subject) {
	s.create(t, "data", 32*mib)
	s.create(t, "rest", 28*mib)
	wantError(t, s.host.CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: s.Group, Origin: "data", Name: "snap", Size: 8 * mib}), lvm.ErrNoSpace)
	s.snapshot(t, "data", "snap", 4*mib)
	wantError(t, s.host.ExtendVolume(t.Context(), s.Group, "snap", 8*mib), lvm.ErrNoSpace)
	s.wantVolumes(t, "data", "rest", "snap")
}

func fullSnapshot(t *testing.T, s *subject) {
	s.create(t, "data", 16*mib)
	s.snapshot(t, "data", "small", 4*mib)
	s.snapshot(t, "data", "large", 24*mib)
	s.Overwrite(t, "data", 8*mib)
	small, large := s.volume(t, "small"), s.volume(t, "large")
	if !small.Invalid() || small.DataPercent == nil || *small.DataPercent != 100 {
		t.Errorf("a full snapshot is reported as %+v", small)
	}
	if large.Invalid() {
		t.Errorf("another snapshot of the same volume is reported as %+v", large)
	}
	noError(t, s.host.ExtendVolume(t.Context(), s.Group, "small", 8*mib)) // which comes too late
	if small := s.volume(t, "small"); !small.Invalid() {
		t.Errorf("a lost snapshot that was extended is reported as %+v", small)
	}
	noError(t, s.host.RemoveSnapshot(t.Context(), s.Group, "small"))
	s.wantVolumes(t, "data", "large")
	if data := s.volume(t, "data"); !data.HasSnapshots() || data.Health != "" {
		t.Errorf("the origin is reported as %+v", data)
	}
}

func removeSnapshot(t *testing.T, s *subject) {
	ctx := t.Context()
	s.create(t, "data", 8*mib, "ours")
	s.snapshot(t, "data", "snap", 4*mib, "ours", lvm.ProtectedTag)
	wantError(t, s.host.RemoveSnapshot(ctx, s.Group, "data", "ours"), lvm.ErrNotOurs)
	wantError(t, s.host.RemoveSnapshot(ctx, s.Group, "snap", "ours"), lvm.ErrProtected)
	noError(t, s.host.ChangeTags(ctx, s.Group, "snap", nil, []string{lvm.ProtectedTag}))
	wantError(t, s.host.RemoveSnapshot(ctx, s.Group, "snap", "ours", "theirs"), lvm.ErrNotOurs)
	closeSnapshot := s.Open(t, "snap")
	wantError(t, s.host.RemoveSnapshot(ctx, s.Group, "snap", "ours"), lvm.ErrInUse)
	closeSnapshot()
	closeData := s.Open(t, "data") // whoever uses the origin goes on
	s.counter.Reset()
	noError(t, s.host.RemoveSnapshot(ctx, s.Group, "snap", "ours"))
	if diff := cmp.Diff(map[string]int{"lvm lvremove": 1}, s.counter.Runs()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	closeData()
	wantError(t, s.host.RemoveSnapshot(ctx, s.Group, "snap", "ours"), lvm.ErrVolumeNotFound)
	wantError(t, s.host.RemoveSnapshot(ctx, "no-such-group", "snap", "ours"), lvm.ErrGroupNotFound)
	s.wantVolumes(t, "data")
	if s.volume(t, "data").HasSnapshots() {
		t.Error("the volume is said to have snapshots still")
	}
}

func removeUnused(t *testing.T, s *subject) {
	ctx := t.Context()
	s.create(t, "alive", 4*mib, "ours")
	s.create(t, "dead", 4*mib, "ours", "deleted")
	s.create(t, "dead-too", 4*mib, "deleted", "ours")
	s.create(t, "guarded", 4*mib, "deleted", "ours", lvm.ProtectedTag)
	s.create(t, "wanted", 4*mib, "deleted", "kept", "ours")
	s.create(t, "needed", 4*mib, "ours", "deleted")
	s.snapshot(t, "needed", "snap", 4*mib, "ours")
	s.counter.Reset()
	removed, err := s.host.RemoveUnused(ctx, s.Group, "kept", "deleted", "ours")
	noError(t, err)
	if diff := cmp.Diff(map[string]int{"lvm lvremove": 1}, s.counter.Runs()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"dead", "dead-too"}, removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	s.wantVolumes(t, "alive", "guarded", "needed", "snap", "wanted")
	removed, err = s.host.RemoveUnused(ctx, s.Group, "kept", "deleted")
	noError(t, err)
	if removed != nil {
		t.Errorf("nothing was there to remove, and removed was %q", removed)
	}
	closeVolume := s.Open(t, "needed")
	noError(t, s.host.RemoveSnapshot(ctx, s.Group, "snap"))
	_, err = s.host.RemoveUnused(ctx, s.Group, "kept", "deleted")
	wantError(t, err, lvm.ErrInUse)
	closeVolume()
	_, err = s.host.RemoveUnused(ctx, s.Group, "kept", "deleted")
	noError(t, err)
	s.wantVolumes(t, "alive", "guarded", "wanted")
	_, err = s.host.RemoveUnused(ctx, "no-such-group", "kept", "deleted")
	wantError(t, err, lvm.ErrGroupNotFound)
	_, err = s.host.RemoveUnused(ctx, s.Group, "kept")
	wantError(t, err, lvm.ErrInvalid)
}

func readOnlySnapshot(t *testing.T, s *subject) {
	s.create(t, "data", 16*mib)
	noError(t, s.host.CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: s.Group, Origin: "data", Name: "snap", Size: 4 * mib, ReadOnly: true}))
	s.Overwrite(t, "data", 2*mib) // its origin is written to as before
	closeSnapshot := s.Open(t, "snap")
	noError(t, s.host.ExtendVolume(t.Context(), s.Group, "snap", 8*mib))
	closeSnapshot()
	snap, data := s.volume(t, "snap"), s.volume(t, "data")
	if !snap.ReadOnly || snap.Invalid() || snap.Size != 8*mib {
		t.Errorf("the snapshot is reported as %+v", snap)
	}
	if data.ReadOnly {
		t.Errorf("the origin is reported as %+v", data)
	}
	if s.Write != nil && s.Write(t, "snap") == nil {
		t.Error("the snapshot was written to")
	}
	noError(t, s.host.RemoveSnapshot(t.Context(), s.Group, "snap"))
}
