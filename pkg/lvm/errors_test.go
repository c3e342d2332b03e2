package lvm

import (
	"context"
	"errors"
	"testing"

	"github.com/open-local/open-local/pkg/hostexec"
)

// kinds are all that callers may ask about, and our own two.
var kinds = map[string]error{
	"ErrGroupNotFound": ErrGroupNotFound, "ErrVolumeNotFound": ErrVolumeNotFound, "ErrDeviceNotFound": ErrDeviceNotFound,
	"ErrExists": ErrExists, "ErrNoSpace": ErrNoSpace, "ErrInUse": ErrInUse, "ErrPartial": ErrPartial, "ErrExported": ErrExported,
	"ErrNotBlank": ErrNotBlank, "ErrInvalid": ErrInvalid, "ErrNotOurs": ErrNotOurs, "ErrProtected": ErrProtected,
	"errNameTaken": errNameTaken, "errNotLarger": errNotLarger, "ErrHasSnapshots": ErrHasSnapshots,
}

// TestCauses holds what LVM 2.03.16 says next to what is nearly the same.
func TestCauses(t *testing.T) {
	for _, tc := range []struct {
		stderr string
		want   []error // exactly these of the kinds; none when nobody can act on it
	}{
		{"  A volume group called m already exists.", []error{ErrExists}},
		{"  Logical Volume \"lin\" already exists in volume group \"share\"", []error{ErrExists}},
		{"  /dev/stale: already exists in filesystem\n  Run `vgcreate --help' for more information.", []error{errNameTaken, ErrInUse}},
		{"  Physical volume '/dev/ubdb' is already in volume group 'share'\n  Unable to add physical volume '/dev/ubdb' to volume group 'share'\n" +
			"  /dev/ubdb: physical volume not initialized.", []error{ErrInUse}},

		{"  Volume group \"share\" has insufficient free space (73 extents): 25600 required.", []error{ErrNoSpace}},
		{"  Insufficient free space: 20478 extents needed, but only 72 available", []error{ErrNoSpace}},
		{"  Rounding size 180.00 MiB (45 extents) up to stripe boundary size 184.00 MiB (46 extents).\n" +
			"  Insufficient suitable allocatable extents for logical volume s2: 42 more required", []error{ErrNoSpace}},
		{"  Number of stripes (3) must not exceed number of physical volumes (2)", []error{ErrNoSpace}},
		{"  New size (1 extents) matches existing size (1 extents).", []error{errNotLarger}},
		{"  New size given (1 extents) not larger than existing size (2 extents)", []error{errNotLarger}},

		{"  Volume group \"nope\" not found\n  Cannot process volume group nope", []error{ErrGroupNotFound}},
		{"  Failed to find logical volume \"share/nope\"", []error{ErrVolumeNotFound}},
		{"  Logical volume nolin not found in volume group share.", []error{ErrVolumeNotFound}},
		{"  Snapshot origin LV nope not found in Volume group share.", []error{ErrVolumeNotFound}},
		{"  Physical Volume \"/dev/nope\" not found in Volume Group \"share\".", []error{ErrDeviceNotFound}},
		{"  No device found for /dev/ubdz.", []error{ErrDeviceNotFound}},
		{"  WARNING: Device for PV Rto62I-cJ85 not found or rejected by a filter.\n  WARNING: Volume group \"x\" not found\n" +
			"  Cannot process volume group share", nil},

		{"  Logical volume share/lin in use.", []error{ErrInUse}},
		{"  Logical volume share/lin contains a filesystem in use.", []error{ErrInUse}},
		{"  Can't open /dev/ubdd exclusively.  Mounted filesystem?\n  Cannot use /dev/ubdd: device has a signature", []error{ErrInUse}},
		{"  Command failed, lock in use elsewhere", nil},
		{"WARNING: ext4 signature detected on /dev/ubde at offset 1080. Wipe it? [y/n]: [n]\n  Aborted wiping of ext4.\n" +
			"  1 existing signature left on the device.", []error{ErrNotBlank}},
		{"  2 existing signatures left on the device.", []error{ErrNotBlank}},
		{"  Cannot use /dev/ubde: device is partitioned\n  Command requires all devices to be found.", []error{ErrNotBlank}},

		{"  Snapshot origin volumes can be resized only while inactive: try lvchange -an.", []error{ErrHasSnapshots, ErrInUse}},
		{"  Volume group m is exported", []error{ErrExported}},
		{"  WARNING: VG share is missing PV 2pAexB (last written to /dev/ubdd).\n  Cannot change VG share while PVs are missing.\n" +
			"  See vgreduce --removemissing and vgextend --restoremissing.\n  Cannot process volume group share", []error{ErrPartial}},
		{"  Refusing activation of partial LV share/gone.  Use '--activationmode partial' to override.", []error{ErrPartial}},

		{"  Names starting \"snapshot\" are reserved. Please choose a different LV name.", []error{ErrInvalid}},
		{"  Logical volume name \"..\" is invalid.", []error{ErrInvalid}},
		{"  Internal error: LV name \"share/0\" length 128 is not supported.", []error{ErrInvalid}},
		{"  Invalid argument for --addtag: bad tag\n  Error during parsing of command line.", []error{ErrInvalid}},

		{"  /dev/mapper/control: open failed: No such device", nil},
		{"", nil},
	} {
		exit := &hostexec.ExitError{Name: "lvm", Args: []string{"lvcreate"}, Code: 5, Stderr: tc.stderr + "\n"}
		got := classify(exit)
		if same := (*hostexec.ExitError)(nil); !errors.As(got, &same) || same != exit {
			t.Errorf("%q: what LVM said is lost: %v", tc.stderr, got)
		}
		for name, kind := range kinds {
			wanted := false
			for _, want := range tc.want {
				wanted = wanted || want == kind
			}
			if errors.Is(got, kind) != wanted {
				t.Errorf("%q: being %s is %v, want %v", tc.stderr, name, !wanted, wanted)
			}
		}
	}
}

func TestWhatLVMDidNotSayIsLeftAlone(t *testing.T) {
	for _, err := range []error{nil, context.Canceled, hostexec.ErrNotInstalled} {
		if got := classify(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
