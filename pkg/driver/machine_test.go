//go:build !root

package driver_test

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	nlsfake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// A machine runs everything that has to do with a volume: the CSI controller, the
// node's plugin, its agent, and the sidecars and the kubelet that call them. A Killer
// may end all of it at once: at each process, at each step of the node, at each side
// of a call to the node and of a write to the API server. The disks, the mounts and the API
// server's objects stay.
type machine struct {
	*rig
	host            *fakeHost
	controller      *driver.Controller
	node            *driver.Node
	staging, target string
	contents        map[string]bool // VolumeSnapshotContents that are ready, by handle
	kind            volume.Kind     // of its volumes; LVM when empty
	access          string          // their file system, or "block"; ext4 when empty
}

func newMachine(t *testing.T, k *provisiontest.Killer) *machine {
	t.Helper()
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool": 4 * capacity.GiB})
	host.killer = k
	host.node.Use(k)
	m := &machine{host: host, contents: map[string]bool{}, rig: &rig{
		t: t, parts: p,
		reports: nlsfake.NewSimpleClientset(&v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}),
		cluster: fake.NewClientset(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: nodeName},
			Status: corev1.NodeStatus{
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		}),
	}}
	m.reports.PrependReactor("*", "*", mortalWrites(k, m.reports.Tracker()))
	m.cluster.PrependReactor("*", "*", mortalWrites(k, m.cluster.Tracker()))
	m.staging, m.target = paths(t, id)
	m.boot()
	return m
}

// mortalWrites makes each side of every write to the API server a point to die at.
func mortalWrites(k *provisiontest.Killer, tracker clienttesting.ObjectTracker) clienttesting.ReactionFunc {
	react := clienttesting.ObjectReaction(tracker)
	return func(action clienttesting.Action) (bool, runtime.Object, error) {
		switch action.GetVerb() {
		case "get", "list", "watch":
			return false, nil, nil
		}
		write := "the " + action.GetVerb() + " of " + action.GetResource().Resource
		if err := k.Pass("before " + write); err != nil {
			return true, nil, err
		}
		_, obj, err := react(action)
		if died := k.Pass("after " + write); died != nil {
			return true, nil, died
		}
		return true, obj, err
	}
}

// boot starts all processes. None remembers anything; the agent reports first.
func (m *machine) boot() {
	m.t.Helper()
	m.host.node.Restart()
	m.report()
	var err error
	m.directory, err = directory.New(directory.Options{
		Kubernetes: m.cluster, Storage: m.reports, Driver: volume.DefaultDriver, NodePort: 1, NodeGrace: time.Minute, Clock: clock.RealClock{},
		Dial: func(string) (driver.RemoteNode, error) { return mortalNode{m.host.node.Provisioner, m}, nil },
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.t.Cleanup(cancel)
	if err := m.directory.Run(ctx); err != nil {
		m.t.Fatal(err)
	}
	m.controller = driver.NewController(driver.ControllerOptions{
		Directory: m.directory, Nodes: m.directory, Snapshots: m.directory, Reserver: &reserver{group: "pool"}, Prefer: allocator.Binpack, Driver: volume.DefaultDriver, Cluster: "test",
	})
	m.node = m.host.process()
}

// mortalNode is the node as the controller reaches it: a point to die at is on either
// side of each call, and the agent reports after each.
type mortalNode struct {
	driver.RemoteNode
	m *machine
}

func (n mortalNode) call(what string, do func() error) error {
	if err := n.m.host.killer.Pass("before the call to " + what); err != nil {
		return err
	}
	err := do()
	n.m.report()
	return errors.Join(err, n.m.host.killer.Pass("after the call to "+what))
}

func (n mortalNode) Ensure(ctx context.Context, spec provision.Spec) (vol provision.Volume, err error) {
	err = n.call("make a volume", func() (err error) { vol, err = n.RemoteNode.Ensure(ctx, spec); return err })
	return vol, err
}

func (n mortalNode) Remove(ctx context.Context, r provision.Removal) error {
	return n.call("remove a volume", func() error { return n.RemoteNode.Remove(ctx, r) })
}

func (n mortalNode) Grow(ctx context.Context, g provision.Growth) (size capacity.Bytes, err error) {
	err = n.call("grow a volume", func() (err error) { size, err = n.RemoteNode.Grow(ctx, g); return err })
	return size, err
}

func (n mortalNode) Modify(ctx context.Context, modification provision.Modification) error {
	return n.call("change a volume", func() error { return n.RemoteNode.Modify(ctx, modification) })
}

func (n mortalNode) Snapshot(ctx context.Context, spec provision.SnapshotSpec) (snapshot provision.Snapshot, err error) {
	err = n.call("snapshot a volume", func() (err error) { snapshot, err = n.RemoteNode.Snapshot(ctx, spec); return err })
	return snapshot, err
}

func (n mortalNode) RemoveSnapshot(ctx context.Context, r provision.SnapshotRemoval) error {
	return n.call("remove a snapshot", func() error { return n.RemoteNode.RemoveSnapshot(ctx, r) })
}

// What the sidecars and the kubelet do, each of it as often as they like.

// provision makes a volume and its PersistentVolume, as csi-provisioner does.
func (m *machine) provision(ctx context.Context, name string, source *csi.VolumeContentSource) error {
	size := int64(400 * mib)
	if m.kind == volume.MountPoint {
		size = 1
	}
	req := claim(name, m.use(), size, map[string]string{"volumeType": string(cmp.Or(m.kind, volume.LVM))})
	req.VolumeContentSource = source
	made, err := m.controller.CreateVolume(ctx, req)
	if err != nil {
		return err
	}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{
		Driver: volume.DefaultDriver, VolumeHandle: made.GetVolume().GetVolumeId(), VolumeAttributes: made.GetVolume().GetVolumeContext(),
	}
	pv.Spec.Capacity = sized(made.GetVolume().GetCapacityBytes())
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: volume.TopologyKey, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName},
		}}}},
	}}
	_, err = m.cluster.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func sized(bytes int64) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(bytes, resource.BinarySI)}
}

// unprovision deletes a volume and its PersistentVolume.
func (m *machine) unprovision(ctx context.Context, name string) error {
	if _, err := m.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: name}); err != nil {
		return err
	}
	err := m.cluster.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// use is how the volumes are used.
func (m *machine) use() string { return cmp.Or(m.access, "ext4") }

func (m *machine) context() map[string]string {
	if m.kind != "" {
		pv, err := m.cluster.CoreV1().PersistentVolumes().Get(context.Background(), id, metav1.GetOptions{})
		if err != nil {
			m.t.Fatal(err)
		}
		return pv.Spec.CSI.VolumeAttributes
	}
	return volume.Context{Kind: volume.LVM, Group: "pool"}.Attributes()
}

// attach hands the volume to a pod, as the kubelet does.
func (m *machine) attach(ctx context.Context) error {
	_, err := m.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: m.staging, VolumeCapability: capability(m.use()), VolumeContext: m.context(),
	})
	if err != nil {
		return err
	}
	_, err = m.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: m.staging, TargetPath: m.target, VolumeCapability: capability(m.use()), VolumeContext: m.context(),
	})
	return err
}

// detach takes the volume from its pod.
func (m *machine) detach(ctx context.Context) error {
	_, err := m.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: m.target})
	if err != nil {
		return err
	}
	_, err = m.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: m.staging})
	return err
}

// expand makes the volume and its file system larger, as csi-resizer and the kubelet do.
func (m *machine) expand(ctx context.Context, size capacity.Bytes) error {
	grown, err := m.controller.ControllerExpandVolume(ctx, expandRequest("ext4", size))
	if err != nil {
		return err
	}
	pv, err := m.cluster.CoreV1().PersistentVolumes().Get(ctx, id, metav1.GetOptions{})
	if err != nil {
		return err
	}
	pv.Spec.Capacity = sized(grown.GetCapacityBytes())
	if _, err := m.cluster.CoreV1().PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{}); err != nil {
		return err
	}
	_, err = m.node.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{
		VolumeId: id, VolumePath: m.target, StagingTargetPath: m.staging, VolumeCapability: capability("ext4"),
		CapacityRange: &csi.CapacityRange{RequiredBytes: int64(size)},
	})
	return err
}

// snapshot makes a snapshot of the volume, and says so on its VolumeSnapshotContent, as
// csi-snapshotter does.
func (m *machine) snapshot(ctx context.Context) error {
	made, err := m.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: snapID, SourceVolumeId: id})
	if err != nil {
		return err
	}
	return m.write("status of volumesnapshotcontents", func() { m.contents[made.GetSnapshot().GetSnapshotId()] = true })
}

// unsnapshot deletes the snapshot and its VolumeSnapshotContent.
func (m *machine) unsnapshot(ctx context.Context) error {
	if _, err := m.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: snapID}); err != nil {
		return err
	}
	return m.write("removal of volumesnapshotcontents", func() { delete(m.contents, snapID) })
}

// write is a write to the API server of something that its fake has not.
func (m *machine) write(what string, do func()) error {
	if err := m.host.killer.Pass("before the " + what); err != nil {
		return err
	}
	do()
	return m.host.killer.Pass("after the " + what)
}

// own is an inline volume of a pod of the machine.
func (m *machine) own() scratch { return scratchOf(m.host.kubelet, "web-0", podUID) }

// wantNothing checks that nothing is left of any volume, anywhere.
func (m *machine) wantNothing(after string) {
	m.t.Helper()
	pvs, err := m.cluster.CoreV1().PersistentVolumes().List(context.Background(), metav1.ListOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	if left := m.host.node.Volumes(); len(left) > 0 || len(m.host.mounted)+m.host.node.Devices.Mounted() > 0 || len(pvs.Items)+len(m.contents) > 0 {
		m.t.Errorf("after death %q are left: volumes %q, mounts %v and %d of copies, %d PersistentVolumes, %d VolumeSnapshotContents",
			after, left, m.host.mounted, m.host.node.Devices.Mounted(), len(pvs.Items), len(m.contents))
	}
	if owners, on := m.host.node.Disks.Owners(), m.host.node.Disks.Contents(); len(owners) > 0 || len(on) > 0 {
		m.t.Errorf("after death %q are left: %v in the book of devices, and %v on them", after, owners, on)
	}
	if files, err := os.ReadDir(m.host.node.Disks.Dir()); err != nil || len(files) > 0 {
		m.t.Errorf("after death %q are left: %v in the mount point, %v", after, files, err)
	}
	if paths, err := os.ReadDir(filepath.Dir(m.target)); err != nil || len(paths) > 0 {
		m.t.Errorf("after death %q are left: target paths %v, %v", after, paths, err)
	}
	if _, err := os.Lstat(m.own().target()); !errors.Is(err, os.ErrNotExist) {
		m.t.Errorf("after death %q is left: the target path of an inline volume, %v", after, err)
	}
}
