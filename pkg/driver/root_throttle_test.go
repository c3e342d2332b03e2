//go:build root

package driver_test

import (
	"errors"
	"os"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/lvm"
)

const (
	kubepods = "/sys/fs/cgroup/kubepods"
	// The machine's systemd, where there is one, keeps its own; a test has this one.
	cgroupRoot = iolimit.Root("/sys/fs/cgroup")
)

// wantLimit checks what the kernel holds the volume to.
func (b *realBed) wantLimit(t *testing.T, when string, want iolimit.Line) {
	t.Helper()
	device, err := devfile.Root("/").Look(lvm.DevicePath(realGroup, id))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := cgroupRoot.Lines()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, lines[device.Device]); diff != "" {
		t.Errorf("%s: limits (-want +got):\n%s", when, diff)
	}
}

func (b *realBed) look(t *testing.T) {
	t.Helper()
	b.spend(t, "keeping the limits", map[string]int{}, func() error { return b.keeper.Look(t.Context()) })
}

func TestLimitsOfARealVolume(t *testing.T) {
	for _, fsType := range []string{"ext4", "block"} {
		t.Run(fsType, func(t *testing.T) {
			if err := os.Mkdir(kubepods, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
			b := newRealBed(t)
			if _, err := b.controller.CreateVolume(t.Context(), claim(id, fsType, int64(64*capacity.MiB), map[string]string{"bps": "4Mi", "iops": "100"})); err != nil {
				t.Fatal(err)
			}
			if err := b.stage(t, fsType); err != nil {
				t.Fatal(err)
			}
			b.spend(t, "publish", map[string]int{}, func() error { return b.publish(t, fsType, false) })
			asked := iolimit.Line{ReadBPS: 4 << 20, WriteBPS: 4 << 20, ReadIOPS: 100, WriteIOPS: 100}
			b.wantLimit(t, "published", asked)

			if err := os.Remove(kubepods); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(kubepods, 0o755); err != nil {
				t.Fatal(err)
			}
			b.look(t)
			b.wantLimit(t, "the cgroup was made anew", asked)

			b.spend(t, "a change", map[string]int{"lvm lvchange": 1}, func() error {
				_, err := b.controller.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: map[string]string{"bps": "1Mi", "iops": "max"}})
				return err
			})
			b.look(t)
			changed := iolimit.Line{ReadBPS: 1 << 20, WriteBPS: 1 << 20}
			b.wantLimit(t, "changed", changed)

			if _, err := hostexec.OnHost("/").Run(t.Context(), "lvm", "lvextend", "--size", "128M", realGroup+"/"+id); err != nil {
				t.Fatal(err)
			}
			b.wantLimit(t, "grown", changed)

			for _, step := range []func(*testing.T) error{b.unpublish, b.unstage} {
				b.spend(t, "a step of ending", map[string]int{}, func() error { return step(t) })
			}
			b.wantLimit(t, "unstaged", iolimit.Line{})

			b.anotherNumber(t)
			for _, step := range []func() error{
				func() error { return b.stage(t, fsType) },
				func() error { return b.publish(t, fsType, false) },
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			b.wantLimit(t, "after a reboot, with another device number", changed)
			for _, step := range []func(*testing.T) error{b.unpublish, b.unstage, b.remove} {
				if err := step(t); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// anotherNumber makes the volume's device come back with another number, above 255, as
// after a reboot.
func (b *realBed) anotherNumber(t *testing.T) {
	t.Helper()
	path := realGroup + "/" + id
	for _, argv := range [][]string{
		{"lvm", "lvchange", "--activate", "n", path},
		{"lvm", "lvchange", "--yes", "--persistent", "y", "--major", "254", "--minor", "300", path},
		{"lvm", "lvchange", "--activate", "y", path},
	} {
		if _, err := hostexec.OnHost("/").Run(t.Context(), argv[0], argv[1:]...); err != nil {
			t.Fatal(err)
		}
	}
}

// unheard tells nobody.
type unheard struct{}

func (unheard) Warn(driver.Subject, string, string) {}
