package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// snapshotClient is the module that comes with the definitions of the kinds that
// csi-snapshotter and snapshot-controller work with.
const snapshotClient = "github.com/kubernetes-csi/external-snapshotter/client/v8"

// SnapshotKinds returns the files with the definitions of VolumeSnapshot,
// VolumeSnapshotContent and VolumeSnapshotClass, of the version that the
// programs were built with.
func (c *Cache) SnapshotKinds(ctx context.Context) ([]string, error) {
	dir, err := moduleDir(ctx, filepath.Join(c.Source, "programs", "snapshotter"), snapshotClient)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, kind := range []string{"volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"} {
		file := filepath.Join(dir, "config", "crd", "snapshot.storage.k8s.io_"+kind+".yaml")
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("looking for the definition of %s: %w", kind, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// moduleDir returns the directory of a module's source at the version that the
// go.mod in dir selects. It is fetched when it is not there.
func moduleDir(ctx context.Context, dir, module string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir, cmd.Stderr = dir, &stderr
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errNoGo
	}
	var found struct{ Dir, Error string }
	if wrong := json.Unmarshal(out, &found); err == nil {
		err = wrong
	}
	if err != nil || found.Dir == "" {
		return "", fmt.Errorf("fetching module %s: %w: %s%s", module, err, found.Error, complaint(stderr.String()))
	}
	return found.Dir, nil
}
