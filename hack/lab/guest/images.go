package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/open-local/open-local/hack/lab/wire"
)

// markers remembers which archives containerd has. It lies beside containerd's
// store, so that both live and die together.
const markers = "/var/lib/containerd/lab-images"

func isPause(archive string) bool { return strings.Contains(archive, "pause") }

func every(string) bool { return true }

// loadImages gives containerd the archives that are wanted and not there yet.
func (n *node) loadImages(ctx context.Context, wanted func(archive string) bool) error {
	n.loading.Lock()
	defer n.loading.Unlock()
	archives, err := filepath.Glob(filepath.Join(n.Images, "*.tar"))
	if err != nil {
		return fmt.Errorf("looking for images: %w", err)
	}
	if err := os.MkdirAll(markers, 0o755); err != nil {
		return fmt.Errorf("looking for images: %w", err)
	}
	for _, archive := range archives {
		marker := filepath.Join(markers, filepath.Base(archive))
		if !wanted(archive) {
			continue
		}
		if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		cmd := exec.CommandContext(ctx, filepath.Join(n.Programs, "ctr"), "--namespace", "k8s.io", "images", "import", archive)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("loading image %s: %w: %s", archive, err, bytes.TrimSpace(out))
		}
		if err := os.WriteFile(marker, nil, 0o644); err != nil {
			return fmt.Errorf("remembering image %s: %w", archive, err)
		}
	}
	return nil
}

// seed loads the images on the data disk of a machine that does nothing else. A
// node that starts with a copy of that disk has them from the beginning.
func seed(ctx context.Context, cfg Config) wire.Result {
	ctx, cancel := context.WithCancel(ctx)
	n := &node{Config: cfg, Node: *cfg.Node, off: cancel}
	if err := n.writeFiles(); err != nil {
		cancel()
		return wire.Result{Code: 1, Error: err.Error()}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.supervise(ctx, "containerd", "--config", etc+"/containerd.toml") })
	group.Go(func() error {
		defer cancel()
		if err := awaitSocket(ctx, containerdSocket); err != nil {
			return err
		}
		return n.loadImages(ctx, every)
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return wire.Result{Code: 1, Error: err.Error()}
	}
	return wire.Result{}
}
