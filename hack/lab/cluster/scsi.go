package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/wire"
)

// The SCSI disks of a node are made by scsi_debug: one host for each, with a store of its
// own, which is there as long as the host is, whether the disk is plugged in or not.
const scsiParameters = "/sys/module/scsi_debug/parameters/"

// firstWWN and wwnStep are how scsi_debug counts: the disk of host n says that it is
// naa.3333333000000000 and 2000 for each host up to its own.
const (
	firstWWN = 0x3333333000000000
	wwnStep  = 2000
)

// hostOf returns the number of the host of the disk with that identity.
func hostOf(id string) (int, error) {
	wwn, err := strconv.ParseUint(strings.TrimPrefix(id, wwnPrefix), 16, 64)
	if err != nil || wwn < firstWWN+wwnStep || (wwn-firstWWN)%wwnStep != 0 {
		return 0, fmt.Errorf("disk %q: not the WWN of a SCSI disk of the lab", id)
	}
	return int((wwn-firstWWN)/wwnStep) - 1, nil
}

// set writes into a file of a node, as a person does with echo.
func (c *Cluster) set(ctx context.Context, node, file, value string) error {
	var complaint bytes.Buffer
	code, err := c.Run(ctx, node, wire.Command{Argv: []string{"tee", file}},
		Streams{Stdin: strings.NewReader(value + "\n"), Stdout: io.Discard, Stderr: &complaint})
	if err != nil {
		return err
	}
	if code != 0 {
		return &ExitError{Node: node, Argv: []string{"writing", value, "to", file}, Code: code, Stderr: complaint.String()}
	}
	return nil
}

// findSCSI returns the disk of that device or identity, which must be plugged in.
func (c *Cluster) findSCSI(ctx context.Context, node, name string) (Disk, error) {
	disks, err := c.ListDisks(ctx, node)
	if err != nil {
		return Disk{}, err
	}
	for _, d := range disks {
		if isSCSI(d.Device) && (d.Device == name || d.ID == name) {
			return d, nil
		}
	}
	return Disk{}, fmt.Errorf("disk %q: node %s has no SCSI disk of that name plugged in", name, node)
}

// setSCSI writes into a file of a SCSI disk's directory.
func (c *Cluster) setSCSI(ctx context.Context, node, name, file, value string) error {
	d, err := c.findSCSI(ctx, node, name)
	if err != nil {
		return err
	}
	return c.set(ctx, node, filepath.Join("/sys/block", filepath.Base(d.Device), file), value)
}

func (c *Cluster) removeSCSI(ctx context.Context, node, name string) error {
	return c.setSCSI(ctx, node, name, "device/delete", "1")
}

func (c *Cluster) returnSCSI(ctx context.Context, node, id string) (string, error) {
	host, err := hostOf(id)
	if err != nil {
		return "", err
	}
	// All channels, targets and units of that host.
	if err := c.set(ctx, node, fmt.Sprintf("/sys/class/scsi_host/host%d/scan", host), "- - -"); err != nil {
		return "", err
	}
	// The disk has a name a moment later.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var found Disk
	err = c.poll(ctx, func(ctx context.Context) (bool, error) {
		found, err = c.findSCSI(ctx, node, id)
		return err == nil, err
	})
	return found.Device, err
}

func (c *Cluster) swapSCSI(ctx context.Context, node, one, other string) error {
	first, err := c.findSCSI(ctx, node, one)
	if err != nil {
		return err
	}
	second, err := c.findSCSI(ctx, node, other)
	if err != nil {
		return err
	}
	if first.Device > second.Device {
		first, second = second, first
	}
	if err := errors.Join(c.removeSCSI(ctx, node, first.ID), c.removeSCSI(ctx, node, second.ID)); err != nil {
		return err
	}
	// The one that is found first gets the first name.
	for _, expected := range []Disk{{first.Device, 0, second.ID}, {second.Device, 0, first.ID}} {
		device, err := c.returnSCSI(ctx, node, expected.ID)
		if err != nil {
			return err
		}
		if device != expected.Device {
			return fmt.Errorf("disk %s of node %s became %s and not %s: somebody still uses what had that name", expected.ID, node, device, expected.Device)
		}
	}
	return nil
}

// growSCSI has all SCSI disks of the node say that they have so many gibibytes, and the
// kernel ask one of them.
func (c *Cluster) growSCSI(ctx context.Context, node, name, size string) error {
	bytes, err := disk.ParseBytes(size)
	if err != nil {
		return err
	}
	if bytes%(1<<30) != 0 {
		return fmt.Errorf("growing disk %s of node %s to %s: a SCSI disk can grow to whole gibibytes", name, node, size)
	}
	if err := c.set(ctx, node, scsiParameters+"virtual_gb", strconv.FormatInt(int64(bytes>>30), 10)); err != nil {
		return err
	}
	return c.setSCSI(ctx, node, name, "device/rescan", "1")
}

// ShrinkDisks undoes GrowDisk for all SCSI disks of a node.
func (c *Cluster) ShrinkDisks(ctx context.Context, node string) error {
	if err := c.set(ctx, node, scsiParameters+"virtual_gb", "0"); err != nil {
		return err
	}
	return c.eachSCSI(ctx, node, "device/rescan", "1")
}

func (c *Cluster) eachSCSI(ctx context.Context, node, file, value string) error {
	disks, err := c.ListDisks(ctx, node)
	if err != nil {
		return err
	}
	for _, d := range disks {
		if isSCSI(d.Device) {
			if err := c.setSCSI(ctx, node, d.ID, file, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// FailDisk makes a SCSI disk one that the kernel has given up, as after too many errors:
// whatever is asked of it fails.
func (c *Cluster) FailDisk(ctx context.Context, node, name string) error {
	return c.setState(ctx, node, name, "offline")
}

// HealDisk makes a disk well again that failed.
func (c *Cluster) HealDisk(ctx context.Context, node, name string) error {
	return c.setState(ctx, node, name, "running")
}

func (c *Cluster) setState(ctx context.Context, node, name, state string) error {
	if err := c.setSCSI(ctx, node, name, "device/state", state); err != nil {
		return err
	}
	// A driver that gives a disk up says so; who writes into this file must do it himself.
	return c.setSCSI(ctx, node, name, "uevent", "change")
}

// ProtectDisk puts the write protection of a SCSI disk on or off.
func (c *Cluster) ProtectDisk(ctx context.Context, node, name string, protected bool) error {
	if _, err := c.findSCSI(ctx, node, name); err != nil {
		return err
	}
	// All disks of the driver have the switch in common, but the kernel looks at it only
	// when it asks a disk what it is.
	if protected {
		if err := c.set(ctx, node, scsiParameters+"wp", "1"); err != nil {
			return err
		}
	}
	return errors.Join(c.setSCSI(ctx, node, name, "device/rescan", "1"), c.set(ctx, node, scsiParameters+"wp", "0"))
}
