//go:build root

package driver_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/open-local/open-local/pkg/devfile/devtest"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/mounts"
)

// magicAt is where an ext4 says that it is one, in two bytes.
const magicAt = 1024 + 56

func TestARealDiskIsFormattedOnce(t *testing.T) {
	b := newDiskBed(t, "")
	parameters := map[string]string{"volumeType": "Device"}
	attributes := b.create("ext4", parameters)
	path := attributes["Device"]
	if err := os.WriteFile(filepath.Join(b.target, "data"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	b.leave()
	stage := func(fsType string) error {
		_, err := b.node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
			VolumeId: id, StagingTargetPath: b.staging, VolumeCapability: capability(fsType), VolumeContext: attributes,
		})
		return err
	}
	wantNothingMade := func() {
		t.Helper()
		wantCode(t, stage("ext4"), codes.FailedPrecondition, path, "file system that was made on it is missing")
		if found, err := mounts.New(hostexec.OnHost("/"), "/").Signature(t.Context(), path); found != "" || err != nil {
			t.Errorf("on the disk is %q, %v", found, err)
		}
	}
	wantCode(t, stage("block"), codes.FailedPrecondition, "volumeMode: Filesystem")

	magic := make([]byte, 2)
	readAt(t, path, magic, magicAt)
	b.run("wipefs", "-a", path)
	wantNothingMade()
	writeAt(t, path, magic, magicAt) // somebody restores it
	b.create("ext4", parameters)
	if kept, err := os.ReadFile(filepath.Join(b.target, "data")); err != nil || string(kept) != secret {
		t.Errorf("the data is gone: %v", err)
	}
	b.leave()

	devtest.Blank(t, path) // as an empty disk of the same identity is
	wantNothingMade()
	b.run("mkfs.ext4", "-q", path) // somebody says that it may begin anew
	b.create("ext4", parameters)
	b.leave()
	if err := b.delete(); err != nil {
		t.Fatal(err)
	}
	b.wantFree()
}

func readAt(t *testing.T, path string, into []byte, at int64) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.ReadAt(into, at); err != nil {
		t.Fatal(err)
	}
}

func writeAt(t *testing.T, path string, what []byte, at int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(what, at); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
