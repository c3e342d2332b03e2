//go:build !root

package driver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// cloneOf asks for a copy of the volume.
func cloneOf(source string, size capacity.Bytes) *csi.CreateVolumeRequest {
	req := claim("copy", "block", int64(size), nil)
	req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: source},
	}}
	return req
}

// TestTheSchedulerIsAskedForRoomFirst has a scheduler that has none for what no claim
// waits for. Nothing is done on the node.
func TestTheSchedulerIsAskedForRoomFirst(t *testing.T) {
	grow := func(c csi.ControllerClient) error {
		_, err := c.ControllerExpandVolume(t.Context(), expandRequest("block", 64*mib))
		return err
	}
	shoot := func(c csi.ControllerClient) error {
		_, err := c.CreateSnapshot(t.Context(), shot(snapID, id))
		return err
	}
	clone := func(c csi.ControllerClient) error {
		_, err := c.CreateVolume(t.Context(), cloneOf(id, 32*mib))
		return err
	}
	full, away := fmt.Errorf("vg pool: wants 32Mi, 4Mi free: %w", driver.ErrNoRoom), driver.ErrUndecided
	snapSize := capacity.Bytes(8 * mib)
	cloneRoom := driver.Room{Node: nodeName, Group: "pool", Name: "clone-copy", Size: volume.CloneSpace(32 * mib), New: true}
	for name, test := range map[string]struct {
		do   func(csi.ControllerClient) error
		says error
		code codes.Code
		kept []driver.Room
	}{
		"a volume grows":                        {grow, nil, codes.OK, []driver.Room{{Node: nodeName, Group: "pool", Name: id, Size: 64 * mib}}},
		"a volume has no room to grow":          {grow, full, codes.OutOfRange, []driver.Room{{Node: nodeName, Group: "pool", Name: id, Size: 64 * mib}}},
		"a volume grows, and nobody answers":    {grow, away, codes.Unavailable, []driver.Room{{Node: nodeName, Group: "pool", Name: id, Size: 64 * mib}}},
		"a snapshot is made":                    {shoot, nil, codes.OK, []driver.Room{{Node: nodeName, Group: "pool", Name: snapID, Size: snapSize, New: true}}},
		"a snapshot has no room":                {shoot, full, codes.ResourceExhausted, []driver.Room{{Node: nodeName, Group: "pool", Name: snapID, Size: snapSize, New: true}}},
		"a snapshot is made, nobody answers":    {shoot, away, codes.Unavailable, []driver.Room{{Node: nodeName, Group: "pool", Name: snapID, Size: snapSize, New: true}}},
		"a clone's snapshot has no room at all": {clone, full, codes.ResourceExhausted, []driver.Room{cloneRoom}},
	} {
		t.Run(name, func(t *testing.T) {
			host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
			scheduler := &reserver{group: "pool"}
			r := newRig(t, p, withReserver(scheduler))
			c := csi.NewControllerClient(r.conn)
			_, err := c.CreateVolume(t.Context(), claim(id, "block", int64(32*mib), nil))
			ok(t, err)
			before := host.processes()
			scheduler.lacking = test.says
			err = test.do(c)
			wantCode(t, err, test.code)
			if test.code == codes.ResourceExhausted || test.code == codes.OutOfRange {
				wantCode(t, err, test.code, "wants 32Mi, 4Mi free")
			}
			if diff := cmp.Diff(test.kept, scheduler.kept); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			if after := host.processes(); test.says != nil && len(after) > 0 {
				t.Errorf("the node did %v, and %v before", after, before)
			}
		})
	}
}

// TestASnapshotTakesNoMoreThanWasKept asks for more space than the volume can need.
func TestASnapshotTakesNoMoreThanWasKept(t *testing.T) {
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
	scheduler := &reserver{group: "pool"}
	r := newRig(t, p, withReserver(scheduler))
	c := csi.NewControllerClient(r.conn)
	_, err := c.CreateVolume(t.Context(), claim(id, "block", int64(32*mib), nil))
	ok(t, err)
	for range 2 { // the second finds it there
		_, err = c.CreateSnapshot(t.Context(), shot(snapID, id, "csi.aliyun.com/snapshot-initial-size", "4Gi"))
		ok(t, err)
	}
	if len(scheduler.kept) != 1 {
		t.Fatalf("asked for %v", scheduler.kept)
	}
	if took := host.node.Volume("pool", volume.NameOf(snapID)).Size; took != scheduler.kept[0].Size.Extents(4*mib) {
		t.Errorf("it took %s, kept were %s", took, scheduler.kept[0].Size)
	}
}

// TestWhatIsKeptForACloneIsGivenBack copies a volume, asking until that is done.
func TestWhatIsKeptForACloneIsGivenBack(t *testing.T) {
	_, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
	scheduler := &reserver{group: "pool"}
	r := newRig(t, p, withReserver(scheduler))
	c := csi.NewControllerClient(r.conn)
	_, err := c.CreateVolume(t.Context(), claim(id, "block", int64(32*mib), nil))
	ok(t, err)
	_, err = c.CreateVolume(t.Context(), cloneOf(id, 32*mib))
	ok(t, err)
	want := []driver.Room{{Node: nodeName, Group: "pool", Name: "clone-copy", Size: scheduler.kept[0].Size, New: true}}
	if diff := cmp.Diff(want, scheduler.ended); diff != "" {
		t.Errorf("given back (-want +got):\n%s", diff)
	}
}

// TestNothingIsLeftWhereNoRoomIsSaidToBe makes volumes that an earlier attempt has made,
// or half made: its answer was lost. csi-provisioner takes it from ResourceExhausted that
// nothing is left, and never asks to have it removed.
func TestNothingIsLeftWhereNoRoomIsSaidToBe(t *testing.T) {
	const copyOf, filler = "copy", "filler"
	full := fmt.Errorf("vg pool: wants 32Mi, 4Mi free: %w", driver.ErrNoRoom)
	clone, away := cloneOf(id, 32*mib), cloneOf(id, 32*mib)
	topology(away, "node-2")
	made := func(t *testing.T, _ *fakeHost, c csi.ControllerClient) {
		t.Helper()
		_, err := c.CreateVolume(t.Context(), clone)
		ok(t, err)
	}
	half := func(t *testing.T, host *fakeHost, _ csi.ControllerClient) {
		t.Helper()
		ok(t, host.node.Host().CreateVolume(t.Context(), lvm.CreateVolume{
			Group: "pool", Name: copyOf, Size: 32 * mib, Tags: []string{volume.IDTag(copyOf), volume.CopyingTag, volume.CopyTag(id)},
		}))
	}
	halfAndFull := func(t *testing.T, host *fakeHost, c csi.ControllerClient) {
		t.Helper()
		half(t, host, c)
		ok(t, host.node.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "pool", Name: filler, Size: 956 * mib}))
	}
	unmanaged := func(t *testing.T, host *fakeHost, c csi.ControllerClient) {
		t.Helper()
		made(t, host, c)
		delete(host.node.Groups, "pool")
	}
	for name, test := range map[string]struct {
		before func(*testing.T, *fakeHost, csi.ControllerClient)
		asked  *csi.CreateVolumeRequest
		says   error // the scheduler of the room for the clone's snapshot
		code   codes.Code
		left   []string
	}{
		"a whole copy needs no more room":                   {made, clone, full, codes.OK, []string{copyOf, id}},
		"a scheduler that does not answer is waited for":    {made, clone, driver.ErrUndecided, codes.Unavailable, []string{copyOf, id}},
		"half a copy is made whole where the node has room": {half, clone, full, codes.OK, []string{copyOf, id}},
		"half a copy is removed where the node has none":    {halfAndFull, clone, full, codes.ResourceExhausted, []string{filler, id}},
		"a copy in a group that is managed no more":         {unmanaged, clone, nil, codes.ResourceExhausted, []string{id}},
		"a copy that may not lie where its source does":     {made, away, nil, codes.ResourceExhausted, []string{id}},
		"there is no copy yet":                              {func(*testing.T, *fakeHost, csi.ControllerClient) {}, clone, full, codes.ResourceExhausted, []string{id}},
	} {
		t.Run(name, func(t *testing.T) {
			host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 1024 * mib})
			scheduler := &reserver{group: "pool"}
			r := newRig(t, p, withReserver(scheduler))
			c := csi.NewControllerClient(r.conn)
			_, err := c.CreateVolume(t.Context(), claim(id, "block", int64(32*mib), nil))
			ok(t, err)
			test.before(t, host, c)
			r.report()
			_, stands := slices.BinarySearch(host.node.Volumes(), "pool/"+copyOf)
			for _, err := r.directory.Find(copyOf); stands && err != nil; _, err = r.directory.Find(copyOf) {
				if t.Context().Err() != nil {
					t.Fatal("the copy is not seen")
				}
			}
			scheduler.lacking = test.says
			_, err = c.CreateVolume(t.Context(), test.asked)
			wantCode(t, err, test.code)
			var left []string
			for _, name := range host.node.Volumes() {
				left = append(left, strings.TrimPrefix(name, "pool/"))
				if v := host.node.Volume("pool", left[len(left)-1]); test.code == codes.OK && v.HasTag(volume.CopyingTag) {
					t.Errorf("volume %s is not ready", v.Name)
				}
			}
			if diff := cmp.Diff(test.left, left); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
		})
	}
}
