package main

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
)

// lvmOf returns the LVM of the host, which does not see what is on the disks that volumes
// have: a tenant could write there whatever LVM believes.
func lvmOf(runner hostexec.Runner, hostRoot string) *lvm.Host {
	host := lvm.New(runner)
	hidden := &exclusive.Hidden{Book: exclusive.NewBook(hostRoot), Host: blockdev.New(runner, hostRoot), Root: hostRoot}
	host.Hide(func(ctx context.Context) []string {
		names, err := hidden.Names(ctx)
		if err != nil {
			klog.FromContext(ctx).Error(err, "LVM may see what is on disks of volumes", "hidden", names)
		}
		return names
	})
	return host
}
