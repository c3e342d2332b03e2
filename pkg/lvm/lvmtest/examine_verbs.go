package lvmtest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
)

// The checks of Examine that are about volumes and groups that are there, or not.

func notFound(t *testing.T, s *subject) {
	ctx := t.Context()
	verbs := map[string]func(group, name string) error{
		"remove":     func(group, name string) error { return s.host.RemoveVolume(ctx, group, name, "ours") },
		"extend":     func(group, name string) error { return s.host.ExtendVolume(ctx, group, name, mib) },
		"tag":        func(group, name string) error { return s.host.ChangeTags(ctx, group, name, []string{"a"}, nil) },
		"activate":   func(group, name string) error { return s.host.ActivateVolume(ctx, group, name) },
		"deactivate": func(group, name string) error { return s.host.DeactivateVolume(ctx, group, name) },
		"files":      func(group, name string) error { return s.host.MakeDevices(ctx, group, name) },
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

func extendOrigin(t *testing.T, s *subject) {
	s.create(t, "data", 8*mib)
	s.snapshot(t, "data", "snap", 4*mib)
	for _, opened := range []string{"", "data", "snap"} {
		closeVolume := func() {}
		if opened != "" {
			closeVolume = s.Open(t, opened)
		}
		wantError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", 16*mib), lvm.ErrHasSnapshots)
		if opened != "" {
			wantError(t, s.host.DeactivateVolume(t.Context(), s.Group, "data"), lvm.ErrInUse)
		}
		closeVolume()
	}
	noError(t, s.host.DeactivateVolume(t.Context(), s.Group, "data"))
	noError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", 16*mib))
	noError(t, s.host.ActivateVolume(t.Context(), s.Group, "data"))
	if v := s.volume(t, "data"); v.Size != 16*mib || !v.Active {
		t.Errorf("the volume is reported as %+v", v)
	}
	if v := s.volume(t, "snap"); v.Size != 4*mib || !v.Active {
		t.Errorf("the snapshot is reported as %+v", v)
	}
}

func extendStripes(t *testing.T, s *subject) {
	c := lvm.CreateVolume{Group: s.Group, Name: "data", Size: 8 * mib, Layout: lvm.Layout{Type: lvm.TypeStriped, Stripes: 2}}
	noError(t, s.host.CreateVolume(t.Context(), c))
	noError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", 9*mib))
	if v := s.volume(t, "data"); v.Size != 16*mib || v.Stripes != 2 || v.SegType != lvm.TypeStriped {
		t.Errorf("the volume is reported as %+v", v)
	}
	half := s.group(t).PhysicalVolumes[0]
	noError(t, s.host.CreateVolume(t.Context(), lvm.CreateVolume{Group: s.Group, Name: "more", Size: half.Free, Devices: []string{half.Device}}))
	wantError(t, s.host.ExtendVolume(t.Context(), s.Group, "data", 24*mib), lvm.ErrNoSpace)
	s.wantFree(t, 24*mib)
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
	noError(t, s.host.MakeDevices(t.Context(), s.Group, "data")) // that are there already
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
		{"lvm lvchange", func() error { return s.host.DeactivateVolume(ctx, s.Group, "data") }},
		{"lvm lvremove", func() error { return s.host.DiscardVolume(ctx, s.Group, "data", "ours") }},
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
