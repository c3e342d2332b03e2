package lvm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
)

const (
	mib = capacity.MiB
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// physical is a physical volume as it is when all is well.
func physical(device, uuid string, size, free capacity.Bytes) PhysicalVolume {
	return PhysicalVolume{Device: device, UUID: uuid, Size: size, Free: free, Allocatable: true}
}

// volumeOf is an active linear volume without any feature, changed by with.
func volumeOf(name, uuid string, size capacity.Bytes, minor int, with func(*Volume)) Volume {
	v := Volume{
		Name: name, Group: "share", UUID: uuid, Size: size, Layout: "linear", Role: "public", SegType: "linear", Stripes: 1,
		Attr: "-wi-a-----", Active: true, KernelMajor: 254, KernelMinor: minor,
	}
	if with != nil {
		with(&v)
	}
	return v
}

func otherGroup() Group {
	return Group{
		Name: "other", UUID: "CFCnOC-27hQ-WeM0-2p2E-rjiJ-csCs-U2aH8a", Size: 199 * mib, Free: 199 * mib, Extent: mib,
		Tags:            []string{"protected", "rack=7"},
		PhysicalVolumes: []PhysicalVolume{physical("/dev/ubdd", "BX1Pq6-3o2n-rVl6-UhUP-0Mj0-IlIO-bxcIYw", 199*mib, 199*mib)},
	}
}

func shareGroup(free1, free2 capacity.Bytes, volumes ...Volume) Group {
	return Group{
		Name: "share", UUID: "OZNBS8-bzza-F900-ZJOc-n3c9-F1Zr-ef0SKc", Size: 192 * mib, Free: free1 + free2, Extent: 4 * mib,
		PhysicalVolumes: []PhysicalVolume{
			physical("/dev/ubdb", "zxzrk5-DmZA-ECuB-6tNa-gTtf-ZyfY-AMVkdQ", 96*mib, free1),
			physical("/dev/ubdc", "WmWQ1Q-IPXm-Vd7Q-9wNC-qYL6-vpp4-5nOb8k", 96*mib, free2),
		},
		Volumes: volumes,
	}
}

func layoutVolumes() []Volume {
	return []Volume{
		volumeOf("inactive", "Sg9gUl-vMI3-Ph60-be0O-3dnD-zcpg-DQHM3N", 4*mib, -1, func(v *Volume) {
			v.Attr, v.Active, v.KernelMajor = "-wi-------", false, -1
		}),
		volumeOf("linear", "4ziI0E-uTF7-RG38-c4X1-GPMr-nXou-NmN3BD", 8*mib, 0, func(v *Volume) {
			v.Tags, v.Role, v.Attr = []string{"claim=a/b", "ours"}, "public,origin,thickorigin", "owi-a-s---"
		}),
		volumeOf("open", "bMqsz5-xUG1-SkXD-f2dN-Ubpn-mZyp-stROwc", 4*mib, 2, func(v *Volume) {
			v.Attr, v.Open = "-wi-ao----", true
		}),
		volumeOf("pool", "gaXl9Q-i5SV-gyvn-0NA6-tHnk-dySz-dE5nsK", 20*mib, 9, func(v *Volume) {
			v.Layout, v.Role, v.SegType, v.Attr, v.Open = "thin,pool", "private", "thin-pool", "twi-aotz--", true
			v.DataPercent = new(0.0)
		}),
		volumeOf("readonly", "N0WJSb-n1Bi-HCkm-4d0Z-HkXS-CUvc-UeZpxS", 4*mib, 3, func(v *Volume) {
			v.Attr, v.ReadOnly = "-ri-a-----", true
		}),
		volumeOf("snap", "Qi8hGy-SIHk-odMK-e2B8-wlfJ-J9Qp-mPNXK9", 4*mib, 6, func(v *Volume) {
			v.Role, v.Attr, v.Origin, v.DataPercent = "public,snapshot,thicksnapshot", "swi-a-s---", "linear", new(25.29)
		}),
		volumeOf("striped", "EyA9Di-eD6a-dDBh-2ees-Qpzt-mZgJ-NEFAYQ", 16*mib, 1, func(v *Volume) {
			v.Layout, v.SegType, v.Stripes = "striped", "striped", 2
		}),
		volumeOf("thin", "N3dr4h-kDL7-k0uL-J4OH-PIl5-8HCZ-S5j9fd", 100*mib, 11, func(v *Volume) {
			v.Layout, v.SegType, v.Stripes, v.Attr, v.Pool = "thin,sparse", "thin", 0, "Vwi-a-tz--", "pool"
			v.DataPercent = new(0.0)
		}),
	}
}

func TestParseReport(t *testing.T) {
	orphan := PhysicalVolume{Device: "/dev/ubde", UUID: "G1Gn01-f5Ek-s8Sv-eKvO-z10F-rHF2-fdfN3O", Size: 200 * mib, Free: 200 * mib}
	exported, lost, one := otherGroup(), shareGroup(40*mib, 84*mib), shareGroup(40*mib, 84*mib)
	exported.Exported = true
	one.Volumes = layoutVolumes()[6:7]
	lost.Partial, lost.MissingPVs, lost.Volumes = true, 1, layoutVolumes()
	for i := range lost.Volumes {
		switch v := &lost.Volumes[i]; v.Name {
		case "striped", "pool", "thin":
			v.Attr, v.Health = v.Attr[:8]+"p-", "partial"
		}
	}
	lost.PhysicalVolumes[0], lost.PhysicalVolumes[1] = lost.PhysicalVolumes[1], lost.PhysicalVolumes[0]
	lost.PhysicalVolumes[0].Device, lost.PhysicalVolumes[0].Missing = "", true

	for name, want := range map[string]Report{
		"nothing.json":                 {},
		"empty-groups-and-orphan.json": {Groups: []Group{otherGroup(), shareGroup(96*mib, 96*mib)}, Orphans: []PhysicalVolume{orphan}},
		"layouts.json":                 {Groups: []Group{otherGroup(), shareGroup(40*mib, 84*mib, layoutVolumes()...)}, Orphans: []PhysicalVolume{orphan}},
		"hidden.json":                  {Groups: []Group{shareGroup(40*mib, 84*mib, layoutVolumes()...)}},
		"one-volume.json":              {Groups: []Group{one}},
		"missing-disk.json":            {Groups: []Group{otherGroup(), lost}, Orphans: []PhysicalVolume{orphan}},
		"exported.json":                {Groups: []Group{exported}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseReport(testdata(t, "lvm-2.03.16-"+name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAReportWithMoreColumnsIsReadAsWell(t *testing.T) {
	report, err := ParseReport(testdata(t, "lvm-2.03.16-more-columns.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range report.Groups[0].Volumes {
		got = append(got, v.Name)
	}
	if diff := cmp.Diff([]string{"lin", "pool", "snap", "str", "thin"}, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func TestAFieldThatDoesNotParseIsNamed(t *testing.T) {
	good := string(testdata(t, "lvm-2.03.16-layouts.json"))
	for name, tc := range map[string]struct{ old, new, names string }{
		"a group's size":              {`"vg_size":"201326592"`, `"vg_size":"192.00m"`, `volume group "share": field vg_size is "192.00m"`},
		"a negative size":             {`"vg_free":"130023424"`, `"vg_free":"-1"`, `volume group "share": field vg_free is "-1"`},
		"a size too large":            {`"lv_size":"8388608"`, `"lv_size":"99999999999999999999"`, `logical volume "linear": field lv_size`},
		"an empty size":               {`"pv_free":"41943040"`, `"pv_free":""`, `physical volume "/dev/ubdb": field pv_free is ""`},
		"a missing field":             {`"vg_extent_size":"4194304", `, ``, `volume group "share": field vg_extent_size is "": missing`},
		"an unknown word":             {`"vg_partial":""`, `"vg_partial":"1"`, `field vg_partial is "1"`},
		"a percentage":                {`"25.29"`, `"lots"`, `logical volume "snap": field data_percent is "lots"`},
		"attributes":                  {`"-ri-a-----"`, `""`, `logical volume "readonly": field lv_attr`},
		"a device number":             {`"lv_kernel_minor":"9"`, `"lv_kernel_minor":"x"`, `logical volume "pool": field lv_kernel_minor`},
		"a nameless volume":           {`"lv_name":"open"`, `"lv_name":""`, `field lv_name is ""`},
		"the stripes of a segment":    {`"stripes":"2"`, `"stripes":""`, `field stripes`},
		"a volume without segments":   {`"lv_uuid":"bMqsz5-xUG1-SkXD-f2dN-Ubpn-mZyp-stROwc", "segtype"`, `"lv_uuid":"other", "segtype"`, `volume share/open has no segment`},
		"a number instead of a text":  {`"vg_size":"201326592"`, `"vg_size":201326592`, "report.vg of type string"},
		"output that ends in between": {good[len(good)/2:], ``, "unexpected end"},
		"no output":                   {good, ``, "unexpected end"},
		"another document":            {good, `{}`, "no report"},
		"null":                        {good, `null`, "no report"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, tc.old, tc.new, 1)
			if bad == good {
				t.Fatalf("%q is not in the fixture", tc.old)
			}
			report, err := ParseReport([]byte(bad))
			if err == nil || !strings.Contains(err.Error(), tc.names) {
				t.Errorf("got %v, want an error with %q", err, tc.names)
			}
			if diff := cmp.Diff(Report{}, report); diff != "" {
				t.Errorf("a report came with the error:\n%s", diff)
			}
		})
	}
}

func FuzzParseReport(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		f.Add(testdata(f, filepath.Base(file)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		report, err := ParseReport(data)
		if err != nil {
			if diff := cmp.Diff(Report{}, report); diff != "" {
				t.Errorf("a report came with the error:\n%s", diff)
			}
			return
		}
		for _, g := range report.Groups {
			if g.Name == "" || g.Size < 0 || g.Free < 0 || g.Extent < 0 {
				t.Errorf("group %+v", g)
			}
			for _, v := range g.Volumes {
				if v.Name == "" || v.Name[0] == '[' || v.Size < 0 {
					t.Errorf("volume %+v", v)
				}
			}
		}
		again, err := ParseReport(bytes.Clone(data))
		if err != nil || cmp.Diff(report, again) != "" {
			t.Errorf("read twice it differs: %v", err)
		}
	})
}

func TestWhenAVolumeWasMade(t *testing.T) {
	report := string(testdata(t, "lvm-2.03.16-one-volume.json"))
	for name, test := range map[string]struct {
		says string
		want time.Time
		bad  bool
	}{
		"LVM says it in the host's own time": {says: "2026-01-02 04:04:05 +0100", want: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		"LVM does not know":                  {},
		"LVM says something else":            {says: "yesterday", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseReport([]byte(strings.Replace(report, `"lv_health_status":""`, `"lv_health_status":"", "lv_time":"`+test.says+`"`, 1)))
			if test.bad {
				if err == nil || !strings.Contains(err.Error(), "lv_time") {
					t.Errorf("got %v, want an error that names lv_time", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if made := got.Groups[0].Volumes[0].Made; !made.Equal(test.want) {
				t.Errorf("made %s, want %s", made, test.want)
			}
		})
	}
}
