//go:build root

package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestTheKernelIsHeard makes the kernel speak of a disk and listens.
func TestTheKernelIsHeard(t *testing.T) {
	devices, err := filepath.Glob("/sys/class/block/*/uevent")
	if err != nil || len(devices) == 0 {
		t.Fatalf("the kernel has no block device (%v); a loop device is enough: modprobe loop", err)
	}
	socket, err := listenKernel()
	if err != nil {
		t.Fatal(err)
	}
	changed := watching(t, func(ctx context.Context, changed func()) error { return watchKernel(ctx, socket, changed) })
	if err := os.WriteFile(devices[0], []byte("change"), 0); err != nil {
		t.Fatalf("making the kernel speak (this needs root, and /sys mounted for writing): %v", err)
	}
	wantChange(t, changed, "the kernel spoke of "+devices[0])
}
