package provision_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// limited has the limits of a StorageClass.
func limited(s *provision.Spec) {
	s.Tags = append(slices.Clone(s.Tags), volume.LimitTags(volume.Limits{BPS: 1 << 20, IOPS: 1024})...)
}

// change asks for limits; a value below zero leaves one as it is.
func change(bps, iops int64) provision.Modification {
	m := provision.Modification{ID: id, Kind: volume.LVM, Group: "fast"}
	if bps >= 0 {
		m.BPS = &bps
	}
	if iops >= 0 {
		m.IOPS = &iops
	}
	return m
}

// wantLimits checks what the tags on the disk keep, and what is remembered of them.
func wantLimits(t *testing.T, n *provisiontest.Node, want volume.Limits) {
	t.Helper()
	asked := volume.Limits{BPS: 9, IOPS: 9}
	if diff := cmp.Diff(want, volume.KeptLimits(n.Volume("fast", id).Tags).Of(asked)); diff != "" {
		t.Errorf("limits on disk (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, n.Standing.Limits(id).Of(asked)); diff != "" {
		t.Errorf("limits remembered (-want +got):\n%s", diff)
	}
}

func TestLimitsChange(t *testing.T) {
	for name, tc := range map[string]struct {
		m    provision.Modification
		want volume.Limits
		runs map[string]int
	}{
		"one of them":             {change(4<<20, -1), volume.Limits{BPS: 4 << 20, IOPS: 1024}, map[string]int{"lvm lvchange": 1}},
		"both, one is taken off":  {change(0, 7), volume.Limits{IOPS: 7}, map[string]int{"lvm lvchange": 1}},
		"both are taken off":      {change(0, 0), volume.Limits{}, map[string]int{"lvm lvchange": 1}},
		"to what they are":        {change(1<<20, 1024), volume.Limits{BPS: 1 << 20, IOPS: 1024}, map[string]int{}},
		"nothing is asked at all": {change(-1, -1), volume.Limits{BPS: 1 << 20, IOPS: 1024}, map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			mustEnsure(t, n, spec(limited))
			n.Counter.Reset()
			if err := n.Modify(t.Context(), tc.m); err != nil {
				t.Fatal(err)
			}
			wantRuns(t, n, tc.runs)
			wantLimits(t, n, tc.want)
			if err := n.Modify(t.Context(), tc.m); err != nil {
				t.Fatal(err)
			}
			wantRuns(t, n, map[string]int{})

			n.Restart()
			wantLimits(t, n, tc.want)
			if err := n.Modify(t.Context(), change(5, 6)); err != nil {
				t.Fatal(err)
			}
			wantLimits(t, n, volume.Limits{BPS: 5, IOPS: 6})
		})
	}
}

func TestAVolumeWithoutLimitsGetsThem(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	if err := n.Modify(t.Context(), change(-1, 50)); err != nil {
		t.Fatal(err)
	}
	wantLimits(t, n, volume.Limits{BPS: 9, IOPS: 50}) // of what is not kept, what was asked counts
	mustEnsure(t, n, spec())
	wantLimits(t, n, volume.Limits{BPS: 9, IOPS: 50})
}

func TestOnlyTheVolumeItselfIsChanged(t *testing.T) {
	for name, tc := range map[string]struct {
		tags   []string // of a volume of that name; nil for no such volume
		m      provision.Modification
		proven bool
		want   error
	}{
		"no such volume":                       {nil, change(1, 1), true, lvm.ErrVolumeNotFound},
		"another's volume":                     {[]string{volume.IDTag("another")}, change(1, 1), true, lvm.ErrNotOurs},
		"a volume without tags":                {[]string{}, change(1, 1), false, lvm.ErrNotOurs},
		"one of the first open-local":          {[]string{}, change(1, 1), true, nil},
		"one that is ours and has lost its id": {[]string{"open-local.driver=x"}, change(1, 1), true, lvm.ErrNotOurs},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			if tc.tags != nil {
				if err := n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: id, Size: 8 * mib, Tags: tc.tags}); err != nil {
					t.Fatal(err)
				}
			}
			for _, when := range []string{"unseen", "seen when the process began"} {
				tc.m.Proven = tc.proven
				if err := n.Modify(t.Context(), tc.m); !errors.Is(err, tc.want) {
					t.Errorf("%s: got %v, want %v", when, err, tc.want)
				}
				if tc.tags != nil && tc.want != nil {
					if diff := cmp.Diff(tc.tags, n.Volume("fast", id).Tags); diff != "" && len(tc.tags) > 0 {
						t.Errorf("%s: tags (-want +got):\n%s", when, diff)
					}
				}
				n.Restart()
			}
			if tc.want == nil {
				wantLimits(t, n, volume.Limits{BPS: 1, IOPS: 1})
				if got, _ := volume.IDFromTags(n.Volume("fast", id).Tags); got != id {
					t.Errorf("the volume carries some of our tags and its id is %q", got)
				}
			}
		})
	}
}

func TestALimitBelowZeroIsRefused(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	below := int64(-1)
	m := change(-1, -1)
	m.BPS = &below
	if err := n.Modify(t.Context(), m); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestARepeatedChangeFinishesWhereverTheFirstDied(t *testing.T) {
	dies(t, 2, func(t *testing.T, n *provisiontest.Node) { mustEnsure(t, n, spec(limited)) },
		func(n *provisiontest.Node) error { return n.Modify(t.Context(), change(0, 7)) },
		func(t *testing.T, n *provisiontest.Node) {
			if err := n.Modify(t.Context(), change(0, 7)); err != nil {
				t.Fatal(err)
			}
			wantLimits(t, n, volume.Limits{IOPS: 7})
		})
}

func TestWhatStandsIsRemembered(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec(limited))
	for _, when := range []string{"made by this process", "seen when the process began"} {
		if namespace, name, ok := n.Standing.Claim(id); !ok || namespace != "a" || name != "b" {
			t.Errorf("%s: the claim is %q/%q, %t", when, namespace, name, ok)
		}
		n.Restart()
	}
	open := n.Open("fast", id)
	n.Restart()
	if diff := cmp.Diff(map[string]string{id: lvm.DevicePath("fast", id)}, n.Standing.Open()); diff != "" {
		t.Errorf("volumes in use (-want +got):\n%s", diff)
	}
	open()
	if err := n.Remove(t.Context(), removal()); err != nil {
		t.Fatal(err)
	}
	if _, known := n.Standing.Volume(id); known {
		t.Error("a volume that is gone is remembered")
	}
}
