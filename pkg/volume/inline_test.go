package volume

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/capacity"
)

func TestInlineVolumesAreParsedAtTheDoor(t *testing.T) {
	for name, test := range map[string]struct {
		attributes map[string]string
		want       Inline
		reason     string
	}{
		"a group alone gets one gibibyte": {
			attributes: map[string]string{"vgName": "pool"},
			want:       Inline{Group: "pool", Size: capacity.GiB, Layout: capacity.Linear},
		},
		"everything that may be said": {
			attributes: map[string]string{"vgName": "pool", "size": "100M", "lvmType": "linear", "iops": "1024", "bps": "1Mi"},
			want:       Inline{Group: "pool", Size: 100_000_000, Layout: capacity.Linear, Limits: Limits{IOPS: 1024, BPS: 1 << 20}},
		},
		"what kubelet adds is left alone": {
			attributes: map[string]string{"vgName": "pool", "csi.storage.k8s.io/pod.name": "p", "csi.storage.k8s.io/ephemeral": "true"},
			want:       Inline{Group: "pool", Size: capacity.GiB, Layout: capacity.Linear},
		},
		"no group": {reason: `invalid inline volume: "vgName" is required`},
		"a group that a shell would love": {
			attributes: map[string]string{"vgName": "x; rm -rf /"},
			reason:     `invalid inline volume attribute "vgName": "x; rm -rf /" is not a name LVM accepts for a volume group (letters, digits and + _ . -, not first a hyphen)`,
		},
		"no size": {
			attributes: map[string]string{"vgName": "pool", "size": "0"},
			reason:     `invalid inline volume attribute "size": "0" is not a whole number of bytes above zero`,
		},
		"a size of nineteen digits": {
			attributes: map[string]string{"vgName": "pool", "size": "1000000000000000001"},
			want:       Inline{Group: "pool", Size: 1_000_000_000_000_000_001, Layout: capacity.Linear},
		},
		"the largest size there is": {
			attributes: map[string]string{"vgName": "pool", "size": "9223372036854775807"},
			want:       Inline{Group: "pool", Size: math.MaxInt64, Layout: capacity.Linear},
		},
		"one byte more": {
			attributes: map[string]string{"vgName": "pool", "size": "9223372036854775808"},
			reason:     `invalid inline volume attribute "size": "9223372036854775808" is not a whole number of bytes above zero`,
		},
		"half a byte": {
			attributes: map[string]string{"vgName": "pool", "size": "1500m"},
			reason:     `invalid inline volume attribute "size": "1500m" is not a whole number of bytes above zero`,
		},
		"a key nobody knows": {
			attributes: map[string]string{"vgName": "pool", "device": "/dev/sda"},
			reason:     `invalid inline volume attribute "device": not known; known are bps, iops, lvmType, size, vgName`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseInline(test.attributes)
			if test.reason != "" {
				if err == nil || err.Error() != test.reason || !errors.Is(err, ErrInvalid) {
					t.Fatalf("got %v, want %s", err, test.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("inline volume (-want +got):\n%s", diff)
			}
		})
	}
}
