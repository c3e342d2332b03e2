package provision_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
)

func striped(s *provision.Spec) { s.Layout = capacity.Striped }

// wide is a node whose group fast has disks of these sizes beside the one of 64 MiB.
func wide(t *testing.T, sizes ...capacity.Bytes) *provisiontest.Node {
	t.Helper()
	n := node(t)
	for i, size := range sizes {
		disk := "/dev/more-" + string(rune('a'+i))
		n.AddDisk(disk, size+mib)
		if err := n.Host().ExtendGroup(t.Context(), "fast", []string{disk}); err != nil {
			t.Fatal(err)
		}
		n.Groups["fast"] += size
	}
	n.Counter.Reset()
	return n
}

func TestAStripedVolumeLiesOnAsManyDisksAsHaveRoom(t *testing.T) {
	for name, test := range map[string]struct {
		disks   []capacity.Bytes // beside one of 64Mi
		spec    provision.Spec
		stripes int
		size    capacity.Bytes
		err     error
		says    string
	}{
		"four alike":                       {disks: []capacity.Bytes{64 * mib, 64 * mib, 64 * mib}, spec: spec(striped, sized(200*mib, 0)), stripes: 4, size: 208 * mib},
		"one is too small":                 {disks: []capacity.Bytes{64 * mib, 64 * mib, 16 * mib}, spec: spec(striped, sized(120*mib, 0)), stripes: 3, size: 120 * mib},
		"two are":                          {disks: []capacity.Bytes{64 * mib, 16 * mib, 16 * mib}, spec: spec(striped, sized(120*mib, 0)), stripes: 2, size: 120 * mib},
		"all but one are":                  {disks: []capacity.Bytes{16 * mib, 16 * mib}, spec: spec(striped, sized(80*mib, 0)), err: lvm.ErrNoSpace, says: "in equal parts on two or more physical volumes; volume group fast has 96Mi free on 3"},
		"there is but one":                 {spec: spec(striped), err: lvm.ErrNoSpace, says: "on 1"},
		"where this node chooses":          {disks: []capacity.Bytes{64 * mib}, spec: spec(striped, anywhere), stripes: 2, size: 8 * mib},
		"where this node finds no group":   {spec: spec(striped, anywhere), err: lvm.ErrNoSpace, says: "two or more disks"},
		"a limit that whole stripes reach": {disks: []capacity.Bytes{64 * mib}, spec: spec(striped, sized(12*mib, 16*mib)), stripes: 2, size: 16 * mib},
		"a limit between two stripes":      {disks: []capacity.Bytes{64 * mib}, spec: spec(striped, sized(12*mib, 12*mib)), err: provision.ErrOutOfRange, says: "in 2 stripes of whole extents it has 16Mi, at most 12Mi"},
	} {
		t.Run(name, func(t *testing.T) {
			n := wide(t, test.disks...)
			got, err := n.Ensure(t.Context(), test.spec)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v does not say %q", err, test.says)
				}
				wantVolumes(t, n)
				return
			}
			have := n.Volume("fast", id)
			if have.Stripes != test.stripes || have.Size != test.size || got.Size != test.size {
				t.Errorf("it has %d stripes and %s, and is said to have %s; want %d and %s", have.Stripes, have.Size, got.Size, test.stripes, test.size)
			}
			if again := mustEnsure(t, n, test.spec); again != got {
				t.Errorf("asked again: %+v, before: %+v", again, got)
			}
		})
	}
}

func TestAStripedVolumeTakesTwoProcesses(t *testing.T) {
	n := wide(t, 64*mib)
	mustEnsure(t, n, spec(striped))
	wantRuns(t, n, map[string]int{"lvm fullreport": 1, "lvm lvcreate": 1})
}

func TestAStripedVolumeGrowsWithItsStripes(t *testing.T) {
	n := wide(t, 64*mib, 64*mib, 64*mib)
	mustEnsure(t, n, spec(striped))
	n.Counter.Reset()
	size, err := n.Grow(t.Context(), growth(100*mib))
	if have := n.Volume("fast", id); err != nil || size != 112*mib || have.Stripes != 4 || have.Size != size {
		t.Errorf("got %s and %v, LVM has %+v", size, err, have)
	}
	wantRuns(t, n, map[string]int{"lvm lvextend": 1})
	if _, err := n.Grow(t.Context(), growth(101*mib, upTo(120*mib))); err != nil {
		t.Errorf("it is larger than that: %v", err)
	}
	if _, err := n.Grow(t.Context(), growth(113*mib, upTo(120*mib))); !errors.Is(err, provision.ErrOutOfRange) || !strings.Contains(err.Error(), "in steps of 16Mi") {
		t.Errorf("got %v, want ErrOutOfRange", err)
	}
	// One disk fills up; the others have more than enough together.
	if err := n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: "foreign", Size: 36 * mib, Devices: []string{"/dev/more-a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Grow(t.Context(), growth(128*mib)); !errors.Is(err, lvm.ErrNoSpace) || !strings.Contains(err.Error(), "wants 16Mi more, 108Mi free in volume group fast") {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	if have := n.Volume("fast", id); have.Size != 112*mib {
		t.Errorf("LVM has %+v", have)
	}
}
