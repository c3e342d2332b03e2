//go:build root

package provision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// These tests want root, LVM with a device-mapper that knows snapshots, mkfs of ext4,
// xfs and btrfs, and blank disks of 3 GiB together in LAB_DISKS, and in LAB_SCSI_DISKS
// such as can discard. They overwrite the disks.

const (
	realGroup = "provision-test"
	realDir   = "/dev/shm/provision-test" // not where the disk of the machine is
)

// bed is a Provisioner over the LVM and the file systems of this machine.
type bed struct {
	*provision.Provisioner
	t       testing.TB
	counter *hostexec.Counter
	host    *lvm.Host
	mounts  *mounts.Host
	size    capacity.Bytes
	root    string // of what outlives the process

	mu      sync.Mutex // guards what follows
	results []blockcopy.Result
	copying func(done capacity.Bytes) // called while a copy is made
}

func newBed(t testing.TB) *bed { return newBedOn(t, "LAB_DISKS") }

// newBedOn is newBed on the disks that a variable of the environment names.
func newBedOn(t testing.TB, variable string) *bed {
	t.Helper()
	disks := strings.Split(os.Getenv(variable), ",")
	if disks[0] == "" {
		t.Fatalf("set %s to blank disks that may be overwritten, such as /dev/ubdb,/dev/ubdc", variable)
	}
	runner := hostexec.NewCounter(hostexec.OnHost("/"))
	b := &bed{t: t, root: t.TempDir(), counter: runner, host: lvm.New(runner), mounts: mounts.New(runner, "/")}
	if err := b.host.CreateGroup(t.Context(), realGroup, disks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		b.unmountAll()
		b.run("lvm", "vgremove", "--yes", "--force", realGroup)
		for _, disk := range disks {
			b.run("wipefs", "--all", "--quiet", disk)
		}
	})
	group, err := b.host.Group(t.Context(), realGroup)
	if err != nil {
		t.Fatal(err)
	}
	b.size = group.Size
	b.restart()
	return b
}

// restart replaces the process that provisions.
func (b *bed) restart() {
	b.t.Helper()
	if b.Provisioner != nil {
		b.Close()
	}
	logical := &provision.Logical{
		Standing: provision.NewStanding(),
		Host:     b.host, Devices: devfile.Root("/"), Managed: provisiontest.Managed{realGroup: b.size}, Prefer: allocator.Binpack, Clock: clock.RealClock{},
		Copier: b, FileSystems: b.mounts, Scratch: realDir + "/scratch",
		Making: begun.NewVolumes(b.root),
	}
	if err := logical.Recall(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.Provisioner = provision.New(b.t.Context(), logical)
}

// Copy copies and remembers what that was.
func (b *bed) Copy(ctx context.Context, source, target string, o blockcopy.Options) (blockcopy.Result, error) {
	progress := o.Progress
	o.Progress = func(done, total capacity.Bytes) {
		progress(done, total)
		if b.copying != nil {
			b.copying(done)
		}
	}
	result, err := blockcopy.New("/").Copy(ctx, source, target, o)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.results = append(b.results, result)
	return result, err
}

func (b *bed) run(program string, args ...string) string {
	b.t.Helper()
	out, err := hostexec.OnHost("/").Run(context.Background(), program, args...)
	if err != nil {
		b.t.Error(err)
	}
	return string(out)
}

func (b *bed) unmountAll() {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		b.t.Fatal(err)
	}
	all, err := mounts.ParseMountinfo(data)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, m := range slices.Backward(all) {
		if strings.HasPrefix(m.Target, realDir+"/") {
			if err := unix.Unmount(m.Target, 0); err != nil {
				b.t.Error(err)
			}
		}
	}
}

func (b *bed) ensure(s provision.Spec) string {
	b.t.Helper()
	s.Kind, s.Group, s.Layout = volume.LVM, realGroup, capacity.Linear
	if _, err := b.Ensure(b.t.Context(), s); err != nil {
		b.t.Fatal(err)
	}
	return lvm.DevicePath(realGroup, s.ID)
}

// mount mounts a volume and returns where.
func (b *bed) mount(id, fsType string) string {
	b.t.Helper()
	dir := filepath.Join(realDir, id)
	if err := b.mounts.Mount(b.t.Context(), lvm.DevicePath(realGroup, id), dir, fsType, nil); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

func (b *bed) snapshot(id, of string) {
	b.t.Helper()
	if _, err := b.Snapshot(b.t.Context(), provision.SnapshotSpec{
		ID: id, Volume: of, Kind: volume.LVM, Group: realGroup, Space: 400 * mib, Step: 100 * mib, Threshold: 50,
	}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) remove(id string) {
	b.t.Helper()
	if err := b.Remove(b.t.Context(), provision.Removal{ID: id, Kind: volume.LVM, Group: realGroup}); err != nil {
		b.t.Error(err)
	}
}

// wantOnly wants no other volumes in the group.
func (b *bed) wantOnly(want ...string) {
	b.t.Helper()
	group, err := b.host.Group(b.t.Context(), realGroup)
	if err != nil {
		b.t.Fatal(err)
	}
	var got []string
	for _, v := range group.Volumes {
		got = append(got, v.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.t.Errorf("volumes are %q, want %q", got, want)
	}
}

func random(seed uint64, size int) []byte {
	source := rand.New(rand.NewPCG(seed, 0))
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(source.Uint32())
	}
	return p
}

// fill writes files, half of which it removes again, and one with a hole.
func (b *bed) fill(dir string) {
	b.t.Helper()
	for i := range 40 {
		path := filepath.Join(dir, fmt.Sprintf("file-%02d", i))
		if err := os.WriteFile(path, random(uint64(i), 100_000+i*20_011), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	for i := 0; i < 40; i += 2 {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("file-%02d", i))); err != nil {
			b.t.Fatal(err)
		}
	}
	hole, err := os.Create(filepath.Join(dir, "hole"))
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = hole.WriteAt(random(99, 5000), 8*int64(mib))
	if err := errors.Join(err, hole.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// wantFilled wants what fill wrote.
func (b *bed) wantFilled(dir string) {
	b.t.Helper()
	for i := 1; i < 40; i += 2 {
		name := fmt.Sprintf("file-%02d", i)
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, random(uint64(i), 100_000+i*20_011)) {
			b.t.Errorf("%s of the copy has %d bytes that are not those of the source (%v)", name, len(got), err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "hole"))
	if err != nil || !bytes.Equal(got, append(make([]byte, 8*mib), random(99, 5000)...)) {
		b.t.Errorf("the file with a hole has %d bytes that are not those of the source (%v)", len(got), err)
	}
}

// writeOn writes to a directory, and to the disk now and then, until what it returns is called.
func (b *bed) writeOn(dir string) (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		p := random(7, 64<<10)
		for i := 0; ctx.Err() == nil; i++ {
			file, err := os.Create(filepath.Join(dir, fmt.Sprintf("later-%02d", i%64)))
			if err != nil {
				b.t.Error(err)
				return
			}
			_, err = file.Write(p)
			if i%8 == 0 {
				err = errors.Join(err, file.Sync()) // as a database does
			}
			if err := errors.Join(err, file.Close()); err != nil {
				b.t.Error(err)
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

func (b *bed) uuid(id string) string {
	b.t.Helper()
	return strings.TrimSpace(b.run("blkid", "-p", "-s", "UUID", "-o", "value", lvm.DevicePath(realGroup, id)))
}

func totalOf(t testing.TB, dir string) capacity.Bytes {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	return capacity.Bytes(stat.Blocks) * capacity.Bytes(stat.Bsize)
}

// TestCopiesOfMountedFileSystems restores and clones file systems while they are
// mounted and written to, and mounts all of them side by side.
func TestCopiesOfMountedFileSystems(t *testing.T) {
	for _, test := range []struct {
		fsType  string
		size    capacity.Bytes
		used    string // whose map of free space is followed
		ownUUID bool
	}{
		{"ext4", 300 * mib, "ext", false},
		{"xfs", 320 * mib, "xfs", true},
		{"btrfs", 200 * mib, "", true},
	} {
		t.Run(test.fsType, func(t *testing.T) {
			b := newBed(t)
			device := b.ensure(provision.Spec{ID: "local-source", Size: test.size})
			if err := b.mounts.Format(t.Context(), device, test.fsType); err != nil {
				t.Fatal(err)
			}
			source := b.mount("local-source", test.fsType)
			b.fill(source)
			stop := b.writeOn(source)
			b.snapshot("snap-1", "local-source")
			b.ensure(provision.Spec{ID: "local-restored", Size: test.size, Source: provision.Source{Snapshot: "snap-1"}})
			b.ensure(provision.Spec{ID: "local-larger", Size: test.size + 200*mib, Source: provision.Source{Snapshot: "snap-1"}})
			b.ensure(provision.Spec{ID: "local-cloned", Size: test.size + 100*mib, Source: provision.Source{Volume: "local-source"}})
			stop()
			b.wantOnly("local-source", "snap-1", "local-restored", "local-larger", "local-cloned")
			for _, result := range b.results {
				t.Logf("%+v", result)
				if result.FileSystem != test.used {
					t.Errorf("the map of %q was followed, not of %q: %s", result.FileSystem, test.used, result.Because)
				}
			}
			seen := map[string]bool{b.uuid("local-source"): true}
			of := totalOf(t, source)
			for id, more := range map[string]capacity.Bytes{"local-restored": 0, "local-larger": 200 * mib, "local-cloned": 100 * mib} {
				dir := b.mount(id, test.fsType)
				b.wantFilled(dir)
				if got := totalOf(t, dir); got < of+more*9/10 || got > of+more*11/10 {
					t.Errorf("%s has room for %s, its source for %s, and is %s larger", id, got, of, more)
				}
				if err := os.WriteFile(filepath.Join(dir, "own"), []byte(id), 0o600); err != nil {
					t.Error(err)
				}
				if seen[b.uuid(id)] == test.ownUUID {
					t.Errorf("%s has the UUID %s, own: %t", id, b.uuid(id), !test.ownUUID)
				}
				seen[b.uuid(id)] = true
			}
			b.wantFilled(source)
			b.unmountAll()
			b.wantSound(test.fsType, "local-source", "local-restored", "local-larger", "local-cloned")
			// The copies outlive snapshot and source.
			if err := b.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: "snap-1", Kind: volume.LVM, Group: realGroup}); err != nil {
				t.Fatal(err)
			}
			b.remove("local-source")
			b.wantFilled(b.mount("local-cloned", test.fsType))
		})
	}
}

// wantSound checks the file systems of unmounted volumes.
func (b *bed) wantSound(fsType string, ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		device := lvm.DevicePath(realGroup, id)
		switch fsType {
		case "xfs":
			b.run("xfs_repair", "-n", device)
		case "btrfs":
			b.run("btrfs", "check", "--readonly", device)
		default:
			b.run("e2fsck", "-f", "-n", device)
		}
	}
}

func TestCopiesOfBlockVolumes(t *testing.T) {
	b := newBed(t)
	content := append(append(random(1, 20*int(mib)), make([]byte, 20*mib)...), random(2, 8*int(mib))...)
	device := b.ensure(provision.Spec{ID: "local-source", Size: 48 * mib, Block: true})
	if err := os.WriteFile(device, content, 0); err != nil {
		t.Fatal(err)
	}
	b.run("sync")
	b.snapshot("snap-1", "local-source")
	b.run("dd", "if=/dev/urandom", "of="+device, "bs=1M", "count=8", "conv=fsync,notrunc", "status=none")
	changed, err := os.ReadFile(device)
	if err != nil {
		t.Fatal(err)
	}
	// Where the copies will lie a former tenant wrote.
	former := b.ensure(provision.Spec{ID: "local-former", Size: 160 * mib})
	b.run("dd", "if=/dev/urandom", "of="+former, "bs=1M", "count=160", "oflag=direct", "status=none")
	b.remove("local-former")
	for id, test := range map[string]struct {
		from provision.Source
		size capacity.Bytes
		want []byte
	}{
		"local-restored": {provision.Source{Snapshot: "snap-1"}, 48 * mib, content},
		"local-larger":   {provision.Source{Snapshot: "snap-1"}, 80 * mib, content},
		"local-cloned":   {provision.Source{Volume: "local-source"}, 64 * mib, changed},
	} {
		copied := b.ensure(provision.Spec{ID: id, Size: test.size, Block: true, Source: test.from})
		got, err := os.ReadFile(copied)
		if err != nil || capacity.Bytes(len(got)) != test.size || !bytes.Equal(got[:len(test.want)], test.want) {
			t.Errorf("%s has %d bytes that are not those of its source (%v)", id, len(got), err)
		}
		if bytes.ContainsFunc(got[len(test.want):], func(r rune) bool { return r != 0 }) {
			t.Errorf("%s shows what a former tenant left", id)
		}
	}
	b.wantOnly("local-source", "snap-1", "local-restored", "local-larger", "local-cloned")
}

func TestAnInterruptedCopyBeginsAnew(t *testing.T) {
	b := newBed(t)
	device := b.ensure(provision.Spec{ID: "local-source", Size: 320 * mib})
	if err := b.mounts.Format(t.Context(), device, "xfs"); err != nil {
		t.Fatal(err)
	}
	source := b.mount("local-source", "xfs")
	b.fill(source)
	clone := provision.Spec{ID: "local-cloned", Kind: volume.LVM, Group: realGroup, Size: 320 * mib, Source: provision.Source{Volume: "local-source"}}
	for _, after := range []capacity.Bytes{1, 60 * mib} {
		interrupted := make(chan struct{})
		var once sync.Once
		b.copying = func(done capacity.Bytes) {
			if done >= after {
				once.Do(func() { close(interrupted); go b.Close() })
			}
		}
		_, err := b.Ensure(t.Context(), clone)
		<-interrupted
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted after %s: got %v, want Canceled", after, err)
		}
		b.wantOnly("local-source", "local-cloned", "clone-local-cloned")
		b.copying = nil
		b.restart()
	}
	if _, err := b.Ensure(t.Context(), clone); err != nil {
		t.Fatal(err)
	}
	b.wantOnly("local-source", "local-cloned")
	b.wantFilled(b.mount("local-cloned", "xfs"))

	// One that is not wanted any more goes with all that belongs to it.
	clone.ID = "local-unwanted"
	b.copying = func(capacity.Bytes) { b.copying = nil; go b.Close() }
	if _, err := b.Ensure(t.Context(), clone); err == nil {
		t.Error("the copy was not interrupted")
	}
	b.restart()
	b.remove("local-unwanted")
	b.wantOnly("local-source", "local-cloned")
}

// BenchmarkACopy prints how fast a volume and a snapshot are copied, beside dd with direct
// IO: the fastest of each, in turns, because others use the machine, too.
// TestAVolumeThatLVMDidNotClearIsMadeAgain leaves what an lvcreate leaves that dies after it
// made the volume known and before it cleared it, where a former tenant had a file system.
func TestAVolumeThatLVMDidNotClearIsMadeAgain(t *testing.T) {
	b := newBed(t)
	former := spec(func(s *provision.Spec) {
		s.ID, s.Group, s.Size, s.Wipe = "local-former", realGroup, 64*mib, volume.WipeNone
	})
	b.run("mkfs.ext4", "-q", b.ensure(former))
	b.remove(former.ID)
	token, err := begun.NewVolumes(b.root).Begin(id)
	must(t, err)
	b.run("lvm", "lvcreate", "--yes", "--zero", "n", "--wipesignatures", "n", "--size", "64m", "--name", id,
		"--addtag", volume.IDTag(id), "--addtag", volume.MadeTag(token), realGroup)
	device := lvm.DevicePath(realGroup, id)
	if got := b.run("blkid", "-p", "-o", "value", "-s", "TYPE", device); strings.TrimSpace(got) != "ext4" {
		t.Fatalf("the volume begins with %q, which proves nothing", got)
	}
	b.restart()
	b.ensure(spec(func(s *provision.Spec) { s.Group, s.Size = realGroup, 64*mib }))
	if have, err := b.mounts.Signature(t.Context(), device); have != "" || err != nil {
		t.Errorf("the volume begins with %q (%v)", have, err)
	}
	b.remove(id)
	b.wantOnly()
}

// TestWhatIsLeftOfARealSnapshotIsNoSnapshot leaves what an lvcreate leaves that dies after
// it made the snapshot's space and before it made that a snapshot.
func TestWhatIsLeftOfARealSnapshotIsNoSnapshot(t *testing.T) {
	b := newBed(t)
	b.ensure(spec(func(s *provision.Spec) { s.Group, s.Size = realGroup, 64*mib }))
	space := func() {
		b.run("lvm", "lvcreate", "--yes", "--size", "8m", "--name", snapID, "--addtag", volume.SnapshotTag(snapID), "--addtag", volume.SourceTag(id), realGroup)
	}
	space()
	b.snapshot(snapID, id)
	if have, err := b.host.Volume(t.Context(), realGroup, snapID); err != nil || !have.IsSnapshot() {
		t.Errorf("it is %+v (%v)", have, err)
	}
	must(t, b.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: snapID, Kind: volume.LVM, Group: realGroup}))
	space()
	must(t, b.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: snapID, Kind: volume.LVM, Group: realGroup}))
	space()
	b.restart() // which nobody asks for it any more
	b.wantOnly(id)
	b.remove(id)
	b.wantOnly()
}

func BenchmarkACopy(b *testing.B) {
	for _, test := range []struct{ name, from string }{
		{"of a volume", "local-source"},
		{"of a snapshot", "snap-1"},
	} {
		b.Run(test.name, func(b *testing.B) {
			bed := newBed(b)
			const size = 300 * mib
			source := bed.ensure(provision.Spec{ID: "local-source", Size: size})
			target := bed.ensure(provision.Spec{ID: "local-target", Size: size})
			for _, device := range []string{source, target} {
				bed.run("dd", "if=/dev/urandom", "of="+device, "bs=1M", "count=300", "oflag=direct", "status=none")
			}
			bed.snapshot("snap-1", "local-source")
			bed.run("dd", "if=/dev/urandom", "of="+source, "bs=1M", "count=100", "oflag=direct", "conv=notrunc", "status=none")
			from := lvm.DevicePath(realGroup, test.from)
			copied, dd := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
			for b.Loop() {
				dd = min(dd, took(func() {
					bed.run("dd", "if="+from, "of="+target, "bs=1M", "iflag=direct", "oflag=direct", "conv=fsync,notrunc", "status=none")
				}))
				copied = min(copied, took(func() {
					if _, err := blockcopy.New("/").Copy(b.Context(), from, target, blockcopy.Options{Everything: true}); err != nil {
						b.Fatal(err)
					}
				}))
			}
			rate := func(took time.Duration) float64 { return float64(size/mib) / took.Seconds() }
			b.ReportMetric(0, "ns/op") // of both together, which says nothing
			b.ReportMetric(rate(copied), "MiB/s")
			b.ReportMetric(rate(dd), "dd-MiB/s")
			b.ReportMetric(100*rate(copied)/rate(dd), "%-of-dd")
			bed.run("cmp", from, target)
		})
	}
}

// took returns how long work took.
func took(work func()) time.Duration {
	began := time.Now()
	work()
	return time.Since(began)
}
