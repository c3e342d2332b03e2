package lvmtest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
)

// Subject is what is examined: an LVM with an empty group of two physical volumes,
// each half of it.
type Subject struct {
	Runner hostexec.Runner
	Group  string
	// Open opens a volume of the group, as mounting does, until the test ends or
	// what it returns is called.
	Open func(t *testing.T, name string) (closeVolume func())
}

const mib = capacity.MiB

// Examine checks what package lvm must do on every LVM. fresh returns an empty
// group of the given size, a multiple of 8 MiB.
func Examine(t *testing.T, fresh func(t *testing.T, size capacity.Bytes) Subject) {
	for name, check := range map[string]func(*testing.T, *subject){
		"an empty group is reported whole":                                   emptyGroup,
		"a created volume is reported as it was asked for":                   createdVolume,
		"a volume takes whole extents":                                       wholeExtents,
		"a second create of the same name fails and changes nothing":         createTwice,
		"a group fills to its last extent and not further":                   fillToTheLast,
		"a striped volume takes whole stripes":                               stripes,
		"more stripes than physical volumes do not fit":                      tooManyStripes,
		"a volume lies on the devices it is told to":                         chosenDevices,
		"what is not there is told apart":                                    notFound,
		"a volume with the expected tags is removed":                         removeOurs,
		"a volume without one of the expected tags is kept":                  keepForeign,
		"a protected volume is kept":                                         keepProtected,
		"a volume of a protected group is kept":                              keepInProtectedGroup,
		"an open volume is kept":                                             keepOpen,
		"a volume with snapshots is kept until they are gone":                keepOrigin,
		"a volume grows and never shrinks":                                   extend,
		"a volume that cannot grow stays as it is":                           extendTooFar,
		"tags come and go":                                                   changeTags,
		"every letter of a tag can be asked for":                             tagAlphabet,
		"a volume is activated, also twice":                                  activate,
		"a name that is taken makes no second group":                         groupTwice,
		"a device of a group joins no other":                                 deviceTwice,
		"every verb is one process":                                          processBudget,
		"a caller that has given up starts nothing":                          givenUp,
		"arguments that are not what they should be never reach the command": invalidArguments,
	} {
		t.Run(name, func(t *testing.T) {
			s := fresh(t, 64*mib)
			counter := hostexec.NewCounter(s.Runner)
			check(t, &subject{Subject: s, counter: counter, host: lvm.New(counter)})
		})
	}
}

// ExamineLoss checks what package lvm must do when an empty group of two physical
// volumes of 32 MiB each loses one, device, because lose was called.
func ExamineLoss(t *testing.T, of Subject, device string, lose func()) {
	s, ctx := &subject{Subject: of, host: lvm.New(of.Runner)}, t.Context()
	for _, pv := range s.group(t).PhysicalVolumes {
		name := "safe"
		if pv.Device == device {
			name = "lost"
		}
		noError(t, s.host.CreateVolume(ctx, lvm.CreateVolume{Group: s.Group, Name: name, Size: mib, Devices: []string{pv.Device}}))
	}
	s.lvm(t, "lvchange", "--activate", "n", s.Group+"/lost")
	lose()

	g := s.group(t)
	if !g.Partial || g.MissingPVs != 1 || g.Size != 64*mib || len(g.PhysicalVolumes) != 2 {
		t.Errorf("the group is reported as %+v", g)
	}
	for _, pv := range g.PhysicalVolumes {
		if pv.Missing != (pv.Device == "") || pv.Device == device {
			t.Errorf("physical volume %+v", pv)
		}
	}
	for name, want := range map[string]string{"safe": "", "lost": "partial"} {
		if v := s.volume(t, name); v.Health != want {
			t.Errorf("the health of volume %s is %q, want %q", name, v.Health, want)
		}
	}
	wantError(t, s.host.CreateVolume(ctx, lvm.CreateVolume{Group: s.Group, Name: "new", Size: mib}), lvm.ErrPartial)
	wantError(t, s.host.ExtendVolume(ctx, s.Group, "safe", 8*mib), lvm.ErrPartial)
	wantError(t, s.host.ActivateVolume(ctx, s.Group, "lost"), lvm.ErrPartial)
	// What concerns whole volumes alone goes on.
	noError(t, s.host.ActivateVolume(ctx, s.Group, "safe"))
	noError(t, s.host.ChangeTags(ctx, s.Group, "safe", []string{"a"}, nil))
	noError(t, s.host.RemoveVolume(ctx, s.Group, "safe", "a"))
	noError(t, s.host.RemoveVolume(ctx, s.Group, "lost"))
	s.wantVolumes(t)
}

type subject struct {
	Subject
	counter *hostexec.Counter
	host    *lvm.Host
}

func (s *subject) create(t *testing.T, name string, size capacity.Bytes, tags ...string) {
	t.Helper()
	if err := s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: name, Size: size, Tags: tags}); err != nil {
		t.Fatal(err)
	}
}

func (s *subject) group(t *testing.T) lvm.Group {
	t.Helper()
	g, err := s.host.Group(t.Context(), s.Group)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (s *subject) volume(t *testing.T, name string) lvm.Volume {
	t.Helper()
	v, err := s.host.Volume(t.Context(), s.Group, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// lvm runs a command of LVM that package lvm has no verb for.
func (s *subject) lvm(t *testing.T, args ...string) {
	t.Helper()
	if _, err := s.Runner.Run(t.Context(), "lvm", args...); err != nil {
		t.Fatal(err)
	}
}

func (s *subject) wantFree(t *testing.T, want capacity.Bytes) {
	t.Helper()
	if got := s.group(t).Free; got != want {
		t.Errorf("the group has %s free, want %s", got, want)
	}
}

func (s *subject) wantVolumes(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, v := range s.group(t).Volumes {
		got = append(got, v.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func emptyGroup(t *testing.T, s *subject) {
	report, err := s.host.Report(t.Context())
	noError(t, err)
	g, ok := report.Group(s.Group)
	if !ok {
		t.Fatalf("group %s is not in the report", s.Group)
	}
	if diff := cmp.Diff(g, s.group(t)); diff != "" {
		t.Errorf("the group alone and in the report (-report +alone):\n%s", diff)
	}
	if g.Size != 64*mib || g.Free != 64*mib || g.Extent != capacity.DefaultExtent {
		t.Errorf("size %s, free %s, extent %s", g.Size, g.Free, g.Extent)
	}
	if g.UUID == "" || g.Partial || g.MissingPVs != 0 || g.Exported || len(g.Tags) != 0 || len(g.Volumes) != 0 {
		t.Errorf("not a whole and empty group: %+v", g)
	}
	if len(g.PhysicalVolumes) != 2 {
		t.Fatalf("physical volumes: %+v", g.PhysicalVolumes)
	}
	for _, pv := range g.PhysicalVolumes {
		if pv.Device == "" || pv.UUID == "" || pv.Size != 32*mib || pv.Free != 32*mib || pv.Missing || !pv.Allocatable {
			t.Errorf("physical volume %+v", pv)
		}
	}
}

func createdVolume(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib, "b", "a")
	got := s.volume(t, "data")
	if got.UUID == "" || got.KernelMajor <= 0 || got.KernelMinor < 0 {
		t.Errorf("a created volume has no identity or no device: %+v", got)
	}
	want := lvm.Volume{
		Name: "data", Group: s.Group, UUID: got.UUID, Size: 8 * mib, Tags: []string{"a", "b"}, Layout: "linear", Role: "public",
		SegType: "linear", Stripes: 1, Attr: "-wi-a-----", Active: true, KernelMajor: got.KernelMajor, KernelMinor: got.KernelMinor,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("volume (-want +got):\n%s", diff)
	}
	s.wantFree(t, 56*mib)
}

func wholeExtents(t *testing.T, s *subject) {
	for _, tc := range []struct {
		name       string
		size, want capacity.Bytes
	}{
		{"one-byte", 1, 4 * mib},
		{"one-sector", 512, 4 * mib},
		{"one-extent", 4 * mib, 4 * mib},
		{"one-more", 4*mib + 1, 8 * mib},
		{"odd", 10_000_001, 12 * mib},
	} {
		s.create(t, tc.name, tc.size)
		if got := s.volume(t, tc.name).Size; got != tc.want {
			t.Errorf("%d bytes became %s, want %s", tc.size, got, tc.want)
		}
	}
	s.wantFree(t, 32*mib)
}

func createTwice(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	before := s.group(t)
	wantError(t, s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: "data", Size: 16 * mib}), lvm.ErrExists)
	if diff := cmp.Diff(before, s.group(t)); diff != "" {
		t.Errorf("the group changed (-before +after):\n%s", diff)
	}
}

func fillToTheLast(t *testing.T, s *subject) {
	s.create(t, "across", 60*mib)
	wantError(t, s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: "more", Size: 4*mib + 1}), lvm.ErrNoSpace)
	s.create(t, "last", 4*mib)
	wantError(t, s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: "more", Size: 1}), lvm.ErrNoSpace)
	s.wantVolumes(t, "across", "last")
	s.wantFree(t, 0)
}

func stripes(t *testing.T, s *subject) {
	striped := lvm.Layout{Type: lvm.TypeStriped, Stripes: 2}
	noError(t, s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: "data", Size: 12 * mib, Layout: striped}))
	v := s.volume(t, "data")
	if v.Size != 16*mib || v.Stripes != 2 || v.SegType != "striped" || v.Layout != "striped" {
		t.Errorf("striped volume %+v", v)
	}
	for _, pv := range s.group(t).PhysicalVolumes {
		if pv.Free != 24*mib {
			t.Errorf("%s has %s free, want 24Mi", pv.Device, pv.Free)
		}
	}
	noError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", 17*mib))
	if v := s.volume(t, "data"); v.Size != 24*mib {
		t.Errorf("extended to 17Mi it is %s, want 24Mi", v.Size)
	}
}

func tooManyStripes(t *testing.T, s *subject) {
	layout := lvm.Layout{Type: lvm.TypeStriped, Stripes: 3}
	wantError(t, s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: "data", Size: 12 * mib, Layout: layout}), lvm.ErrNoSpace)
	// Room for both stripes on one physical volume only is no room.
	s.create(t, "filler", 32*mib)
	layout.Stripes = 2
	wantError(t, s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: "data", Size: 16 * mib, Layout: layout}), lvm.ErrNoSpace)
	s.wantVolumes(t, "filler")
}

func chosenDevices(t *testing.T, s *subject) {
	second := s.group(t).PhysicalVolumes[1].Device
	ask := lvm.CreateVolume{Group: s.Group, Name: "data", Size: 8 * mib, Devices: []string{second}}
	noError(t, s.host.CreateVolume(t.Context(), ask))
	if free := s.group(t).PhysicalVolumes[1].Free; free != 24*mib {
		t.Errorf("%s has %s free, want 24Mi", second, free)
	}
	ask.Name, ask.Size = "more", 28*mib
	wantError(t, s.host.CreateVolume(t.Context(), ask), lvm.ErrNoSpace)
	ask.Devices = []string{"/dev/nothing-of-the-kind"}
	wantError(t, s.host.CreateVolume(t.Context(), ask), lvm.ErrDeviceNotFound)
	s.wantVolumes(t, "data")
}

func notFound(t *testing.T, s *subject) {
	ctx := t.Context()
	verbs := map[string]func(group, name string) error{
		"remove":   func(group, name string) error { return s.host.RemoveVolume(ctx, group, name, "ours") },
		"extend":   func(group, name string) error { return s.host.ExtendVolume(ctx, group, name, mib) },
		"tag":      func(group, name string) error { return s.host.ChangeTags(ctx, group, name, []string{"a"}, nil) },
		"activate": func(group, name string) error { return s.host.ActivateVolume(ctx, group, name) },
		"look": func(group, name string) error {
			_, err := s.host.Volume(ctx, group, name)
			return err
		},
	}
	for name, verb := range verbs {
		t.Run(name, func(t *testing.T) {
			err := verb(s.Group, "missing")
			wantError(t, err, lvm.ErrVolumeNotFound)
			wantError(t, err, lvm.ErrNotFound)
			if errors.Is(err, lvm.ErrGroupNotFound) {
				t.Errorf("a missing volume is said to be a missing group: %v", err)
			}
			err = verb("no-such-group", "missing")
			wantError(t, err, lvm.ErrGroupNotFound)
			wantError(t, err, lvm.ErrNotFound)
			if errors.Is(err, lvm.ErrVolumeNotFound) {
				t.Errorf("a missing group is said to be a missing volume: %v", err)
			}
		})
	}
	wantError(t, s.host.CreateVolume(ctx, lvm.CreateVolume{Group: "no-such-group", Name: "data", Size: mib}), lvm.ErrGroupNotFound)
	_, err := s.host.Group(ctx, "no-such-group")
	wantError(t, err, lvm.ErrGroupNotFound)
}

func removeOurs(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib, "ours", "claim=a/b")
	s.create(t, "other", 8*mib, "ours")
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", "ours", "claim=a/b"))
	s.wantVolumes(t, "other")
	s.wantFree(t, 56*mib)
	wantError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", "ours", "claim=a/b"), lvm.ErrVolumeNotFound)
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "other")) // one without expectations
	s.wantFree(t, 64*mib)
}

func keepForeign(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib, "ours", "claim=ab")
	wantError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", "ours", "claim=a"), lvm.ErrNotOurs)
	s.wantVolumes(t, "data")
}

func keepProtected(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib, "ours", lvm.ProtectedTag)
	wantError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", "ours"), lvm.ErrProtected)
	s.wantVolumes(t, "data")
	noError(t, s.host.ChangeTags(t.Context(), s.Group, "data", nil, []string{lvm.ProtectedTag}))
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", "ours"))
}

func keepInProtectedGroup(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib, "ours")
	s.lvm(t, "vgchange", "--addtag", lvm.ProtectedTag, s.Group)
	if !s.group(t).Protected() {
		t.Error("the group is not reported as protected")
	}
	wantError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", "ours"), lvm.ErrProtected)
	s.wantVolumes(t, "data")
	s.lvm(t, "vgchange", "--deltag", lvm.ProtectedTag, s.Group)
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", "ours"))
}

func keepOpen(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	closeVolume := s.Open(t, "data")
	if v := s.volume(t, "data"); !v.Open {
		t.Errorf("an open volume is reported as %+v", v)
	}
	wantError(t, s.host.RemoveVolume(t.Context(), s.Group, "data"), lvm.ErrInUse)
	s.wantVolumes(t, "data")
	closeVolume()
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "data"))
}

func keepOrigin(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	s.lvm(t, "lvcreate", "--yes", "--snapshot", "--name", "snap", "--size", "4194304b", "--addtag", "ours", s.Group+"/data")
	snap, data := s.volume(t, "snap"), s.volume(t, "data")
	if snap.Origin != "data" || snap.DataPercent == nil || snap.HasSnapshots() {
		t.Errorf("the snapshot is reported as %+v", snap)
	}
	if data.Origin != "" || !data.HasSnapshots() {
		t.Errorf("the origin is reported as %+v", data)
	}
	err := s.host.RemoveVolume(t.Context(), s.Group, "data")
	wantError(t, err, lvm.ErrHasSnapshots)
	wantError(t, err, lvm.ErrInUse)
	s.wantVolumes(t, "data", "snap")
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "snap", "ours"))
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "data"))
}

func extend(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	for _, tc := range []struct{ to, want capacity.Bytes }{
		{8 * mib, 8 * mib}, {8*mib - 1, 8 * mib}, {1, 8 * mib}, {8*mib + 1, 12 * mib}, {40 * mib, 40 * mib}, {12 * mib, 40 * mib},
	} {
		noError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", tc.to))
		if got := s.volume(t, "data").Size; got != tc.want {
			t.Errorf("extended to %d bytes it is %s, want %s", tc.to, got, tc.want)
		}
	}
	s.wantFree(t, 24*mib)
}

func extendTooFar(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	wantError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", 64*mib+1), lvm.ErrNoSpace)
	s.wantFree(t, 56*mib)
	noError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", 64*mib))
	s.wantFree(t, 0)
}

func changeTags(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib, "a")
	for _, tc := range []struct{ add, del, want []string }{
		{add: []string{"b", "c"}, want: []string{"a", "b", "c"}},
		{add: []string{"b"}, del: []string{"a", "x"}, want: []string{"b", "c"}},
		{want: []string{"b", "c"}},
		{del: []string{"b", "c"}},
	} {
		noError(t, s.host.ChangeTags(t.Context(), s.Group, "data", tc.add, tc.del))
		if diff := cmp.Diff(tc.want, s.volume(t, "data").Tags); diff != "" {
			t.Errorf("tags after +%q -%q (-want +got):\n%s", tc.add, tc.del, diff)
		}
	}
}

func tagAlphabet(t *testing.T, s *subject) {
	const odd = "Az09_+./=!:&#-"
	s.create(t, "data", 8*mib, odd)
	if v := s.volume(t, "data"); !v.HasTag(odd) {
		t.Errorf("tags are %q, want %q", v.Tags, odd)
	}
	wantError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", odd+"-"), lvm.ErrNotOurs)
	noError(t, s.host.RemoveVolume(t.Context(), s.Group, "data", odd))
}

func activate(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	noError(t, s.host.ActivateVolume(t.Context(), s.Group, "data"))
	s.lvm(t, "lvchange", "--activate", "n", s.Group+"/data")
	if v := s.volume(t, "data"); v.Active || v.Open || v.KernelMinor != -1 {
		t.Errorf("an inactive volume is reported as %+v", v)
	}
	noError(t, s.host.ActivateVolume(t.Context(), s.Group, "data"))
	if v := s.volume(t, "data"); !v.Active || v.KernelMinor < 0 {
		t.Errorf("an active volume is reported as %+v", v)
	}
}

func groupTwice(t *testing.T, s *subject) {
	device := []string{s.group(t).PhysicalVolumes[0].Device}
	wantError(t, s.host.CreateGroup(t.Context(), s.Group, device), lvm.ErrExists)
	s.create(t, "data", 8*mib) // now /dev/<group> exists, and LVM says something else
	wantError(t, s.host.CreateGroup(t.Context(), s.Group, device), lvm.ErrExists)
	s.wantVolumes(t, "data")
}

func deviceTwice(t *testing.T, s *subject) {
	device := s.group(t).PhysicalVolumes[0].Device
	wantError(t, s.host.CreateGroup(t.Context(), "other", []string{device}), lvm.ErrInUse)
	wantError(t, s.host.ExtendGroup(t.Context(), s.Group, []string{device}), lvm.ErrInUse)
	wantError(t, s.host.ExtendGroup(t.Context(), s.Group, []string{"/dev/nothing-of-the-kind"}), lvm.ErrDeviceNotFound)
	wantError(t, s.host.CreateGroup(t.Context(), "other", []string{device, device}), lvm.ErrInvalid)
	wantError(t, s.host.CreateGroup(t.Context(), "other", nil), lvm.ErrInvalid)
	_, err := s.host.Group(t.Context(), "other")
	wantError(t, err, lvm.ErrGroupNotFound)
}

func processBudget(t *testing.T, s *subject) {
	ctx := t.Context()
	for _, verb := range []struct {
		process string
		do      func() error
	}{
		{"lvm lvcreate", func() error {
			return s.host.CreateVolume(ctx, lvm.CreateVolume{Group: s.Group, Name: "data", Size: mib, Tags: []string{"ours"}})
		}},
		{"lvm fullreport", func() error { _, err := s.host.Report(ctx); return err }},
		{"lvm fullreport", func() error { _, err := s.host.Group(ctx, s.Group); return err }},
		{"lvm fullreport", func() error { _, err := s.host.Volume(ctx, s.Group, "data"); return err }},
		{"lvm lvextend", func() error { return s.host.ExtendVolume(ctx, s.Group, "data", 8*mib) }},
		{"lvm lvextend", func() error { return s.host.ExtendVolume(ctx, s.Group, "data", 8*mib) }},
		{"lvm lvchange", func() error { return s.host.ChangeTags(ctx, s.Group, "data", []string{"a"}, []string{"b"}) }},
		{"lvm lvchange", func() error { return s.host.ActivateVolume(ctx, s.Group, "data") }},
		{"lvm lvremove", func() error { return s.host.RemoveVolume(ctx, s.Group, "data", "ours") }},
	} {
		s.counter.Reset()
		noError(t, verb.do())
		if diff := cmp.Diff(map[string]int{verb.process: 1}, s.counter.Runs()); diff != "" {
			t.Errorf("processes (-want +got):\n%s", diff)
		}
	}
}

func givenUp(t *testing.T, s *subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, s.host.CreateVolume(ctx, lvm.CreateVolume{Group: s.Group, Name: "data", Size: mib}), context.Canceled)
	wantError(t, s.host.RemoveVolume(ctx, s.Group, "data"), context.Canceled)
	_, err := s.host.Report(ctx)
	wantError(t, err, context.Canceled)
	s.wantVolumes(t)
}

func invalidArguments(t *testing.T, s *subject) {
	ctx := t.Context()
	s.counter.Reset()
	valid := lvm.CreateVolume{Group: s.Group, Name: "data", Size: mib}
	for _, spoil := range []func(*lvm.CreateVolume){
		func(c *lvm.CreateVolume) { c.Name = "--test" },
		func(c *lvm.CreateVolume) { c.Name = "" },
		func(c *lvm.CreateVolume) { c.Name = "a/b" },
		func(c *lvm.CreateVolume) { c.Name = "data\n" },
		func(c *lvm.CreateVolume) { c.Group = "-g" },
		func(c *lvm.CreateVolume) { c.Group = ".." },
		func(c *lvm.CreateVolume) { c.Size = 0 },
		func(c *lvm.CreateVolume) { c.Size = -1 },
		func(c *lvm.CreateVolume) { c.Size = 1<<63 - 1 },
		func(c *lvm.CreateVolume) { c.Tags = []string{"@a"} },
		func(c *lvm.CreateVolume) { c.Tags = []string{`a" || lv_name="x`} },
		func(c *lvm.CreateVolume) { c.Devices = []string{"--test"} },
		func(c *lvm.CreateVolume) { c.Devices = []string{"/dev/../etc/passwd"} },
		func(c *lvm.CreateVolume) { c.Devices = []string{"/dev/a:0-3,b"} },
		func(c *lvm.CreateVolume) { c.Layout = lvm.Layout{Type: "thin"} },
		func(c *lvm.CreateVolume) { c.Layout = lvm.Layout{Type: lvm.TypeStriped, Stripes: 1} },
		func(c *lvm.CreateVolume) { c.Layout = lvm.Layout{Stripes: 2} },
	} {
		spoilt := valid
		spoil(&spoilt)
		wantError(t, s.host.CreateVolume(ctx, spoilt), lvm.ErrInvalid)
	}
	wantError(t, s.host.RemoveVolume(ctx, s.Group, "data", `" || lv_name!="`), lvm.ErrInvalid)
	wantError(t, s.host.ExtendVolume(ctx, s.Group, "data", 0), lvm.ErrInvalid)
	wantError(t, s.host.ChangeTags(ctx, s.Group, "data", nil, []string{"-a"}), lvm.ErrInvalid)
	if total := s.counter.Total(); total != 0 {
		t.Errorf("%d processes were started: %v", total, s.counter.Runs())
	}
}
