package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/lvm/lvmtest"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

const (
	gib      = capacity.GiB
	extent   = capacity.DefaultExtent
	diskSize = gib + capacity.MiB // LVM keeps a MiB for itself
)

// A station is an agent at work on a made-up node, within a synctest bubble.
type station struct {
	t         *testing.T
	root      string
	fake      *lvmtest.Fake
	block     *fakeDevices
	client    *fake.Clientset
	events    *record.FakeRecorder
	processes atomic.Int64 // of LVM
	agent     *Agent
	stop      context.CancelFunc
}

// fakeDevices is the block layer of a node. A device exists when its file does.
type fakeDevices struct {
	root string

	mu         sync.Mutex // guards the fields below
	list       []blockdev.Device
	signatures map[string]string // by path: what a program would recognise there
	uuids      map[string]string // by path: of the file system
	formats    int
	failing    string // a path
	wipes      []wipe.Order
	err        error
}

func (f *fakeDevices) Devices(context.Context) ([]blockdev.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := slices.Clone(f.list)
	for i := range list {
		list[i].UUID = f.uuids[list[i].Path]
	}
	return list, f.err
}

// change does what something else on the node would do to the devices.
func (f *fakeDevices) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
}

func (f *fakeDevices) Inspect(_ context.Context, path string) (blockdev.Evidence, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := os.Stat(filepath.Join(f.root, path))
	evidence := blockdev.Evidence{Path: path, Exists: err == nil, IsBlock: true, Type: "disk", Size: diskSize}
	if f.failing == path {
		evidence.Failing = "offline"
	}
	if signature := f.signatures[path]; signature != "" {
		evidence.Signatures = []blockdev.Signature{{Type: signature, UUID: f.uuids[path]}}
	}
	return evidence, f.err
}

func (f *fakeDevices) Survey(ctx context.Context, devices []blockdev.Device, _ func(blockdev.Device) bool) (map[string]blockdev.Finding, error) {
	found := map[string]blockdev.Finding{}
	for _, d := range devices {
		e, err := f.Inspect(ctx, d.Path)
		finding := blockdev.Finding{Evidence: e, Err: err}
		if len(e.Signatures) > 0 {
			finding.Contents = "contents of " + e.Signatures[0].Type
		}
		found[d.KernelName] = finding
	}
	return found, nil
}

// Wipe makes a device blank that has what it is to have.
func (f *fakeDevices) Wipe(_ context.Context, order wipe.Order, _ func(done, of capacity.Bytes)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if order.Contents != "contents of "+f.signatures[order.Path] {
		return wipe.ErrChanged
	}
	if err := order.Begin(); err != nil {
		return err
	}
	f.wipes = append(f.wipes, order)
	delete(f.signatures, order.Path)
	return nil
}

// Format makes a file system, of which the options tell the UUID.
func (f *fakeDevices) Format(_ context.Context, device, fsType string, options ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.signatures[device] != "" {
		return mounts.ErrNotBlank
	}
	f.signatures[device] = fsType
	if f.uuids == nil {
		f.uuids = map[string]string{}
	}
	f.uuids[device] = strings.TrimPrefix(options[len(options)-1], "uuid=")
	f.formats++
	return nil
}

// Signature tells what is on a device.
func (f *fakeDevices) Signature(_ context.Context, device string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signatures[device], nil
}

// Mount has the host's first process see the device mounted.
func (f *fakeDevices) Mount(_ context.Context, device, target, fsType string, options []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.MkdirAll(filepath.Join(f.root, target), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(f.root, "proc/1/mountinfo"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "2 1 8:1 / %s %s - %s %s rw\n", target, strings.Join(append([]string{"rw"}, options...), ","), fsType, device)
	return errors.Join(err, file.Close())
}

// newStation builds the node; the agent does not run yet.
func newStation(t *testing.T, disks ...string) *station {
	t.Helper()
	root := t.TempDir()
	s := &station{
		t: t, root: root, fake: lvmtest.NewFake(), block: &fakeDevices{root: root, signatures: map[string]string{}},
		client: fake.NewSimpleClientset(), events: record.NewFakeRecorder(1000),
	}
	s.file("proc/1/mountinfo", "1 0 253:1 / / rw,relatime - ext4 /dev/vda1 rw\n")
	for _, path := range disks {
		s.plug(path)
	}
	return s
}

func (s *station) file(path, content string) {
	s.t.Helper()
	path = filepath.Join(s.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// plug gives the node a blank disk.
func (s *station) plug(path string) {
	s.t.Helper()
	s.fake.AddDisk(path, diskSize)
	s.file(path, "")
	s.block.change(func() {
		s.block.list = append(s.block.list, blockdev.Device{
			Path: path, KernelName: filepath.Base(path), Type: "disk", Size: diskSize, ID: "serial-" + filepath.Base(path),
		})
	})
}

// start runs the agent until the test ends or stop is called.
func (s *station) start() { s.startOver(s.block) }

// startOver runs the agent over another block layer.
func (s *station) startOver(block devices) {
	s.t.Helper()
	host := s.host()
	host.Devices = block
	s.startOn(host)
}

// host is the station's, with nothing in between.
func (s *station) host() Host {
	counted := hostexec.RunnerFunc(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		s.processes.Add(1)
		return s.fake.Run(ctx, name, args...)
	})
	return Host{Groups: lvm.New(counted), Devices: s.block, Wiper: s.block, Mounts: s.block, Book: exclusive.NewBook(s.root), Begun: begun.New(s.root)}
}

// startOn runs the agent on a host.
func (s *station) startOn(host Host) {
	s.t.Helper()
	agent, err := New(Options{Node: "n1", Driver: volume.DefaultDriver, HostRoot: s.root, Interval: 5 * time.Minute, Heartbeat: 5 * time.Minute},
		host, s.client, s.events, prometheus.NewRegistry())
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.t.Context())
	s.agent, s.stop = agent, stop
	go func() {
		if err := agent.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
	s.pass(time.Second)
}

// pass lets the bubble's time pass. No real time does.
func (s *station) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// apply creates or replaces the object as the controller and a person would.
func (s *station) apply(edit func(*v1alpha1.NodeLocalStorage)) {
	s.t.Helper()
	ours := s.client.CsiV1alpha1().NodeLocalStorages()
	nls, err := ours.Get(s.t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		nls = &v1alpha1.NodeLocalStorage{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "first", Generation: 1},
			Spec:       v1alpha1.NodeLocalStorageSpec{NodeName: "n1"},
		}
		edit(nls)
		_, err = ours.Create(s.t.Context(), nls, metav1.CreateOptions{})
	} else {
		edit(nls)
		_, err = ours.Update(s.t.Context(), nls, metav1.UpdateOptions{})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// pool asks for the group "pool" on devices, and manages it.
func pool(devices ...string) func(*v1alpha1.NodeLocalStorage) {
	return func(nls *v1alpha1.NodeLocalStorage) {
		nls.Spec.ListConfig.VGs.Include = []string{"pool"}
		nls.Spec.ResourceToBeInited.VGs = []v1alpha1.VGToBeInited{{Name: "pool", Devices: devices}}
	}
}

func (s *station) status() v1alpha1.NodeLocalStorageStatus {
	s.t.Helper()
	nls, err := s.client.CsiV1alpha1().NodeLocalStorages().Get(s.t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return nls.Status
}

func (s *station) group(name string) v1alpha1.VolumeGroup {
	s.t.Helper()
	groups := s.status().NodeStorageInfo.VolumeGroups
	i := slices.IndexFunc(groups, func(g v1alpha1.VolumeGroup) bool { return g.Name == name })
	if i < 0 {
		s.t.Fatalf("no group %q in the report: %+v", name, groups)
	}
	return groups[i]
}

// condition returns "Status Reason" of a condition.
func (s *station) condition(kind string) string {
	s.t.Helper()
	for _, c := range s.status().Conditions {
		if c.Type == kind {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}

// writes returns how many status writes were tried since it was last asked.
func (s *station) writes() int {
	s.t.Helper()
	count := 0
	for _, action := range s.client.Actions() {
		patch, isPatch := action.(clienttesting.PatchAction)
		if !isPatch {
			continue
		}
		if patch.GetSubresource() != "status" {
			s.t.Errorf("the agent patched %q", patch.GetSubresource())
		}
		count++
	}
	s.client.ClearActions()
	return count
}

func (s *station) wantWrites(want int) {
	s.t.Helper()
	if got := s.writes(); got != want {
		s.t.Errorf("%d status writes, want %d", got, want)
	}
}

func (s *station) wantProcesses(want int64) {
	s.t.Helper()
	if got := s.processes.Swap(0); got != want {
		s.t.Errorf("%d LVM processes, want %d", got, want)
	}
}

func (s *station) wantEvents(want ...string) {
	s.t.Helper()
	var got []string
	for len(s.events.Events) > 0 {
		got = append(got, strings.Join(strings.Fields(<-s.events.Events)[:2], " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("events (-want +got):\n%s", diff)
	}
}

func (s *station) wantCondition(kind, want string) {
	s.t.Helper()
	if got := s.condition(kind); got != want {
		s.t.Errorf("condition %s is %q, want %q", kind, got, want)
	}
}

// lvm runs a command as somebody else on the node would, and the kernel tells.
func (s *station) lvm(args ...string) {
	s.t.Helper()
	if _, err := s.fake.Run(s.t.Context(), "lvm", args...); err != nil {
		s.t.Fatal(err)
	}
	s.agent.Changed()
}

// bubble runs a test with made-up time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestAGroupIsMadeAndReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()

		want := v1alpha1.VolumeGroup{
			Name: "pool", PhysicalVolumes: []string{"/dev/vdc"}, PhysicalVolumesAvailable: []int64{int64(gib)}, Total: int64(gib), Available: int64(gib), Allocatable: int64(gib),
			ExtentSize: int64(extent), Condition: v1alpha1.StorageReady,
		}
		if diff := cmp.Diff(want, s.group("pool")); diff != "" {
			t.Errorf("group (-want +got):\n%s", diff)
		}
		status := s.status()
		if diff := cmp.Diff([]string{"pool"}, status.FilteredStorageInfo.VolumeGroups); diff != "" {
			t.Errorf("managed (-want +got):\n%s", diff)
		}
		state := status.NodeStorageInfo.State
		if state.Type != v1alpha1.StorageReady || state.Status != metav1.ConditionTrue || state.LastHeartbeatTime == nil || state.LastTransitionTime == nil {
			t.Errorf("state %+v", state)
		}
		if status.NodeStorageInfo.Phase != v1alpha1.NodeStorageRunning || status.FilteredStorageInfo.UpdateStatus.Status != v1alpha1.UpdateAccepted {
			t.Errorf("phase %q, update %q", status.NodeStorageInfo.Phase, status.FilteredStorageInfo.UpdateStatus.Status)
		}
		s.wantCondition("SpecValid", "True Accepted")
		s.wantCondition("GroupsReady", "True AsSpecified")
		s.wantCondition("Looked", "True Seen")
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
		s.wantProcesses(3) // look, vgcreate, look
		s.wantWrites(1)
	})
}

func TestAnIdleNodeIsIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.processes.Store(0)
		s.writes()

		s.pass(4 * time.Minute)
		s.wantProcesses(0)
		s.wantWrites(0)
		s.pass(56 * time.Minute)
		s.wantProcesses(12) // one look every five minutes
		if got := s.writes(); got < 11 || got > 12 {
			t.Errorf("%d heartbeats in an hour", got)
		}
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
	})
}

func TestAHeartbeatChangesNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		before := s.status()
		s.pass(6 * time.Minute)
		after := s.status()
		if !before.NodeStorageInfo.State.LastHeartbeatTime.Before(after.NodeStorageInfo.State.LastHeartbeatTime) {
			t.Errorf("the heartbeat is still of %s", after.NodeStorageInfo.State.LastHeartbeatTime)
		}
		after.NodeStorageInfo.State.LastHeartbeatTime = before.NodeStorageInfo.State.LastHeartbeatTime
		for _, s := range []*v1alpha1.NodeLocalStorageStatus{&before, &after} {
			for i := range s.NodeStorageInfo.MountPoints {
				s.NodeStorageInfo.MountPoints[i].Available = 0 // of the machine that runs the test
			}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("changed (-before +after):\n%s", diff)
		}
	})
}

func TestAChangeOnTheNodeIsReportedWithinASecond(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.processes.Store(0)
		s.writes()

		s.lvm("lvcreate", "--yes", "--wipesignatures", "y", "--zero", "y", "--name", "data", "--size", "8388608b", "--type", "linear",
			"--addtag", "open-local.id=vol/1", "--", "pool")
		s.pass(999 * time.Millisecond)
		want := []v1alpha1.LogicalVolume{{
			Name: "data", VGName: "pool", Total: 8 << 20, VolumeID: "vol/1", Condition: v1alpha1.StorageReady,
		}}
		got := s.group("pool")
		if diff := cmp.Diff(want, got.LogicalVolumes); diff != "" {
			t.Errorf("volumes (-want +got):\n%s", diff)
		}
		if got.Available != int64(gib-8*capacity.MiB) || got.Allocatable != int64(gib) {
			t.Errorf("available %d, allocatable %d", got.Available, got.Allocatable)
		}
		s.wantProcesses(1)
		s.wantWrites(1)
	})
}

func TestAStormOfEventsIsOneLookAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.processes.Store(0)
		s.writes()
		for range 300 { // for three seconds
			s.agent.Changed()
			s.pass(10 * time.Millisecond)
		}
		if got := s.processes.Load(); got < 3 || got > 8 {
			t.Errorf("%d looks in a storm of three seconds", got)
		}
		s.wantWrites(0)
	})
}

func TestADeviceAddedToTheListExtendsTheGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc", "/dev/vdd")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
		s.apply(pool("/dev/vdc", "/dev/vdd"))
		s.pass(time.Second)
		if diff := cmp.Diff([]string{"/dev/vdc", "/dev/vdd"}, s.group("pool").PhysicalVolumes); diff != "" {
			t.Errorf("devices (-want +got):\n%s", diff)
		}
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
	})
}

func TestADeviceWithDataIsLeftAloneAndToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.block.change(func() { s.block.signatures["/dev/vdc"] = "ext4" })
		s.fake.Before = func(command string) error {
			t.Errorf("ran %s", command)
			return errors.New("refused")
		}
		s.apply(pool("/dev/vdc"))
		s.start()
		s.wantCondition("GroupsReady", "False HasSignature")
		s.wantEvents("Warning HasSignature")
		s.pass(time.Hour)
		s.wantEvents()

		s.fake.Before = nil
		s.block.change(func() { delete(s.block.signatures, "/dev/vdc") })
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("GroupsReady", "True AsSpecified")
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged")
	})
}

func TestADeviceThatCannotBeInspectedIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.startOver(failingInspection{s.block})
		s.wantCondition("GroupsReady", "False NotInspected")
		s.wantProcesses(1)
	})
}

// slowDevices answers when nobody wants to know any more.
type slowDevices struct{ *fakeDevices }

func (slowDevices) Devices(ctx context.Context) ([]blockdev.Device, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestAnAgentMayBeStoppedInItsFirstLook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.startOver(slowDevices{s.block})
		s.stop()
		s.pass(time.Second)
		s.wantWrites(0)
		s.wantEvents()
		s.start()
		s.wantCondition("GroupsReady", "True AsSpecified")
	})
}

type failingInspection struct{ *fakeDevices }

func (failingInspection) Inspect(context.Context, string) (blockdev.Evidence, error) {
	return blockdev.Evidence{}, errors.New("no answer")
}

func TestADeviceThatAppearsIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t)
		s.apply(pool("/dev/vdc"))
		s.start()
		s.wantCondition("GroupsReady", "False DeviceMissing")
		s.pass(time.Minute)
		s.plug("/dev/vdc")
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("GroupsReady", "True AsSpecified")
	})
}

func TestALinkThatAppearsLateIsFoundWithoutAnotherEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t)
		s.apply(pool("/dev/disk/by-id/x"))
		s.start()
		s.pass(time.Minute)
		s.plug("/dev/vdc")
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("GroupsReady", "False DeviceMissing")
		s.plug("/dev/disk/by-id/x") // the fake follows no links; that the agent does is tested beside identity
		s.pass(3 * time.Second)
		s.wantCondition("GroupsReady", "True AsSpecified")
	})
}

func TestAStepThatFailsIsNotRepeatedAtEveryEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		var tries atomic.Int64
		s.fake.Before = func(string) error {
			s.agent.Changed() // a failed command makes events, too
			return fmt.Errorf("attempt %d failed", tries.Add(1))
		}
		s.apply(pool("/dev/vdc"))
		s.start()
		s.pass(8 * time.Second) // the next try is ten seconds after the first, which is at the start or a pause later
		if got := tries.Load(); got != 1 {
			t.Errorf("tried %d times in nine seconds", got)
		}
		s.wantCondition("GroupsReady", "False StepFailed")
		s.pass(10 * time.Minute)
		if got := tries.Load(); got < 3 || got > 7 {
			t.Errorf("tried %d times in ten minutes", got)
		}
		s.wantEvents("Normal NodeStoragePlanned", "Warning StepFailed")

		s.fake.Before = nil
		s.agent.Changed()
		s.pass(5 * time.Minute)
		s.wantCondition("GroupsReady", "True AsSpecified")
	})
}

func TestAGroupThatLostADiskIsAFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc", "/dev/vdd")
		s.apply(pool("/dev/vdc", "/dev/vdd"))
		s.start()
		s.fake.Lose("/dev/vdd")
		s.agent.Changed()
		s.pass(time.Second)
		group, status := s.group("pool"), s.status()
		if group.Condition != v1alpha1.StorageFault || group.Allocatable != 0 {
			t.Errorf("condition %s, allocatable %d", group.Condition, group.Allocatable)
		}
		if len(status.FilteredStorageInfo.VolumeGroups) > 0 || status.NodeStorageInfo.State.Type != v1alpha1.StorageFault {
			t.Errorf("managed %v, state %s", status.FilteredStorageInfo.VolumeGroups, status.NodeStorageInfo.State.Type)
		}
		s.wantCondition("GroupsReady", "False GroupPartial")

		s.fake.Find("/dev/vdd")
		s.agent.Changed()
		s.pass(time.Second)
		if diff := cmp.Diff([]string{"pool"}, s.status().FilteredStorageInfo.VolumeGroups); diff != "" {
			t.Errorf("managed again (-want +got):\n%s", diff)
		}
	})
}

func TestAGroupThatIsGoneIsRememberedOverARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.cut("data", volume.IDTag("data"), volume.DeletedTag)
		s.cut("nightly", volume.SnapshotTag("nightly"), volume.SourceTag("data"))
		before := s.group("pool")
		s.fake.Lose("/dev/vdc")
		if err := os.Remove(filepath.Join(s.root, "/dev/vdc")); err != nil {
			t.Fatal(err)
		}
		s.agent.Changed()
		s.pass(time.Second)
		s.stop()
		s.pass(time.Second)
		s.start()
		want := v1alpha1.VolumeGroup{Name: "pool", Condition: v1alpha1.StorageFault, LogicalVolumes: before.LogicalVolumes}
		if diff := cmp.Diff(want, s.group("pool")); diff != "" || len(before.LogicalVolumes) != 2 {
			t.Errorf("group with %d volumes (-want +got):\n%s", len(before.LogicalVolumes), diff)
		}

		s.plug("/dev/vdd")
		s.apply(pool("/dev/vdc", "/dev/vdd"))
		s.pass(time.Second)
		if got := s.group("pool"); got.Total != 0 {
			t.Errorf("the group was made anew: %+v", got)
		}
		s.wantCondition("GroupsReady", "False DeviceMissing")
	})
}

func TestAnObjectIsWaitedForAndMayGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.start()
		s.agent.Changed()
		s.pass(time.Hour)
		s.wantProcesses(0)

		s.apply(pool())
		s.pass(time.Second)
		s.wantProcesses(1)
		if err := s.client.CsiV1alpha1().NodeLocalStorages().Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Hour)
		s.wantProcesses(0)
		s.writes()

		s.apply(func(nls *v1alpha1.NodeLocalStorage) { nls.UID = "second"; pool("/dev/vdc")(nls) })
		s.pass(time.Second)
		s.wantCondition("GroupsReady", "True AsSpecified")
		s.wantWrites(1)
	})
}

func TestAnAPIServerThatIsDownCausesNoLVMProcesses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		var down atomic.Bool
		down.Store(true)
		var tries atomic.Int64
		s.client.PrependReactor("patch", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
			tries.Add(1)
			return down.Load(), nil, errors.New("connection refused")
		})
		s.apply(pool("/dev/vdc"))
		s.start()
		s.wantProcesses(3)
		s.pass(4 * time.Minute)
		s.wantProcesses(0)
		if got := tries.Load(); got < 5 || got > 15 {
			t.Errorf("%d tries in four minutes", got)
		}
		down.Store(false)
		s.pass(time.Minute)
		s.wantCondition("GroupsReady", "True AsSpecified")
	})
}

func TestALookThatFailsIsReportedAndSpaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.processes.Store(0)
		before := s.status()
		s.block.change(func() { s.block.err = errors.New("lsblk is gone") })
		s.agent.Changed()
		s.pass(time.Second)
		s.wantCondition("Looked", "False LookFailed")
		after := s.status()
		if state := after.NodeStorageInfo.State; state.Status != metav1.ConditionUnknown || !strings.Contains(state.Message, "lsblk is gone") {
			t.Errorf("state %+v", state)
		}
		if diff := cmp.Diff(before.NodeStorageInfo.VolumeGroups, after.NodeStorageInfo.VolumeGroups); diff != "" {
			t.Errorf("what was seen before stays (-want +got):\n%s", diff)
		}
		for range 60 {
			s.agent.Changed()
			s.pass(10 * time.Second)
		}
		if got := s.processes.Load(); got > 20 {
			t.Errorf("%d LVM processes in ten minutes of failing", got)
		}
		s.block.change(func() { s.block.err = nil })
		s.agent.Changed()
		s.pass(2 * time.Minute)
		s.wantCondition("Looked", "True Seen")
	})
}

func TestAStatusThatSomebodyChangedIsSetRight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.processes.Store(0)
		s.apply(func(nls *v1alpha1.NodeLocalStorage) {
			nls.Status.FilteredStorageInfo.VolumeGroups = []string{"root"}
		})
		s.pass(time.Second)
		if diff := cmp.Diff([]string{"pool"}, s.status().FilteredStorageInfo.VolumeGroups); diff != "" {
			t.Errorf("managed (-want +got):\n%s", diff)
		}
		s.wantProcesses(0)
	})
}

func TestTheReservationIsTakenOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(pool("/dev/vdc"))
		s.start()
		s.processes.Store(0)
		for annotation, want := range map[string]capacity.Bytes{
			`{"pool":"256Mi"}`: gib - 256*capacity.MiB, `{"pool":"25%"}`: gib * 3 / 4, `{"pool":"9Ti"}`: 0, `{"pool":"-1"}`: gib, ``: gib,
		} {
			s.apply(func(nls *v1alpha1.NodeLocalStorage) {
				nls.Annotations = map[string]string{v1alpha1.AnnotationStorageReserved: annotation}
			})
			s.pass(time.Second)
			if got := s.group("pool").Allocatable; got != int64(want) {
				t.Errorf("%s: allocatable %d, want %d", annotation, got, want)
			}
		}
		s.wantProcesses(0) // a reservation is arithmetic
	})
}

func TestABadSpecIsACondition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdc")
		s.apply(func(nls *v1alpha1.NodeLocalStorage) {
			pool("/dev/vdc")(nls)
			nls.Spec.ListConfig.VGs.Include = []string{"(", "pool"}
			nls.Spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{{Path: "/mnt/open-local/a", Device: "/dev/vdd"}}
			nls.Annotations = map[string]string{v1alpha1.AnnotationStorageReserved: "{"}
		})
		s.start()
		s.wantCondition("SpecValid", "False BadExpression")
		s.wantCondition("MountPointsReady", "False DeviceMissing")
		s.wantCondition("GroupsReady", "True AsSpecified")
		status := s.status()
		if diff := cmp.Diff([]string{"pool"}, status.FilteredStorageInfo.VolumeGroups); diff != "" {
			t.Errorf("the other expressions hold (-want +got):\n%s", diff)
		}
		if update := status.FilteredStorageInfo.UpdateStatus; update.Status != v1alpha1.UpdateFailed || update.Reason == "" {
			t.Errorf("update %+v", update)
		}
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged", "Warning BadExpression", "Warning BadReservation", "Warning DeviceMissing")
	})
}

// TestOnlyTheVeryObjectIsWritten has the object replaced between look and report.
func TestOnlyTheVeryObjectIsWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t)
		s.apply(pool())
		var uids []types.UID
		s.client.PrependReactor("patch", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
			var operations []struct {
				Op, Path string
				Value    any
			}
			if err := json.Unmarshal(action.(clienttesting.PatchAction).GetPatch(), &operations); err != nil {
				t.Fatal(err)
			}
			if len(operations) != 2 || operations[0].Op != "test" || operations[0].Path != "/metadata/uid" || operations[1].Path != "/status" {
				t.Errorf("patch %+v", operations)
			}
			uids = append(uids, types.UID(operations[0].Value.(string)))
			return false, nil, nil
		})
		s.start()
		if diff := cmp.Diff([]types.UID{"first"}, uids); diff != "" {
			t.Errorf("written to (-want +got):\n%s", diff)
		}
	})
}
