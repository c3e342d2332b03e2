//go:build !root

package driver_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// disked has the volumes of a machine be disks, blocked raw ones, and mounted mount points.
// Nobody recognises what is on the disks.
func disked(m *machine, _ context.Context) error {
	m.kind = volume.Device
	m.host.node.Disks.Write("/dev/sda", provisiontest.Garbage)
	return nil
}

func blocked(m *machine, ctx context.Context) error {
	m.access = "block"
	return disked(m, ctx)
}

func mountPointed(m *machine, _ context.Context) error {
	m.kind = volume.MountPoint
	return nil
}

// used has a pod have been there, and have written something.
func used(m *machine, ctx context.Context) error {
	if err := m.attach(ctx); err != nil {
		return err
	}
	switch {
	case m.kind == volume.MountPoint:
		if err := os.WriteFile(filepath.Join(m.host.node.Disks.Dir(), "data"), nil, 0o600); err != nil {
			return err
		}
	case m.access == "block":
		m.host.node.Disks.Write("/dev/sda", provisiontest.Garbage)
	}
	return m.detach(ctx)
}

// wantOwner checks that the volume has that disk or file system, and nobody anything else.
func wantOwner(identity string) func(t *testing.T, m *machine) {
	return func(t *testing.T, m *machine) {
		t.Helper()
		if diff := cmp.Diff(map[string]string{identity: id}, m.host.node.Disks.Owners()); diff != "" {
			t.Errorf("who has what (-want +got):\n%s", diff)
		}
		if m.access == "block" && m.host.node.Disks.On("/dev/sda") != "" {
			t.Error("a block volume shows what a former tenant left")
		}
	}
}

var wholeChapters = []chapter{
	{
		name: "give a disk", before: []act{disked}, step: provisioned,
		after: wantOwner("wwn-1"), ends: []act{unprovisioned}, points: 12,
	},
	{
		name: "give a block device", before: []act{blocked}, step: provisioned,
		after: wantOwner("wwn-1"), ends: []act{unprovisioned}, points: 15,
	},
	{
		name: "hand a disk to a pod", before: []act{disked, provisioned}, step: (*machine).attach,
		after: func(t *testing.T, m *machine) { wantMounts(t, m, 2) }, ends: []act{(*machine).detach, unprovisioned}, points: 11,
	},
	{
		name: "take a disk from a pod", before: []act{disked, provisioned, (*machine).attach}, step: (*machine).detach,
		after: func(t *testing.T, m *machine) { wantMounts(t, m, 0) }, ends: []act{unprovisioned}, points: 6,
	},
	{name: "wipe a disk", before: []act{disked, provisioned, used}, step: unprovisioned, points: 14},
	{name: "wipe a block device", before: []act{blocked, provisioned, used}, step: unprovisioned, points: 14},
	{
		name: "give a mount point", before: []act{mountPointed}, step: provisioned,
		after: wantOwner(provisiontest.MountID), ends: []act{unprovisioned}, points: 9,
	},
	{
		name: "hand a mount point to a pod", before: []act{mountPointed, provisioned}, step: (*machine).attach,
		after: func(t *testing.T, m *machine) { wantMounts(t, m, 1) }, ends: []act{(*machine).detach, unprovisioned}, points: 4,
	},
	{name: "empty a mount point", before: []act{mountPointed, provisioned, used}, step: unprovisioned, points: 12},
}
