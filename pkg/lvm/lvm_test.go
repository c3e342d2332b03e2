package lvm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/hostexec"
)

// script answers the commands it is given with its lines, in order, and keeps what
// they were. Everything an LVM with physics can show is in package lvmtest.
type script struct {
	t       *testing.T
	answers []answer
	ran     []string
}

type answer struct {
	out string
	err error
}

func (s *script) Run(_ context.Context, name string, args ...string) ([]byte, error) {
	s.ran = append(s.ran, strings.Join(append([]string{name}, args...), " "))
	if len(s.answers) == 0 {
		s.t.Fatalf("nothing more was expected, but it ran %q", s.ran[len(s.ran)-1])
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	return []byte(a.out), a.err
}

func says(stderr string) error {
	return &hostexec.ExitError{Name: "lvm", Code: 5, Stderr: stderr}
}

func TestCommandLinesOfChanges(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(context.Context, *Host) error
		want string
	}{
		"a plain volume": {
			func(ctx context.Context, h *Host) error {
				return h.CreateVolume(ctx, CreateVolume{Group: "share", Name: "data", Size: 100_000_000})
			},
			"lvm lvcreate --yes --wipesignatures y --zero y --name data --size 100000256b --type linear -- share",
		},
		"a striped volume with tags on chosen devices": {
			func(ctx context.Context, h *Host) error {
				return h.CreateVolume(ctx, CreateVolume{
					Group: "share", Name: "data", Size: mib, Layout: Layout{Type: TypeStriped, Stripes: 2},
					Tags: []string{"a", "b=c"}, Devices: []string{"/dev/sdb", "/dev/sdc"},
				})
			},
			"lvm lvcreate --yes --wipesignatures y --zero y --name data --size 1048576b --type striped --stripes 2" +
				" --addtag a --addtag b=c -- share /dev/sdb /dev/sdc",
		},
		"growing": {
			func(ctx context.Context, h *Host) error { return h.ExtendVolume(ctx, "share", "data", 1) },
			"lvm lvextend --size 512b -- share/data",
		},
		"growing without a look at other devices": {
			func(ctx context.Context, h *Host) error {
				return h.ExtendVolumeOn(ctx, "share", "data", 1, []string{"/dev/sdb", "/dev/sdc"})
			},
			"lvm lvextend --devices /dev/sdb --devices /dev/sdc --size 512b -- share/data",
		},
		"tags": {
			func(ctx context.Context, h *Host) error {
				return h.ChangeTags(ctx, "share", "data", []string{"a"}, []string{"b"})
			},
			"lvm lvchange --addtag a --deltag b -- share/data",
		},
		"activation": {
			func(ctx context.Context, h *Host) error { return h.ActivateVolume(ctx, "share", "data") },
			"lvm lvchange --activate y -- share/data",
		},
		"deactivation": {
			func(ctx context.Context, h *Host) error { return h.DeactivateVolume(ctx, "share", "data") },
			"lvm lvchange --activate n -- share/data",
		},
		"device files": {
			func(ctx context.Context, h *Host) error { return h.MakeDevices(ctx, "share", "data") },
			"lvm vgmknodes -- share/data",
		},
		"a new group, never with a yes to wiping": {
			func(ctx context.Context, h *Host) error { return h.CreateGroup(ctx, "share", []string{"/dev/sdb"}) },
			"lvm vgcreate -- share /dev/sdb",
		},
		"a larger group, never with a yes to wiping": {
			func(ctx context.Context, h *Host) error { return h.ExtendGroup(ctx, "share", []string{"/dev/sdb"}) },
			"lvm vgextend -- share /dev/sdb",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{t: t, answers: []answer{{}}}
			if err := tc.do(t.Context(), New(s)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tc.want}, s.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRemovalAsksLVMToCheckUnderItsLock(t *testing.T) {
	s := &script{t: t, answers: []answer{{out: "  Logical volume \"data\" successfully removed.\n"}}}
	if err := New(s).RemoveVolume(t.Context(), "share", "data", "ours", "claim=a"); err != nil {
		t.Fatal(err)
	}
	want := `lvm lvremove --yes --select lv_tags!="protected" && vg_tags!="protected" && lv_role!="thickorigin"` +
		` && lv_tags="ours" && lv_tags="claim=a" -- share/data`
	if diff := cmp.Diff([]string{want}, s.ran); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestARemovalInWordsWeDoNotKnowIsLookedAt(t *testing.T) {
	for name, tc := range map[string]struct {
		report string
		want   string
	}{
		"gone is removed":            {string(testdata(t, "lvm-2.03.16-one-volume.json")), ""},
		"there for no reason we see": {strings.ReplaceAll(string(testdata(t, "lvm-2.03.16-one-volume.json")), `"striped", "vg_name"`, `"data", "vg_name"`), "does not say why"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{t: t, answers: []answer{{out: "done\n"}, {out: tc.report}}}
			err := New(s).RemoveVolume(t.Context(), "share", "data")
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAGroupThatGoesAwayDuringTheReportIsAskedForOnceMore(t *testing.T) {
	gone, nothing := answer{err: says(`Volume group "other" not found`)}, answer{out: string(testdata(t, "lvm-2.03.16-nothing.json"))}
	s := &script{t: t, answers: []answer{gone, nothing}}
	if _, err := New(s).Report(t.Context()); err != nil {
		t.Error(err)
	}
	s = &script{t: t, answers: []answer{gone, gone}}
	if _, err := New(s).Report(t.Context()); !errors.Is(err, ErrGroupNotFound) {
		t.Errorf("twice in a row: got %v", err)
	}
}

func TestAFailedReportIsAnErrorAndNoReport(t *testing.T) {
	for name, a := range map[string]answer{
		"LVM fails":                {err: says("  Reading VG share failed.")},
		"LVM prints nothing":       {},
		"LVM prints half a report": {out: string(testdata(t, "lvm-2.03.16-layouts.json"))[:2000]},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := New(&script{t: t, answers: []answer{a}}).Report(t.Context())
			if err == nil || cmp.Diff(Report{}, report) != "" {
				t.Errorf("got %+v and %v", report, err)
			}
		})
	}
}

func TestAnotherGroupThanAskedForIsAnError(t *testing.T) {
	s := &script{t: t, answers: []answer{{out: string(testdata(t, "lvm-2.03.16-exported.json"))}}}
	if g, err := New(s).Group(t.Context(), "share"); err == nil {
		t.Errorf("asked for share and got %+v", g)
	}
}

// blocking is a Runner whose commands wait until they are let go. They know when
// their context ends.
type blocking struct {
	started chan context.Context
	release chan struct{}
}

func (b *blocking) Run(ctx context.Context, _ string, _ ...string) ([]byte, error) {
	b.started <- ctx
	<-b.release
	return nil, ctx.Err()
}

func TestAChangeIsNotKilledWhenItsCallerGivesUp(t *testing.T) {
	b := &blocking{started: make(chan context.Context), release: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- New(b).CreateVolume(ctx, CreateVolume{Group: "share", Name: "data", Size: 1}) }()
	inner := <-b.started
	cancel()
	if inner.Done() != nil {
		t.Error("the command has a context that can end")
	}
	close(b.release)
	if err := <-done; err != nil {
		t.Errorf("the change was carried out, but: %v", err)
	}
}

func TestAReportIsKilledWhenItsCallerGivesUp(t *testing.T) {
	b := &blocking{started: make(chan context.Context), release: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := New(b).Report(ctx)
		done <- err
	}()
	inner := <-b.started
	cancel()
	<-inner.Done()
	close(b.release)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestAChangeThatWaitsForItsTurnCanBeGivenUp(t *testing.T) {
	b := &blocking{started: make(chan context.Context), release: make(chan struct{})}
	host, done := New(b), make(chan error)
	change := func(ctx context.Context) { done <- host.ActivateVolume(ctx, "share", "data") }
	for range maxChanges {
		go change(t.Context())
		<-b.started
	}
	ctx, cancel := context.WithCancel(t.Context())
	go change(ctx)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	close(b.release)
	for range maxChanges {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
