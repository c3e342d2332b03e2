package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

const mountPoint = "/mnt/open-local/a"

// mountOn asks for a mount point on a device, and manages it.
func mountOn(device string) func(*v1alpha1.NodeLocalStorage) {
	return func(nls *v1alpha1.NodeLocalStorage) {
		nls.Spec.ListConfig.MountPoints.Include = []string{"/mnt/open-local/.*"}
		nls.Spec.ResourceToBeInited.MountPoints = []v1alpha1.MountPointToBeInited{{Path: mountPoint, Device: device, Options: []string{"noatime"}}}
	}
}

// reboot unmounts everything and starts the agent anew.
func (s *station) reboot() {
	s.t.Helper()
	s.stop()
	s.pass(time.Second)
	s.file("proc/1/mountinfo", "1 0 253:1 / / rw,relatime - ext4 /dev/vda1 rw\n")
	s.start()
}

func (s *station) mountPoint() v1alpha1.MountPoint {
	s.t.Helper()
	all := s.status().NodeStorageInfo.MountPoints
	i := slices.IndexFunc(all, func(m v1alpha1.MountPoint) bool { return m.Name == mountPoint })
	if i < 0 {
		return v1alpha1.MountPoint{}
	}
	all[i].Total, all[i].Available = 0, 0 // of the machine that runs the test
	return all[i]
}

func TestAMountPointIsMadeOnceAndMountedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdd", "/dev/vde")
		s.apply(mountOn("/dev/vdd"))
		s.start()
		want := v1alpha1.MountPoint{
			Name: mountPoint, FsType: "ext4", Options: []string{"rw", "noatime"}, Device: "/dev/vdd", Condition: v1alpha1.StorageReady,
			ID: "fsuuid-" + initplan.FileSystemUUID("n1", mountPoint),
		}
		if diff := cmp.Diff(want, s.mountPoint()); diff != "" {
			t.Fatalf("mount point (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{mountPoint}, s.status().FilteredStorageInfo.MountPoints); diff != "" {
			t.Errorf("offered (-want +got):\n%s", diff)
		}
		s.wantEvents("Normal NodeStoragePlanned", "Normal NodeStorageChanged", "Normal NodeStoragePlanned", "Normal NodeStorageChanged")
		s.wantCondition("MountPointsReady", "")

		s.reboot()
		if diff := cmp.Diff(want, s.mountPoint()); diff != "" {
			t.Errorf("mount point after a reboot (-want +got):\n%s", diff)
		}
		// The disks come up under each other's names.
		s.stop()
		s.pass(time.Second)
		s.block.change(func() {
			s.block.signatures = map[string]string{"/dev/vde": "ext4"}
			s.block.uuids = map[string]string{"/dev/vde": s.block.uuids["/dev/vdd"]}
		})
		s.start()
		s.reboot()
		want.Device = "/dev/vde"
		if diff := cmp.Diff(want, s.mountPoint()); diff != "" {
			t.Errorf("mount point after the names were swapped (-want +got):\n%s", diff)
		}
		if s.block.formats != 1 {
			t.Errorf("%d file systems were made", s.block.formats)
		}
	})
}

func TestAMountPointThatIsGoneIsRememberedAndNotMadeAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdd")
		s.apply(mountOn("/dev/vdd"))
		s.start()
		s.stop()
		s.pass(time.Second)
		s.block.change(func() { clear(s.block.signatures); clear(s.block.uuids) }) // another disk, blank, by the same name
		s.start()
		if got := s.mountPoint(); got.Reason != noIdentity || got.ID == "" {
			t.Errorf("a mount point that does not say who it is: %+v", got)
		}
		for range 3 {
			s.reboot()
			s.wantCondition("MountPointsReady", "False MountPointMissing")
			got := s.mountPoint()
			if got.Condition != v1alpha1.StorageFault || got.Reason != initplan.MountPointMissing || len(s.status().FilteredStorageInfo.MountPoints) > 0 {
				t.Errorf("mount point %+v", got)
			}
		}
		if s.block.formats != 1 {
			t.Errorf("%d file systems were made", s.block.formats)
		}
		// Who gives it up says so by taking it off the list.
		s.apply(func(nls *v1alpha1.NodeLocalStorage) { nls.Spec.ResourceToBeInited.MountPoints = nil })
		s.pass(time.Second)
		s.apply(mountOn("/dev/vdd"))
		s.pass(time.Second)
		s.wantCondition("MountPointsReady", "")
		if s.block.formats != 2 {
			t.Errorf("%d file systems were made", s.block.formats)
		}
	})
}

func TestAForeignFileSystemIsReportedAndNotTouched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStation(t, "/dev/vdd")
		s.block.change(func() { s.block.signatures["/dev/vdd"] = "xfs" })
		s.apply(mountOn("/dev/vdd"))
		s.start()
		s.pass(time.Hour)
		s.wantCondition("MountPointsReady", "False HasSignature")
		s.wantEvents("Warning HasSignature")
		if s.block.formats != 0 {
			t.Error("a file system was made")
		}
	})
}

func TestWhereNothingCanBeMounted(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"mnt/empty", "mnt/full/data"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"mnt/link": "/mnt/empty", "mnt/out": "../../../etc"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "mnt/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &Agent{options: Options{HostRoot: root}}
	for path, fits := range map[string]bool{
		"/mnt/empty": true, "/mnt/none": true, "/mnt/none/deeper": true,
		"/mnt/full": false, "/mnt/file": false, "/mnt/link": false, "/mnt/link/x": false, "/mnt/out": false, "/mnt/out/x": false,
	} {
		if why := a.unfitTarget(path); (why == "") != fits {
			t.Errorf("%s: %q", path, why)
		}
	}
	var spec v1alpha1.StorageSpec
	for _, path := range []string{"/mnt/empty", "/mnt/full", "/mnt/tmpfs", "/var/lib/docker/x", "/mnt/here"} {
		spec.ResourceToBeInited.MountPoints = append(spec.ResourceToBeInited.MountPoints, v1alpha1.MountPointToBeInited{Path: path})
	}
	seen := sighting{mounted: map[string]bool{"/mnt/tmpfs": true, "/mnt/here": true}, mounts: []fileSystem{{}}}
	seen.mounts[0].Target = "/mnt/here"
	var got []string
	for path := range a.occupied(spec, seen) {
		got = append(got, path)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"/mnt/full", "/mnt/tmpfs", "/var/lib/docker/x"}, got); diff != "" {
		t.Errorf("occupied (-want +got):\n%s", diff)
	}
}
