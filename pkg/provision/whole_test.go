package provision_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

// disk returns a Device volume of 1 GiB, for which the node chooses the disk.
func disk(more ...func(*provision.Spec)) provision.Spec {
	s := provision.Spec{ID: id, Kind: volume.Device, Size: capacity.GiB, Wipe: volume.WipeDiscard, Tags: []string{"open-local.claim=a/b"}}
	for _, change := range more {
		change(&s)
	}
	return s
}

func mounted(more ...func(*provision.Spec)) provision.Spec {
	s := provision.Spec{ID: id, Kind: volume.MountPoint, Size: 1}
	for _, change := range more {
		change(&s)
	}
	return s
}

func decided(identity, path string) func(*provision.Spec) {
	return func(s *provision.Spec) { s.Identity, s.Path = identity, path }
}

func wantOwners(t *testing.T, n *provisiontest.Node, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, n.Disks.Owners()); diff != "" {
		t.Errorf("who has what (-want +got):\n%s", diff)
	}
}

func TestADiskIsGivenAndTakenBack(t *testing.T) {
	for name, test := range map[string]struct {
		spec provision.Spec
		want provision.Volume // without its handle
		err  error
	}{
		"the smallest that fits": {spec: disk(), want: provision.Volume{Identity: "wwn-1", Path: "/dev/sda", Size: capacity.GiB}},
		"the smallest that fits a larger one": {
			spec: disk(sized(capacity.GiB+1, 0)), want: provision.Volume{Identity: "wwn-2", Path: "/dev/sdb", Size: 2 * capacity.GiB},
		},
		"one of a medium": {
			spec: disk(func(s *provision.Spec) { s.Media = volume.HDD }), want: provision.Volume{Identity: "wwn-2", Path: "/dev/sdb", Size: 2 * capacity.GiB},
		},
		"the one that was decided on": {
			spec: disk(decided("wwn-3", "/dev/sdx")), want: provision.Volume{Identity: "wwn-3", Path: "/dev/sdc", Size: 4 * capacity.GiB},
		},
		"the one whose name was decided on": {
			spec: disk(decided("", "/dev/sdc")), want: provision.Volume{Identity: "wwn-3", Path: "/dev/sdc", Size: 4 * capacity.GiB},
		},
		"a block device": {spec: disk(block), want: provision.Volume{Identity: "wwn-1", Path: "/dev/sda", Size: capacity.GiB}},
		"a mount point":  {spec: mounted(), want: provision.Volume{Identity: provisiontest.MountID, Path: provisiontest.MountPath}},

		"none is large enough":                   {spec: disk(sized(5*capacity.GiB, 0)), err: provision.ErrNoDevice},
		"none is small enough":                   {spec: disk(sized(1, capacity.GiB-1)), err: provision.ErrNoDevice},
		"the one that was decided on is gone":    {spec: disk(decided("wwn-9", "/dev/sda")), err: provision.ErrNoDevice},
		"a mount point as a block device":        {spec: mounted(block), err: volume.ErrInvalid},
		"a mount point that is none":             {spec: mounted(decided("", "/mnt/other")), err: provision.ErrNoDevice},
		"a copy":                                 {spec: disk(func(s *provision.Spec) { s.Source.Volume = "other" }), err: volume.ErrInvalid},
		"in a volume group":                      {spec: disk(in("fast")), err: volume.ErrInvalid},
		"a way to wipe that is none":             {spec: disk(func(s *provision.Spec) { s.Wipe = "shred" }), err: volume.ErrInvalid},
		"a path that leads elsewhere":            {spec: disk(decided("", "/dev/../etc/passwd")), err: volume.ErrInvalid},
		"a name that is more than an identity":   {spec: disk(decided("a\nb", "")), err: volume.ErrInvalid},
		"a disk for a name that is no disk's":    {spec: disk(decided("", "/dev/sdz")), err: provision.ErrNoDevice},
		"a mount point larger than there is one": {spec: mounted(sized(1<<60, 0)), err: provision.ErrNoDevice},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			n.Disks.Write("/dev/sda", provisiontest.Garbage)
			for range 2 { // the second is the repeat
				got, err := n.Ensure(t.Context(), test.spec)
				if !errors.Is(err, test.err) {
					t.Fatalf("got %v, want %v", err, test.err)
				}
				if err != nil {
					wantOwners(t, n, map[string]string{})
					return
				}
				test.want.ID = id
				if test.spec.Kind == volume.MountPoint {
					test.want.Size = got.Size
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("volume (-want +got):\n%s", diff)
				}
				wantOwners(t, n, map[string]string{test.want.Identity: id})
			}
			if test.spec.Block && n.Disks.On(test.want.Path) != "" {
				t.Error("a block volume shows what a former tenant left")
			}
			for range 2 {
				if err := n.Remove(t.Context(), provision.Removal{ID: id, Kind: test.spec.Kind, Identity: test.want.Identity, Path: test.want.Path}); err != nil {
					t.Fatal(err)
				}
				wantOwners(t, n, map[string]string{})
			}
		})
	}
}

func TestNoTwoVolumesHaveOneDisk(t *testing.T) {
	n := node(t)
	paths := map[string]bool{}
	for _, id := range []string{"a", "b", "c"} {
		vol := mustEnsure(t, n, disk(func(s *provision.Spec) { s.ID = id }))
		if paths[vol.Path] {
			t.Errorf("volume %s got %s, which another has", id, vol.Path)
		}
		paths[vol.Path] = true
	}
	for name, decision := range map[string]func(*provision.Spec){"chosen here": decided("", ""), "decided on": decided("wwn-1", "/dev/sda")} {
		if _, err := n.Ensure(t.Context(), disk(decision)); !errors.Is(err, provision.ErrNoDevice) {
			t.Errorf("%s: got %v, want ErrNoDevice", name, err)
		}
	}
}

func TestAnotherDiskVolumeOfThatNameIsAConflict(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, disk())
	for name, other := range map[string]provision.Spec{
		"a larger one":     disk(sized(2*capacity.GiB, 0)),
		"a smaller one":    disk(sized(1, capacity.GiB-1)),
		"a block device":   disk(block),
		"of another type":  mounted(),
		"it was not given": disk(sized(5*capacity.GiB, 0)),
	} {
		if _, err := n.Ensure(t.Context(), other); !errors.Is(err, provision.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", name, err)
		}
	}
	if vol := mustEnsure(t, n, disk(decided("wwn-2", "/dev/sdb"))); vol.Identity != "wwn-1" {
		t.Errorf("a repeat after another decision got %+v", vol)
	}
}

func TestOnlyWholeDisksAreGivenToVolumesWithLimits(t *testing.T) {
	limited := func(s *provision.Spec) { s.Tags = volume.LimitTags(volume.Limits{IOPS: 100}) }
	for name, test := range map[string]struct {
		limited, free provision.Spec
	}{
		"a disk":        {disk(limited), disk()},
		"a mount point": {mounted(limited), mounted()},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			mustEnsure(t, n, test.limited)
			if err := n.Remove(t.Context(), provision.Removal{ID: id, Kind: test.limited.Kind}); err != nil {
				t.Fatal(err)
			}
			n.Disks.Partition()
			_, err := n.Ensure(t.Context(), test.limited)
			if !errors.Is(err, provision.ErrNoDevice) || !strings.Contains(err.Error(), "whole disks only") {
				t.Errorf("got %v, want ErrNoDevice and why", err)
			}
			wantOwners(t, n, map[string]string{})
			mustEnsure(t, n, test.free)
		})
	}
}

func TestWhatADiskCannotDo(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, disk())
	ten := int64(10)
	for name, do := range map[string]func() error{
		"grow": func() error {
			_, err := n.Grow(t.Context(), provision.Growth{ID: id, Kind: volume.Device, Size: 2 * capacity.GiB})
			return err
		},
		"get other limits": func() error {
			return n.Modify(t.Context(), provision.Modification{ID: id, Kind: volume.Device, IOPS: &ten})
		},
		"have a snapshot": func() error {
			_, err := n.Snapshot(t.Context(), provision.SnapshotSpec{ID: "snap", Volume: id, Kind: volume.Device})
			return err
		},
	} {
		if err := do(); !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	if err := n.RemoveSnapshot(t.Context(), provision.SnapshotRemoval{ID: "snap", Kind: volume.Device}); err != nil {
		t.Error(err)
	}
}

func TestADiskThatIsNotWhatItWasIsLeftAlone(t *testing.T) {
	n := node(t)
	vol := mustEnsure(t, n, disk())
	n.Disks.Write("/dev/sda", "ext4")
	n.Disks.Write("/dev/sdb", "xfs")
	n.Disks.Swap("/dev/sda", "/dev/sdb")
	remove := func() error {
		return n.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.Device, Identity: vol.Identity, Path: vol.Path})
	}
	release := n.Disks.Open("/dev/sdb") // a pod has it mounted
	if err := remove(); !errors.Is(err, wipe.ErrInUse) {
		t.Errorf("got %v, want wipe.ErrInUse", err)
	}
	release()
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"wwn-2": "xfs"}, n.Disks.Contents()); diff != "" {
		t.Errorf("what is on the disks (-want +got):\n%s", diff)
	}

	vol = mustEnsure(t, n, disk())
	n.Disks.Unplug(vol.Path)
	if err := remove(); !errors.Is(err, exclusive.ErrGone) {
		t.Errorf("got %v, want exclusive.ErrGone: it may come back", err)
	}
	wantOwners(t, n, map[string]string{"wwn-1": id})
}

func TestWipingOutlivesItsCallAndItsRepeats(t *testing.T) {
	n := node(t)
	k := &provisiontest.Killer{}
	n.Use(k)
	mustEnsure(t, n, disk())
	n.Disks.Write("/dev/sda", "ext4")
	wiping, goOn := make(chan struct{}), make(chan struct{})
	n.Disks.Wiping = func() { close(wiping); <-goOn }
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	removal := provision.Removal{ID: id, Kind: volume.Device}
	go func() { gaveUp <- n.Remove(ctx, removal) }()
	<-wiping
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if err := n.Remove(t.Context(), removal); !errors.Is(err, provision.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if _, err := n.Ensure(t.Context(), disk()); !errors.Is(err, provision.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	close(goOn)
	n.Close()
	wantOwners(t, n, map[string]string{})
	if what := n.Disks.On("/dev/sda"); what != "" {
		t.Errorf("%q is left on the disk", what)
	}
}

func TestADiskVolumeMayDieAnywhere(t *testing.T) {
	remove := func(n *provisiontest.Node) error {
		return n.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.Device})
	}
	for name, test := range map[string]struct {
		spec   provision.Spec
		points int
	}{
		"for a file system":          {disk(), 6},
		"for a block device":         {disk(block), 9},
		"on a disk decided on":       {disk(decided("wwn-1", "/dev/sda")), 6},
		"on the block device wanted": {disk(block, decided("wwn-1", "/dev/sda")), 9},
	} {
		t.Run("made "+name, func(t *testing.T) {
			dies(t, test.points, func(_ *testing.T, n *provisiontest.Node) { n.Disks.Write("/dev/sda", provisiontest.Garbage) },
				func(n *provisiontest.Node) error { _, err := n.Ensure(t.Context(), test.spec); return err },
				func(t *testing.T, n *provisiontest.Node) {
					if vol := mustEnsure(t, n, test.spec); vol.Identity != "wwn-1" {
						t.Errorf("the repeat got %+v", vol)
					}
					wantOwners(t, n, map[string]string{"wwn-1": id})
					if test.spec.Block && n.Disks.On("/dev/sda") != "" {
						t.Error("it shows what a former tenant left")
					}
					if err := remove(n); err != nil {
						t.Fatal(err)
					}
					wantOwners(t, n, map[string]string{})
				})
		})
	}
	for name, test := range map[string]struct {
		repeat func(n *provisiontest.Node) error
	}{
		"removed": {remove},
		"removed and wanted again": {func(n *provisiontest.Node) error {
			for {
				_, err := n.Ensure(t.Context(), disk())
				if errors.Is(err, provision.ErrBusy) {
					continue // what was begun to be removed is gone now
				}
				return errors.Join(err, remove(n))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dies(t, 8, func(t *testing.T, n *provisiontest.Node) { mustEnsure(t, n, disk()); n.Disks.Write("/dev/sda", "ext4") },
				remove,
				func(t *testing.T, n *provisiontest.Node) {
					if _, err := n.Disks.Given.Find(t.Context(), exclusive.Ref{Volume: id}); err == nil && n.Disks.On("/dev/sda") != "ext4" {
						t.Error("it is handed out while half of it is gone")
					}
					if err := test.repeat(n); err != nil {
						t.Fatal(err)
					}
					wantOwners(t, n, map[string]string{})
					if what := n.Disks.On("/dev/sda"); what != "" {
						t.Errorf("%q is left on the disk", what)
					}
				})
		})
	}
}

func TestAMountPointVolumeMayDieAnywhere(t *testing.T) {
	remove := func(n *provisiontest.Node) error {
		return n.Remove(t.Context(), provision.Removal{ID: id, Kind: volume.MountPoint})
	}
	empty := func(t *testing.T, n *provisiontest.Node) {
		t.Helper()
		if entries, err := os.ReadDir(n.Disks.Dir()); err != nil || len(entries) > 0 {
			t.Errorf("left in it are %v, %v", entries, err)
		}
	}
	t.Run("made", func(t *testing.T) {
		dies(t, 3, nil,
			func(n *provisiontest.Node) error { _, err := n.Ensure(t.Context(), mounted()); return err },
			func(t *testing.T, n *provisiontest.Node) {
				mustEnsure(t, n, mounted())
				wantOwners(t, n, map[string]string{provisiontest.MountID: id})
				if err := remove(n); err != nil {
					t.Fatal(err)
				}
				wantOwners(t, n, map[string]string{})
			})
	})
	for name, repeat := range map[string]func(n *provisiontest.Node) error{
		"removed": remove,
		"removed and wanted again": func(n *provisiontest.Node) error {
			for {
				_, err := n.Ensure(t.Context(), mounted())
				if errors.Is(err, provision.ErrBusy) {
					continue
				}
				return errors.Join(err, remove(n))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dies(t, 6, func(t *testing.T, n *provisiontest.Node) {
				mustEnsure(t, n, mounted())
				if err := os.WriteFile(filepath.Join(n.Disks.Dir(), "data"), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, remove, func(t *testing.T, n *provisiontest.Node) {
				if err := repeat(n); err != nil {
					t.Fatal(err)
				}
				wantOwners(t, n, map[string]string{})
				empty(t, n)
			})
		})
	}
}

func TestAMountPointInUseOrUnmountedIsNotEmptied(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, mounted())
	file := filepath.Join(n.Disks.Dir(), "data")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	removal := provision.Removal{ID: id, Kind: volume.MountPoint}
	n.Disks.Show("/var/lib/kubelet/pods/1")
	if err := n.Remove(t.Context(), removal); !errors.Is(err, exclusive.ErrInUse) {
		t.Errorf("got %v, want exclusive.ErrInUse", err)
	}
	n.Disks.Hide("/var/lib/kubelet/pods/1")
	n.Disks.Umount(true)
	if err := n.Remove(t.Context(), removal); !errors.Is(err, exclusive.ErrGone) {
		t.Errorf("got %v, want exclusive.ErrGone", err)
	}
	n.Disks.Umount(false)
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(t.Context(), removal); err != nil {
		t.Fatal(err)
	}
}
