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
				"lvm lvmconfig devices/filter",
				`lvm lvcreate --config devices{filter=["r|^/dev/sdb([0-9]+)?$|"]}` + creation,
			},
		},
		"a disk whose name ends with a number, and one with a name that means something else in a pattern": {
			hidden: []string{"/dev/nvme0n1", "/dev/mapper/a.b"}, answers: []answer{{err: says("not found")}, {}}, do: create,
			want: []string{
				"lvm lvmconfig devices/filter",
				`lvm lvcreate --config devices{filter=["r|^/dev/nvme0n1(p[0-9]+)?$|","r|^/dev/mapper/a[.]b([0-9]+)?$|"]}` + creation,
			},
		},
		"what the host filters stays filtered": {
			hidden: []string{"/dev/sdb"}, answers: []answer{{out: "filter=[\"r|/dev/drbd.*|\",\"a|.*|\"]\n"}, {}}, do: create,
			want: []string{
				"lvm lvmconfig devices/filter",
				`lvm lvcreate --config devices{filter=["r|^/dev/sdb([0-9]+)?$|","r|/dev/drbd.*|","a|.*|"]}` + creation,
			},
		},
		"the host is asked once, and again only if it could not be": {
			hidden:  []string{"/dev/sdb"},
			answers: []answer{{err: hostexec.ErrNotInstalled}, {}, {out: "filter=\"a|.*|\"\n"}, {}, {}},
			do: func(ctx context.Context, h *Host) error {
				for range 2 {
					if err := create(ctx, h); err != nil {
						return err
					}
				}
				return create(ctx, h)
			},
			want: []string{
				"lvm lvmconfig devices/filter",
				`lvm lvcreate --config devices{filter=["r|^/dev/sdb([0-9]+)?$|"]}` + creation,
				"lvm lvmconfig devices/filter",
				`lvm lvcreate --config devices{filter=["r|^/dev/sdb([0-9]+)?$|","a|.*|"]}` + creation,
				`lvm lvcreate --config devices{filter=["r|^/dev/sdb([0-9]+)?$|","a|.*|"]}` + creation,
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
	want := append([]string{"fullreport", "--config", reportConfig + ` devices{filter=["r|^/dev/sdb([0-9]+)?$|"]}`}, reportArguments("")[3:]...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
}
