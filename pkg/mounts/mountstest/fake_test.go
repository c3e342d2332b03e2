package mountstest

import (
	"errors"
	"testing"
)

func TestTheFakePassesTheExamination(t *testing.T) {
	Examine(t, func(*testing.T) Subject {
		f := NewFake("/kubelet")
		f.AddDevice("/dev/share/a", "")
		f.AddDevice("/dev/share/b", "")
		return Subject{
			Formatter: f, Mounter: f, Looker: f,
			Devices: [2]string{"/dev/share/a", "/dev/share/b"}, Dir: "/kubelet", FSType: "ext4",
		}
	})
}

func TestTheFakeGrows(t *testing.T) {
	f := NewFake("/kubelet")
	f.AddDevice("/dev/share/a", "")
	f.SetSize("/dev/share/a", 100)
	s := Subject{Formatter: f, Mounter: f, Looker: f, Devices: [2]string{"/dev/share/a"}, Dir: "/kubelet", FSType: "ext4"}
	ExamineGrowth(t, s, func() { f.SetSize("/dev/share/a", 200) }, f.Filled)
	if err := f.Grow(t.Context(), "/dev/share/a", "/kubelet/staged", "ext4"); err == nil {
		t.Error("what is not mounted was grown")
	}
}

func TestAFailureBeforeAVerbChangesNothing(t *testing.T) {
	f, failure := NewFake("/kubelet"), errors.New("no more memory")
	f.AddDevice("/dev/share/a", "ext4")
	f.Before = func(string) error { return failure }
	wantError(t, f.Mount(t.Context(), "/dev/share/a", "/kubelet/a", "ext4", nil), failure)
	if targets := f.Targets(); targets != nil {
		t.Errorf("mounted at %q", targets)
	}
}
