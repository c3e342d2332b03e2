//go:build !root

package driver_test

import (
	"testing"

	"github.com/open-local/open-local/pkg/capacity"
)

func TestConformance(t *testing.T) {
	host, p := newFakeHost(t, map[string]capacity.Bytes{"pool-a": 2 * capacity.GiB, "pool-b": 4 * capacity.GiB})
	r := newRig(t, p)
	conform(t, r, 64*capacity.MiB)

	if left := host.node.Volumes(); len(left) > 0 {
		t.Errorf("volumes are left: %q", left)
	}
	if len(host.mounted) > 0 {
		t.Errorf("mounts are left: %v", host.mounted)
	}
}
