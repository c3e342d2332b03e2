package lvm

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/hostexec"
)

func TestWhatIsHidden(t *testing.T) {
	create := func(ctx context.Context, h *Host) error {
		return h.CreateVolume(ctx, CreateVolume{Group: "share", Name: "data", Size: mib})
	}
	const creation = " --yes --wipesignatures y --zero y --name data --size 1048576b --type linear -- share"
	for name, tc := range map[string]struct {
		hidden  []string
		answers []answer
		do      func(context.Context, *Host) error
		want    []string
	}{
		"nothing costs nothing": {
			answers: []answer{{}}, do: create, want: []string{"lvm lvcreate" + creation},
		},
		"a disk with its partitions": {
			hidden: []string{"/dev/sdb"}, answers: []answer{{err: says("not found")}, {}}, do: create,
			want: []string{
				"lvm lvmconfig devices",
				`lvm lvcreate --config devices{global_filter=["r|^/dev/sdb([0-9]+)?$|"]}` + creation,
			},
		},
		"a disk whose name ends with a number, and one with a name that means something else in a pattern": {
			hidden: []string{"/dev/nvme0n1", "/dev/mapper/a.b"}, answers: []answer{{err: says("not found")}, {}}, do: create,
			want: []string{
				"lvm lvmconfig devices",
				`lvm lvcreate --config devices{global_filter=["r|^/dev/nvme0n1(p[0-9]+)?$|","r|^/dev/mapper/a[.]b([0-9]+)?$|"]}` + creation,
			},
		},
		"what the host filters stays filtered": {
			hidden: []string{"/dev/sdb"}, answers: []answer{{out: "devices {\n\tfilter=[\"r|/dev/drbd.*|\",\"a|.*|\"]\n\tglobal_filter=\"r|/dev/zd.*|\"\n}\n"}, {}}, do: create,
			want: []string{
				"lvm lvmconfig devices",
				`lvm lvcreate --config devices{global_filter=["r|^/dev/sdb([0-9]+)?$|","r|/dev/zd.*|"]}` + creation,
			},
		},
		"the host is asked once, and again only if it could not be": {
			hidden:  []string{"/dev/sdb"},
			answers: []answer{{err: hostexec.ErrNotInstalled}, {}, {out: "devices {\n\tglobal_filter=\"r|/dev/zd.*|\"\n}\n"}, {}, {}},
			do: func(ctx context.Context, h *Host) error {
				for range 2 {
					if err := create(ctx, h); err != nil {
						return err
					}
				}
				return create(ctx, h)
			},
			want: []string{
				"lvm lvmconfig devices",
				`lvm lvcreate --config devices{global_filter=["r|^/dev/sdb([0-9]+)?$|"]}` + creation,
				"lvm lvmconfig devices",
				`lvm lvcreate --config devices{global_filter=["r|^/dev/sdb([0-9]+)?$|","r|/dev/zd.*|"]}` + creation,
				`lvm lvcreate --config devices{global_filter=["r|^/dev/sdb([0-9]+)?$|","r|/dev/zd.*|"]}` + creation,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{t: t, answers: tc.answers}
			host := New(s)
			host.Hide(func(context.Context) []string { return tc.hidden })
			if err := tc.do(t.Context(), host); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, s.ran); diff != "" {
				t.Errorf("what ran (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAReportWithSomethingHiddenHasOneConfiguration(t *testing.T) {
	host := New(&script{t: t, answers: []answer{{err: says("not found")}}})
	host.Hide(func(context.Context) []string { return []string{"/dev/sdb"} })
	got := host.withHidden(t.Context(), reportArguments(""))
	want := append([]string{"fullreport", "--config", reportConfig + ` devices{global_filter=["r|^/dev/sdb([0-9]+)?$|"]}`}, reportArguments("")[3:]...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
}

func TestWhatIsHiddenStaysHiddenUnderItsOtherNames(t *testing.T) {
	const (
		device = `"r|^/dev/sdb([0-9]+)?$|"`
		alias  = `"r|^/dev/disk/by-id/wwn-0x5[.]1$|"`
	)
	for name, tc := range map[string]struct{ said, want string }{
		"a host that says nothing of it":         {"devices {\n}\n", `global_filter=[` + device + `]`},
		"a filter that accepts":                  {"devices {\n\tfilter=\"a|.*|\"\n}\n", `global_filter=[` + device + `]`},
		"a filter that only rejects":             {"devices {\n\tfilter=\"r|x|\"\n}\n", `global_filter=[` + device + `]`},
		"a global filter that only rejects":      {"devices {\n\tfilter=\"a|y|\"\n\tglobal_filter=[\"r|x|\",\"r/a|/\"]\n}\n", `global_filter=[` + device + `,"r|x|","r/a|/"]`},
		"a global filter that accepts":           {"devices {\n\tglobal_filter=[\"a|x|\",\"r|.*|\"]\n}\n", `filter=[` + device + `]`},
		"and beside it a filter that rejects":    {"devices {\n\tfilter=\"r|y|\"\n\tglobal_filter=\"a|x|\"\n}\n", `filter=[` + device + `,"r|y|"]`},
		"both accept: every name is rejected":    {"devices {\n\tfilter=\"a|y|\"\n\tglobal_filter=[\"r|x|\",\"a|.*|\"]\n}\n", `global_filter=[` + device + `,` + alias + `,"r|x|","a|.*|"]`},
		"a quoted name is no setting":            {"devices {\n\tscan=\"filter=a\"\n\tmlock_filter=\"a|x|\"\n}\n", `global_filter=[` + device + `]`},
		"a pattern with what strings must quote": {"devices {\n\tglobal_filter=\"r|x\\\"y\\\\.|\"\n}\n", `global_filter=[` + device + `,"r|x\"y\\.|"]`},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseChains(tc.said).without([]string{"/dev/sdb", Alias + "/dev/disk/by-id/wwn-0x5.1"})
			if diff := cmp.Diff("devices{"+tc.want+"}", got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

// A tenant chooses some names: udev makes links of the labels of file systems and partitions.
func TestThePatternOfANameIsThatName(t *testing.T) {
	for name, want := range map[string]string{
		"/dev/disk/by-id/ata-X_1-part1":    "/dev/disk/by-id/ata-X_1-part1",
		"/dev/disk/by-label/a.b+c":         "/dev/disk/by-label/a[.]b[+]c",
		`/dev/disk/by-label/x\x20y`:        "/dev/disk/by-label/x.x20y",
		"/dev/disk/by-label/\"],[a|.*|]^$": "/dev/disk/by-label/..[,][[]a[|][.][*][|]..[$]",
		"/dev/disk/by-label/ä\xff\n":       "/dev/disk/by-label/....",
	} {
		if got := literal(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
