package lvmtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
)

// The checks of Examine that are about making volumes.

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
	if got.UUID == "" || got.KernelMajor <= 0 || got.KernelMinor < 0 || got.Made.IsZero() {
		t.Errorf("a created volume has no identity, no device or was made at no time: %+v", got)
	}
	want := lvm.Volume{
		Name: "data", Group: s.Group, UUID: got.UUID, Size: 8 * mib, Tags: []string{"a", "b"}, Layout: "linear", Role: "public",
		SegType: "linear", Stripes: 1, Attr: "-wi-a-----", Active: true, KernelMajor: got.KernelMajor, KernelMinor: got.KernelMinor,
		Made: got.Made,
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
