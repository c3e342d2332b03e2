package volume

import (
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
