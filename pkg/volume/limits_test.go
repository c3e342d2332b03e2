package volume

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLimitsAreKeptInTags(t *testing.T) {
	for name, tc := range map[string]struct {
		tags []string
		want Limits
	}{
		"none":                                 {nil, Limits{}},
		"both":                                 {LimitTags(Limits{IOPS: 1024, BPS: 1 << 20}), Limits{IOPS: 1024, BPS: 1 << 20}},
		"one":                                  {LimitTags(Limits{BPS: 1}), Limits{BPS: 1}},
		"the smallest of two":                  {[]string{"open-local.bps=5", "open-local.bps=3", "open-local.bps=4"}, Limits{BPS: 3}},
		"what cannot be read":                  {[]string{"open-local.bps=", "open-local.iops=-1", "open-local.iops=x"}, Limits{}},
		"what others have put there":           {[]string{"bps=7", "open-local.bpsx=7"}, Limits{}},
		"beside the tags that say whose it is": {append(OwnerTags("d", "c", "n", "p"), "open-local.iops=9"), Limits{IOPS: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, LimitsFromTags(tc.tags)); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
			for _, tag := range LimitTags(tc.want) {
				if !ValidTag(tag) {
					t.Errorf("LVM does not take the tag %q", tag)
				}
			}
		})
	}
}

func TestLimitsChange(t *testing.T) {
	was := Limits{IOPS: 1024, BPS: 1 << 20}
	for name, tc := range map[string]struct {
		parameters map[string]string
		want       Limits
		add, del   []string
	}{
		"one is another and the other stays": {map[string]string{"bps": "4Mi"}, Limits{1024, 4 << 20}, []string{"open-local.bps=4194304"}, []string{"open-local.bps=1048576"}},
		"both":                               {map[string]string{"bps": "1", "iops": "2"}, Limits{2, 1}, []string{"open-local.iops=2", "open-local.bps=1"}, []string{"open-local.iops=1024", "open-local.bps=1048576"}},
		"one is taken off":                   {map[string]string{"iops": "max"}, Limits{0, 1 << 20}, []string{"open-local.iops=max"}, []string{"open-local.iops=1024"}},
		"to what they are":                   {map[string]string{"iops": "1Ki", "bps": "1Mi"}, was, nil, nil},
		"nothing":                            {nil, was, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			change, err := ParseLimitChange(tc.parameters)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, change.Of(was)); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
			tags := append(LimitTags(was), "open-local.id=x")
			add, del := change.RetagLimits(tags)
			if diff := cmp.Diff([][]string{tc.add, tc.del}, [][]string{add, del}); diff != "" {
				t.Errorf("tags to add and to take away (-want +got):\n%s", diff)
			}
			tags = append(slices.DeleteFunc(tags, func(t string) bool { return slices.Contains(del, t) }), add...)
			if diff := cmp.Diff(tc.want, KeptLimits(tags).Of(Limits{IOPS: 9, BPS: 9})); diff != "" {
				t.Errorf("limits that tags %q keep, whatever was asked (-want +got):\n%s", tags, diff)
			}
		})
	}
}

func TestTagsThatSayNothingKeepWhatWasAsked(t *testing.T) {
	if got, want := KeptLimits([]string{"open-local.id=x", "open-local.iops=7"}).Of(Limits{IOPS: 9, BPS: 8}), (Limits{IOPS: 7, BPS: 8}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAChangeThatCannotBeReadIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		parameters map[string]string
		names      string
	}{
		"a key that cannot change":  {map[string]string{"bps": "1", "lvmType": "striping"}, "lvmType"},
		"a misspelt key":            {map[string]string{"BPS": "1"}, "BPS"},
		"nothing":                   {map[string]string{"bps": "0"}, "bps"},
		"less than nothing":         {map[string]string{"iops": "-5"}, "iops"},
		"a part of one":             {map[string]string{"iops": "500m"}, "iops"},
		"no value":                  {map[string]string{"iops": ""}, "iops"},
		"a word":                    {map[string]string{"bps": "unlimited"}, "bps"},
		"max in other letters":      {map[string]string{"bps": "Max"}, "bps"},
		"more than can be counted":  {map[string]string{"bps": "10E"}, "bps"},
		"a value with a unit of IO": {map[string]string{"bps": "10MB/s"}, "bps"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseLimitChange(tc.parameters)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), strconv.Quote(tc.names)) {
				t.Errorf("got %v, want ErrInvalid that names %s", err, tc.names)
			}
			if got != (LimitChange{}) {
				t.Errorf("got %+v beside the error", got)
			}
		})
	}
}
