package volume_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

func TestParseParameters(t *testing.T) {
	lvm := func(edits ...func(*volume.Parameters)) volume.Parameters {
		p := volume.Parameters{Kind: volume.LVM, FSType: "ext4", Layout: capacity.Linear, Wipe: volume.WipeDiscard}
		for _, edit := range edits {
			edit(&p)
		}
		return p
	}
	for name, test := range map[string]struct {
		params map[string]string
		want   volume.Parameters
		reason string // what the error says; empty for none
	}{
		"the volume type is enough": {params: map[string]string{"volumeType": "LVM"}, want: lvm()},
		"everything that may be said": {
			params: map[string]string{
				"volumeType": "LVM", "vgName": "open-local-pool-0", "mediaType": "ssd", "csi.storage.k8s.io/fstype": "xfs",
				"iops": "1024", "bps": "1Mi", "lvmType": "linear",
			},
			want: lvm(func(p *volume.Parameters) {
				p.Group, p.Media, p.FSType, p.IOPS, p.BPS = "open-local-pool-0", volume.SSD, "xfs", 1024, 1<<20
			}),
		},
		"the shipped class with throttling": {
			params: map[string]string{"csi.storage.k8s.io/fstype": "ext4", "volumeType": "LVM", "bps": "1048576", "iops": "1024"},
			want:   lvm(func(p *volume.Parameters) { p.BPS, p.IOPS = 1048576, 1024 }),
		},
		"an exclusive disk of a media type": {
			params: map[string]string{"volumeType": "Device", "mediaType": "hdd"},
			want:   volume.Parameters{Kind: volume.Device, Media: volume.HDD, FSType: "ext4", Layout: capacity.Linear, Wipe: volume.WipeDiscard},
		},
		"a mount point": {
			params: map[string]string{"volumeType": "MountPoint", "mediaType": "ssd"},
			want:   volume.Parameters{Kind: volume.MountPoint, Media: volume.SSD, FSType: "ext4", Layout: capacity.Linear},
		},
		"data that is overwritten when the volume goes": {
			params: map[string]string{"volumeType": "Device", "wipe": "zero"},
			want:   volume.Parameters{Kind: volume.Device, FSType: "ext4", Layout: capacity.Linear, Wipe: volume.WipeZero},
		},
		"data that stays when the volume goes":  {params: map[string]string{"volumeType": "LVM", "wipe": "none"}, want: lvm(func(p *volume.Parameters) { p.Wipe = volume.WipeNone })},
		"a way to wipe that is none":            {params: map[string]string{"volumeType": "LVM", "wipe": "shred"}, reason: `parameter "wipe": "shred" is none of`},
		"an empty way to wipe":                  {params: map[string]string{"volumeType": "Device", "wipe": ""}, reason: `parameter "wipe"`},
		"a mount point is not formatted":        {params: map[string]string{"volumeType": "MountPoint", "mkfsOptions": "-m 1"}, reason: "is there already"},
		"a disk is not striped":                 {params: map[string]string{"volumeType": "Device", "lvmType": "striping"}, reason: "only volumes of volumeType LVM are striped"},
		"a mount point is not wiped":            {params: map[string]string{"volumeType": "MountPoint", "wipe": "discard"}, reason: "emptied file by file"},
		"fsType is an alias":                    {params: map[string]string{"volumeType": "LVM", "fsType": "ext3"}, want: lvm(func(p *volume.Parameters) { p.FSType = "ext3" })},
		"two aliases that agree":                {params: map[string]string{"volumeType": "LVM", "fsType": "xfs", "csi.storage.k8s.io/fstype": "xfs"}, want: lvm(func(p *volume.Parameters) { p.FSType = "xfs" })},
		"keys of the sidecars are let through":  {params: map[string]string{"volumeType": "LVM", "csi.storage.k8s.io/pvc/name": "data"}, want: lvm()},
		"no volume type":                        {params: map[string]string{}, reason: "volumeType is required"},
		"an empty volume type":                  {params: map[string]string{"volumeType": ""}, reason: `parameter "volumeType"`},
		"a volume type in the wrong case":       {params: map[string]string{"volumeType": "lvm"}, reason: `"lvm" is none of`},
		"a misspelt key is named":               {params: map[string]string{"volumeType": "LVM", "iopss": "5"}, reason: `parameter "iopss": not known`},
		"a key in the wrong case is named":      {params: map[string]string{"volumeType": "LVM", "IOPS": "5"}, reason: `parameter "IOPS": not known`},
		"a group LVM cannot have":               {params: map[string]string{"volumeType": "LVM", "vgName": "a b"}, reason: `parameter "vgName"`},
		"a group that looks like an option":     {params: map[string]string{"volumeType": "LVM", "vgName": "-f"}, reason: `parameter "vgName"`},
		"a group that is a path":                {params: map[string]string{"volumeType": "LVM", "vgName": "../x"}, reason: `parameter "vgName"`},
		"an empty group":                        {params: map[string]string{"volumeType": "LVM", "vgName": ""}, reason: `parameter "vgName"`},
		"a group for an exclusive disk":         {params: map[string]string{"volumeType": "Device", "vgName": "pool"}, reason: "only volumes of volumeType LVM"},
		"a media type that is none":             {params: map[string]string{"volumeType": "LVM", "mediaType": "nvme"}, reason: `parameter "mediaType"`},
		"a file system that is none":            {params: map[string]string{"volumeType": "LVM", "fsType": "ntfs"}, reason: `parameter "fsType"`},
		"two aliases that contradict":           {params: map[string]string{"volumeType": "LVM", "fsType": "xfs", "csi.storage.k8s.io/fstype": "ext4"}, reason: "contradicts"},
		"no limit is not zero":                  {params: map[string]string{"volumeType": "LVM", "iops": "0"}, reason: "above zero"},
		"a limit below zero":                    {params: map[string]string{"volumeType": "LVM", "bps": "-1Mi"}, reason: "above zero"},
		"a limit that is not whole":             {params: map[string]string{"volumeType": "LVM", "iops": "100m"}, reason: "whole"},
		"a limit beyond all numbers":            {params: map[string]string{"volumeType": "LVM", "bps": "1e30"}, reason: "whole"},
		"a limit in words":                      {params: map[string]string{"volumeType": "LVM", "bps": "fast"}, reason: "quantity"},
		"an empty limit":                        {params: map[string]string{"volumeType": "LVM", "bps": ""}, reason: "quantity"},
		"a layout nobody knows":                 {params: map[string]string{"volumeType": "LVM", "lvmType": "striped"}, reason: "none of"},
		"options of mkfs that are not allowed":  {params: map[string]string{"volumeType": "LVM", "fsType": "xfs", "mkfsOptions": "-f"}, reason: `mkfs option "-f" for xfs`},
		"a layout that is none":                 {params: map[string]string{"volumeType": "LVM", "lvmType": "raid9"}, reason: `parameter "lvmType"`},
		"of several mistakes the first by name": {params: map[string]string{"zzz": "1", "bps": "x", "volumeType": "y"}, reason: `parameter "bps"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := volume.ParseParameters(test.params)
			wantReason(t, err, test.reason)
			if err != nil {
				return
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
		})
	}
}

// wantReason checks that err is nil, or is ErrInvalid and says reason.
func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	switch {
	case reason == "" && err != nil:
		t.Errorf("failed: %v", err)
	case reason != "" && (err == nil || !strings.Contains(err.Error(), reason)):
		t.Errorf("error %v does not say %q", err, reason)
	case reason != "" && !errors.Is(err, volume.ErrInvalid):
		t.Errorf("error %v is not ErrInvalid", err)
	}
}

func TestMistakesAreReportedInTheSameOrderEachTime(t *testing.T) {
	params := map[string]string{"a": "", "b": "", "iops": "x", "bps": "x", "vgName": " ", "mediaType": "x", "fsType": "x"}
	attributes := map[string]string{"volumeType": "LVM", "vgName": "a b", "iops": "x", "bps": "x"}
	_, wantParams := volume.ParseParameters(params)
	_, wantContext := volume.ParseContext(attributes)
	if !strings.Contains(wantContext.Error(), `"vgName"`) {
		t.Errorf("the first mistake of a context is its group, got %v", wantContext)
	}
	for range 50 { // maps are read in another order each time
		if _, err := volume.ParseParameters(params); err.Error() != wantParams.Error() {
			t.Fatalf("first %v, then %v", wantParams, err)
		}
		if _, err := volume.ParseContext(attributes); err.Error() != wantContext.Error() {
			t.Fatalf("first %v, then %v", wantContext, err)
		}
	}
}

func TestLimitsWantAWholeDisk(t *testing.T) {
	for name, test := range map[string]struct {
		params map[string]string
		want   bool
	}{
		"a disk":                               {params: map[string]string{"volumeType": "Device"}},
		"a disk with operations a second":      {params: map[string]string{"volumeType": "Device", "iops": "100"}, want: true},
		"a disk with bytes a second":           {params: map[string]string{"volumeType": "Device", "bps": "1Mi"}, want: true},
		"a mount point with limits":            {params: map[string]string{"volumeType": "MountPoint", "bps": "1Mi"}, want: true},
		"a logical volume is a disk of itself": {params: map[string]string{"volumeType": "LVM", "bps": "1Mi"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := volume.ParseParameters(test.params)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Like().WholeDisk; got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func FuzzParseParameters(f *testing.F) {
	f.Add("volumeType", "LVM", "vgName", "pool", "bps", "1Mi")
	f.Add("volumeType", "Device", "mediaType", "ssd", "fsType", "xfs")
	f.Add("volumeType", "LVM", "iops", "1e3", "fstype", "ext4")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3 string) {
		p, err := volume.ParseParameters(map[string]string{k1: v1, k2: v2, k3: v3})
		if err != nil {
			if !errors.Is(err, volume.ErrInvalid) {
				t.Errorf("error %v is not ErrInvalid", err)
			}
			return
		}
		switch {
		case p.IOPS < 0, p.BPS < 0, p.FSType == "", p.Layout != capacity.Linear:
			t.Errorf("accepted %+v", p)
		case volume.ValidFSType(p.FSType) != nil, p.Group != "" && volume.ValidGroup(p.Group) != nil:
			t.Errorf("accepted %+v", p)
		}
		if p.Kind != volume.LVM || p.Group == "" {
			return
		}
		// What a class says survives in the PersistentVolume.
		want := volume.Context{Kind: p.Kind, Group: p.Group, Limits: p.Limits}
		got, err := volume.ParseContext(want.Attributes())
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("read back %+v (%v), want %+v", got, err, want)
		}
	})
}
