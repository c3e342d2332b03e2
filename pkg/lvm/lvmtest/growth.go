package lvmtest

import (
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
)

func (f *Fake) pvresize(l line) (string, *failure) {
	d := f.disks[l.positional[0]]
	if d == nil || d.lost || d.pv == nil {
		return "", failed("Cannot use %s: device not found\n  0 physical volume(s) resized or updated / 0 physical volume(s) not resized", l.positional[0])
	}
	total := int64((d.size - metadata).Floor(extent) / extent)
	if total < d.pv.used {
		return "", failed("%s: cannot resize to %d extents as %d are allocated.", d.path, total, d.pv.used)
	}
	if d.pv.group != nil {
		d.pv.total = total
	}
	return "  Physical volume \"" + d.path + "\" changed\n  1 physical volume(s) resized or updated / 0 physical volume(s) not resized\n", nil
}

// ExamineGrowth checks what package lvm must do when a physical volume of a group with
// nothing on it, device, is on a disk that became larger by more.
func ExamineGrowth(t *testing.T, of Subject, device string, more capacity.Bytes) {
	s, ctx := &subject{Subject: of, host: lvm.New(of.Runner)}, t.Context()
	before := s.group(t)
	s.create(t, "data", mib)
	noError(t, s.host.ResizePhysicalVolume(ctx, device))
	if got := s.group(t); got.Size != before.Size+more || got.Free != before.Free+more-extent || len(got.PhysicalVolumes) != len(before.PhysicalVolumes) {
		t.Errorf("the group was %+v and is %+v; want it larger by %s", before, got, more)
	}
	s.volume(t, "data")
	noError(t, s.host.ResizePhysicalVolume(ctx, device)) // nothing to do is no error
	wantError(t, s.host.ResizePhysicalVolume(ctx, "/dev/no-such-disk"), lvm.ErrDeviceNotFound)
	wantError(t, s.host.ResizePhysicalVolume(ctx, "-f"), lvm.ErrInvalid)
}
