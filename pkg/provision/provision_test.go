package provision_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	mib = capacity.MiB
	id  = "local-5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11"
)

func node(t testing.TB) *provisiontest.Node {
	return provisiontest.New(t, map[string]capacity.Bytes{"fast": 64 * mib, "slow": 128 * mib})
}

// spec returns a volume of 8 MiB in group fast, changed by more.
func spec(more ...func(*provision.Spec)) provision.Spec {
	s := provision.Spec{ID: id, Kind: volume.LVM, Group: "fast", Size: 8 * mib, Layout: capacity.Linear, Tags: []string{"open-local.claim=a/b"}}
	for _, change := range more {
		change(&s)
	}
	return s
}

func block(s *provision.Spec) { s.Block = true }

func anywhere(s *provision.Spec) { s.Group = "" }

func in(group string) func(*provision.Spec) { return func(s *provision.Spec) { s.Group = group } }

func onlyIn(group string) func(*provision.Spec) {
	return func(s *provision.Spec) { s.Group, s.OnlyGroup = "", group }
}

func sized(size, limit capacity.Bytes) func(*provision.Spec) {
	return func(s *provision.Spec) { s.Size, s.Limit = size, limit }
}

func removal() provision.Removal { return provision.Removal{ID: id, Kind: volume.LVM, Group: "fast"} }

func mustEnsure(t *testing.T, n *provisiontest.Node, s provision.Spec) provision.Volume {
	t.Helper()
	vol, err := n.Ensure(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return vol
}

func wantVolumes(t *testing.T, n *provisiontest.Node, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, n.Volumes()); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func wantRuns(t *testing.T, n *provisiontest.Node, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, n.Counter.Runs()); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	n.Counter.Reset()
}

func TestEnsureMakesWhatIsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		spec provision.Spec
		want provision.Volume
		err  error
	}{
		"in the group that was decided on":            {spec: spec(), want: provision.Volume{Group: "fast", Size: 8 * mib}},
		"in the group with the least room that fits":  {spec: spec(anywhere), want: provision.Volume{Group: "fast", Size: 8 * mib}},
		"where it fits at all":                        {spec: spec(anywhere, sized(100*mib, 0)), want: provision.Volume{Group: "slow", Size: 100 * mib}},
		"in the only group that will do":              {spec: spec(onlyIn("slow")), want: provision.Volume{Group: "slow", Size: 8 * mib}},
		"one byte takes an extent":                    {spec: spec(sized(1, 0)), want: provision.Volume{Group: "fast", Size: 4 * mib}},
		"no size takes an extent":                     {spec: spec(sized(0, 0)), want: provision.Volume{Group: "fast", Size: 4 * mib}},
		"100M takes 24 extents":                       {spec: spec(anywhere, sized(100_000_000, 0)), want: provision.Volume{Group: "slow", Size: 96 * mib}},
		"a limit that whole extents reach":            {spec: spec(sized(7*mib, 8*mib)), want: provision.Volume{Group: "fast", Size: 8 * mib}},
		"a limit between two extents":                 {spec: spec(sized(7*mib, 7*mib)), err: provision.ErrOutOfRange},
		"a limit below the size":                      {spec: spec(sized(8*mib, 4*mib)), err: volume.ErrInvalid},
		"more than its group has":                     {spec: spec(sized(68*mib, 0)), err: lvm.ErrNoSpace},
		"more than any group has":                     {spec: spec(anywhere, sized(132*mib, 0)), err: lvm.ErrNoSpace},
		"more than the only group has":                {spec: spec(onlyIn("fast"), sized(68*mib, 0)), err: lvm.ErrNoSpace},
		"in a group that is not there":                {spec: spec(in("other")), err: provision.ErrUnmanaged},
		"only in a group that is not there":           {spec: spec(onlyIn("other")), err: provision.ErrUnmanaged},
		"in a group that will not do":                 {spec: spec(func(s *provision.Spec) { s.OnlyGroup = "slow" }), err: volume.ErrInvalid},
		"of a kind that is not served":                {spec: spec(func(s *provision.Spec) { s.Kind = "Cloud" }), err: volume.ErrInvalid},
		"of a layout that is not served":              {spec: spec(func(s *provision.Spec) { s.Layout = "mirrored" }), err: volume.ErrInvalid},
		"without a handle":                            {spec: spec(func(s *provision.Spec) { s.ID = "" }), err: volume.ErrInvalid},
		"with a tag that LVM cannot spell":            {spec: spec(func(s *provision.Spec) { s.Tags = []string{"a b"} }), err: volume.ErrInvalid},
		"of a size below zero":                        {spec: spec(sized(-1, 0)), err: volume.ErrInvalid},
		"with a handle that LVM cannot spell as such": {spec: spec(func(s *provision.Spec) { s.ID = "a b/c" }), want: provision.Volume{Group: "fast", Size: 8 * mib}},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			got, err := n.Ensure(t.Context(), test.spec)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Fatalf("got error %v, want %v", err, test.err)
			}
			if err != nil {
				wantVolumes(t, n)
				return
			}
			test.want.ID = test.spec.ID
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("volume (-want +got):\n%s", diff)
			}
			have := n.Volume(got.Group, volume.NameOf(got.ID))
			if found, _ := volume.IDFromTags(have.Tags); found != got.ID || have.Size != got.Size || !slices.Contains(have.Tags, "open-local.claim=a/b") {
				t.Errorf("LVM has %+v", have)
			}
			again := mustEnsure(t, n, test.spec)
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("asked again (-first +second):\n%s", diff)
			}
			wantVolumes(t, n, got.Group+"/"+volume.NameOf(got.ID))
		})
	}
}

func TestTheBudgetOfProcesses(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	wantRuns(t, n, map[string]int{"lvm lvcreate": 1})
	mustEnsure(t, n, spec())
	wantRuns(t, n, map[string]int{"lvm fullreport": 1})
	if err := n.Remove(t.Context(), removal()); err != nil {
		t.Fatal(err)
	}
	wantRuns(t, n, map[string]int{"lvm lvremove": 1})
	if err := n.Remove(t.Context(), removal()); err != nil {
		t.Fatal(err)
	}
	wantRuns(t, n, map[string]int{"lvm lvremove": 1})
	mustEnsure(t, n, spec(block))
	wantRuns(t, n, map[string]int{"lvm lvcreate": 1, "lvm lvchange": 1})
	if err := n.Remove(t.Context(), removal()); err != nil {
		t.Fatal(err)
	}
	n.Counter.Reset()
	mustEnsure(t, n, spec(anywhere))
	wantRuns(t, n, map[string]int{"lvm fullreport": 1, "lvm lvcreate": 1})
}

func TestEnsureAcceptsOnlyTheVolumeItself(t *testing.T) {
	for name, test := range map[string]struct {
		there lvm.CreateVolume
		ask   provision.Spec
		want  string // the group answered
		err   error
	}{
		"a volume of another handle": {
			there: lvm.CreateVolume{Group: "fast", Size: 8 * mib, Tags: []string{volume.IDTag("another")}}, ask: spec(), err: provision.ErrConflict,
		},
		"a volume without tags": {
			there: lvm.CreateVolume{Group: "fast", Size: 8 * mib}, ask: spec(), err: provision.ErrConflict,
		},
		"a volume that is smaller": {
			there: lvm.CreateVolume{Group: "fast", Size: 4 * mib, Tags: []string{volume.IDTag(id)}}, ask: spec(), err: provision.ErrConflict,
		},
		"a volume over the limit": {
			there: lvm.CreateVolume{Group: "fast", Size: 16 * mib, Tags: []string{volume.IDTag(id)}}, ask: spec(sized(8*mib, 12*mib)), err: provision.ErrConflict,
		},
		"a volume that is larger and below the limit": {
			there: lvm.CreateVolume{Group: "fast", Size: 12 * mib, Tags: []string{volume.IDTag(id)}}, ask: spec(sized(8*mib, 12*mib)), want: "fast",
		},
		"the volume in another group than was decided on now": {
			there: lvm.CreateVolume{Group: "slow", Size: 8 * mib, Tags: []string{volume.IDTag(id)}}, ask: spec(), want: "slow",
		},
		"the volume in a group that will not do": {
			there: lvm.CreateVolume{Group: "slow", Size: 8 * mib, Tags: []string{volume.IDTag(id)}}, ask: spec(onlyIn("fast")), err: provision.ErrConflict,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, active := range []bool{true, false} {
				n := node(t)
				test.there.Name = id
				if err := n.Host().CreateVolume(t.Context(), test.there); err != nil {
					t.Fatal(err)
				}
				if !active {
					n.Reboot()
					n.Restart()
				}
				got, err := n.Ensure(t.Context(), test.ask)
				if !errors.Is(err, test.err) || got.Group != test.want {
					t.Errorf("active %t: got %q, %v; want %q, %v", active, got.Group, err, test.want, test.err)
				}
				wantVolumes(t, n, test.there.Group+"/"+id)
			}
		})
	}
}

func TestTheNodeKeepsToWhatItManages(t *testing.T) {
	n := node(t)
	n.Groups["fast"] = 12 * mib // the rest is reserved
	n.AddGroup("foreign", "/dev/foreign", 16*mib)
	if got := mustEnsure(t, n, spec(anywhere)); got.Group != "fast" {
		t.Fatalf("the first volume went to %s", got.Group)
	}
	second := spec(anywhere)
	second.ID = "local-2"
	if got := mustEnsure(t, n, second); got.Group != "slow" {
		t.Fatalf("the second volume went to %s, of which 4Mi are left", got.Group)
	}
	clear(n.Groups)
	third := spec(anywhere)
	third.ID = "local-3"
	if _, err := n.Ensure(t.Context(), third); !errors.Is(err, lvm.ErrNoSpace) {
		t.Errorf("a node that manages nothing answered %v", err)
	}
}

func TestRemoveRemovesOnlyTheVolumeItself(t *testing.T) {
	tag := []string{volume.IDTag(id)}
	proven := provision.Removal{ID: id, Kind: volume.LVM, Group: "fast", Proven: true}
	for name, test := range map[string]struct {
		there *lvm.CreateVolume
		ask   provision.Removal
		err   error
		kept  bool
	}{
		"the volume":                                  {there: &lvm.CreateVolume{Group: "fast", Tags: tag}, ask: removal()},
		"one that is gone":                            {ask: removal()},
		"the volume in another group":                 {there: &lvm.CreateVolume{Group: "slow", Tags: tag}, ask: removal()},
		"a volume of another handle":                  {there: &lvm.CreateVolume{Group: "fast", Tags: []string{volume.IDTag("other")}}, ask: removal(), err: lvm.ErrNotOurs, kept: true},
		"a volume of another handle, with a PV":       {there: &lvm.CreateVolume{Group: "fast", Tags: []string{volume.IDTag("other")}}, ask: proven, err: lvm.ErrNotOurs, kept: true},
		"an untagged volume":                          {there: &lvm.CreateVolume{Group: "fast"}, ask: removal(), err: lvm.ErrNotOurs, kept: true},
		"an untagged volume with a PV":                {there: &lvm.CreateVolume{Group: "fast"}, ask: proven},
		"an untagged volume in another group":         {there: &lvm.CreateVolume{Group: "slow"}, ask: proven, kept: true},
		"a protected volume":                          {there: &lvm.CreateVolume{Group: "fast", Tags: append(tag, lvm.ProtectedTag)}, ask: removal(), err: lvm.ErrProtected, kept: true},
		"an untagged but protected volume":            {there: &lvm.CreateVolume{Group: "fast", Tags: []string{lvm.ProtectedTag}}, ask: proven, err: lvm.ErrProtected, kept: true},
		"one in a group that is missing":              {ask: provision.Removal{ID: id, Kind: volume.LVM, Group: "lost"}, err: lvm.ErrGroupNotFound},
		"the volume in a group that was renamed":      {there: &lvm.CreateVolume{Group: "slow", Tags: tag}, ask: provision.Removal{ID: id, Kind: volume.LVM, Group: "lost"}},
		"one in a group nobody can have":              {ask: provision.Removal{ID: id, Kind: volume.LVM, Group: "../etc"}, err: volume.ErrInvalid},
		"one of a kind that is not served":            {ask: provision.Removal{ID: id, Kind: "Cloud", Group: "fast"}, err: volume.ErrInvalid},
		"a volume in a group that is managed no more": {there: &lvm.CreateVolume{Group: "former", Tags: tag}, ask: provision.Removal{ID: id, Kind: volume.LVM, Group: "former"}},
	} {
		for disk, requests := range map[string]int64{"": 0, ", on a disk that discards slowly": 1000} {
			t.Run(name+disk, func(t *testing.T) {
				n := node(t)
				n.Devices.Requests = requests
				n.AddGroup("former", "/dev/former", 16*mib)
				var kept []string
				if test.there != nil {
					test.there.Name, test.there.Size = id, 8*mib
					if err := n.Host().CreateVolume(t.Context(), *test.there); err != nil {
						t.Fatal(err)
					}
					if test.kept {
						kept = []string{test.there.Group + "/" + id}
					}
				}
				if err := n.Remove(t.Context(), test.ask); !errors.Is(err, test.err) {
					t.Errorf("got error %v, want %v", err, test.err)
				}
				wantVolumes(t, n, kept...)
			})
		}
	}
}

func TestAnOpenVolumeIsKept(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	closeVolume := n.Open("fast", id)
	if err := n.Remove(t.Context(), removal()); !errors.Is(err, lvm.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	closeVolume()
	if err := n.Remove(t.Context(), removal()); err != nil {
		t.Fatal(err)
	}
	wantVolumes(t, n)
}

func TestZeroingOutlivesTheCall(t *testing.T) {
	n := node(t)
	started, goOn := make(chan struct{}), make(chan struct{})
	n.Devices.Zeroing = func(context.Context, string) error { close(started); <-goOn; return nil }
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := n.Ensure(ctx, spec(block)); first <- err }()

	<-started
	if _, err := n.Ensure(t.Context(), spec(block)); !errors.Is(err, provision.ErrBusy) {
		t.Errorf("a second call beside the first got %v, want ErrBusy", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first call got %v, want Canceled", err)
	}
	if _, err := n.Ensure(t.Context(), spec(block)); !errors.Is(err, provision.ErrBusy) {
		t.Errorf("a call while zeroing goes on got %v, want ErrBusy", err)
	}
	close(goOn)
	for {
		if _, err := n.Ensure(t.Context(), spec(block)); !errors.Is(err, provision.ErrBusy) {
			if err != nil {
				t.Error(err)
			}
			break
		}
	}
	if !n.Devices.Zeroed(lvm.DevicePath("fast", id)) {
		t.Error("the volume is handed out and not zeroed")
	}
}

func TestRemoveGivesZeroingUp(t *testing.T) {
	n := node(t)
	started := make(chan struct{})
	n.Devices.Zeroing = func(ctx context.Context, _ string) error { close(started); <-ctx.Done(); return ctx.Err() }
	first := make(chan error, 1)
	go func() { _, err := n.Ensure(t.Context(), spec(block)); first <- err }()
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
	wantVolumes(t, n)
}

func TestWhatWasNotZeroedIsZeroedByTheNextProcess(t *testing.T) {
	n := node(t)
	started := make(chan struct{})
	n.Devices.Zeroing = func(ctx context.Context, _ string) error { close(started); <-ctx.Done(); return ctx.Err() }
	first := make(chan error, 1)
	go func() { _, err := n.Ensure(t.Context(), spec(block)); first <- err }()
	<-started
	n.Devices.Zeroing = nil
	n.Restart()
	if err := <-first; err == nil {
		t.Error("a volume was handed out and not zeroed")
	}
	mustEnsure(t, n, spec(block))
	if !n.Devices.Zeroed(lvm.DevicePath("fast", id)) {
		t.Error("the volume is handed out and not zeroed")
	}
}

func TestAVolumeWithoutTheTagIsNeverZeroed(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	n.Devices.Zeroing = func(context.Context, string) error { t.Error("a volume with data is zeroed"); return nil }
	mustEnsure(t, n, spec(block))
	n.Restart()
	mustEnsure(t, n, spec(block))
}

func TestManyCallsAtOnceMakeOneVolumeEach(t *testing.T) {
	n := node(t)
	results := make(chan error)
	const volumes, calls = 8, 4
	for v := range volumes {
		for range calls {
			go func() {
				s := spec(anywhere, sized(16*mib, 0))
				s.ID = "local-" + string(rune('a'+v))
				_, err := n.Ensure(context.Background(), s)
				for errors.Is(err, provision.ErrBusy) {
					_, err = n.Ensure(context.Background(), s)
				}
				results <- err
			}()
		}
	}
	for range volumes * calls {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	names := map[string]bool{}
	for _, path := range n.Volumes() {
		_, name, _ := strings.Cut(path, "/")
		names[name] = true
	}
	if len(n.Volumes()) != volumes || len(names) != volumes {
		t.Errorf("%d volumes of %d names, want %d: %v", len(n.Volumes()), len(names), volumes, slices.Sorted(maps.Keys(names)))
	}
}

func TestANodeThatKnowsNothingYetDoesNothing(t *testing.T) {
	n := node(t)
	n.Groups = nil
	n.Restart()
	if _, err := n.Ensure(t.Context(), spec()); !errors.Is(err, provision.ErrNotReady) {
		t.Errorf("got %v, want ErrNotReady", err)
	}
}
