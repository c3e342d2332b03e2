package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/open-local/open-local/hack/lab/build"
	"github.com/open-local/open-local/hack/lab/daemon"
	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/guest"
	"github.com/open-local/open-local/hack/lab/vm"
)

// dataSize is the size of the disk with what a node keeps besides its blank ones.
// It takes from the host what is written.
const dataSize = disk.Bytes(16 << 30)

// seedFormat changes when seeds must be made anew though their images are the same.
const seedFormat = "1"

// A seeder makes the data disk with which nodes start: containerd's store with
// the images of every lab. To load them takes half a minute in a machine, so it
// is done once and kept.
type seeder struct {
	dir      string // where seeds are kept
	config   daemon.Config
	progress io.Writer
}

// seed returns the seed that holds the images now in the lab's directory.
func (s seeder) seed(ctx context.Context) (string, error) {
	archives, err := filepath.Glob(filepath.Join(s.config.Images(), "*.tar"))
	if err != nil {
		return "", fmt.Errorf("looking for images: %w", err)
	}
	containerd, err := os.Readlink(filepath.Join(s.config.Programs(), "containerd"))
	if err != nil {
		return "", fmt.Errorf("looking for containerd: %w", err)
	}
	key := sha256.New()
	fmt.Fprintln(key, seedFormat, containerd)
	for _, archive := range archives {
		fmt.Fprintln(key, filepath.Base(archive)) // holds a sum of the content
	}
	file := filepath.Join(s.dir, hex.EncodeToString(key.Sum(nil)[:8])+".img")
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	unlock, err := lock(ctx, s.dir) // another lab may be making the same one
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	fmt.Fprintf(s.progress, "preparing the nodes' disk with %d images; it is kept\n", len(archives))
	started := time.Now()
	if err := s.make(ctx, file); err != nil {
		return "", err
	}
	fmt.Fprintf(s.progress, "nodes' disk prepared ... %d s\n", int(time.Since(started).Seconds()+0.5))
	return file, nil
}

// make boots a machine that loads the images.
func (s seeder) make(ctx context.Context, file string) error {
	build.Sweep(filepath.Join(s.dir, ".part-*"))
	temp, err := os.MkdirTemp(s.dir, ".part-")
	if err != nil {
		return fmt.Errorf("making a directory for seeds: %w", err)
	}
	defer os.RemoveAll(temp)
	data := filepath.Join(temp, "data.img")
	if err := makeFileSystem(ctx, data); err != nil {
		return err
	}
	kernel := vm.Kernel{
		Name: "seed", Dir: temp, Init: filepath.Join(s.config.Programs(), "init"), Memory: 1 << 30, Data: data,
		Config: guest.Config{
			Hostname: "seed", DataDisk: disk.Device(0), Seed: true, Shares: s.config.Shares(),
			Node: &guest.Node{Programs: s.config.Programs(), Images: s.config.Images(), Logs: s.config.Logs()},
		},
	}
	code, err := vm.Boot(ctx, kernel, vm.Streams{Stdout: s.progress, Stderr: s.progress})
	if err != nil {
		return fmt.Errorf("loading images on the nodes' disk: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("loading images on the nodes' disk: exit code %d", code)
	}
	return os.Rename(data, file)
}

func makeFileSystem(ctx context.Context, file string) error {
	if err := disk.Create(file, dataSize); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making a file system for the nodes' disk: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
