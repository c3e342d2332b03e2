package provision_test

import (
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// dies tries step with a death at every point of it, on nodes that prepare has made
// ready, and wants there to be so many points. Check repeats, on the node whose process
// was started anew, and checks.
func dies(t *testing.T, points int, prepare func(*testing.T, *provisiontest.Node), step func(*provisiontest.Node) error, check func(*testing.T, *provisiontest.Node)) {
	t.Helper()
	crash := provisiontest.Crash{
		Node:    func(t testing.TB) *provisiontest.Node { return node(t) },
		Prepare: prepare, Step: step, Check: check,
	}
	if got := crash.Everywhere(t); got != points {
		t.Errorf("%d points to die at, want %d", got, points)
	}
}

func wantNoState(t *testing.T, v lvm.Volume) {
	t.Helper()
	for _, tag := range v.Tags {
		if strings.HasPrefix(tag, "open-local.state") {
			t.Errorf("volume %s still has the tag %s", v.Name, tag)
		}
	}
}

func TestARepeatedCreateFinishesWhereverTheFirstDied(t *testing.T) {
	for name, test := range map[string]struct {
		spec   provision.Spec
		points int
	}{
		"a volume for a file system":            {spec(), 4},
		"a block volume":                        {spec(block), 7},
		"a volume where this node chooses":      {spec(anywhere), 6},
		"a block volume where this node does":   {spec(anywhere, block), 9},
		"a volume that was decided on anew":     {spec(in("slow")), 4},
		"a volume that only this group will do": {spec(onlyIn("slow")), 6},
	} {
		t.Run(name, func(t *testing.T) {
			dies(t, test.points, nil,
				func(n *provisiontest.Node) error { _, err := n.Ensure(t.Context(), test.spec); return err },
				func(t *testing.T, n *provisiontest.Node) {
					again := test.spec
					if again.OnlyGroup == "" {
						again.Group = "fast" // whatever was said before
					}
					got := mustEnsure(t, n, again)
					wantVolumes(t, n, got.Group+"/"+id)
					if test.spec.Block && !n.Devices.Zeroed(lvm.DevicePath(got.Group, id)) {
						t.Error("the volume shows what former tenants left")
					}
					wantNoState(t, n.Volume(got.Group, id))
					if content, err := n.Devices.Read(lvm.DevicePath(got.Group, id)); err != nil || content == provisiontest.Former && !test.spec.Block {
						t.Errorf("the volume begins with %q (%v)", content, err)
					}
					if err := n.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.LVM, Group: got.Group}); err != nil {
						t.Fatal(err)
					}
					wantVolumes(t, n)
				})
		})
	}
}

func TestARepeatedDeleteFinishesWhereverTheFirstDied(t *testing.T) {
	for name, test := range map[string]struct {
		tags     []string
		requests int64 // into which discarding is divided
		points   int
	}{
		"a tagged volume": {[]string{volume.IDTag(id)}, 1, 3},
		// It is looked at, discarded, and removed.
		"a volume that the disk takes long to discard": {[]string{volume.IDTag(id)}, 1000, 6},
		// It is tried with the tag, looked at twice, and removed without.
		"a volume of the first open-local": {nil, 1, 10},
	} {
		t.Run(name, func(t *testing.T) {
			remove := func(n *provisiontest.Node) error {
				return n.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.LVM, Group: "fast", Proven: true})
			}
			dies(t, test.points, func(t *testing.T, n *provisiontest.Node) {
				n.Devices.Requests = test.requests
				if err := n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: id, Size: 8 * mib, Tags: test.tags}); err != nil {
					t.Fatal(err)
				}
			}, remove, func(t *testing.T, n *provisiontest.Node) {
				if err := remove(n); err != nil {
					t.Fatal(err)
				}
				wantVolumes(t, n)
			})
		})
	}
}
