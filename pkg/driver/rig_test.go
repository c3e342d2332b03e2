package driver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	nlsfake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/nodeapi"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/tlsfiles/tlstest"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	nodeName = "node-1"
	id       = "local-0f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c11"
	mib      = capacity.MiB
)

// parts are what a node consists of, fake or real.
type parts struct {
	lvm      *lvm.Host // for the agent
	managed  []string
	volumes  provisioner
	services driver.NodeOptions
	wholes   func(*v1alpha1.NodeLocalStorage) // adds to a report what is given whole; nil for nothing
}

type provisioner = driver.RemoteNode

// rig is a cluster of one node: API objects, the CSI controller, the node's API
// behind mutual TLS, and the CSI services of both on one socket.
type rig struct {
	t         testing.TB
	parts     parts
	reports   *nlsfake.Clientset
	cluster   *fake.Clientset
	directory *directory.Directory
	socket    string
	conn      *grpc.ClientConn
}

// reporting is an agent: it reports after every change.
type reporting struct {
	driver.RemoteNode
	rig *rig
}

func (r reporting) Ensure(ctx context.Context, spec provision.Spec) (provision.Volume, error) {
	vol, err := r.RemoteNode.Ensure(ctx, spec)
	r.rig.report()
	return vol, err
}

func (r reporting) Remove(ctx context.Context, removal provision.Removal) error {
	err := r.RemoteNode.Remove(ctx, removal)
	r.rig.report()
	return err
}

func (r reporting) Grow(ctx context.Context, g provision.Growth) (capacity.Bytes, error) {
	size, err := r.RemoteNode.Grow(ctx, g)
	r.rig.report()
	return size, err
}

func (r reporting) Snapshot(ctx context.Context, spec provision.SnapshotSpec) (provision.Snapshot, error) {
	made, err := r.RemoteNode.Snapshot(ctx, spec)
	r.rig.report()
	return made, err
}

func (r reporting) RemoveSnapshot(ctx context.Context, removal provision.SnapshotRemoval) error {
	err := r.RemoteNode.RemoveSnapshot(ctx, removal)
	r.rig.report()
	return err
}

func newRig(t testing.TB, p parts, more ...func(*driver.ControllerOptions)) *rig {
	t.Helper()
	r := &rig{
		t: t, parts: p, socket: filepath.Join(t.TempDir(), "csi.sock"),
		reports: nlsfake.NewSimpleClientset(&v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}),
		cluster: fake.NewClientset(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: nodeName},
			Status: corev1.NodeStatus{
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		}),
	}
	r.report()
	r.follow(r.serveNode())
	options := driver.ControllerOptions{Directory: r.directory, Nodes: r.directory, Snapshots: r.directory, Prefer: allocator.Binpack, Driver: volume.DefaultDriver, Cluster: "test"}
	for _, change := range more {
		change(&options)
	}
	server := driver.NewServer(driver.Services{
		Identity:   &driver.Identity{Driver: volume.DefaultDriver, Version: "test", Ready: func() error { return nil }},
		Controller: driver.NewController(options),
		Node:       driver.NewNode(p.services),
	})
	listener, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	r.conn, err = grpc.NewClient("unix://"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.conn.Close() })
	return r
}

// serveNode serves the node's API and returns its port and a pool that calls it.
func (r *rig) serveNode() (int, *nodeapi.Pool) {
	dir, ca := r.t.TempDir(), tlstest.NewAuthority(r.t)
	server, client := ca.Write(r.t, dir, nodeapi.DefaultServerName, ca), ca.Write(r.t, dir, nodeapi.DefaultClientName, ca)
	serving, err := tlsfiles.Server(server.Cert, server.Key, server.CA)
	if err != nil {
		r.t.Fatal(err)
	}
	calling, err := tlsfiles.Client(client.Cert, client.Key, client.CA, nodeapi.DefaultServerName)
	if err != nil {
		r.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	grpcServer := nodeapi.NewServer(r.parts.volumes, serving, nodeapi.DefaultClientName)
	go func() { _ = grpcServer.Serve(listener) }()
	r.t.Cleanup(grpcServer.Stop)
	pool := nodeapi.NewPool(calling)
	r.t.Cleanup(func() { _ = pool.Close() })
	return listener.Addr().(*net.TCPAddr).Port, pool
}

func (r *rig) follow(port int, pool *nodeapi.Pool) {
	var err error
	r.directory, err = directory.New(directory.Options{
		Kubernetes: r.cluster, Storage: r.reports, Driver: volume.DefaultDriver, NodePort: port, NodeGrace: time.Minute, Clock: clock.RealClock{},
		Dial: func(address string) (driver.RemoteNode, error) {
			client, err := pool.Node(address)
			return reporting{client, r}, err
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(cancel)
	if err := r.directory.Run(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// report writes what an agent would.
func (r *rig) report() {
	seen, err := r.parts.lvm.Report(context.Background())
	if err != nil {
		r.t.Error(err)
		return
	}
	nls := &v1alpha1.NodeLocalStorage{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	nls.Status.NodeStorageInfo.Phase = v1alpha1.NodeStorageRunning
	nls.Status.FilteredStorageInfo.VolumeGroups = slices.Clone(r.parts.managed)
	for _, group := range seen.Groups {
		reported := v1alpha1.VolumeGroup{
			Name: group.Name, Total: int64(group.Size), Allocatable: int64(group.Size), Available: int64(group.Free), ExtentSize: int64(group.Extent),
		}
		for _, pv := range group.PhysicalVolumes {
			reported.PhysicalVolumes = append(reported.PhysicalVolumes, pv.Device)
			reported.PhysicalVolumesAvailable = append(reported.PhysicalVolumesAvailable, int64(pv.Free))
		}
		for _, v := range group.Volumes {
			reported.LogicalVolumes = append(reported.LogicalVolumes, describe(v))
		}
		nls.Status.NodeStorageInfo.VolumeGroups = append(nls.Status.NodeStorageInfo.VolumeGroups, reported)
	}
	if r.parts.wholes != nil {
		r.parts.wholes(nls)
	}
	if _, err := r.reports.CsiV1alpha1().NodeLocalStorages().UpdateStatus(context.Background(), nls, metav1.UpdateOptions{}); err != nil && !errors.Is(err, provisiontest.ErrKilled) {
		r.t.Error(err)
	}
}

// describe says of a logical volume what an agent would.
func describe(v lvm.Volume) v1alpha1.LogicalVolume {
	described := v1alpha1.LogicalVolume{Name: v.Name, VGName: v.Group, Total: int64(v.Size), Deleted: v.HasTag(volume.DeletedTag)}
	described.VolumeID, _ = volume.IDFromTags(v.Tags)
	described.SnapshotID, _ = volume.SnapshotFromTags(v.Tags)
	described.SourceVolumeID, _ = volume.SourceFromTags(v.Tags)
	size, _ := volume.SourceSizeFromTags(v.Tags)
	described.SourceSize = int64(size)
	described.RestoreReadOnly = volume.SnapshotPolicyFromTags(v.Tags).ReadOnly
	if at, ok := volume.CreatedFromTags(v.Tags); ok {
		created := metav1.NewMicroTime(at)
		described.CreatedAt = &created
	}
	if v.Invalid() {
		described.Condition = v1alpha1.StorageFault
	}
	return described
}

// capability of a file system, or of a block device for "block".
func capability(fsType string) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	if fsType == "block" {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}}
	}
	return c
}

// claim asks for a volume of size bytes, as csi-provisioner does.
func claim(id, fsType string, size int64, parameters map[string]string) *csi.CreateVolumeRequest {
	all := map[string]string{"volumeType": "LVM", "csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "default"}
	maps.Copy(all, parameters)
	return &csi.CreateVolumeRequest{
		Name: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size}, Parameters: all,
		VolumeCapabilities: []*csi.VolumeCapability{capability(fsType)},
		AccessibilityRequirements: &csi.TopologyRequirement{
			Requisite: []*csi.Topology{{Segments: map[string]string{volume.TopologyKey: nodeName}}},
			Preferred: []*csi.Topology{{Segments: map[string]string{volume.TopologyKey: nodeName}}},
		},
	}
}

// reserver is a scheduler that always gives the same answer.
type reserver struct {
	group, path, identity string

	err   error
	asked []driver.Reservation

	lacking error         // what Keep says
	kept    []driver.Room // in the order asked
	ended   []driver.Room
	given   []driver.Reservation // given up
}

func (r *reserver) GiveUp(_ context.Context, was driver.Reservation, d driver.Decision) error {
	if d.Attempt != fmt.Sprint(len(r.asked)) {
		return errors.New("this is another answer")
	}
	r.given = append(r.given, was)
	return nil
}

func (r *reserver) Keep(_ context.Context, room driver.Room) error {
	r.kept = append(r.kept, room)
	return r.lacking
}

func (r *reserver) GiveBack(_ context.Context, room driver.Room) error {
	r.ended = append(r.ended, room)
	return nil
}

func (r *reserver) Reserve(_ context.Context, want driver.Reservation) (driver.Decision, error) {
	r.asked = append(r.asked, want)
	if want.Kind != volume.LVM {
		return driver.Decision{Path: r.path, Identity: r.identity, Attempt: fmt.Sprint(len(r.asked))}, r.err
	}
	return driver.Decision{Group: r.group, Path: r.path, Identity: r.identity, Attempt: fmt.Sprint(len(r.asked))}, r.err
}

func withReserver(r *reserver) func(*driver.ControllerOptions) {
	return func(o *driver.ControllerOptions) { o.Reserver = r }
}

func wantCode(t *testing.T, err error, want codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("got %v, want code %s", err, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// paths returns where a pod would have a volume.
func paths(t testing.TB, id string) (staging, target string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"staging", "pods"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "staging"), filepath.Join(dir, "pods", id)
}
