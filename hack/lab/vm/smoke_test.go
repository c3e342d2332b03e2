//go:build lab

package vm

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/machine"
)

// inMachine runs a script in a machine and returns what it printed.
func inMachine(t *testing.T, options Options, script string) (code int, stdout, stderr string, err error) {
	t.Helper()
	if err := machine.Prepare(t.Context(), machine.VM, nil, t.Output()); err != nil {
		t.Fatal(err)
	}
	var out, errors bytes.Buffer
	options.Stdout, options.Stderr, options.Memory = &out, &errors, 1<<30
	options.Timeout = cmp.Or(options.Timeout, 3*time.Minute)
	code, err = Run(t.Context(), []string{"sh", "-ec", script}, options)
	return code, out.String(), errors.String(), err
}

func TestVolumesInAMachine(t *testing.T) {
	script := `
test "$LAB_DISKS" = /dev/ubdb,/dev/ubdc
vgcreate -q g /dev/ubdb /dev/ubdc
lvcreate -qy -n s -i2 -L 512M g
mkfs.xfs -q /dev/g/s
mount /dev/g/s /mnt
echo data >/mnt/f
lvcreate -qy -s -n snap -L 64M g/s
mkdir /tmp/snap
mount -o ro,nouuid /dev/g/snap /tmp/snap
cat /tmp/snap/f
test -n "$(ls /etc/lvm/backup)"
cat /sys/block/sda/device/wwid
`
	before := list(t, "/etc/lvm/backup")
	code, stdout, stderr, err := inMachine(t, Options{Disks: []disk.Bytes{1 << 30, 1 << 30}, SCSI: 1, SCSISize: 64 << 20}, script)
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	if !strings.Contains(stdout, "data\n") || !strings.Contains(stdout, "naa.") {
		t.Errorf("printed %q", stdout)
	}
	if after := list(t, "/etc/lvm/backup"); after != before {
		t.Errorf("the host's backups of LVM changed from %q to %q", before, after)
	}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestACommandCannotEraseTheHostButWritesOnItsShares(t *testing.T) {
	dir, share := t.TempDir(), t.TempDir()
	t.Chdir(dir)
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr, err := inMachine(t, Options{Shares: []string{share}},
		`pwd >`+share+`/pwd; rm -f kept || true; rm -rf /etc/passwd; test ! -e /etc/passwd`)
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v\n%s", code, err, stderr)
	}
	for _, file := range []string{kept, "/etc/passwd"} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(share, "pwd")); err != nil || string(got) != dir+"\n" {
		t.Errorf("the share has %q and %v, want %q", got, err, dir)
	}
}

func TestHowACommandEnds(t *testing.T) {
	t.Run("by itself", func(t *testing.T) {
		if code, _, _, err := inMachine(t, Options{}, "exit 7"); code != 7 || err != nil {
			t.Errorf("got %d and %v", code, err)
		}
	})
	t.Run("with its machine", func(t *testing.T) {
		_, _, _, err := inMachine(t, Options{}, "echo c >/proc/sysrq-trigger; sleep 60")
		var crash *CrashError
		if !errors.As(err, &crash) || !strings.Contains(strings.Join(crash.Console, "\n"), "panic") {
			t.Errorf("got %v, want a crash with the end of the console", err)
		}
	})
	t.Run("not in time", func(t *testing.T) {
		if _, _, _, err := inMachine(t, Options{Timeout: 4 * time.Second}, "sleep 600"); !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v, want that time is over", err)
		}
	})
}

func TestInputAndOutputPassUnchanged(t *testing.T) {
	input := make([]byte, 3<<20)
	for i := range input {
		input[i] = byte(i * i >> 7)
	}
	code, stdout, stderr, err := inMachine(t, Options{Stdin: bytes.NewReader(input)}, "cat; echo done >&2")
	if code != 0 || err != nil || stderr != "done\n" {
		t.Fatalf("got %d and %v, %q", code, err, stderr)
	}
	if stdout != string(input) {
		t.Errorf("%d bytes went in, other %d came out", len(input), len(stdout))
	}
}
