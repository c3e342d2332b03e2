package lvmtest

import (
	"errors"
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
)

func TestTheFakePassesTheExamination(t *testing.T) {
	Examine(t, func(t *testing.T, size capacity.Bytes) Subject {
		f := NewFake()
		f.AddDisk("/dev/a", size/2+metadata)
		f.AddDisk("/dev/b", size/2+metadata)
		noError(t, f.Host().CreateGroup(t.Context(), "share", []string{"/dev/a", "/dev/b"}))
		return Subject{
			Runner: f, Group: "share",
			Open:      func(_ *testing.T, name string) func() { return f.Open("share", name) },
			Overwrite: func(_ *testing.T, name string, size capacity.Bytes) { f.Overwrite("share", name, size) },
		}
	})
}

func TestTheFakePassesTheExaminationOfLoss(t *testing.T) {
	f := NewFake()
	f.AddDisk("/dev/a", 33*mib)
	f.AddDisk("/dev/b", 33*mib)
	noError(t, f.Host().CreateGroup(t.Context(), "share", []string{"/dev/a", "/dev/b"}))
	ExamineLoss(t, Subject{Runner: f, Group: "share"}, "/dev/b", func() { f.Lose("/dev/b") })
}

func TestTheFakePassesTheExaminationOfGrowth(t *testing.T) {
	f := NewFake()
	f.AddDisk("/dev/a", 33*mib)
	f.AddDisk("/dev/b", 33*mib)
	noError(t, f.Host().CreateGroup(t.Context(), "share", []string{"/dev/a", "/dev/b"}))
	f.GrowDisk("/dev/b", 66*mib)
	ExamineGrowth(t, Subject{Runner: f, Group: "share"}, "/dev/b", 32*mib)
}

func TestACrashBeforeACommandChangesNothingAndOneAfterItEverything(t *testing.T) {
	crash := errors.New("power cut")
	for name, tc := range map[string]struct {
		set  func(*Fake, func(string) error)
		want error
	}{
		"before": {func(f *Fake, hook func(string) error) { f.Before = hook }, lvm.ErrVolumeNotFound},
		"after":  {func(f *Fake, hook func(string) error) { f.After = hook }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := NewFake()
			f.AddGroup("share", "/dev/a", 64*mib)
			var seen []string
			tc.set(f, func(command string) error {
				seen = append(seen, command)
				return crash
			})
			err := f.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "share", Name: "data", Size: mib})
			wantError(t, err, crash)
			if len(seen) != 1 {
				t.Errorf("the hook saw %q", seen)
			}
			_, err = f.Host().Volume(t.Context(), "share", "data")
			if !errors.Is(err, tc.want) {
				t.Errorf("looking afterwards: got %v, want %v", err, tc.want)
			}
		})
	}
}
