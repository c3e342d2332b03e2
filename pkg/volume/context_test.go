package volume_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/volume"
)

func TestParseContext(t *testing.T) {
	for name, test := range map[string]struct {
		attributes map[string]string
		want       volume.Context
		reason     string
	}{
		"a volume of the first open-local": {
			attributes: map[string]string{"volumeType": "LVM", "vgName": "open-local-pool-0"},
			want:       volume.Context{Kind: volume.LVM, Group: "open-local-pool-0"},
		},
		"limits are kept": {
			attributes: map[string]string{"volumeType": "LVM", "vgName": "pool", "iops": "1Ki", "bps": "1048576"},
			want:       volume.Context{Kind: volume.LVM, Group: "pool", Limits: volume.Limits{IOPS: 1024, BPS: 1 << 20}},
		},
		"keys of others are left alone": {
			attributes: map[string]string{"volumeType": "Device", "Device": "/dev/vdd", "storage.kubernetes.io/csiProvisionerIdentity": "x"},
			want:       volume.Context{Kind: volume.Device, Path: "/dev/vdd"},
		},
		"blanks around a value are no part of it": {
			attributes: map[string]string{"volumeType": " LVM ", "vgName": "pool\n"},
			want:       volume.Context{Kind: volume.LVM, Group: "pool"},
		},
		"an empty limit is none": {
			attributes: map[string]string{"volumeType": "LVM", "vgName": "pool", "iops": "", "bps": " "},
			want:       volume.Context{Kind: volume.LVM, Group: "pool"},
		},
		"a mount point of the first open-local": {
			attributes: map[string]string{"volumeType": "MountPoint", "MountPoint": "/mnt/open-local/data-0"},
			want:       volume.Context{Kind: volume.MountPoint, Path: "/mnt/open-local/data-0"},
		},
		"the path of another kind": {
			attributes: map[string]string{"volumeType": "Device", "MountPoint": "../x", "csi.aliyun.com/identity": "wwn-1"},
			want:       volume.Context{Kind: volume.Device, Identity: "wwn-1"},
		},
		"a device that is none":              {attributes: map[string]string{"volumeType": "Device", "Device": "/etc/passwd"}, reason: `volume attribute "Device"`},
		"a device that leads elsewhere":      {attributes: map[string]string{"volumeType": "Device", "Device": "/dev/../etc"}, reason: `volume attribute "Device"`},
		"a mount point that is not absolute": {attributes: map[string]string{"volumeType": "MountPoint", "MountPoint": "mnt"}, reason: `volume attribute "MountPoint"`},
		"the root is no mount point":         {attributes: map[string]string{"volumeType": "MountPoint", "MountPoint": "/"}, reason: `volume attribute "MountPoint"`},
		"a path in two lines":                {attributes: map[string]string{"volumeType": "MountPoint", "MountPoint": "/mnt/a\nb"}, reason: `volume attribute "MountPoint"`},
		"an identity with blanks":            {attributes: map[string]string{"volumeType": "Device", "csi.aliyun.com/identity": "a b"}, reason: `volume attribute "csi.aliyun.com/identity"`},
		"no attributes":                      {reason: `"volumeType" is missing`},
		"an empty type is none":              {attributes: map[string]string{"volumeType": ""}, reason: `"volumeType" is missing`},
		"an unknown type":                    {attributes: map[string]string{"volumeType": "Cloud"}, reason: `volume attribute "volumeType"`},
		"no group":                           {attributes: map[string]string{"volumeType": "LVM"}, reason: `"vgName" is missing`},
		"a group LVM cannot have":            {attributes: map[string]string{"volumeType": "LVM", "vgName": "a/b"}, reason: `volume attribute "vgName"`},
		"a limit that cannot be read":        {attributes: map[string]string{"volumeType": "LVM", "vgName": "pool", "bps": "fast"}, reason: `volume attribute "bps"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := volume.ParseContext(test.attributes)
			wantReason(t, err, test.reason)
			if diff := cmp.Diff(test.want, got); err == nil && diff != "" {
				t.Errorf("context (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContextsSurviveAPersistentVolume(t *testing.T) {
	for _, want := range []volume.Context{
		{Kind: volume.LVM, Group: "pool"},
		{Kind: volume.LVM, Group: "pool", Limits: volume.Limits{IOPS: 1}},
		{Kind: volume.LVM, Group: "pool", Limits: volume.Limits{BPS: 1<<63 - 1}},
		{Kind: volume.LVM, Group: "pool", Snapshot: "snap-1"},
		{Kind: volume.LVM, Group: "pool", MkfsOptions: []string{"-m", "1"}},
		{Kind: volume.MountPoint},
		{Kind: volume.MountPoint, Path: "/mnt/a", Identity: "fsuuid-1"},
		{Kind: volume.Device, Path: "/dev/sdb", Identity: "wwn-1"},
		{Kind: volume.Device, Limits: volume.Limits{IOPS: 7, BPS: 9}},
	} {
		got, err := volume.ParseContext(want.Attributes())
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("read back %+v (%v), want %+v", got, err, want)
		}
	}
}

func FuzzParseContext(f *testing.F) {
	f.Add("LVM", "pool", "1024", "1Mi")
	f.Add(" Device", "", "0", "-1")
	f.Fuzz(func(t *testing.T, kind, group, iops, bps string) {
		c, err := volume.ParseContext(map[string]string{"volumeType": kind, "vgName": group, "iops": iops, "bps": bps})
		if err != nil {
			if !errors.Is(err, volume.ErrInvalid) || !cmp.Equal(c, volume.Context{}) {
				t.Errorf("error %v beside %+v", err, c)
			}
			return
		}
		again, err := volume.ParseContext(c.Attributes())
		if err != nil || !cmp.Equal(again, c) {
			t.Errorf("read back %+v (%v), want %+v", again, err, c)
		}
	})
}
