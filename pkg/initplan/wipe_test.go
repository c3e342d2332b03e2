package initplan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/initplan"
)

func TestADeviceIsWipedOnlyWhenTheSpecNamesItAndWhatIsOnIt(t *testing.T) {
	entry := v1alpha1.DeviceToBeWiped{ID: "wwn-0x1", Contents: "3f2a"}
	disk := initplan.Disk{ID: "wwn-0x1", Path: "/dev/vdc", Contents: "3f2a"}
	with := func(edit func(*initplan.Disk)) initplan.Disk {
		d := disk
		edit(&d)
		return d
	}
	for name, tc := range map[string]struct {
		wipe   []v1alpha1.DeviceToBeWiped
		disks  []initplan.Disk
		before []v1alpha1.DeviceToBeWiped
		want   bool
		reason string
	}{
		"a device as the spec has it":       {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{disk}, want: true},
		"nothing is asked":                  {disks: []initplan.Disk{disk}},
		"it was done before":                {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{disk}, before: []v1alpha1.DeviceToBeWiped{entry}},
		"other contents were, these not":    {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{disk}, before: []v1alpha1.DeviceToBeWiped{{ID: "wwn-0x1", Contents: "0000"}}, want: true},
		"somebody has used it since":        {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{with(func(d *initplan.Disk) { d.Contents = "9999" })}, reason: "ContentsChanged"},
		"it could not be looked at":         {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{with(func(d *initplan.Disk) { d.Contents = "" })}, reason: "ContentsChanged"},
		"it is blank, which is all right":   {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{with(func(d *initplan.Disk) { d.Blank, d.Contents = true, "" })}},
		"a wipe of these was cut short":     {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{with(func(d *initplan.Disk) { d.Contents, d.HalfWiped = "77c0", "3f2a" })}, want: true},
		"a wipe of others was cut short":    {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{with(func(d *initplan.Disk) { d.Contents, d.HalfWiped = "77c0", "0000" })}, reason: "ContentsChanged"},
		"nothing was, and none is asked":    {wipe: []v1alpha1.DeviceToBeWiped{{ID: "wwn-0x1"}}, disks: []initplan.Disk{disk}, reason: "ContentsChanged"},
		"it is in use":                      {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{with(func(d *initplan.Disk) { d.Keep = []initplan.Objection{{Reason: "Mounted", Message: "is mounted"}} })}, reason: "Mounted"},
		"there is none":                     {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{with(func(d *initplan.Disk) { d.ID = "wwn-0x2" })}, reason: "DeviceMissing"},
		"there are two":                     {wipe: []v1alpha1.DeviceToBeWiped{entry}, disks: []initplan.Disk{disk, disk}, reason: "SameIdentity"},
		"no identity is not every identity": {wipe: []v1alpha1.DeviceToBeWiped{{Contents: "3f2a"}}, disks: []initplan.Disk{disk}, reason: "DeviceMissing"},
	} {
		t.Run(name, func(t *testing.T) {
			steps, problems := initplan.Make(v1alpha1.StorageSpec{ResourceToBeInited: v1alpha1.ResourceToBeInited{Wipe: tc.wipe}},
				initplan.Node{Disks: tc.disks, Wiped: tc.before})
			var want []initplan.Step
			if tc.want {
				want = []initplan.Step{initplan.WipeDevice{ID: "wwn-0x1", Device: "/dev/vdc", Contents: tc.disks[0].Contents, Agreed: "3f2a"}}
			}
			if diff := cmp.Diff(want, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			var reason string
			for _, p := range problems {
				reason += p.Reason
			}
			if reason != tc.reason {
				t.Errorf("problems %v, want %q", problems, tc.reason)
			}
		})
	}
}
