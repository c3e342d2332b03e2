package provision_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

const snapID = "snap-7b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b22"

// shot returns a snapshot of the volume of spec, with 4 MiB, changed by more.
func shot(more ...func(*provision.SnapshotSpec)) provision.SnapshotSpec {
	s := provision.SnapshotSpec{
		ID: snapID, Volume: id, Kind: volume.LVM, Group: "fast", Space: 4 * mib, Step: 4 * mib, Threshold: 50,
		Tags: []string{volume.VolumeSnapshotTag("ns", "nightly")},
	}
	for _, change := range more {
		change(&s)
	}
	return s
}

func named(id string) func(*provision.SnapshotSpec) {
	return func(s *provision.SnapshotSpec) { s.ID = id }
}

func space(size capacity.Bytes) func(*provision.SnapshotSpec) {
	return func(s *provision.SnapshotSpec) { s.Space = size }
}

func unshot(id string) provision.SnapshotRemoval {
	return provision.SnapshotRemoval{ID: id, Kind: volume.LVM, Group: "fast"}
}

func mustSnapshot(t *testing.T, n *provisiontest.Node, s provision.SnapshotSpec) provision.Snapshot {
	t.Helper()
	made, err := n.Snapshot(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestASnapshotIsOneProcessAndItsRepeatIsTheSame(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	n.Counter.Reset()
	made := mustSnapshot(t, n, shot())
	wantRuns(t, n, map[string]int{"lvm lvcreate": 1})
	want := provision.Snapshot{ID: snapID, Volume: id, Group: "fast", Size: 8 * mib, Created: made.Created}
	if diff := cmp.Diff(want, made); diff != "" || time.Since(made.Created) > time.Hour {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	again := mustSnapshot(t, n, shot(space(40*mib)))
	if diff := cmp.Diff(made, again); diff != "" {
		t.Errorf("the repeat (-first +second):\n%s", diff)
	}
	n.Restart()
	if diff := cmp.Diff(made, mustSnapshot(t, n, shot())); diff != "" {
		t.Errorf("the repeat after a restart (-first +second):\n%s", diff)
	}
	tags := n.Volume("fast", snapID).Tags
	if policy := volume.SnapshotPolicyFromTags(tags); policy.Step != 4*mib || policy.Threshold != 50 || !slices.Contains(tags, volume.VolumeSnapshotTag("ns", "nightly")) {
		t.Errorf("the tags are %q", tags)
	}
	n.Counter.Reset()
	must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
	wantRuns(t, n, map[string]int{"lvm lvremove": 1})
	must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
	wantVolumes(t, n, "fast/"+id)
}

func TestASnapshotGetsNoMoreSpaceThanItCanNeed(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	mustSnapshot(t, n, shot(space(capacity.TiB)))
	if got, want := n.Volume("fast", snapID).Size, capacity.SnapshotSpace(8*mib).Extents(4*mib); got != want {
		t.Errorf("it has %s, want %s", got, want)
	}
}

func TestWhatASnapshotIsRefusedFor(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*testing.T, *provisiontest.Node)
		ask     provision.SnapshotSpec
		want    error
		says    []string
	}{
		"a volume that is not there":      {nil, shot(func(s *provision.SnapshotSpec) { s.Volume = "other" }), lvm.ErrVolumeNotFound, nil},
		"a group that is not managed":     {nil, shot(func(s *provision.SnapshotSpec) { s.Group = "root" }), provision.ErrUnmanaged, nil},
		"a group with no name":            {nil, shot(func(s *provision.SnapshotSpec) { s.Group = "" }), volume.ErrInvalid, nil},
		"a space of nothing":              {nil, shot(space(0)), volume.ErrInvalid, nil},
		"a group without room, with both": {nil, shot(space(16 * mib)), lvm.ErrNoSpace, []string{"16Mi are wanted", "8Mi free"}},
		"a name that another volume has": {
			func(t *testing.T, n *provisiontest.Node) {
				mustEnsure(t, n, spec(func(s *provision.Spec) { s.ID = snapID; s.Size = 4 * mib }))
			},
			shot(), provision.ErrConflict, nil,
		},
		"a snapshot of that name of another volume": {
			func(t *testing.T, n *provisiontest.Node) {
				mustEnsure(t, n, spec(func(s *provision.Spec) { s.ID = "other"; s.Size = 4 * mib }))
				mustSnapshot(t, n, shot(func(s *provision.SnapshotSpec) { s.Volume = "other" }))
			},
			shot(), provision.ErrConflict, []string{`"other"`},
		},
		"a snapshot of that name in another group": {
			func(t *testing.T, n *provisiontest.Node) {
				mustEnsure(t, n, spec(in("slow"), func(s *provision.Spec) { s.ID = "other" }))
				mustSnapshot(t, n, shot(func(s *provision.SnapshotSpec) { s.Volume, s.Group = "other", "slow" }))
			},
			shot(), provision.ErrConflict, []string{"slow/" + snapID},
		},
		"a deleted volume": {
			func(t *testing.T, n *provisiontest.Node) {
				mustSnapshot(t, n, shot(named("first")))
				must(t, n.Remove(t.Context(), removal()))
			},
			shot(), lvm.ErrVolumeNotFound, []string{"deleted"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			size := 8 * mib
			if test.want == lvm.ErrNoSpace {
				size = 56 * mib
			}
			mustEnsure(t, n, spec(sized(size, 0)))
			if test.prepare != nil {
				test.prepare(t, n)
			}
			before := n.Volumes()
			_, err := n.Snapshot(t.Context(), test.ask)
			wantErr(t, err, test.want, test.says...)
			wantVolumes(t, n, before...)
		})
	}
}

func TestADeletedVolumeStaysUntilItsLastSnapshotGoes(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	mustSnapshot(t, n, shot(named("one")))
	mustSnapshot(t, n, shot(named("two")))
	must(t, n.Remove(t.Context(), removal()))
	must(t, n.Remove(t.Context(), removal())) // again
	wantVolumes(t, n, "fast/"+id, "fast/one", "fast/two")
	if !n.Volume("fast", id).HasTag(volume.DeletedTag) {
		t.Error("the volume is not marked as deleted")
	}
	_, err := n.Ensure(t.Context(), spec())
	wantErr(t, err, provision.ErrConflict, "deleted")

	must(t, n.RemoveSnapshot(t.Context(), unshot("one")))
	wantVolumes(t, n, "fast/"+id, "fast/two")
	n.Restart()
	must(t, n.RemoveSnapshot(t.Context(), unshot("two")))
	wantRuns(t, n, map[string]int{"lvm lvremove": 2})
	wantVolumes(t, n)
	must(t, n.RemoveSnapshot(t.Context(), unshot("two")))
	must(t, n.Remove(t.Context(), removal()))
}

func TestADeletedVolumeThatIsStillOpenGoesWhenItIsNot(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	mustSnapshot(t, n, shot())
	must(t, n.Remove(t.Context(), removal()))
	release := n.Open("fast", id)
	wantErr(t, n.RemoveSnapshot(t.Context(), unshot(snapID)), lvm.ErrInUse)
	wantVolumes(t, n, "fast/"+id)
	release()
	must(t, n.RemoveSnapshot(t.Context(), unshot(snapID))) // the repeat
	wantVolumes(t, n)
}

func TestASnapshotThatIsUsedStays(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	mustSnapshot(t, n, shot())
	release := n.Open("fast", snapID)
	wantErr(t, n.RemoveSnapshot(t.Context(), unshot(snapID)), lvm.ErrInUse)
	if len(n.Watched()) != 1 {
		t.Error("its space is not watched any more")
	}
	release()
	must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
}

func TestSnapshotsAreFoundAndLeftWhereverTheyAre(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	mustSnapshot(t, n, shot())
	elsewhere := unshot(snapID)
	elsewhere.Group = "slow" // it is said to lie there
	must(t, n.RemoveSnapshot(t.Context(), elsewhere))
	wantVolumes(t, n, "fast/"+id)
	elsewhere.Group = "gone"
	wantErr(t, n.RemoveSnapshot(t.Context(), elsewhere), lvm.ErrGroupNotFound)

	// A volume, however it is called, is no snapshot.
	wantErr(t, n.RemoveSnapshot(t.Context(), unshot(id)), lvm.ErrNotOurs)
	wantVolumes(t, n, "fast/"+id)
}

func TestASnapshotOfTheFirstOpenLocalIsRemovedByItsName(t *testing.T) {
	n := node(t)
	must(t, n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: id, Size: 8 * mib}))
	for _, name := range []string{snapID, "backup"} {
		must(t, n.Host().CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: "fast", Origin: id, Name: name, Size: 4 * mib}))
	}
	n.Restart()
	proven := removal()
	proven.Proven = true
	must(t, n.Remove(t.Context(), proven))
	must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
	wantVolumes(t, n, "fast/backup", "fast/"+id)
	wantErr(t, n.RemoveSnapshot(t.Context(), unshot("backup")), lvm.ErrNotOurs)
	must(t, n.Host().RemoveSnapshot(t.Context(), "fast", "backup"))
	n.Restart() // which looks
	wantVolumes(t, n)
}

func TestAForeignVolumeWithSnapshotsIsNotMarked(t *testing.T) {
	n := node(t)
	must(t, n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: id, Size: 8 * mib, Tags: []string{volume.IDTag("other")}}))
	must(t, n.Host().CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: "fast", Origin: id, Name: "backup", Size: 4 * mib}))
	wantErr(t, n.Remove(t.Context(), removal()), lvm.ErrNotOurs)
	if tags := n.Volume("fast", id).Tags; len(tags) != 1 {
		t.Errorf("it was tagged: %q", tags)
	}
}

func TestSnapshotsAreWatchedFromTheirBeginningToTheirEnd(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	mustSnapshot(t, n, shot())
	must(t, n.Host().CreateSnapshot(t.Context(), lvm.CreateSnapshot{Group: "fast", Origin: id, Name: "backup", Size: 4 * mib}))
	want := []provision.Watched{{
		Group: "fast", Name: snapID, Origin: id, ID: snapID, Namespace: "ns", VolumeSnapshot: "nightly", Step: 4 * mib, Threshold: 50,
	}}
	if diff := cmp.Diff(want, n.Watched()); diff != "" {
		t.Errorf("watched (-want +got):\n%s", diff)
	}
	n.Restart()
	if diff := cmp.Diff(want, n.Watched()); diff != "" {
		t.Errorf("watched after a restart (-want +got):\n%s", diff)
	}
	must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
	if got := n.Watched(); len(got) > 0 {
		t.Errorf("still watched: %v", got)
	}
	_, err := n.Snapshot(t.Context(), shot(func(s *provision.SnapshotSpec) { s.Volume = "missing" }))
	wantErr(t, err, lvm.ErrVolumeNotFound)
	if got := n.Watched(); len(got) > 0 {
		t.Errorf("watched though it was never made: %v", got)
	}
}

func TestARepeatedSnapshotFinishesWhereverTheFirstDied(t *testing.T) {
	dies(t, 4, func(t *testing.T, n *provisiontest.Node) { mustEnsure(t, n, spec()) },
		func(n *provisiontest.Node) error { _, err := n.Snapshot(t.Context(), shot()); return err },
		func(t *testing.T, n *provisiontest.Node) {
			first := mustSnapshot(t, n, shot())
			if diff := cmp.Diff(first, mustSnapshot(t, n, shot())); diff != "" {
				t.Errorf("a repeat (-first +second):\n%s", diff)
			}
			wantVolumes(t, n, "fast/"+id, "fast/"+snapID)
			must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
			must(t, n.Remove(t.Context(), removal()))
			wantVolumes(t, n)
		})
}

func TestARepeatedDeleteOfAVolumeWithSnapshotsFinishesWhereverTheFirstDied(t *testing.T) {
	dies(t, 7, func(t *testing.T, n *provisiontest.Node) {
		mustEnsure(t, n, spec())
		mustSnapshot(t, n, shot())
	}, func(n *provisiontest.Node) error { return n.Remove(t.Context(), removal()) },
		func(t *testing.T, n *provisiontest.Node) {
			must(t, n.Remove(t.Context(), removal()))
			wantVolumes(t, n, "fast/"+id, "fast/"+snapID)
			must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
			wantVolumes(t, n)
		})
}

func TestARepeatedDeleteOfALastSnapshotFinishesWhereverTheFirstDied(t *testing.T) {
	dies(t, 6, func(t *testing.T, n *provisiontest.Node) {
		mustEnsure(t, n, spec())
		mustSnapshot(t, n, shot())
		must(t, n.Remove(t.Context(), removal()))
	}, func(n *provisiontest.Node) error { return n.RemoveSnapshot(t.Context(), unshot(snapID)) },
		func(t *testing.T, n *provisiontest.Node) {
			must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
			wantVolumes(t, n)
		})
}
