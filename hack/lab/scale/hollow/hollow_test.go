package hollow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/peer"
	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

const gib = capacity.GiB

// calling is a call that came to the address of the node.
func calling(t *testing.T, n *Node) context.Context {
	t.Helper()
	return peer.NewContext(t.Context(), &peer.Peer{LocalAddr: &net.TCPAddr{IP: n.Address().AsSlice(), Port: 1736}})
}

func TestANodeTakesWhatFitsAndNoMore(t *testing.T) {
	f := NewFleet(Shape{Nodes: 300, Groups: 2, Standing: 3, Size: gib, Room: 2 * gib})
	node := f.nodes[299]
	ctx := calling(t, node)
	for _, step := range []struct {
		do     string
		spec   provision.Spec
		group  string
		refuse error
	}{
		{"a volume in the group that was decided on", provision.Spec{ID: "a", Group: "open-local-pool-1", Size: gib}, "open-local-pool-1", nil},
		{"the same again", provision.Spec{ID: "a", Group: "open-local-pool-1", Size: gib}, "open-local-pool-1", nil},
		{"the same, asked for in another group", provision.Spec{ID: "a", Group: "open-local-pool-0", Size: gib}, "open-local-pool-1", nil},
		{"the same, larger", provision.Spec{ID: "a", Size: 2 * gib}, "", provision.ErrConflict},
		{"one that the node places, in the fuller group", provision.Spec{ID: "b", Size: gib}, "open-local-pool-1", nil},
		{"one more than the group has", provision.Spec{ID: "c", Group: "open-local-pool-1", Size: 1}, "", lvm.ErrNoSpace},
		{"one that takes a whole extent", provision.Spec{ID: "d", Size: 2*gib - Extent + 1}, "open-local-pool-0", nil},
		{"one where nothing is left", provision.Spec{ID: "e", Size: 1}, "", lvm.ErrNoSpace},
		{"one in a group that is not there", provision.Spec{ID: "f", Group: "other", Size: 1}, "", provision.ErrUnmanaged},
	} {
		got, err := f.Ensure(ctx, step.spec)
		if !errors.Is(err, step.refuse) || got.Group != step.group {
			t.Errorf("%s: got %q, %v, want %q, %v", step.do, got.Group, err, step.group, step.refuse)
		}
	}
	if diff := cmp.Diff(Counts{Made: 3, Refused: 4}, f.Counts()); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	if err := errors.Join(f.Remove(ctx, provision.Removal{ID: "d"}), f.Remove(ctx, provision.Removal{ID: "d"})); err != nil {
		t.Error(err)
	}
	largest, left, _ := f.Largest(node.Name)
	if largest != 2*gib || left != 2*gib || f.Counts().Removed != 1 {
		t.Errorf("after one was removed: largest %s, left %s, removed %d", largest, left, f.Counts().Removed)
	}
	if got, want := f.Volumes(), 300*3+2; got != want {
		t.Errorf("%d volumes, want %d", got, want)
	}
}

func TestAReportShowsWhatANodeHas(t *testing.T) {
	f := NewFleet(Shape{Nodes: 1, Groups: 2, Standing: 3, Size: gib, Room: 2 * gib})
	status := f.nodes[0].Status()
	got := ""
	for _, g := range status.NodeStorageInfo.VolumeGroups {
		got += fmt.Sprintf("%s: %d of %d, %d volumes\n", g.Name, g.Available>>30, g.Allocatable>>30, len(g.LogicalVolumes))
	}
	if diff := cmp.Diff("open-local-pool-0: 2 of 4, 2 volumes\nopen-local-pool-1: 2 of 3, 1 volumes\n", got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	o := f.Objects(0, volume.DefaultDriver, "class", "ns")
	if len(o.Volumes) != 3 || len(o.Claims) != 3 {
		t.Fatalf("%d volumes and %d claims", len(o.Volumes), len(o.Claims))
	}
	for i, pv := range o.Volumes {
		if ref := pv.Spec.ClaimRef; ref.UID != o.Claims[i].UID || ref.Name != o.Claims[i].Name || pv.Name != volume.ForClaim("local", string(ref.UID)) || o.Claims[i].Spec.VolumeName != pv.Name {
			t.Errorf("volume %s and claim %s do not belong together: %+v", pv.Name, o.Claims[i].Name, ref)
		}
	}
}

func TestWhatWasPromisedIsJudgedByWhatNodesHold(t *testing.T) {
	for name, test := range map[string]struct {
		change func(f *Fleet, volumes []corev1.PersistentVolume) []corev1.PersistentVolume
		want   Verdict
	}{
		"all is well": {func(_ *Fleet, v []corev1.PersistentVolume) []corev1.PersistentVolume { return v }, Verdict{}},
		"a volume without a PersistentVolume": {func(_ *Fleet, v []corev1.PersistentVolume) []corev1.PersistentVolume { return v[1:] }, Verdict{
			Leaked: []string{standingID(0, 0, 0) + " of hollow-00000/open-local-pool-0"},
		}},
		"a PersistentVolume without a volume": {func(f *Fleet, v []corev1.PersistentVolume) []corev1.PersistentVolume {
			f.nodes[0].remove(v[0].Name)
			return v
		}, Verdict{Lost: []string{standingID(0, 0, 0) + " of hollow-00000/open-local-pool-0"}}},
		"more promised than there is": {func(f *Fleet, v []corev1.PersistentVolume) []corev1.PersistentVolume {
			f.nodes[0].groups[0].size = gib - Extent
			return v
		}, Verdict{OverCommitted: []string{"hollow-00000/open-local-pool-0: 1Gi promised, 1Gi held, has 1020Mi"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := NewFleet(Shape{Nodes: 1, Groups: 1, Standing: 1, Size: gib})
			var volumes []corev1.PersistentVolume
			for _, pv := range f.Objects(0, volume.DefaultDriver, "class", "ns").Volumes {
				volumes = append(volumes, *pv)
			}
			if diff := cmp.Diff(test.want, f.Judge(test.change(f, volumes))); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}
