//go:build root

package blockdev

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/devfile/devtest"
)

// TestAMultipathDeviceIsOfferedAndItsPathIsNot puts a real multipath device on a disk.
func TestAMultipathDeviceIsOfferedAndItsPathIsNot(t *testing.T) {
	l := newLab(t)
	d := l.scsi()
	l.run("modprobe", "-a", "dm-multipath", "dm-round-robin")
	l.run("dmsetup", "create", "mpatha", "--uuid", "mpath-333333300000007d0", "--table",
		fmt.Sprintf("0 %s multipath 0 0 1 1 round-robin 0 1 1 %d:%d 1000", l.run("blockdev", "--getsz", d.Path), d.Major, d.Minor))
	defer l.run("dmsetup", "remove", "--retry", "mpatha")
	l.wantLayer("/dev/mapper/mpatha", "mpath", "dm-uuid-mpath-333333300000007d0", d.KernelName)
	l.wantReasons("/dev/mapper/mpatha")
	l.wantReasons(d.Path, HasHolder, IsInUse)
}

// TestAnArrayIsOfferedAndItsMembersAreNot makes a real mirror of two disks.
func TestAnArrayIsOfferedAndItsMembersAreNot(t *testing.T) {
	l := newLab(t)
	members := strings.Split(os.Getenv("LAB_DISKS"), ",")[:2]
	devtest.Blank(t, members[1])
	defer devtest.Blank(t, members[1])
	l.run("modprobe", "raid1")
	l.run("mdadm", "--create", "/dev/md0", "--run", "--metadata=1.2", "--level=1", "--raid-devices=2", "--assume-clean", members[0], members[1])
	defer l.run("mdadm", "--stop", "/dev/md0")
	l.wantLayer("/dev/md0", "raid1", "md-uuid-", strings.TrimPrefix(members[0], "/dev/"), strings.TrimPrefix(members[1], "/dev/"))
	l.wantReasons("/dev/md0")
	for _, member := range members {
		l.wantReasons(member, HasHolder, HasSignature, IsInUse)
	}
}

// wantLayer looks for a device that lies on others, and who it is.
func (l lab) wantLayer(path, kind, id string, on ...string) {
	l.Helper()
	devices, err := l.host.Devices(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	at := slices.IndexFunc(devices, func(d Device) bool { return d.Path == path })
	if at < 0 {
		l.Fatalf("%s is not among %+v", path, devices)
	}
	if d := devices[at]; d.Type != kind || !strings.HasPrefix(d.ID, id) || !slices.Equal(d.Parents, on) {
		l.Errorf("device %+v, want a %s %s on %v", d, kind, id, on)
	}
}
