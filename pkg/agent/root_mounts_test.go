//go:build root

package agent

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMountsAreHeard mounts and unmounts something that is no storage, again and again:
// it may have been in the way of what the spec asks for.
func TestMountsAreHeard(t *testing.T) {
	dir := t.TempDir()
	mount := func() error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") }
	unmount := func() error { return unix.Unmount(dir, 0) }
	t.Cleanup(func() { _ = unmount() })
	changed := watching(t, func(ctx context.Context, changed func()) error { return watchMounts(ctx, "/", changed) })
	// What happens before the watch has begun is not heard.
	for do, next := mount, unmount; ; do, next = next, do {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		case <-time.After(2 * mountPause):
			continue
		}
		break
	}
	_ = unmount() // if it is
	// The watch looks again after a pause. Were it mounted anew before, it would see what it
	// saw last.
	drain(changed, 10*mountPause)
	for range 10 {
		if err := mount(); err != nil {
			t.Fatal(err)
		}
		wantChange(t, changed, "something was mounted")
		if err := unmount(); err != nil {
			t.Fatal(err)
		}
		wantChange(t, changed, "it was unmounted")
	}
}
