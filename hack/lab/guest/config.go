// Package guest is what runs inside a machine of the lab: it turns a bare
// User-Mode Linux kernel, booted on the host's own root file system, into a
// machine of its own that cannot write on the host, and runs a job or a
// Kubernetes node there. It does not know how machines are started.
package guest

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/open-local/open-local/hack/lab/wire"
)

// ConfigVariable is the kernel parameter, and so the variable, that names the
// file with the configuration.
const ConfigVariable = "LAB_CONFIG"

// A Config says what a machine is to become.
type Config struct {
	Hostname string `json:"hostname"`
	// Modules is the directory of the host with the kernel's modules, below its release.
	Modules string `json:"modules"`
	// DataDisk is the device that holds what the machine writes outside its
	// disks. Without one that is memory, and gone when the machine stops.
	DataDisk string `json:"dataDisk,omitempty"`
	// Shares are directories of the host that are seen as they are. Everything
	// else of the host is read only below a private layer.
	Shares []Share `json:"shares,omitempty"`
	// Disks is how many disks the machine has, its data disk aside.
	Disks int `json:"disks"`
	// SCSI asks for that many disks in memory that have an identity, of
	// SCSISizeMB mebibytes each.
	SCSI       int `json:"scsi,omitempty"`
	SCSISizeMB int `json:"scsiSizeMB,omitempty"`

	// Job is the one command that the machine is for.
	Job *wire.Command `json:"job,omitempty"`
	// Node makes the machine a node of a cluster.
	Node *Node `json:"node,omitempty"`
	// Seed makes it only load the images of Node on its data disk and stop.
	Seed bool `json:"seed,omitempty"`
}

// A Share is a directory of the host that a machine sees at the same place.
type Share struct {
	Path     string `json:"path"`
	Writable bool   `json:"writable,omitempty"`
}

// Node is what a machine needs to be a Kubernetes node.
type Node struct {
	IP      string `json:"ip"`
	PodCIDR string `json:"podCIDR"`
	// Programs is the directory with kubelet, containerd and their tools.
	Programs string `json:"programs"`
	// Images is the directory with the archives of the images that every node has.
	Images string `json:"images"`
	// Logs is the directory of the host into which the node's programs log.
	Logs string `json:"logs"`
	// Token must be shown by who wants to run commands in the node.
	Token string `json:"token"`
	// Kubeconfig is with what the kubelet goes to the API server.
	Kubeconfig string `json:"kubeconfig"`
	// CA is the authority by which the kubelet knows the API server.
	CA string `json:"ca"`
	// Cert and Key are with what the kubelet serves.
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// ReadConfig reads a Config from a file.
func ReadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the machine's configuration: %w", err)
	}
	var cfg Config
	if err := json.Unmarshal(data, &cfg); err != nil {
		return Config{}, fmt.Errorf("reading the machine's configuration %s: %w", path, err)
	}
	return cfg, nil
}

// Write writes the Config to a file.
func (c Config) Write(path string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the machine's configuration: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("writing the machine's configuration: %w", err)
	}
	return nil
}
