//go:build root

package provision_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockcopy"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/devmapper"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// This test wants root, LVM with a device-mapper, and a blank disk of 1 GiB as the first
// of LAB_DISKS. It overwrites the disk.

const watchedGroup = "watch-test"

// realNode is a node with real LVM, whose snapshots are watched.
func realNode(t *testing.T) (volumes *provision.Provisioner, host *lvm.Host, told func() []string) {
	t.Helper()
	disk, _, _ := strings.Cut(os.Getenv("LAB_DISKS"), ",")
	if disk == "" {
		t.Fatal("set LAB_DISKS to a blank disk that may be overwritten, such as /dev/ubdb")
	}
	runner := hostexec.OnHost("/")
	host = lvm.New(runner)
	must(t, host.CreateGroup(t.Context(), watchedGroup, []string{disk}))
	t.Cleanup(func() {
		_, err := runner.Run(context.Background(), "lvm", "vgremove", "--yes", "--force", watchedGroup)
		if err != nil {
			t.Error(err)
		}
	})
	volumes = provision.New(t.Context(), &provision.Logical{
		Host: host, Devices: devfile.Root("/"), Managed: provisiontest.Managed{watchedGroup: capacity.GiB}, Prefer: allocator.Binpack, Clock: clock.RealClock{},
		Copier: blockcopy.New("/"), FileSystems: mounts.New(runner, "/"), Scratch: "/dev/shm/copies",
		Making: begun.NewVolumes(t.TempDir()),
	})
	t.Cleanup(volumes.Close)
	var mu sync.Mutex
	var words []string
	watcher := &provision.Watcher{
		Volumes: volumes, Gauge: devmapper.New("/"), Host: host, Devices: devfile.Root("/"), Clock: clock.RealClock{},
		Tell: func(_ context.Context, trouble provision.Trouble) {
			mu.Lock()
			defer mu.Unlock()
			words = append(words, trouble.Snapshot.Name+" "+trouble.Reason)
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { watcher.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return volumes, host, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return words
	}
}

// rewrite overwrites all of a volume by direct IO, as fast as it can be.
func rewrite(t *testing.T, name string, size capacity.Bytes) {
	t.Helper()
	file, err := os.OpenFile(lvm.DevicePath(watchedGroup, name), os.O_WRONLY|unix.O_DIRECT, 0)
	must(t, err)
	piece, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	must(t, err)
	copy(piece, bytes.Repeat([]byte{0x77}, len(piece)))
	began := time.Now()
	for at := capacity.Bytes(0); at < size; at += capacity.Bytes(len(piece)) {
		if _, err := file.WriteAt(piece, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	must(t, errors.Join(file.Close(), unix.Munmap(piece)))
	t.Logf("wrote %s in %s, %.0f MiB/s", size, took, float64(size/mib)/took.Seconds())
}

func TestAVolumeRewrittenAtFullSpeedKeepsItsSnapshotWhileItsGroupHasSpace(t *testing.T) {
	const size = 384 * mib
	volumes, host, told := realNode(t)
	ctx := t.Context()
	stand := func(name string, size, space capacity.Bytes) {
		t.Helper()
		_, err := volumes.Ensure(ctx, provision.Spec{ID: name, Kind: volume.LVM, Group: watchedGroup, Size: size})
		must(t, err)
		_, err = volumes.Snapshot(ctx, provision.SnapshotSpec{
			ID: "snap-of-" + name, Volume: name, Kind: volume.LVM, Group: watchedGroup, Space: space, Step: 64 * mib, Threshold: 50,
		})
		must(t, err)
	}
	invalid := func(name string) bool {
		t.Helper()
		v, err := host.Volume(ctx, watchedGroup, name)
		must(t, err)
		t.Logf("%s has %s, %v %% full", name, v.Size, *v.DataPercent)
		return v.Invalid()
	}
	stand("data", size, 64*mib)
	// As kubelet does with a block volume: LVM would wait for who waits for LVM.
	loop, err := hostexec.OnHost("/").Run(ctx, "losetup", "--find", "--show", lvm.DevicePath(watchedGroup, "data"))
	must(t, err)
	rewrite(t, "data", size)
	_, err = hostexec.OnHost("/").Run(ctx, "losetup", "--detach", strings.TrimSpace(string(loop)))
	must(t, err)
	if invalid("snap-of-data") {
		t.Fatalf("the snapshot was lost; told was %q", told())
	}
	must(t, volumes.RemoveSnapshot(ctx, provision.SnapshotRemoval{ID: "snap-of-data", Kind: volume.LVM, Group: watchedGroup}))

	// Now there is not room enough: 640 MiB less 192 and what stands beside.
	stand("small", 64*mib, 16*mib)
	_, err = volumes.Ensure(ctx, provision.Spec{ID: "rest", Kind: volume.LVM, Group: watchedGroup, Size: 384 * mib})
	must(t, err)
	_, err = volumes.Snapshot(ctx, provision.SnapshotSpec{
		ID: "snap-of-data", Volume: "data", Kind: volume.LVM, Group: watchedGroup, Space: 64 * mib, Step: 64 * mib, Threshold: 50,
	})
	must(t, err)
	rewrite(t, "data", size)
	if !invalid("snap-of-data") {
		t.Error("there was no room for the snapshot, and it stands")
	}
	if invalid("snap-of-small") {
		t.Error("the snapshot of another volume was lost as well")
	}
	for until := time.Now().Add(10 * time.Second); len(told()) < 2 && time.Now().Before(until); {
		<-time.After(10 * time.Millisecond)
	}
	if got := strings.Join(told(), ", "); !strings.HasSuffix(got, "snap-of-data "+provision.SnapshotLost) {
		t.Errorf("told was %q", got)
	}
	rewrite(t, "data", size) // the volume itself goes on
	for _, name := range []string{"snap-of-data", "snap-of-small"} {
		must(t, volumes.RemoveSnapshot(ctx, provision.SnapshotRemoval{ID: name, Kind: volume.LVM, Group: watchedGroup}))
	}
}
