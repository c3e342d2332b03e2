package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kinds is the directory with the definitions that every lab has from the
// beginning.
func (c *Cluster) kinds() string { return filepath.Join(c.config.Dir, "kinds") }

// addKinds copies definitions to where defineKinds finds them.
func (c *Cluster) addKinds(files []string) error {
	if err := os.MkdirAll(c.kinds(), 0o755); err != nil {
		return fmt.Errorf("making a directory for definitions: %w", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a definition: %w", err)
		}
		if err := os.WriteFile(filepath.Join(c.kinds(), filepath.Base(file)), content, 0o644); err != nil {
			return fmt.Errorf("copying a definition: %w", err)
		}
	}
	return nil
}

// defineKinds makes the cluster one that has snapshots: whoever installs
// something asks for that first.
func (c *Cluster) defineKinds(ctx context.Context) error {
	for _, argv := range [][]string{
		{"apply", "--server-side", "-f", c.kinds()},
		{"wait", "--for=condition=Established", "--timeout=60s", "-f", c.kinds()},
	} {
		cmd := exec.CommandContext(ctx, c.Program("kubectl"), append([]string{"--kubeconfig", c.Kubeconfig()}, argv...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("defining the kinds of snapshots: %w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
