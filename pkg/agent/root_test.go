//go:build root

package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// TestTheKernelIsHeard makes the kernel speak of a disk and listens.
func TestTheKernelIsHeard(t *testing.T) {
	devices, err := filepath.Glob("/sys/class/block/*/uevent")
	if err != nil || len(devices) == 0 {
		t.Fatalf("the kernel has no block device (%v); a loop device is enough: modprobe loop", err)
	}
	socket, err := listenKernel()
	if err != nil {
		t.Fatal(err)
	}
	changed := watching(t, func(ctx context.Context, changed func()) error { return watchKernel(ctx, socket, changed) })
	if err := os.WriteFile(devices[0], []byte("change"), 0); err != nil {
		t.Fatalf("making the kernel speak (this needs root, and /sys mounted for writing): %v", err)
	}
	wantChange(t, changed, "the kernel spoke of "+devices[0])
}

// realGroup is made on the first of LAB_DISKS, and grows by the second.
const realGroup = "agenttest-pool"

// A realNode is an agent at work on the machine of the test, which writes to an
// API server that is made up.
type realNode struct {
	t         *testing.T
	client    *fake.Clientset
	events    *record.FakeRecorder
	agent     *Agent
	stop      func()
	processes atomic.Int64
	changes   watch.Interface
}

// newRealNode starts an agent that is to make a group.
func newRealNode(t *testing.T, devices ...string) *realNode {
	t.Helper()
	n := newIdleNode(t, func(nls *v1alpha1.NodeLocalStorage) {
		nls.Spec.ListConfig.VGs.Include = []string{realGroup}
		nls.Spec.ResourceToBeInited.VGs = []v1alpha1.VGToBeInited{{Name: realGroup, Devices: devices}}
	})
	n.start(hostexec.OnHost("/"))
	return n
}

// newIdleNode is a node on which no agent runs yet.
func newIdleNode(t *testing.T, spec func(*v1alpha1.NodeLocalStorage)) *realNode {
	t.Helper()
	n := &realNode{t: t, client: fake.NewSimpleClientset(), events: record.NewFakeRecorder(1000)}
	ours := n.client.CsiV1alpha1().NodeLocalStorages()
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "first"}}
	nls.Spec.NodeName = "n1"
	spec(nls)
	if _, err := ours.Create(t.Context(), nls, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.changes, err = ours.Watch(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	return n
}

// start starts an agent that would look by itself once an hour: what it reports it reports
// because it was told. It stops with the test, or before.
func (n *realNode) start(host hostexec.Runner) {
	n.t.Helper()
	counted := hostexec.RunnerFunc(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		n.processes.Add(1)
		return host.Run(ctx, name, args...)
	})
	agent, err := New(Options{Node: "n1", Driver: volume.DefaultDriver, HostRoot: "/", Interval: time.Hour, Heartbeat: time.Hour},
		Host{
			Groups: lvm.New(counted), Devices: blockdev.New(counted, "/"), Wiper: wipe.New(counted, "/"), Mounts: mounts.New(counted, "/"),
			Book: exclusive.NewBook("/"), Begun: begun.New("/"),
		}, n.client, n.events, prometheus.NewRegistry())
	if err != nil {
		n.t.Fatal(err)
	}
	n.agent = agent
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 2)
	go func() { done <- agent.Watch(ctx) }()
	go func() { done <- agent.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		for range cap(done) {
			if err := <-done; err != nil {
				n.t.Errorf("running the agent: %v", err)
			}
		}
	})
	n.t.Cleanup(n.stop)
}

// host runs a program on the machine, behind the agent's back.
func (n *realNode) host(name string, args ...string) string {
	n.t.Helper()
	return runOnHost(n.t, name, args...)
}

func runOnHost(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := hostexec.OnHost("/").Run(context.WithoutCancel(t.Context()), name, args...)
	if err != nil {
		t.Fatalf("running %s %v: %v", name, args, err)
	}
	return string(out)
}

// wantReport waits until a report is as it should be, and says how long that took.
func (n *realNode) wantReport(what string, asItShouldBe func(v1alpha1.NodeLocalStorageStatus) bool) {
	n.t.Helper()
	began, patience := time.Now(), time.After(30*time.Second)
	var last v1alpha1.NodeLocalStorageStatus
	for {
		nls, err := n.client.CsiV1alpha1().NodeLocalStorages().Get(n.t.Context(), "n1", metav1.GetOptions{})
		if err != nil {
			n.t.Fatal(err)
		}
		if last = nls.Status; asItShouldBe(last) {
			n.t.Logf("%s: reported after %s", what, time.Since(began).Round(10*time.Millisecond))
			return
		}
		select {
		case <-n.changes.ResultChan():
		case <-patience:
			n.t.Fatalf("%s: not reported; the last report is %+v", what, last)
		}
	}
}

func reportedGroup(status v1alpha1.NodeLocalStorageStatus) (v1alpha1.VolumeGroup, bool) {
	groups := status.NodeStorageInfo.VolumeGroups
	i := slices.IndexFunc(groups, func(g v1alpha1.VolumeGroup) bool { return g.Name == realGroup })
	if i < 0 {
		return v1alpha1.VolumeGroup{}, false
	}
	return groups[i], true
}

func hasCondition(status v1alpha1.NodeLocalStorageStatus, reason, mention string) bool {
	return slices.ContainsFunc(status.Conditions, func(c metav1.Condition) bool {
		return c.Reason == reason && strings.Contains(c.Message, mention)
	})
}

// TestRealDisksBecomeAGroup needs root, LVM with a device-mapper, and two blank
// disks in LAB_DISKS, separated by commas. It overwrites the disks.
func TestRealDisksBecomeAGroup(t *testing.T) {
	disks := strings.Split(os.Getenv("LAB_DISKS"), ",")
	if len(disks) < 2 {
		t.Fatal("LAB_DISKS names fewer than two disks; run this with hack/test.sh lvm")
	}
	first, second := disks[0], disks[1]
	runOnHost(t, "mkfs.ext4", "-q", "-F", second)
	t.Cleanup(func() {
		runOnHost(t, "lvm", "vgremove", "--force", "--yes", realGroup)
		devtest.Blank(t, first, second)
	})
	n := newRealNode(t, first, second)

	target := t.TempDir()
	n.host("mount", second, target)
	isMounted := func(s v1alpha1.NodeLocalStorageStatus) bool {
		return slices.ContainsFunc(s.NodeStorageInfo.MountPoints, func(m v1alpha1.MountPoint) bool {
			return m.Name == target && m.Device == second && m.FsType == "ext4" && m.Total > 0
		}) && hasCondition(s, blockdev.IsMounted, second)
	}
	n.wantReport("a file system that was mounted", isMounted)
	n.host("umount", target)
	n.wantReport("a file system that was unmounted", func(s v1alpha1.NodeLocalStorageStatus) bool { return !isMounted(s) })

	n.wantReport("a group of the blank disk alone", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, ok := reportedGroup(s)
		return ok && slices.Equal(g.PhysicalVolumes, []string{first}) && g.Allocatable == g.Total && g.Total > 0 &&
			slices.Contains(s.FilteredStorageInfo.VolumeGroups, realGroup) && hasCondition(s, blockdev.HasSignature, second)
	})
	if got := n.host("blkid", "-p", "-o", "value", "-s", "TYPE", second); strings.TrimSpace(got) != "ext4" {
		t.Fatalf("%s carries %q now", second, got)
	}

	n.host("lvm", "lvcreate", "--yes", "--name", "data", "--size", "8m", "--addtag", volume.IDTag("a volume"), realGroup)
	n.wantReport("a volume of ours", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, _ := reportedGroup(s)
		return len(g.LogicalVolumes) == 1 && g.LogicalVolumes[0].VolumeID == "a volume" && g.Available == g.Total-8<<20 && g.Allocatable == g.Total
	})
	n.host("lvm", "lvcreate", "--yes", "--name", "theirs", "--size", "8m", realGroup)
	n.wantReport("a volume of somebody else", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, _ := reportedGroup(s)
		return len(g.LogicalVolumes) == 2 && g.Allocatable == g.Total-8<<20
	})

	// A tag changes nothing that the kernel knows: LVM's own records tell.
	n.host("lvm", "lvchange", "--addtag", volume.IDTag("adopted"), realGroup+"/theirs")
	n.wantReport("a tag", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, _ := reportedGroup(s)
		return g.Allocatable == g.Total
	})

	devtest.Blank(t, second)
	if err := os.WriteFile(filepath.Join("/sys/class/block", filepath.Base(second), "uevent"), []byte("change"), 0); err != nil {
		t.Fatal(err) // what udev does when a program that wrote to a disk closes it
	}
	n.wantReport("the disk that became blank", func(s v1alpha1.NodeLocalStorageStatus) bool {
		g, _ := reportedGroup(s)
		return len(g.PhysicalVolumes) == 2 && !hasCondition(s, blockdev.HasSignature, second)
	})

	// The agent's own work makes events; it must come to rest.
	for resting := false; !resting; {
		before := n.processes.Load()
		<-time.After(3 * time.Second)
		resting = n.processes.Load() == before
	}
	n.client.ClearActions()
	before := n.processes.Load()
	<-time.After(5 * time.Second)
	if ran := n.processes.Load() - before; ran != 0 {
		t.Errorf("%d processes on an idle node", ran)
	}
	if actions := n.client.Actions(); len(actions) != 0 {
		t.Errorf("an idle agent did %v", actions)
	}
}
