//go:build !root

package driver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
)

// manyNodes are nodes of which reports say that they have so much of 100Gi free. Those
// that are full have been filled since.
type manyNodes struct {
	free    map[string]capacity.Bytes
	trouble string
	full    []string
	asked   []string
}

func (n *manyNodes) Names() []string { return slices.Sorted(maps.Keys(n.free)) }

func (n *manyNodes) Capacity(name string) (capacity.Node, bool) {
	free, known := n.free[name]
	return capacity.Node{Name: name, Groups: []capacity.Group{{
		Name: "pool", Size: 100 * capacity.GiB, Free: free, Extent: capacity.DefaultExtent, Trouble: n.trouble,
	}}}, known
}

func (n *manyNodes) Connect(name string) (driver.RemoteNode, error) {
	return oneOfMany{nodes: n, name: name}, nil
}

type oneOfMany struct {
	driver.RemoteNode
	nodes *manyNodes
	name  string
}

func (n oneOfMany) Ensure(_ context.Context, spec provision.Spec) (provision.Volume, error) {
	n.nodes.asked = append(n.nodes.asked, n.name)
	if slices.Contains(n.nodes.full, n.name) {
		return provision.Volume{}, fmt.Errorf("volume group pool: %w", lvm.ErrNoSpace)
	}
	return provision.Volume{ID: spec.ID, Group: "pool", Size: spec.Size}, nil
}

func (n oneOfMany) Grow(context.Context, provision.Growth) (capacity.Bytes, error) {
	return 0, lvm.ErrPartial
}

func TestAGroupInTroubleIsNotSaidToBeFull(t *testing.T) {
	b := newBed(t)
	if _, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(64*mib), nil)); err != nil {
		t.Fatal(err)
	}
	nodes := &manyNodes{free: map[string]capacity.Bytes{nodeName: 0}, trouble: "DiskFault"}
	c := driver.NewController(driver.ControllerOptions{Directory: b.directory, Nodes: nodes})
	if _, err := c.ControllerExpandVolume(t.Context(), expandRequest("ext4", 512*mib)); !errors.Is(err, lvm.ErrPartial) {
		t.Errorf("got %v, want what the node says", err)
	}
}

func TestAClaimThatBindsAtOnceGoesWhereRoomIs(t *testing.T) {
	const gib = capacity.GiB
	for name, test := range map[string]struct {
		nodes  manyNodes
		prefer allocator.Preference
		asked  []string
		code   codes.Code
	}{
		"binpack takes the fullest that has room": {
			nodes:  manyNodes{free: map[string]capacity.Bytes{"a": 90 * gib, "b": 9 * gib, "c": 20 * gib, "d": 60 * gib}},
			prefer: allocator.Binpack, asked: []string{"c"},
		},
		"spread takes the emptiest": {
			nodes:  manyNodes{free: map[string]capacity.Bytes{"a": 60 * gib, "b": 9 * gib, "c": 20 * gib, "d": 90 * gib}},
			prefer: allocator.Spread, asked: []string{"d"},
		},
		"the next is tried when one has filled up since": {
			nodes:  manyNodes{free: map[string]capacity.Bytes{"a": 90 * gib, "b": 60 * gib, "c": 20 * gib}, full: []string{"c", "b"}},
			prefer: allocator.Binpack, asked: []string{"c", "b", "a"},
		},
		"none has room": {
			nodes:  manyNodes{free: map[string]capacity.Bytes{"a": 9 * gib, "b": 5 * gib}},
			prefer: allocator.Binpack, code: codes.ResourceExhausted,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			c := driver.NewController(driver.ControllerOptions{Directory: b.directory, Nodes: &test.nodes, Prefer: test.prefer})
			req := claim(id, "ext4", int64(10*gib), nil)
			req.AccessibilityRequirements = nil
			resp, err := c.CreateVolume(t.Context(), req)
			if diff := cmp.Diff(test.asked, test.nodes.asked); diff != "" {
				t.Errorf("nodes asked (-want +got):\n%s", diff)
			}
			if (err != nil) != (test.code != codes.OK) {
				t.Fatalf("got %v and %v", resp, err)
			}
			if err == nil && resp.GetVolume().GetAccessibleTopology()[0].GetSegments()["kubernetes.io/hostname"] != test.asked[len(test.asked)-1] {
				t.Errorf("it is said to lie on %v", resp.GetVolume().GetAccessibleTopology())
			}
		})
	}
}

func TestARetainedVolumeStaysUntilSomebodyDeletesIt(t *testing.T) {
	b := newBed(t)
	if _, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(64*mib), nil)); err != nil {
		t.Fatal(err)
	}
	b.stage(t, "ext4")
	b.publish(t, "ext4")
	// The claim goes. With Retain nobody calls but the kubelet, and the report goes on.
	for _, target := range []string{b.target, b.staging} {
		if err := b.host.Unmount(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	b.report()
	if place, err := b.directory.Find(id); err != nil || place.Group != "pool" || place.Size != 64*mib {
		t.Errorf("it is at %+v, %v", place, err)
	}
	if diff := cmp.Diff([]string{"pool/" + id}, b.host.node.Volumes()); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	// A new claim may have it, with what is in it, and grow it.
	b.host.processes()
	b.stage(t, "ext4")
	if diff := cmp.Diff(map[string]int{"blkid": 1, "mount": 1}, b.host.processes()); diff != "" {
		t.Errorf("processes of staging what holds data (-want +got):\n%s", diff)
	}
	if _, err := b.controller.ControllerExpandVolume(t.Context(), expandRequest("ext4", 128*mib)); err != nil {
		t.Error(err)
	}
}
