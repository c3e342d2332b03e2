// Package cluster is a Kubernetes cluster on one host for tests and
// demonstrations: a real control plane, and nodes that are Linux kernels of
// their own with real kubelets and real LVM. It is brought up, looked at,
// rebooted and taken down through this package; package daemon does the work.
package cluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/network"
)

// DefaultDir is where a lab has its state if nobody says otherwise.
const DefaultDir = "_output/lab"

// Options say what cluster is wanted. The zero value is a good one.
type Options struct {
	// Dir holds the state; labs with different ones do not meet. Empty is
	// DefaultDir below the working directory.
	Dir string
	// Nodes is how many nodes there are, 1 if it is 0. They are called n1, n2, ...
	Nodes int
	// Disks are the blank disks of each node, for example "2x4G", which is also
	// what empty means. A node has the first as /dev/ubdb and /dev/vdb.
	Disks string
	// SCSIDisks are disks of each node that have a WWN and can fail, for example "2x128M":
	// of one size, and in the node's memory. Empty is none.
	SCSIDisks string
	// Memory of each node, "2G" if empty. The host gives only what is touched.
	Memory string
	// SchedulerConfig is a file with a KubeSchedulerConfiguration. Empty: one
	// that asks the extender of open-local once that is there.
	SchedulerConfig string
	// Images are archives that every node loads at its first boot, besides the
	// lab's own.
	Images []string
	// Progress is told what goes on. Nil: nobody is.
	Progress io.Writer
}

// checked are Options with every field set and understood.
type checked struct {
	Options
	disks     []disk.Bytes
	scsi      []disk.Bytes
	memory    disk.Bytes
	scheduler string // content
}

func (o Options) check() (checked, error) {
	o.Nodes = cmp.Or(o.Nodes, 1)
	o.Disks = cmp.Or(o.Disks, "2x4G")
	o.Memory = cmp.Or(o.Memory, "2G")
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Nodes < 0 || o.Nodes > network.MaxNodes {
		return checked{}, fmt.Errorf("nodes %d: want 1 to %d", o.Nodes, network.MaxNodes)
	}
	c := checked{Options: o}
	var err error
	if c.Dir, err = absolute(o.Dir); err != nil {
		return checked{}, err
	}
	if c.disks, err = disk.Parse(o.Disks); err != nil {
		return checked{}, err
	}
	if c.scsi, err = parseSCSI(o.SCSIDisks); err != nil {
		return checked{}, err
	}
	if c.memory, err = disk.ParseBytes(o.Memory); err != nil {
		return checked{}, fmt.Errorf("memory: %w", err)
	}
	if o.SchedulerConfig != "" {
		content, err := os.ReadFile(o.SchedulerConfig)
		if err != nil {
			return checked{}, fmt.Errorf("reading the scheduler's configuration: %w", err)
		}
		c.scheduler = string(content)
	}
	return c, nil
}

// parseSCSI reads a list of disks that are all of one size, of whole mebibytes.
func parseSCSI(list string) ([]disk.Bytes, error) {
	disks, err := disk.Parse(list)
	if err != nil {
		return nil, fmt.Errorf("SCSI disks: %w", err)
	}
	for _, size := range disks {
		if size != disks[0] || size%(1<<20) != 0 {
			return nil, fmt.Errorf("SCSI disks %q: want disks of one size and of whole mebibytes, for example 2x128M", list)
		}
	}
	return disks, nil
}

func absolute(dir string) (string, error) {
	abs, err := filepath.Abs(cmp.Or(dir, DefaultDir))
	if err != nil {
		return "", fmt.Errorf("finding the lab's directory: %w", err)
	}
	return abs, nil
}

// runtimeDir is where the sockets of the lab in dir are: somewhere short, because
// a socket's path is limited to 107 bytes.
func runtimeDir(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "/run/open-local-lab-" + hex.EncodeToString(sum[:4])
}
