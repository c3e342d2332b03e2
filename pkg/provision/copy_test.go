package provision_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	origin   = "local-0a0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b00"
	ofOrigin = "snap-0a0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b01"
	original = "what the origin holds"
)

// withOrigin makes volume origin of 16 MiB in group fast, and a snapshot of it from
// before it was changed.
func withOrigin(t *testing.T, n *provisiontest.Node) {
	t.Helper()
	mustEnsure(t, n, spec(sized(16*mib, 0), func(s *provision.Spec) { s.ID = origin }))
	write(t, n, origin, original)
	if _, err := n.Snapshot(t.Context(), provision.SnapshotSpec{
		ID: ofOrigin, Volume: origin, Kind: volume.LVM, Group: "fast", Space: 8 * mib, Step: 4 * mib, Threshold: 50,
	}); err != nil {
		t.Fatal(err)
	}
	write(t, n, origin, "something else")
	n.Counter.Reset()
}

func write(t *testing.T, n *provisiontest.Node, name, content string) {
	t.Helper()
	if err := n.Devices.Write(lvm.DevicePath("fast", name), content); err != nil {
		t.Fatal(err)
	}
}

func restored(s *provision.Spec) {
	s.Size, s.Source = 16*mib, provision.Source{Snapshot: ofOrigin, Group: "fast"}
}

func cloned(s *provision.Spec) {
	s.Size, s.Source = 16*mib, provision.Source{Volume: origin, Group: "fast"}
}

// wantCopy wants the volume to hold content, to be its own and to be all that is there
// beside the origin.
func wantCopy(t *testing.T, n *provisiontest.Node, v provision.Volume, content string) {
	t.Helper()
	path := lvm.DevicePath(v.Group, volume.NameOf(v.ID))
	if got, err := n.Devices.Read(path); got != content || err != nil {
		t.Errorf("the copy holds %q (%v), want %q", got, err, content)
	}
	wantNoState(t, n.Volume(v.Group, volume.NameOf(v.ID)))
	if _, renewed := n.Devices.Renewed(path); renewed == n.Devices.Zeroed(path) {
		t.Errorf("file system renewed: %t, every byte copied: %t; want one of them", renewed, n.Devices.Zeroed(path))
	}
	if n.Devices.Mounted() != 0 {
		t.Error("a file system stays mounted")
	}
}

func TestACopyHoldsWhatItsSourceHeld(t *testing.T) {
	for name, test := range map[string]struct {
		spec  provision.Spec
		want  string
		size  capacity.Bytes
		grown bool
		runs  map[string]int
	}{
		"restored":                 {spec(restored), original, 16 * mib, false, map[string]int{"lvm fullreport": 2, "lvm lvcreate": 1, "lvm lvchange": 1}},
		"restored, larger":         {spec(restored, sized(24*mib, 0)), original, 24 * mib, true, nil},
		"restored, of no size":     {spec(restored, sized(0, 0)), original, 16 * mib, false, nil},
		"restored elsewhere":       {spec(restored, in("slow")), original, 16 * mib, false, nil},
		"restored anywhere":        {spec(restored, anywhere), original, 16 * mib, false, nil},
		"restored, raw":            {spec(restored, block), original, 16 * mib, false, nil},
		"restored, not whole":      {spec(restored, sized(16*mib-5, 0)), original, 16 * mib, false, nil},
		"restored by a wrong hint": {spec(restored, func(s *provision.Spec) { s.Source.Group = "slow" }), original, 16 * mib, false, nil},
		"cloned": {spec(cloned), "something else", 16 * mib, false,
			map[string]int{"lvm fullreport": 2, "lvm lvcreate": 2, "lvm lvremove": 1, "lvm lvchange": 1}},
		"cloned, larger":     {spec(cloned, sized(18*mib, 0)), "something else", 20 * mib, true, nil},
		"cloned elsewhere":   {spec(cloned, in("slow")), "something else", 16 * mib, false, nil},
		"cloned, raw":        {spec(cloned, block), "something else", 16 * mib, false, nil},
		"cloned, odd handle": {spec(cloned, func(s *provision.Spec) { s.ID = "a b" }), "something else", 16 * mib, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			withOrigin(t, n)
			before := n.Volumes()
			got := mustEnsure(t, n, test.spec)
			if test.runs != nil {
				wantRuns(t, n, test.runs)
			}
			wantCopy(t, n, got, test.want)
			if renewal, ok := n.Devices.Renewed(lvm.DevicePath(got.Group, volume.NameOf(got.ID))); ok && renewal.Grown != test.grown {
				t.Errorf("the file system was grown: %t", renewal.Grown)
			}
			if got.Size != test.size {
				t.Errorf("it has %s, want %s", got.Size, test.size)
			}
			again := mustEnsure(t, n, test.spec)
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("asked again (-first +second):\n%s", diff)
			}
			if err := n.Remove(t.Context(), provision.Removal{ID: got.ID, Kind: volume.LVM, Group: got.Group}); err != nil {
				t.Fatal(err)
			}
			wantVolumes(t, n, before...)
		})
	}
}

func TestWhatCannotBeCopiedLeavesNothing(t *testing.T) {
	from := func(s provision.Source) func(*provision.Spec) {
		return func(spec *provision.Spec) { spec.Source, spec.Size = s, 16*mib }
	}
	for name, test := range map[string]struct {
		spec    provision.Spec
		prepare func(t *testing.T, n *provisiontest.Node)
		err     error
		says    string
	}{
		"smaller than its source":         {spec: spec(restored, sized(12*mib, 0)), err: provision.ErrOutOfRange, says: "at least 12Mi and at most anything, and its source " + ofOrigin + " has 16Mi"},
		"at most smaller than its source": {spec: spec(cloned, sized(0, 12*mib)), err: provision.ErrOutOfRange, says: "at most 12Mi"},
		"of a snapshot that is not there": {spec: spec(from(provision.Source{Snapshot: "snap-1", Group: "fast"})), err: lvm.ErrVolumeNotFound, says: "its source snap-1"},
		"of a volume that is not there":   {spec: spec(from(provision.Source{Volume: "local-1", Group: "fast"})), err: lvm.ErrVolumeNotFound},
		"of a volume that is a snapshot":  {spec: spec(from(provision.Source{Volume: ofOrigin, Group: "fast"})), err: lvm.ErrVolumeNotFound},
		"of a snapshot that is a volume":  {spec: spec(from(provision.Source{Snapshot: origin, Group: "fast"})), err: lvm.ErrVolumeNotFound},
		"of two sources":                  {spec: spec(from(provision.Source{Snapshot: ofOrigin, Volume: origin})), err: volume.ErrInvalid},
		"of itself":                       {spec: spec(from(provision.Source{Volume: id})), err: volume.ErrInvalid},
		"larger than its group":           {spec: spec(restored, sized(64*mib, 0)), err: lvm.ErrNoSpace},
		"a clone for which there is no room beside its snapshot": {spec: spec(cloned, sized(36*mib, 0)), err: lvm.ErrNoSpace,
			says: "wants at least 20Mi for what is overwritten meanwhile, volume group fast has 4Mi left"},
		"of a snapshot that is lost": {spec: spec(restored), err: provision.ErrLost, prepare: func(_ *testing.T, n *provisiontest.Node) {
			n.Overwrite("fast", origin, 16*mib)
		}},
		"of a volume that is deleted": {spec: spec(cloned), err: lvm.ErrVolumeNotFound, says: "deleted", prepare: func(t *testing.T, n *provisiontest.Node) {
			if err := n.Remove(t.Context(), provision.Removal{ID: origin, Kind: volume.LVM, Group: "fast"}); err != nil {
				t.Fatal(err)
			}
		}},
		"of somebody's volume": {spec: spec(from(provision.Source{Volume: "data", Group: "fast"})), err: lvm.ErrVolumeNotFound, says: "not tagged", prepare: func(t *testing.T, n *provisiontest.Node) {
			if err := n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: "data", Size: 4 * mib}); err != nil {
				t.Fatal(err)
			}
		}},
		"of a volume that is not ready": {spec: spec(cloned), err: provision.ErrBusy, prepare: func(t *testing.T, n *provisiontest.Node) {
			if err := n.Host().ChangeTags(t.Context(), "fast", origin, []string{volume.CopyingTag}, nil); err != nil {
				t.Fatal(err)
			}
		}},
		"of disks that fail": {spec: spec(cloned), err: unix.EIO, prepare: func(_ *testing.T, n *provisiontest.Node) {
			n.Devices.Copying = func(context.Context, string, string) error { return unix.EIO }
		}},
		"of a snapshot that is lost while it is read": {spec: spec(restored), err: provision.ErrLost, prepare: func(_ *testing.T, n *provisiontest.Node) {
			n.Devices.Copying = func(context.Context, string, string) error { n.Overwrite("fast", origin, 16*mib); return nil }
		}},
		"of a file system that does not mount": {spec: spec(cloned), err: unix.EUCLEAN, prepare: func(_ *testing.T, n *provisiontest.Node) {
			n.Devices.Renewing = func(context.Context, string) error { return unix.EUCLEAN }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			withOrigin(t, n)
			if test.prepare != nil {
				test.prepare(t, n)
			}
			before := n.Volumes()
			_, err := n.Ensure(t.Context(), test.spec)
			if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v that says %q", err, test.err, test.says)
			}
			wantVolumes(t, n, before...)
			if n.Devices.Mounted() != 0 {
				t.Error("a file system stays mounted")
			}
		})
	}
}

func TestACopyIsOfOneSource(t *testing.T) {
	n := node(t)
	withOrigin(t, n)
	mustEnsure(t, n, spec(restored))
	for _, other := range []provision.Spec{spec(cloned), spec(sized(16*mib, 0))} {
		if _, err := n.Ensure(t.Context(), other); !errors.Is(err, provision.ErrConflict) {
			t.Errorf("a volume of source %+v that is there with another: got %v, want ErrConflict", other.Source, err)
		}
	}
	plain := spec(sized(16*mib, 0), func(s *provision.Spec) { s.ID = "local-2" })
	mustEnsure(t, n, plain)
	plain.Source.Snapshot = ofOrigin
	if _, err := n.Ensure(t.Context(), plain); !errors.Is(err, provision.ErrConflict) {
		t.Errorf("a volume with data that shall be a copy: got %v, want ErrConflict", err)
	}
}

func TestARepeatedCopyBeginsAnewWhereverTheFirstDied(t *testing.T) {
	for name, test := range map[string]struct {
		spec   provision.Spec
		want   string
		points int
	}{
		"restored":      {spec(restored), original, 12},
		"restored, raw": {spec(restored, block), original, 11},
		"cloned":        {spec(cloned), "something else", 19},
		"cloned, raw":   {spec(cloned, block), "something else", 18},
	} {
		t.Run(name, func(t *testing.T) {
			ensure := func(n *provisiontest.Node) error { _, err := n.Ensure(t.Context(), test.spec); return err }
			dies(t, test.points, withOrigin, ensure, func(t *testing.T, n *provisiontest.Node) {
				got := mustEnsure(t, n, test.spec)
				wantCopy(t, n, got, test.want)
				wantVolumes(t, n, "fast/"+origin, "fast/"+id, "fast/"+ofOrigin)
			})
			dies(t, test.points, withOrigin, ensure, func(t *testing.T, n *provisiontest.Node) {
				if err := n.Remove(t.Context(), removal()); err != nil {
					t.Fatal(err)
				}
				wantVolumes(t, n, "fast/"+origin, "fast/"+ofOrigin)
				if n.Devices.Mounted() != 0 {
					t.Error("a file system stays mounted")
				}
			})
		})
	}
}

func TestACopyBeginsAnewAfterAReboot(t *testing.T) {
	for name, of := range map[string]func(*provision.Spec){"restored": restored, "cloned": cloned} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			withOrigin(t, n)
			n.Devices.Renewing = func(context.Context, string) error { n.Kill(); return provisiontest.ErrKilled }
			if _, err := n.Ensure(t.Context(), spec(of)); !errors.Is(err, provisiontest.ErrKilled) {
				t.Fatal(err)
			}
			n.Devices.Renewing = nil
			n.Reboot()
			n.Restart()
			got := mustEnsure(t, n, spec(of))
			wantCopy(t, n, got, map[string]string{"restored": original, "cloned": "something else"}[name])
			wantVolumes(t, n, "fast/"+origin, "fast/"+id, "fast/"+ofOrigin)
		})
	}
}

func TestAHalfCopyIsRemovedWhereverItsRemovalDied(t *testing.T) {
	remove := func(n *provisiontest.Node) error { return n.Remove(context.Background(), removal()) }
	dies(t, 6, func(t *testing.T, n *provisiontest.Node) {
		withOrigin(t, n)
		kill := n.Devices.Copying
		n.Devices.Copying = func(context.Context, string, string) error { n.Kill(); return provisiontest.ErrKilled }
		if _, err := n.Ensure(t.Context(), spec(cloned)); !errors.Is(err, provisiontest.ErrKilled) {
			t.Fatal(err)
		}
		n.Devices.Copying = kill
		n.Restart()
		wantVolumes(t, n, "fast/clone-"+id, "fast/"+origin, "fast/"+id, "fast/"+ofOrigin)
	}, remove, func(t *testing.T, n *provisiontest.Node) {
		if err := remove(n); err != nil {
			t.Fatal(err)
		}
		wantVolumes(t, n, "fast/"+origin, "fast/"+ofOrigin)
	})
}

func TestASourceMayGoWhileItIsCloned(t *testing.T) {
	n := node(t)
	withOrigin(t, n)
	if err := n.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: ofOrigin, Kind: volume.LVM, Group: "fast"}); err != nil {
		t.Fatal(err)
	}
	n.Devices.Copying = func(ctx context.Context, _, _ string) error {
		return n.Remove(ctx, provision.Removal{ID: origin, Kind: volume.LVM, Group: "fast"})
	}
	wantCopy(t, n, mustEnsure(t, n, spec(cloned)), "something else")
	wantVolumes(t, n, "fast/"+id) // the origin went with the snapshot it was kept for
}

func TestASourceMayBeWrittenToWhileItIsCloned(t *testing.T) {
	n := node(t)
	withOrigin(t, n)
	n.Devices.Copying = func(context.Context, string, string) error { write(t, n, origin, "later"); return nil }
	wantCopy(t, n, mustEnsure(t, n, spec(cloned)), "something else")
}

func TestTheSnapshotOfACloneIsWatched(t *testing.T) {
	n := node(t)
	withOrigin(t, n)
	seen := false
	n.Devices.Copying = func(context.Context, string, string) error {
		for _, w := range n.Watched() {
			seen = seen || w.Name == "clone-"+id && w.Origin == origin && w.Threshold == 50 && w.Step == capacity.GiB
		}
		return nil
	}
	mustEnsure(t, n, spec(cloned))
	if !seen {
		t.Error("the snapshot from which a clone is copied is not watched")
	}
	if watched := n.Watched(); len(watched) != 1 {
		t.Errorf("watched afterwards: %+v", watched)
	}
}

func TestOthersHearHowFarACopyIs(t *testing.T) {
	n := node(t)
	withOrigin(t, n)
	started, goOn := make(chan struct{}), make(chan struct{})
	n.Devices.Copying = func(context.Context, string, string) error { close(started); <-goOn; return nil }
	first := make(chan error, 1)
	go func() { _, err := n.Ensure(t.Context(), spec(cloned)); first <- err }()
	<-started
	for _, call := range []func() error{
		func() error { _, err := n.Ensure(t.Context(), spec(cloned)); return err },
		func() error {
			_, err := n.Grow(t.Context(), provision.Growth{ID: id, Kind: volume.LVM, Group: "fast", Size: 32 * mib})
			return err
		},
	} {
		if err := call(); !errors.Is(err, provision.ErrBusy) || !strings.Contains(err.Error(), "copied 8Mi of 16Mi (50 %), ") {
			t.Errorf("got %v, want ErrBusy that says how far it is", err)
		}
	}
	other := spec(in("slow"), func(s *provision.Spec) { s.ID = "local-other" })
	mustEnsure(t, n, other) // is not held up
	close(goOn)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	wantCopy(t, n, mustEnsure(t, n, spec(cloned)), "something else")
}

func TestACallerIsAnsweredBeforeItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := node(t)
		withOrigin(t, n)
		goOn := make(chan struct{})
		n.Devices.Copying = func(context.Context, string, string) error { <-goOn; return nil }
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_, err := n.Ensure(ctx, spec(restored))
		if took := time.Since(began); !errors.Is(err, provision.ErrBusy) || !strings.Contains(err.Error(), "copied 8Mi of 16Mi (50 %)") || took != 9*time.Second {
			t.Errorf("got %v after %s, want ErrBusy that says how far it is after 9s", err, took)
		}
		close(goOn)
		synctest.Wait()
		wantCopy(t, n, mustEnsure(t, n, spec(restored)), original)
	})
}

func TestRemoveGivesACopyUp(t *testing.T) {
	for name, of := range map[string]func(*provision.Spec){"restored": restored, "cloned": cloned} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			withOrigin(t, n)
			started := make(chan struct{})
			n.Devices.Copying = func(ctx context.Context, _, _ string) error { close(started); <-ctx.Done(); return ctx.Err() }
			first := make(chan error, 1)
			go func() { _, err := n.Ensure(t.Context(), spec(of)); first <- err }()
			<-started
			if err := n.Remove(t.Context(), removal()); !errors.Is(err, provision.ErrBusy) {
				t.Errorf("the first removal got %v, want ErrBusy", err)
			}
			if err := <-first; !errors.Is(err, context.Canceled) {
				t.Errorf("the creation got %v, want Canceled", err)
			}
			if err := n.Remove(t.Context(), removal()); err != nil {
				t.Error(err)
			}
			wantVolumes(t, n, "fast/"+origin, "fast/"+ofOrigin)
		})
	}
}

func TestTwoAreCopiedAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := node(t)
		withOrigin(t, n)
		begun, goOn := make(chan string, 3), make(chan struct{})
		n.Devices.Copying = func(_ context.Context, _, target string) error { begun <- target; <-goOn; return nil }
		done := make(chan error, 3)
		specs := map[string]provision.Spec{}
		for _, name := range []string{"local-1", "local-2", "local-3"} {
			s := spec(restored, in("slow"), func(s *provision.Spec) { s.ID = name })
			specs[lvm.DevicePath("slow", name)] = s
			go func() { _, err := n.Ensure(t.Context(), s); done <- err }()
		}
		synctest.Wait()
		for range 2 {
			delete(specs, <-begun)
		}
		if len(begun) != 0 || len(specs) != 1 {
			t.Fatal("a third copy has begun")
		}
		for _, waiting := range specs {
			if _, err := n.Ensure(t.Context(), waiting); !errors.Is(err, provision.ErrBusy) || !strings.Contains(err.Error(), "waiting until fewer than 2 other volumes are copied") {
				t.Errorf("got %v, want ErrBusy that says what for", err)
			}
		}
		close(goOn)
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
