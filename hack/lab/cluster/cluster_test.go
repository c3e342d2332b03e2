package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/hack/lab/daemon"
	"github.com/open-local/open-local/hack/lab/disk"
)

func TestTheZeroOptionsAreAGoodCluster(t *testing.T) {
	got, err := Options{Dir: "/lab"}.check()
	if err != nil {
		t.Fatal(err)
	}
	if got.Nodes != 1 || got.memory != 2<<30 || got.Dir != "/lab" {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]disk.Bytes{4 << 30, 4 << 30}, got.disks); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	tests := map[string]struct {
		options Options
		want    string
	}{
		"too many nodes":           {Options{Nodes: 1000}, "nodes 1000: want 1 to 200"},
		"fewer than none":          {Options{Nodes: -1}, "nodes -1"},
		"disks of no size":         {Options{Disks: "2x"}, `disks "2x"`},
		"SCSI disks of two sizes":  {Options{SCSIDisks: "64M,128M"}, `SCSI disks "64M,128M": want disks of one size`},
		"SCSI disks of half a MiB": {Options{SCSIDisks: "512K"}, `SCSI disks "512K"`},
		"memory of no unit":        {Options{Memory: "2048"}, `memory: size "2048"`},
		"a scheduler from no file": {Options{SchedulerConfig: "/no/such"}, "reading the scheduler's configuration"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.options.check()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestSocketsAreShortAndOfOneLabEach(t *testing.T) {
	long := "/" + strings.Repeat("long/", 60)
	// The longest: of the management console of node 200.
	if path := runtimeDir(long) + "/n200/n200/mc-4194304-1234567890123456789"; len(path) > 107 {
		t.Errorf("%s has %d bytes", path, len(path))
	}
	if runtimeDir("/a") == runtimeDir("/b") {
		t.Error("two labs have the same sockets")
	}
}

func TestAnotherProcessIsNotTakenForTheLab(t *testing.T) {
	self := os.Getpid()
	for name, test := range map[string]struct {
		file  string
		alive bool
	}{
		"the very process":                  {fmt.Sprintf("%d %s\n", self, startTime(self)), true},
		"its number at another time":        {fmt.Sprintf("%d 1\n", self), false},
		"a number that nobody has":          {"4194305 1\n", false},
		"a number that nobody has, no time": {"4194305 \n", false},
		"a file that is cut":                {"12", false},
		"an empty file":                     {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(processFile(dir), []byte(test.file), 0o644); err != nil {
				t.Fatal(err)
			}
			if alive, _ := running(dir); alive != test.alive {
				t.Errorf("alive is %t", alive)
			}
		})
	}
}

func TestALabThatDoesNotRunIsSaidSo(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

func TestDownRemovesWhatIsTheLabsAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"disks/n1-0.img", "pki/ca.crt", "log/lab.log", "mine.txt"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing to do
		if err := Down(dir); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{"log", "mine.txt"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func TestOneUpAtATime(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ended, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("the second: got %v, want that it waited", err)
	}
	unlock()
	again, err := lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestAnImageBuiltAnewIsAnotherFile(t *testing.T) {
	c := &Cluster{config: daemon.Config{Dir: t.TempDir()}}
	if err := os.MkdirAll(c.config.Images(), 0o755); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "open-local.tar")
	for _, content := range []string{"one", "two", "two"} {
		if err := os.WriteFile(archive, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := c.addImage(archive); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(c.config.Images(), "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 {
		t.Errorf("got %v, want one file for each content", files)
	}
}

func TestANodeThatIsNotThereIsNamedWithThoseThatAre(t *testing.T) {
	c := &Cluster{config: daemon.Config{Nodes: 2}}
	if _, err := c.address("n3"); err == nil || err.Error() != `node "n3": the lab has n1, n2` {
		t.Errorf("got %v", err)
	}
	if ip, err := c.address("n2"); err != nil || ip != "10.99.0.12" {
		t.Errorf("got %s and %v", ip, err)
	}
}
