package iolimit

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/volume"
)

// host has devices, by their paths, and what is kept with volumes.
type host struct {
	devices map[string]uint64
	kept    map[string]volume.LimitChange
	changed chan struct{}
}

func (h host) Look(path string) (devfile.File, error) {
	device, there := h.devices[path]
	if !there {
		return devfile.File{}, fs.ErrNotExist
	}
	return devfile.File{Device: device}, nil
}

func (h host) Limits(id string) volume.LimitChange { return h.kept[id] }

func (h host) Changed() <-chan struct{} { return h.changed }

// keeping is a Keeper over cgroups as the kernel shows them, with what they look like.
type keeping struct {
	*Keeper
	host host
	root Root
	t    *testing.T
}

func keep(t *testing.T) keeping {
	t.Helper()
	h := host{
		devices: map[string]uint64{"/dev/a": unix.Mkdev(253, 1), "/dev/b": unix.Mkdev(253, 300)},
		kept:    map[string]volume.LimitChange{}, changed: make(chan struct{}, 1),
	}
	r := tree(t, map[string]string{"cgroup.controllers": controllers, "kubepods/io.max": ""})
	return keeping{NewKeeper(r, h, h), h, r, t}
}

// kernel makes of what was written what the kernel would show: a directory's file keeps
// only the last write.
func (k keeping) kernel(lines string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(string(k.root), "kubepods/io.max"), []byte(lines), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// wantWritten checks what was written since the last call, and hides it.
func (k keeping) wantWritten(want string) {
	k.t.Helper()
	if diff := cmp.Diff(want, content(k.t, k.root, "kubepods/io.max")); diff != "" {
		k.t.Errorf("written (-want +got):\n%s", diff)
	}
	k.kernel("")
}

func (k keeping) use(id, path string, asked volume.Limits) {
	k.t.Helper()
	if err := k.Use(k.t.Context(), id, path, asked); err != nil {
		k.t.Fatal(err)
	}
}

func (k keeping) look() {
	k.t.Helper()
	if err := k.Look(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
}

func limit(value int64) *int64 { return &value }

func TestAVolumeInUseIsHeldToItsLimits(t *testing.T) {
	k := keep(t)
	k.use("a", "/dev/a", volume.Limits{BPS: 5})
	k.wantWritten("253:1 rbps=5 wbps=5 riops=max wiops=max")
	k.look() // the cgroup was made anew
	k.wantWritten("253:1 rbps=5 wbps=5 riops=max wiops=max")
	k.host.devices["/dev/a"] = unix.Mkdev(253, 77)
	k.look()
	k.wantWritten("253:77 rbps=5 wbps=5 riops=max wiops=max")
	k.kernel("253:77 rbps=5 wbps=5 riops=max wiops=max\n")
	if err := k.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	k.wantWritten("253:77 rbps=max wbps=max riops=max wiops=max")
	k.look()
	k.wantWritten("")
}

func TestWhatIsKeptWithAVolumeWinsOverWhatWasAsked(t *testing.T) {
	k := keep(t)
	k.use("a", "/dev/a", volume.Limits{BPS: 5, IOPS: 6})
	k.wantWritten("253:1 rbps=5 wbps=5 riops=6 wiops=6")
	k.host.kept["a"] = volume.LimitChange{IOPS: limit(0), BPS: limit(9)}
	k.look()
	k.wantWritten("253:1 rbps=9 wbps=9 riops=max wiops=max")
	k.use("a", "/dev/a", volume.Limits{BPS: 5, IOPS: 6})
	k.wantWritten("253:1 rbps=9 wbps=9 riops=max wiops=max")
}

func TestVolumesInUseBeforeThisProcessAreHeldToo(t *testing.T) {
	k := keep(t)
	k.host.kept["b"] = volume.LimitChange{BPS: limit(9)}
	k.Resume(map[string]string{"b": "/dev/b", "gone": "/dev/gone"})
	k.look()
	k.wantWritten("253:300 rbps=9 wbps=9 riops=max wiops=max")
}

func TestResumingForgetsNothing(t *testing.T) {
	k := keep(t)
	k.use("a", "/dev/a", volume.Limits{BPS: 5})
	k.Resume(map[string]string{"a": "/dev/a"})
	k.kernel("")
	k.look()
	k.wantWritten("253:1 rbps=5 wbps=5 riops=max wiops=max")
}

func TestWhatAFormerProcessDidIsTakenOver(t *testing.T) {
	const nine, other, none = "253:1 rbps=9 wbps=9 riops=max wiops=max", "253:1 rbps=5 wbps=6 riops=max wiops=7", "253:1 rbps=max wbps=max riops=max wiops=max"
	kept := volume.LimitChange{BPS: limit(9)}
	used, idle := Found{Used: map[string]string{"a": "/dev/a"}}, Found{Idle: map[string]string{"a": "/dev/a"}}
	for name, tc := range map[string]struct {
		kept         volume.LimitChange
		before       string
		found        Found
		begun        func(k keeping) // before it was taken over
		looked, anew string          // what was written then, and when the cgroup was made anew
	}{
		"a volume in use whose limits are gone":             {kept: kept, found: used, looked: nine, anew: nine},
		"a volume in use that is held as it should be":      {kept: kept, before: nine, found: used, looked: nine, anew: nine},
		"a volume in use that is held otherwise":            {kept: kept, before: other, found: used, looked: nine, anew: nine},
		"a volume in use with which no limits are kept":     {before: other, found: used, looked: "253:1 rbps=5 wbps=5 riops=7 wiops=7", anew: "253:1 rbps=5 wbps=5 riops=7 wiops=7"},
		"a volume in use with which it is kept that none":   {kept: volume.LimitChange{BPS: limit(0)}, before: nine, found: used, looked: none},
		"a volume in use that never had limits":             {found: used},
		"an idle volume with limits that nobody ever used":  {kept: kept, found: idle},
		"an idle volume on which limits were left":          {kept: kept, before: nine, found: idle, looked: none},
		"an idle volume that has no device":                 {kept: kept, before: nine, found: Found{Idle: map[string]string{"a": "/dev/gone"}}, looked: nine},
		"a volume whose use began before":                   {found: idle, begun: func(k keeping) { k.use("a", "/dev/a", volume.Limits{BPS: 9}) }, looked: nine, anew: nine},
		"an idle volume on a device that another has begun": {found: idle, begun: func(k keeping) { k.use("b", "/dev/a", volume.Limits{BPS: 9}) }, looked: nine, anew: nine},
	} {
		t.Run(name, func(t *testing.T) {
			k := keep(t)
			k.host.kept["a"] = tc.kept
			if tc.begun != nil {
				tc.begun(k)
			} else {
				k.kernel(tc.before)
			}
			if err := k.TakeOver(func(map[uint64]Line) (Found, error) { return tc.found, nil }); err != nil {
				t.Fatal(err)
			}
			k.look()
			k.wantWritten(tc.looked)
			k.look()
			k.wantWritten(tc.anew)
		})
	}
}

func TestNoUseEndsWhileItIsFound(t *testing.T) {
	k := keep(t)
	k.host.kept["a"] = volume.LimitChange{BPS: limit(9)}
	ended := make(chan error)
	if err := k.TakeOver(func(map[uint64]Line) (Found, error) {
		go func() { ended <- k.Release(t.Context(), "a") }()
		return Found{Used: map[string]string{"a": "/dev/a"}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	k.look()
	k.wantWritten("")
}

func TestANodeWithoutLimitsIsTakenOver(t *testing.T) {
	h := host{devices: map[string]uint64{"/dev/a": 1}}
	k := NewKeeper(tree(t, nil), h, h)
	if err := k.TakeOver(func(map[uint64]Line) (Found, error) { return Found{Idle: map[string]string{"a": "/dev/a"}}, nil }); err != nil {
		t.Error(err)
	}
	if err := k.Look(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAUseThatHasEndedLeavesNoLimit(t *testing.T) {
	const held, none = "253:300 rbps=9 wbps=9 riops=max wiops=max", "253:300 rbps=max wbps=max riops=max wiops=max"
	for name, again := range map[string]func(k keeping) error{
		"when it is ended again":   func(k keeping) error { return k.Release(k.t.Context(), "b") },
		"when it is looked after":  func(k keeping) error { return k.Look(k.t.Context()) },
		"when it has never failed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			k := keep(t)
			k.host.kept["b"] = volume.LimitChange{BPS: limit(9)}
			k.Resume(map[string]string{"b": "/dev/b"}) // nobody has looked at it yet
			if again != nil {
				k.kernel("what no kernel writes")
				if err := k.Release(t.Context(), "b"); err == nil {
					t.Fatal("there is no error")
				}
			}
			k.kernel(held)
			if again == nil {
				again = func(k keeping) error { return k.Release(k.t.Context(), "b") }
			}
			if err := again(k); err != nil {
				t.Fatal(err)
			}
			k.wantWritten(none)
			k.look()
			k.wantWritten("")
		})
	}
}

func TestVolumesThatShowOneDeviceShareTheTightestLimits(t *testing.T) {
	k := keep(t)
	k.use("a", "/dev/a", volume.Limits{BPS: 5, IOPS: 70})
	k.use("b", "/dev/a", volume.Limits{BPS: 50, IOPS: 7})
	k.wantWritten("253:1 rbps=5 wbps=5 riops=7 wiops=7")
	k.use("c", "/dev/a", volume.Limits{})
	k.wantWritten("253:1 rbps=5 wbps=5 riops=7 wiops=7")
	k.kernel("253:1 rbps=5 wbps=5 riops=7 wiops=7\n")
	if err := k.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	k.wantWritten("253:1 rbps=50 wbps=50 riops=7 wiops=7")
}

func TestANodeThatCannotLimitMindsOnlyLimits(t *testing.T) {
	h := host{devices: map[string]uint64{"/dev/a": 1}}
	k := NewKeeper(tree(t, nil), h, h)
	if err := k.Use(t.Context(), "a", "/dev/a", volume.Limits{}); err != nil {
		t.Errorf("without a limit: %v", err)
	}
	if err := k.Use(t.Context(), "a", "/dev/a", volume.Limits{BPS: 1}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("with a limit: %v, want ErrUnsupported", err)
	}
	if err := k.Release(t.Context(), "a"); err != nil {
		t.Errorf("released: %v", err)
	}
}

func TestTheLoopLooksSoOftenAndWhenTheBookChanged(t *testing.T) {
	k := keep(t)
	clock := testingclock.NewFakeClock(time.Unix(0, 0))
	k.Resume(map[string]string{"a": "/dev/a"})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	looks := make(chan struct{})
	k.files = looking{k.host, looks}
	go func() { defer close(ended); k.Run(ctx, clock, 5*time.Second) }()
	<-looks
	k.host.changed <- struct{}{}
	<-looks
	clock.Step(5 * time.Second)
	<-looks
	stop()
	<-ended
}

// looking tells of every look.
type looking struct {
	host
	looks chan struct{}
}

func (l looking) Look(path string) (devfile.File, error) {
	l.looks <- struct{}{}
	return l.host.Look(path)
}
