//go:build !root

package driver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

func TestCreateVolumeUnderstandsItsRequest(t *testing.T) {
	for name, test := range map[string]struct {
		change func(r *csi.CreateVolumeRequest)
		code   codes.Code
		words  []string
		size   capacity.Bytes
	}{
		"a plain claim": {size: 400 * mib},
		"100M":          {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 100_000_000 }, size: 96 * mib},
		"one byte":      {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 1 }, size: 4 * mib},
		"no size":       {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange = nil }, size: 1024 * mib},
		"no metadata":   {change: func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"volumeType": "LVM"} }, size: 400 * mib},
		"no topology":   {change: func(r *csi.CreateVolumeRequest) { r.AccessibilityRequirements = nil }, size: 400 * mib},
		"a group":       {change: func(r *csi.CreateVolumeRequest) { r.Parameters["vgName"] = "pool" }, size: 400 * mib},
		"xfs, too small": {change: func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0] = capability("xfs")
			r.CapacityRange.RequiredBytes = 1
		}, code: codes.OutOfRange, words: []string{"xfs", "300Mi"}},
		"xfs":             {change: func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0] = capability("xfs") }, size: 400 * mib},
		"a misspelt key":  {change: func(r *csi.CreateVolumeRequest) { r.Parameters["iop"] = "1" }, code: codes.InvalidArgument, words: []string{`"iop"`}},
		"a limit of iops": {change: func(r *csi.CreateVolumeRequest) { r.Parameters["iops"] = "1.5" }, code: codes.InvalidArgument, words: []string{"iops", "1.5"}},
		"a limit of bps":  {change: func(r *csi.CreateVolumeRequest) { r.Parameters["bps"] = "fast" }, code: codes.InvalidArgument, words: []string{"bps", "fast"}},
		"what is nothing": {change: func(r *csi.CreateVolumeRequest) { r.Parameters["volumeType"] = "Cloud" }, code: codes.InvalidArgument, words: []string{"Cloud", "none of"}},
		"no type":         {change: func(r *csi.CreateVolumeRequest) { delete(r.Parameters, "volumeType") }, code: codes.InvalidArgument, words: []string{"volumeType"}},
		"stripes":         {change: func(r *csi.CreateVolumeRequest) { r.Parameters["lvmType"] = "striping" }, code: codes.ResourceExhausted, words: []string{"two or more"}},
		"a source": {
			change: func(r *csi.CreateVolumeRequest) {
				r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "x"}}}
			},
			code: codes.NotFound, words: []string{"volume x"},
		},
		"many writers": {
			change: func(r *csi.CreateVolumeRequest) {
				r.VolumeCapabilities[0].AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
			},
			code: codes.InvalidArgument, words: []string{"MULTI_NODE_MULTI_WRITER"},
		},
		"both a device and a file system": {
			change: func(r *csi.CreateVolumeRequest) {
				r.VolumeCapabilities = append(r.VolumeCapabilities, capability("block"))
			},
			code: codes.InvalidArgument,
		},
		"a size below zero": {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = -1 }, code: codes.InvalidArgument},
		"a limit below it":  {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = 1 }, code: codes.InvalidArgument},
		"a limit in an extent": {change: func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: 1, LimitBytes: 2}
		}, code: codes.OutOfRange},
		"more than there is":  {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = int64(2 * capacity.GiB) }, code: codes.ResourceExhausted},
		"a group not managed": {change: func(r *csi.CreateVolumeRequest) { r.Parameters["vgName"] = "root-vg" }, code: codes.ResourceExhausted, words: []string{"root-vg"}},
		"a node not there":    {change: func(r *csi.CreateVolumeRequest) { topology(r, "node-9") }, code: codes.Unavailable, words: []string{"node-9"}},
		"topology of some sort": {change: func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements.Preferred[0].Segments = map[string]string{"zone": "a"}
		}, code: codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			req := claim(id, "ext4", int64(400*mib), nil)
			if test.change != nil {
				test.change(req)
			}
			resp, err := b.controller.CreateVolume(t.Context(), req)
			if test.code != codes.OK {
				wantCode(t, err, test.code, test.words...)
				if left := b.host.node.Volumes(); len(left) > 0 {
					t.Errorf("volumes were made: %q", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			v := resp.GetVolume()
			got := map[string]string{"id": v.GetVolumeId(), "size": fmt.Sprint(v.GetCapacityBytes()), "node": v.GetAccessibleTopology()[0].GetSegments()[volume.TopologyKey]}
			for key, value := range v.GetVolumeContext() {
				got[key] = value
			}
			want := map[string]string{"id": id, "size": fmt.Sprint(int64(test.size)), "node": nodeName, "volumeType": "LVM", "vgName": "pool"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("volume (-want +got):\n%s", diff)
			}
		})
	}
}

func topology(r *csi.CreateVolumeRequest, nodes ...string) {
	r.AccessibilityRequirements = &csi.TopologyRequirement{}
	for _, node := range nodes {
		t := &csi.Topology{Segments: map[string]string{volume.TopologyKey: node}}
		r.AccessibilityRequirements.Preferred = append(r.AccessibilityRequirements.Preferred, t)
		r.AccessibilityRequirements.Requisite = append(r.AccessibilityRequirements.Requisite, t)
	}
}

// withoutAttempt returns the tags of a volume for a file system without the one that says in
// which attempt it was made.
func withoutAttempt(t *testing.T, tags []string) []string {
	t.Helper()
	rest := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return strings.HasPrefix(tag, volume.MadeTag("")) })
	if len(rest) != len(tags)-1 {
		t.Errorf("of no attempt, or several: %q", tags)
	}
	return rest
}

func TestVolumesSayWhoseTheyAre(t *testing.T) {
	b := newBed(t)
	if _, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil)); err != nil {
		t.Fatal(err)
	}
	got := withoutAttempt(t, b.host.node.Volume("pool", id).Tags)
	want := append([]string{volume.IDTag(id), volume.WipeTag(volume.WipeDiscard)}, volume.OwnerTags(volume.DefaultDriver, "test", "default", "data")...)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

func TestTheSchedulerDecidesTheGroup(t *testing.T) {
	for name, test := range map[string]struct {
		scheduler reserver
		want      []string
		code      codes.Code
		givenUp   bool // the place, since its node refused it
	}{
		"it names a group":                      {scheduler: reserver{group: "slow"}, want: []string{"slow/" + id}},
		"it finds no room":                      {scheduler: reserver{err: fmt.Errorf("vg full: %w", driver.ErrNoRoom)}, code: codes.ResourceExhausted},
		"it does not answer":                    {scheduler: reserver{err: driver.ErrUndecided}, code: codes.Unavailable},
		"it names a group that is not managed":  {scheduler: reserver{group: "other"}, code: codes.ResourceExhausted, givenUp: true},
		"it names a group that has become full": {scheduler: reserver{group: "tiny"}, code: codes.ResourceExhausted, givenUp: true},
	} {
		t.Run(name, func(t *testing.T) {
			host, p := newFakeHost(t, map[string]capacity.Bytes{"fast": 1024 * mib, "slow": 1024 * mib, "tiny": 4 * mib})
			r := newRig(t, p, withReserver(&test.scheduler))
			_, err := csi.NewControllerClient(r.conn).CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil))
			wantCode(t, err, test.code)
			if diff := cmp.Diff(test.want, host.node.Volumes()); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
			asked := []driver.Reservation{{Namespace: "default", Claim: "data", Volume: id, Node: nodeName, Kind: volume.LVM}}
			if diff := cmp.Diff(asked, test.scheduler.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if !test.givenUp {
				asked = nil
			}
			if diff := cmp.Diff(asked, test.scheduler.given); diff != "" {
				t.Errorf("given up (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARestartedSchedulerMakesNoSecondVolume(t *testing.T) {
	scheduler := &reserver{group: "fast"}
	host, p := newFakeHost(t, map[string]capacity.Bytes{"fast": 1024 * mib, "slow": 1024 * mib})
	r := newRig(t, p, withReserver(scheduler))
	controller := csi.NewControllerClient(r.conn)
	first, err := controller.CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil))
	if err != nil {
		t.Fatal(err)
	}
	scheduler.group = "slow"
	r.directory.Forget(id) // so did the controller
	second, err := controller.CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.GetVolume().GetVolumeContext(), second.GetVolume().GetVolumeContext()); diff != "" {
		t.Errorf("the second answer (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"fast/" + id}, host.node.Volumes()); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func TestDeleteVolumeAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, b *bed)
		code    codes.Code
		left    []string
	}{
		"a volume that is there":   {prepare: func(*testing.T, *bed) {}},
		"a volume that was lost":   {prepare: func(t *testing.T, b *bed) { b.remove(t) }},
		"a volume that is mounted": {prepare: func(t *testing.T, b *bed) { b.stage(t, "ext4") }, code: codes.FailedPrecondition, left: []string{"pool/" + id}},
		"a protected volume": {
			prepare: func(t *testing.T, b *bed) {
				if err := b.host.node.Host().ChangeTags(t.Context(), "pool", id, []string{lvm.ProtectedTag}, nil); err != nil {
					t.Fatal(err)
				}
			},
			code: codes.FailedPrecondition, left: []string{"pool/" + id},
		},
		"a volume whose group is missing": {prepare: func(_ *testing.T, b *bed) { b.host.node.Lose("/dev/disk-pool") }, code: codes.FailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			if _, err := b.controller.CreateVolume(t.Context(), claim(id, "ext4", int64(400*mib), nil)); err != nil {
				t.Fatal(err)
			}
			test.prepare(t, b)
			_, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
			wantCode(t, err, test.code)
			if name == "a volume whose group is missing" {
				b.host.node.Find("/dev/disk-pool")
				test.left = []string{"pool/" + id}
			}
			if diff := cmp.Diff(test.left, b.host.node.Volumes()); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
		})
	}
}

func (b *bed) remove(t *testing.T) {
	t.Helper()
	if err := b.host.node.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.LVM, Group: "pool"}); err != nil {
		t.Fatal(err)
	}
}

// lost is a directory whose only volume is gone with its node, or was never there.
type lost struct {
	*directory.Directory
	was       driver.Place
	err       error
	forgotten []string
}

func (l *lost) Find(string) (driver.Place, error) { return l.was, l.err }

func (l *lost) Forget(id string) { l.forgotten = append(l.forgotten, id) }

func TestWhatIsLeftOnANodeThatIsGoneIsTold(t *testing.T) {
	was := driver.Place{Node: "node-9", Kind: volume.LVM, Group: "pool"}
	shows := was
	shows.Snapshot = "snap-1"
	for name, test := range map[string]struct {
		was             driver.Place
		err             error
		code            codes.Code
		told, forgotten []string
	}{
		"its node left for good":           {was, driver.ErrNoVolume, codes.OK, []string{id + " node-9 pool"}, []string{id}},
		"its node may come back":           {was, driver.ErrNodeUnavailable, codes.Unavailable, nil, nil},
		"it never was":                     {driver.Place{}, driver.ErrNoVolume, codes.OK, nil, nil},
		"it only showed a snapshot there":  {shows, driver.ErrNoVolume, codes.OK, nil, []string{id}},
		"it shows one, and may come back ": {shows, driver.ErrNodeUnavailable, codes.OK, nil, []string{id}},
	} {
		t.Run(name, func(t *testing.T) {
			where := &lost{was: test.was, err: fmt.Errorf("node %q: %w", "node-9", test.err)}
			var told []string
			_, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 64 * mib})
			r := newRig(t, p, func(o *driver.ControllerOptions) {
				o.Directory = where
				o.LeftBehind = func(_ context.Context, id string, was driver.Place) {
					told = append(told, id+" "+was.Node+" "+was.Group)
				}
			})
			_, err := csi.NewControllerClient(r.conn).DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
			wantCode(t, err, test.code)
			if diff := cmp.Diff([][]string{test.told, test.forgotten}, [][]string{told, where.forgotten}); diff != "" {
				t.Errorf("told and forgotten (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGetCapacityAnswersFromMemory(t *testing.T) {
	host, p := newFakeHost(t, map[string]capacity.Bytes{"fast": 64 * mib, "slow": 64 * mib})
	host.node.AddDisk("/dev/second", 65*mib)
	if err := host.node.Host().ExtendGroup(t.Context(), "slow", []string{"/dev/second"}); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, p)
	controller := csi.NewControllerClient(r.conn)
	if _, err := controller.CreateVolume(t.Context(), claim(id, "ext4", int64(16*mib), map[string]string{"vgName": "fast"})); err != nil {
		t.Fatal(err)
	}
	host.processes()
	at := func(node string) *csi.Topology {
		return &csi.Topology{Segments: map[string]string{volume.TopologyKey: node}}
	}
	for name, test := range map[string]struct {
		ask                *csi.GetCapacityRequest
		available, largest capacity.Bytes
	}{
		"of everything":             {ask: &csi.GetCapacityRequest{}, available: 176 * mib, largest: 128 * mib},
		"of the node":               {ask: &csi.GetCapacityRequest{AccessibleTopology: at(nodeName)}, available: 176 * mib, largest: 128 * mib},
		"of a node not there":       {ask: &csi.GetCapacityRequest{AccessibleTopology: at("node-9")}},
		"of one group":              {ask: &csi.GetCapacityRequest{Parameters: map[string]string{"volumeType": "LVM", "vgName": "fast"}}, available: 48 * mib, largest: 48 * mib},
		"for stripes":               {ask: &csi.GetCapacityRequest{Parameters: map[string]string{"volumeType": "LVM", "lvmType": "striping"}}, available: 128 * mib, largest: 128 * mib},
		"of a group not there":      {ask: &csi.GetCapacityRequest{Parameters: map[string]string{"volumeType": "LVM", "vgName": "none"}}},
		"for use on many nodes":     {ask: &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY}}}}},
		"of disks of unknown media": {ask: &csi.GetCapacityRequest{Parameters: map[string]string{"volumeType": "LVM", "mediaType": "ssd"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := controller.GetCapacity(t.Context(), test.ask)
			if err != nil {
				t.Fatal(err)
			}
			if got.GetAvailableCapacity() != int64(test.available) || got.GetMaximumVolumeSize().GetValue() != int64(test.largest) {
				t.Errorf("got %d in all and %d at most, want %s and %s", got.GetAvailableCapacity(), got.GetMaximumVolumeSize().GetValue(), test.available, test.largest)
			}
		})
	}
	if runs := host.processes(); len(runs) > 0 {
		t.Errorf("it took processes: %v", runs)
	}
}

func TestVolumesAreListedInPages(t *testing.T) {
	b := newBed(t)
	want := []string{"a", "b", "c", "d", "e"}
	for _, name := range want {
		if _, err := b.controller.CreateVolume(t.Context(), claim(name, "ext4", int64(4*mib), nil)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for token, pages := "", 0; ; pages++ {
		resp, err := b.controller.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range resp.GetEntries() {
			got = append(got, entry.GetVolume().GetVolumeId())
		}
		if token = resp.GetNextToken(); token == "" {
			break
		}
		if pages == 0 { // the volume that the token names goes away
			if _, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "b"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

func TestASecondCallForTheSameVolumeIsAborted(t *testing.T) {
	b := newBed(t)
	started, goOn := make(chan struct{}), make(chan struct{})
	b.host.node.Devices.Zeroing = func(context.Context, string) error { close(started); <-goOn; return nil }
	first := make(chan error, 1)
	go func() {
		_, err := b.controller.CreateVolume(context.Background(), claim(id, "block", int64(8*mib), nil))
		first <- err
	}()
	select {
	case <-started:
	case err := <-first:
		t.Fatalf("the first call ended before it began to zero: %v", err)
	}
	_, err := b.controller.CreateVolume(t.Context(), claim(id, "block", int64(8*mib), nil))
	wantCode(t, err, codes.Aborted)
	if _, err := b.controller.CreateVolume(t.Context(), claim("another", "ext4", int64(8*mib), nil)); err != nil {
		t.Errorf("another volume has to wait: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestABadVolumeNameReachesNoCommand(t *testing.T) {
	b := newBed(t)
	for _, name := range []string{"a;reboot", "$(reboot)", "../../etc/passwd", "-rf", "a b", "snapshot1", "x_tdata", strings.Repeat("long", 30)} {
		resp, err := b.controller.CreateVolume(t.Context(), claim(name, "ext4", int64(4*mib), nil))
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if diff := cmp.Diff([]string{"pool/" + volume.NameOf(name)}, b.host.node.Volumes()); diff != "" || resp.GetVolume().GetVolumeId() != name {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
		if _, err := b.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: name}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
