package agent

import (
	"testing"

	"github.com/open-local/open-local/pkg/mounts"
)

func TestWhichMountsCallForALook(t *testing.T) {
	const pod = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/v/mount"
	for name, tc := range map[string]struct {
		mount mounts.Mount
		looks bool
	}{
		"a disk at a place for storage":         {mounts.Mount{Target: "/mnt/a", Source: "/dev/sdb", Major: 8}, true},
		"memory at a place for storage":         {mounts.Mount{Target: "/mnt/a", Source: "tmpfs"}, true},
		"a volume of a group in a pod":          {mounts.Mount{Target: pod, Source: "/dev/mapper/pool-a", Major: 253}, false},
		"the same as some call it":              {mounts.Mount{Target: pod, Source: "/dev/dm-3", Major: 253}, false},
		"a secret of a pod":                     {mounts.Mount{Target: pod, Source: "tmpfs"}, false},
		"a mount point that a pod has":          {mounts.Mount{Target: pod, Source: "/dev/sdb", Major: 8}, true},
		"the system's own, on the disk of root": {mounts.Mount{Target: "/run/x", Source: "/dev/sda", Major: 8}, false},
		"a container's root":                    {mounts.Mount{Target: "/var/lib/containerd/1/rootfs", Source: "overlay"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := !passing(tc.mount); got != tc.looks {
				t.Errorf("calls for a look: %t, want %t", got, tc.looks)
			}
		})
	}
}
