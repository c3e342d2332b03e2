package provision_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

func wiped(way volume.Wipe) func(*provision.Spec) { return func(s *provision.Spec) { s.Wipe = way } }

func TestWhatBecomesOfTheDataOfARemovedVolume(t *testing.T) {
	for name, test := range map[string]struct {
		way       volume.Wipe
		zeroed    bool
		discarded []string
		runs      map[string]int
	}{
		"nobody said anything": {"", false, []string{"fast/" + id}, map[string]int{"lvm lvremove": 1}},
		"it is discarded":      {volume.WipeDiscard, false, []string{"fast/" + id}, map[string]int{"lvm lvremove": 1}},
		"it stays":             {volume.WipeNone, false, nil, map[string]int{"lvm lvremove": 1}},
		"it is overwritten":    {volume.WipeZero, true, []string{"fast/" + id}, map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				n := node(t)
				mustEnsure(t, n, spec(wiped(test.way)))
				if restarted {
					n.Restart()
				}
				n.Counter.Reset()
				zeroed := false
				n.Devices.Zeroing = func(context.Context, string) error { zeroed = true; return nil }
				if err := n.Remove(t.Context(), removal()); err != nil {
					t.Fatal(err)
				}
				wantRuns(t, n, test.runs)
				if zeroed != test.zeroed {
					t.Errorf("it was overwritten: %t", zeroed)
				}
				if diff := cmp.Diff(test.discarded, n.Discarded()); diff != "" {
					t.Errorf("discarded (-want +got):\n%s", diff)
				}
				if err := n.Remove(t.Context(), removal()); err != nil {
					t.Errorf("again: %v", err)
				}
				wantVolumes(t, n)
			})
		}
	}
}

// TestWhatTakesTheDiskLongIsDiscardedBeforeLVMHasTheGroup counts the requests that
// discarding is divided into.
func TestWhatTakesTheDiskLongIsDiscardedBeforeLVMHasTheGroup(t *testing.T) {
	for name, test := range map[string]struct {
		way      volume.Wipe
		requests int64
		fails    error
		steps    []string // what is done to the device
		byLVM    []string
		runs     map[string]int
	}{
		"as many as LVM may do":            {"", 64, nil, nil, []string{"fast/" + id}, map[string]int{"lvm lvremove": 1}},
		"one more":                         {"", 65, nil, []string{"discard"}, nil, map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}},
		"many, it is to be discarded":      {volume.WipeDiscard, 1000, nil, []string{"discard"}, nil, map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}},
		"many, it stays":                   {volume.WipeNone, 1000, nil, nil, nil, map[string]int{"lvm lvremove": 1}},
		"many, it is overwritten":          {volume.WipeZero, 1000, nil, []string{"zero", "discard"}, nil, map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}},
		"many, and the disk fails to":      {"", 1000, unix.EIO, []string{"discard"}, nil, map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}},
		"many, and the disk cannot at all": {"", 1000, errors.ErrUnsupported, []string{"discard"}, nil, map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			n.Devices.Requests = test.requests
			mustEnsure(t, n, spec(wiped(test.way)))
			n.Counter.Reset()
			var steps []string
			n.Devices.Zeroing = func(context.Context, string) error { steps = append(steps, "zero"); return nil }
			n.Devices.Discarding = func(context.Context, string) error { steps = append(steps, "discard"); return test.fails }
			if err := n.Remove(t.Context(), removal()); err != nil {
				t.Fatal(err)
			}
			wantVolumes(t, n)
			wantRuns(t, n, test.runs)
			if diff := cmp.Diff(test.steps, steps); diff != "" {
				t.Errorf("done to the device (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.byLVM, n.Discarded()); diff != "" {
				t.Errorf("discarded by LVM (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDiscardingKeepsNobodyWaiting makes, grows and removes other volumes meanwhile.
func TestDiscardingKeepsNobodyWaiting(t *testing.T) {
	n := node(t)
	n.Devices.Requests = 1000
	mustEnsure(t, n, spec())
	begun, proceed := make(chan bool), make(chan bool)
	n.Devices.Discarding = func(context.Context, string) error { begun <- true; <-proceed; return nil }
	first := make(chan error, 1)
	go func() { first <- n.Remove(t.Context(), removal()) }()
	<-begun
	other := spec()
	other.ID = "local-2"
	mustEnsure(t, n, other)
	if err := n.Remove(t.Context(), removal()); !errors.Is(err, provision.ErrBusy) || !strings.Contains(err.Error(), "discarding") {
		t.Errorf("who asks again hears %v", err)
	}
	proceed <- true
	if err := <-first; err != nil {
		t.Error(err)
	}
	wantVolumes(t, n, "fast/local-2")
}

// TestAVolumeWithSnapshotsIsNotDiscarded leaves it to LVM after the last of them.
func TestAVolumeWithSnapshotsIsNotDiscarded(t *testing.T) {
	n := node(t)
	n.Devices.Requests = 1000
	mustEnsure(t, n, spec())
	if _, err := n.Snapshot(t.Context(), provision.SnapshotSpec{ID: "snap", Volume: id, Kind: volume.LVM, Group: "fast", Space: 4 * mib, Step: 4 * mib, Threshold: 50}); err != nil {
		t.Fatal(err)
	}
	n.Devices.Discarding = func(context.Context, string) error { t.Error("what the snapshot shows is discarded"); return nil }
	if err := n.Remove(t.Context(), removal()); err != nil {
		t.Fatal(err)
	}
	wantVolumes(t, n, "fast/"+id, "fast/snap")
	if err := n.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: "snap", Kind: volume.LVM, Group: "fast"}); err != nil {
		t.Fatal(err)
	}
	wantVolumes(t, n)
}

// TestOverwritingGoesOnWithoutItsCaller has csi-provisioner ask again and again.
func TestOverwritingGoesOnWithoutItsCaller(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec(wiped(volume.WipeZero)))
	begun, proceed := make(chan bool), make(chan bool)
	n.Devices.Zeroing = func(ctx context.Context, _ string) error {
		begun <- true
		<-proceed
		return ctx.Err()
	}
	impatient, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- n.Remove(impatient, removal()) }()
	<-begun
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("who went away hears %v", err)
	}
	for range 3 {
		if err := n.Remove(t.Context(), removal()); !errors.Is(err, provision.ErrBusy) || !strings.Contains(err.Error(), "overwriting") {
			t.Errorf("who asks again hears %v", err)
		}
	}
	proceed <- true
	until(t, func() bool { return len(n.Volumes()) == 0 })
	n.Devices.Zeroing = nil
	until(t, func() bool { return n.Remove(t.Context(), removal()) == nil })
}

// until waits for work that goes on by itself.
func until(t *testing.T, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it never came to this")
		}
	}
}

func TestWhatMayNotBeRemovedIsNotErased(t *testing.T) {
	for name, test := range map[string]struct {
		change func(n *provisiontest.Node) error
		want   error
	}{
		"it is protected": {
			func(n *provisiontest.Node) error {
				return n.Host().ChangeTags(t.Context(), "fast", id, []string{lvm.ProtectedTag}, nil)
			}, lvm.ErrProtected,
		},
		"it became another's": {
			func(n *provisiontest.Node) error {
				return n.Host().ChangeTags(t.Context(), "fast", id, []string{volume.IDTag("other")}, []string{volume.IDTag(id)})
			}, lvm.ErrNotOurs,
		},
		"it is in use": {
			func(n *provisiontest.Node) error { n.Open("fast", id); return nil }, lvm.ErrInUse,
		},
	} {
		for _, way := range []volume.Wipe{volume.WipeZero, volume.WipeDiscard} {
			t.Run(name+", "+string(way), func(t *testing.T) {
				n := node(t)
				n.Devices.Requests = 1000
				mustEnsure(t, n, spec(wiped(way)))
				n.Devices.Zeroing = func(context.Context, string) error { t.Error("it is overwritten"); return nil }
				n.Devices.Discarding = func(context.Context, string) error { t.Error("it is discarded"); return nil }
				if err := test.change(n); err != nil {
					t.Fatal(err)
				}
				if err := n.Remove(t.Context(), removal()); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				wantVolumes(t, n, "fast/"+id)
			})
		}
	}
}

// TestAVolumeWithSnapshotsIsOverwrittenAfterTheLast deletes the volume first, and in half
// of all cases has the process end while it is overwritten.
func TestAVolumeWithSnapshotsIsOverwrittenAfterTheLast(t *testing.T) {
	for name, dies := range map[string]bool{"at once": false, "by the next process": true} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			mustEnsure(t, n, spec(wiped(volume.WipeZero)))
			snapshot := provision.SnapshotSpec{ID: "snap", Volume: id, Kind: volume.LVM, Group: "fast", Space: 4 * mib, Step: 4 * mib, Threshold: 50}
			if _, err := n.Snapshot(t.Context(), snapshot); err != nil {
				t.Fatal(err)
			}
			n.Devices.Zeroing = func(context.Context, string) error { t.Error("what the snapshot shows is overwritten"); return nil }
			if err := n.Remove(t.Context(), removal()); err != nil {
				t.Fatal(err)
			}
			var zeroed []string
			begun := make(chan bool, 2)
			n.Devices.Zeroing = func(ctx context.Context, path string) error {
				begun <- true
				if dies && len(begun) == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				zeroed = append(zeroed, path)
				return nil
			}
			if err := n.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: "snap", Kind: volume.LVM, Group: "fast"}); err != nil {
				t.Fatal(err)
			}
			if dies {
				until(t, func() bool { return len(begun) == 1 })
				n.Restart()
			}
			until(t, func() bool { return len(n.Volumes()) == 0 })
			if n.Close(); !slices.Equal(zeroed, []string{lvm.DevicePath("fast", id)}) {
				t.Errorf("overwritten were %q", zeroed)
			}
			if !slices.Contains(n.Discarded(), "fast/"+id) {
				t.Errorf("discarded were %q", n.Discarded())
			}
		})
	}
}

// TestAVolumeToBeOverwrittenIsNeverJustRemoved has its last snapshot go at the very moment
// at which it is removed, and its group be called otherwise.
func TestAVolumeToBeOverwrittenIsNeverJustRemoved(t *testing.T) {
	snapshot := provision.SnapshotSpec{ID: "snap", Volume: id, Kind: volume.LVM, Group: "fast", Space: 4 * mib, Step: 4 * mib, Threshold: 50}
	for name, test := range map[string]struct {
		group string // where it lies
		when  func(t *testing.T, n *provisiontest.Node)
	}{
		"its last snapshot goes when it is looked at": {"fast", func(t *testing.T, n *provisiontest.Node) {
			_, err := n.Snapshot(t.Context(), snapshot)
			must(t, err)
			n.After("lvm fullreport", func() {
				must(t, n.Host().RemoveSnapshot(context.Background(), "fast", "snap"))
			})
		}},
		"its last snapshot goes when it is marked": {"fast", func(t *testing.T, n *provisiontest.Node) {
			_, err := n.Snapshot(t.Context(), snapshot)
			must(t, err)
			n.After("lvm lvchange", func() {
				must(t, n.RemoveSnapshot(context.Background(), provision.SnapshotRemoval{ID: "snap", Kind: volume.LVM, Group: "fast"}))
			})
		}},
		"it lies in another group than is said": {"slow", func(t *testing.T, n *provisiontest.Node) { n.Restart() }},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			mustEnsure(t, n, spec(wiped(volume.WipeZero), in(test.group)))
			test.when(t, n)
			overwritten := make(chan string, 4)
			n.Devices.Zeroing = func(_ context.Context, path string) error { overwritten <- path; return nil }
			must(t, n.Remove(t.Context(), removal()))
			until(t, func() bool { return len(n.Volumes()) == 0 })
			n.Close()
			if path := <-overwritten; path != lvm.DevicePath(test.group, id) {
				t.Errorf("overwritten was %s", path)
			}
		})
	}
}

// TestWhatCannotBeOverwrittenYetIsTriedAgain has nobody ask for it again.
func TestWhatCannotBeOverwrittenYetIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := node(t)
		mustEnsure(t, n, spec(wiped(volume.WipeZero)))
		_, err := n.Snapshot(t.Context(), provision.SnapshotSpec{ID: "snap", Volume: id, Kind: volume.LVM, Group: "fast", Space: 4 * mib, Step: 4 * mib, Threshold: 50})
		must(t, err)
		must(t, n.Remove(t.Context(), removal()))
		failures := 3
		n.Devices.Zeroing = func(context.Context, string) error {
			if failures--; failures >= 0 {
				return unix.EIO
			}
			return nil
		}
		must(t, n.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: "snap", Kind: volume.LVM, Group: "fast"}))
		<-time.After(time.Minute) // of the bubble
		synctest.Wait()
		wantVolumes(t, n)
	})
}
