// Package daemon is the part of a lab that lives as long as the lab does: it
// owns the namespaces, the processes of the control plane and the machines, and
// obeys orders on a Unix socket. When it ends, the kernel ends and removes all
// that. It does not know who gives the orders.
package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/pki"
)

// A Config describes one lab. It is a file, so that a lab can be found again.
type Config struct {
	Dir     string `json:"dir"`     // state that a person may look at
	Runtime string `json:"runtime"` // sockets, whose paths must be short
	// Readable are directories that machines must see besides Dir.
	Readable []string     `json:"readable"`
	Seed     string       `json:"seed"` // the data disk of which every node gets a copy
	Nodes    int          `json:"nodes"`
	Disks    []disk.Bytes `json:"disks"`
	// SCSI is how many disks with a WWN each node has, in its memory, of SCSISize each.
	SCSI     int        `json:"scsi"`
	SCSISize disk.Bytes `json:"scsiSize"`
	Memory   disk.Bytes `json:"memory"`
	Port     int        `json:"port"`  // of the API server on the host's 127.0.0.1
	Token    string     `json:"token"` // for commands in nodes
	Admin    string     `json:"admin"` // the administrator's token at the API server

	CA         pki.Pair            `json:"ca"`
	Kubelets   map[string]pki.Pair `json:"kubelets"`   // by node
	NodeTokens map[string]string   `json:"nodeTokens"` // at the API server, by node
}

// Socket is where the daemon takes orders.
func (c Config) Socket() string { return filepath.Join(c.Runtime, "lab.sock") }

// Programs is the directory with links to all programs.
func (c Config) Programs() string { return filepath.Join(c.Dir, "bin") }

// Images is the directory with the archives that every node loads.
func (c Config) Images() string { return filepath.Join(c.Dir, "images") }

// Logs is the directory with the log of every program.
func (c Config) Logs() string { return filepath.Join(c.Dir, "log") }

// SchedulerFile is the file with the configuration of kube-scheduler.
func (c Config) SchedulerFile() string { return c.file("scheduler.yaml") }

func (c Config) file(elem ...string) string {
	return filepath.Join(append([]string{c.Dir}, elem...)...)
}

// NodeName is the name of node i, counting from 1.
func NodeName(i int) string { return fmt.Sprintf("n%d", i) }

// DiskFile is the file behind disk j of a node; 0 is its data disk.
func (c Config) DiskFile(node string, j int) string {
	return c.file("disks", fmt.Sprintf("%s-%d.img", node, j))
}

// Path is where the configuration of the lab in dir lies.
func Path(dir string) string { return filepath.Join(dir, "lab.json") }

// ReadConfig reads the configuration of the lab in dir.
func ReadConfig(dir string) (Config, error) {
	data, err := os.ReadFile(Path(dir))
	if err != nil {
		return Config{}, fmt.Errorf("reading the lab's configuration: %w", err)
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("reading the lab's configuration %s: %w", Path(dir), err)
	}
	return c, nil
}

// Write writes the configuration. Only root may read it: it holds tokens.
func (c Config) Write() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the lab's configuration: %w", err)
	}
	if err := os.WriteFile(Path(c.Dir), data, 0o600); err != nil {
		return fmt.Errorf("writing the lab's configuration: %w", err)
	}
	return nil
}
