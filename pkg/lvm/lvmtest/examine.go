package lvmtest

import (
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
	// Overwrite writes so many bytes to the beginning of a volume of the group.
	Overwrite func(t *testing.T, name string, size capacity.Bytes)
	// Write tries to write to a volume. It is nil where nothing can be written.
	Write func(t *testing.T, name string) error
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
		"a snapshot is reported as it was asked for":                         createdSnapshot,
		"a snapshot gets no more space than it can need":                     snapshotSpace,
		"a snapshot without room fails and changes nothing":                  snapshotWithoutRoom,
		"a snapshot that ran full is lost and no other":                      fullSnapshot,
		"a snapshot of ours is removed and nothing else":                     removeSnapshot,
		"what carries a tag and has no snapshots is removed at once":         removeUnused,
		"a snapshot that only shows grows and is not written to":             readOnlySnapshot,
		"a volume grows and never shrinks":                                   extend,
		"a volume that cannot grow stays as it is":                           extendTooFar,
		"a volume with snapshots grows only while it is not active":          extendOrigin,
		"a striped volume keeps its stripes and grows on as many disks":      extendStripes,
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
