//go:build root

package blockcopy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/blockcopy"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/hostexec"
)

// These tests want root, a device-mapper, and two blank disks of at least 160 MiB in
// LAB_DISKS, separated by commas. They overwrite the disks.

func disks(t *testing.T) (first, second string) {
	t.Helper()
	all := strings.Split(os.Getenv("LAB_DISKS"), ",")
	if len(all) < 2 {
		t.Fatal("set LAB_DISKS to two blank disks that may be overwritten, such as /dev/ubdb,/dev/ubdc")
	}
	return all[0], all[1]
}

// mapped makes a device of a disk, 64 MiB of it, of which a sector fails where bad is
// above zero.
func mapped(t *testing.T, name, disk string, bad int64) string {
	t.Helper()
	const end = 64 * mib / 512
	table := fmt.Sprintf("0 %d linear %s 0", end, disk)
	if bad > 0 {
		at := bad / 512
		table = fmt.Sprintf("0 %d linear %s 0\n%d 8 error\n%d %d linear %s %d", at, disk, at, at+8, end-at-8, disk, at+8)
	}
	path := t.TempDir() + "/table"
	write(t, path, []byte(table+"\n"))
	program(t, "dmsetup", "create", name, path)
	t.Cleanup(func() {
		if _, err := hostexec.OnHost("/").Run(context.Background(), "dmsetup", "remove", "--retry", name); err != nil {
			t.Error(err)
		}
	})
	return "/dev/mapper/" + name
}

func TestAFailureNamesDeviceAndOffset(t *testing.T) {
	first, second := disks(t)
	program(t, "dd", "if=/dev/urandom", "of="+first, "bs=1M", "count=64", "oflag=direct", "status=none")
	for name, test := range map[string]struct {
		source, target int64 // where they fail
		says           string
	}{
		"a source that fails": {source: 40*mib + 8192, says: "reading 1048576 bytes of /dev/mapper/copy-source at byte 41943040"},
		"a target that fails": {target: 24*mib + 4096, says: "writing 1048576 bytes of /dev/mapper/copy-target at byte 25165824"},
	} {
		t.Run(name, func(t *testing.T) {
			source, target := mapped(t, "copy-source", first, test.source), mapped(t, "copy-target", second, test.target)
			_, err := blockcopy.New("/").Copy(t.Context(), source, target, blockcopy.Options{})
			if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want EIO that says %q", err, test.says)
			}
		})
	}
}

func TestADeviceInUseIsNotWrittenTo(t *testing.T) {
	first, second := disks(t)
	held := mapped(t, "copy-held", second, 0)
	mapped(t, "copy-holder", held, 0)
	if _, err := blockcopy.New("/").Copy(t.Context(), first, held, blockcopy.Options{}); !errors.Is(err, unix.EBUSY) && !errors.Is(err, blockcopy.ErrTooSmall) {
		t.Errorf("got %v, want EBUSY", err)
	}
	source := mapped(t, "copy-source", first, 0)
	if _, err := blockcopy.New("/").Copy(t.Context(), source, held, blockcopy.Options{}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v, want EBUSY", err)
	}
}

func TestZerosOnDevices(t *testing.T) {
	first, second := disks(t)
	source, target := mapped(t, "copy-source", first, 0), mapped(t, "copy-target", second, 0)
	program(t, "dd", "if=/dev/urandom", "of="+target, "bs=1M", "count=64", "oflag=direct", "status=none")
	program(t, "dd", "if=/dev/zero", "of="+source, "bs=1M", "count=64", "oflag=direct", "status=none")
	program(t, "dd", "if=/dev/urandom", "of="+source, "bs=1M", "count=2", "seek=30", "oflag=direct", "status=none")
	got, err := blockcopy.New("/").Copy(t.Context(), source, target, blockcopy.Options{Verify: 64})
	if err != nil {
		t.Fatal(err)
	}
	if got.Written != 2*capacity.MiB || got.Zeroed != 62*capacity.MiB {
		t.Errorf("got %+v, want 2Mi written and 62Mi zeroed", got)
	}
	program(t, "cmp", source, target)
}
