package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/open-local/open-local/hack/lab/daemon"
	"github.com/open-local/open-local/hack/lab/disk"
)

// A Disk is one that a node has plugged in.
type Disk struct {
	Device string // as the node calls it today
	Size   disk.Bytes
	// ID is who the disk is: "serial-N1-b", or "wwn-0x3333333000000bb8" for the SCSI
	// disks. All that is done to a disk is told its device or this.
	ID string
}

// Disks of a node lie in files and stay what they are over reboots and power cuts. Its
// SCSI disks lie in its memory: they are blank after every boot, and they can be pulled
// out, fail or grow while somebody uses them.
func isSCSI(name string) bool {
	return strings.HasPrefix(name, "/dev/sd") || strings.HasPrefix(name, wwnPrefix)
}

// AddDisk gives a node another blank disk, for example of "2G", and returns its device.
// The disk stays over reboots.
func (c *Cluster) AddDisk(ctx context.Context, node, size string) (device string, err error) {
	device, err = c.ask(ctx, http.MethodPost, daemon.PathNode+node+"/disks?size="+url.QueryEscape(size))
	if err != nil {
		return "", err
	}
	return device, c.nameLikeOthers(ctx, node, device)
}

// nameLikeOthers gives a disk the name that other virtual machines would give it, as at
// boot.
func (c *Cluster) nameLikeOthers(ctx context.Context, node, device string) error {
	_, err := c.Exec(ctx, node, "ln", "-sf", filepath.Base(device), alias(device))
	return err
}

func alias(device string) string { return strings.Replace(device, "/dev/ubd", "/dev/vd", 1) }

// RemoveDisk pulls a disk out of a running node. It is there again at the next boot, or
// after ReturnDisk. The kernel refuses while the disk is open; a SCSI disk is torn away
// from whoever uses it.
func (c *Cluster) RemoveDisk(ctx context.Context, node, name string) error {
	if isSCSI(name) {
		return c.removeSCSI(ctx, node, name)
	}
	device, err := c.changeDisk(ctx, node, "remove", name, nil)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, node, "rm", "-f", alias(device))
	return err
}

// ReturnDisk plugs a disk in again that was pulled out, and returns its device: a SCSI
// disk gets the first name that is free.
func (c *Cluster) ReturnDisk(ctx context.Context, node, name string) (device string, err error) {
	if isSCSI(name) {
		return c.returnSCSI(ctx, node, name)
	}
	device, err = c.changeDisk(ctx, node, "return", serialOf(name), nil)
	if err != nil {
		return "", err
	}
	return device, c.nameLikeOthers(ctx, node, device)
}

// DiscardDisk takes a disk out of a running node for good, with what is on it.
func (c *Cluster) DiscardDisk(ctx context.Context, node, name string) error {
	if isSCSI(name) {
		return fmt.Errorf("disk %s: a SCSI disk lives as long as its node; remove it", name)
	}
	device, err := c.changeDisk(ctx, node, "discard", name, nil)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, node, "rm", "-f", alias(device))
	return err
}

// SwapDisks makes two disks of a node come up under each other's names, with what is on
// them: from the next boot on, or when both were pulled out and returned. SCSI disks are
// swapped at once and must not be in use.
func (c *Cluster) SwapDisks(ctx context.Context, node, one, other string) error {
	if isSCSI(one) != isSCSI(other) {
		return fmt.Errorf("disks %s and %s are of two kinds and never have each other's names", one, other)
	}
	if isSCSI(one) {
		return c.swapSCSI(ctx, node, one, other)
	}
	_, err := c.changeDisk(ctx, node, "swap", one, url.Values{"with": {serialOf(other)}})
	return err
}

// GrowDisk makes a disk larger, for example "4G". A SCSI disk may be in use, and only
// says that it is larger: what is written beyond its first size is written over its
// beginning. Another disk must not be in use.
func (c *Cluster) GrowDisk(ctx context.Context, node, name, size string) error {
	if isSCSI(name) {
		return c.growSCSI(ctx, node, name, size)
	}
	_, err := c.changeDisk(ctx, node, "grow", name, url.Values{"size": {size}})
	return err
}

// changeDisk orders something of the daemon and returns the disk's device.
func (c *Cluster) changeDisk(ctx context.Context, node, verb, name string, more url.Values) (string, error) {
	query := url.Values{"disk": {serialOf(name)}}
	maps.Copy(query, more)
	return c.ask(ctx, http.MethodPost, daemon.PathNode+node+"/disks/"+verb+"?"+query.Encode())
}

func serialOf(name string) string { return strings.TrimPrefix(name, serialPrefix) }

// The beginnings of what disks are known by.
const (
	serialPrefix = "serial-"
	wwnPrefix    = "wwn-0x"
)

// ListDisks returns the disks that a node has plugged in, its own aside, in the order of
// their devices.
func (c *Cluster) ListDisks(ctx context.Context, node string) ([]Disk, error) {
	// One line for each: name, sectors, WWN or nothing, serial number or nothing.
	const list = `cd /sys/block && for d in ubd[b-z] sd*; do [ -e $d ] || continue
echo "$d $(cat $d/size) wwn:$(cat $d/device/wwid 2>/dev/null) serial:$(cat $d/serial 2>/dev/null)"; done`
	said, err := c.Exec(ctx, node, "sh", "-c", list)
	if err != nil {
		return nil, err
	}
	return parseDisks(said)
}

func parseDisks(said string) ([]Disk, error) {
	var disks []Disk
	for line := range strings.Lines(said) {
		var name, wwn, serial string
		var sectors int64
		if n, err := fmt.Sscan(line, &name, &sectors, &wwn, &serial); err != nil {
			return nil, fmt.Errorf("reading line %q of a node's disks: field %d: %w", line, n+1, err)
		}
		d := Disk{Device: "/dev/" + name, Size: disk.Bytes(sectors * 512)}
		if wwn = strings.TrimPrefix(wwn, "wwn:"); wwn != "" {
			d.ID = wwnPrefix + strings.TrimPrefix(wwn, "naa.")
		} else if serial = strings.TrimPrefix(serial, "serial:"); serial != "" {
			d.ID = serialPrefix + serial
		}
		disks = append(disks, d)
	}
	return disks, nil
}
