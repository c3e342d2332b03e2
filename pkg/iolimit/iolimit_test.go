package iolimit

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/volume"
)

// tree is a directory that looks like the host's cgroups. What the kernel would do
// when a file is written, it does not.
func tree(t *testing.T, files map[string]string) Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return Root(dir)
}

func content(t *testing.T, r Root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(string(r), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const controllers = "cpuset cpu io memory pids\n"

var device = unix.Mkdev(253, 300)

func TestSetWritesOneLine(t *testing.T) {
	for name, tc := range map[string]struct {
		limits volume.Limits
		want   string
	}{
		"both limits":                           {volume.Limits{BPS: 1 << 20, IOPS: 1024}, "253:300 rbps=1048576 wbps=1048576 riops=1024 wiops=1024"},
		"bytes only":                            {volume.Limits{BPS: 1}, "253:300 rbps=1 wbps=1 riops=max wiops=max"},
		"operations only":                       {volume.Limits{IOPS: 7}, "253:300 rbps=max wbps=max riops=7 wiops=7"},
		"more operations than the kernel knows": {volume.Limits{BPS: math.MaxInt64, IOPS: math.MaxInt64}, "253:300 rbps=9223372036854775807 wbps=9223372036854775807 riops=max wiops=max"},
	} {
		for _, parent := range parents {
			t.Run(name+" on "+parent, func(t *testing.T) {
				r := tree(t, map[string]string{"cgroup.controllers": controllers, parent + "/io.max": ""})
				if changed, err := r.Set(device, tc.limits); err != nil || !changed {
					t.Fatalf("changed %t, %v", changed, err)
				}
				if got := content(t, r, parent+"/io.max"); got != tc.want {
					t.Errorf("wrote %q, want %q", got, tc.want)
				}
				wantNoWrite(t, r, parent+"/io.max", func() (bool, error) { return r.Set(device, tc.limits) })
			})
		}
	}
}

// wantNoWrite checks that set finds nothing to do, and does not even write the same.
func wantNoWrite(t *testing.T, r Root, name string, set func() (bool, error)) {
	t.Helper()
	path := filepath.Join(string(r), name)
	long := time.Unix(1, 0)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
	if changed, err := set(); err != nil || changed {
		t.Errorf("changed %t again, %v", changed, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !info.ModTime().Equal(long) {
		t.Errorf("%s was written", name)
	}
}

func TestNoLimitTakesTheLineAway(t *testing.T) {
	r := tree(t, map[string]string{"cgroup.controllers": controllers, "kubepods/io.max": "253:300 rbps=1 wbps=1 riops=max wiops=max\n"})
	if changed, err := r.Set(device, volume.Limits{}); err != nil || !changed {
		t.Fatalf("changed %t, %v", changed, err)
	}
	if got, want := content(t, r, "kubepods/io.max"), "253:300 rbps=max wbps=max riops=max wiops=max"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestWhereThereIsNoLineNoLimitWritesNothing(t *testing.T) {
	r := tree(t, map[string]string{"cgroup.controllers": controllers, "kubepods/io.max": "8:0 rbps=1 wbps=1 riops=max wiops=max\n"})
	wantNoWrite(t, r, "kubepods/io.max", func() (bool, error) { return r.Set(device, volume.Limits{}) })
}

func TestTheControllerIsTurnedOnForALimitOnly(t *testing.T) {
	r := tree(t, map[string]string{"cgroup.controllers": controllers, "cgroup.subtree_control": "cpu memory", "kubepods/cgroup.procs": ""})
	wantNoWrite(t, r, "cgroup.subtree_control", func() (bool, error) { return r.Set(device, volume.Limits{}) })
	if lines, err := r.Lines(); err != nil || len(lines) > 0 {
		t.Errorf("lines %v, %v", lines, err)
	}
	// No kernel makes io.max appear here, so that is what is complained of.
	if _, err := r.Set(device, volume.Limits{BPS: 1}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
	if got := content(t, r, "cgroup.subtree_control"); got != "+io" {
		t.Errorf("subtree_control is %q", got)
	}
}

func TestBothCgroupsOfPodsAreHeld(t *testing.T) {
	r := tree(t, map[string]string{"cgroup.controllers": controllers, "kubepods/io.max": "", "kubepods.slice/io.max": ""})
	if _, err := r.Set(device, volume.Limits{BPS: 5}); err != nil {
		t.Fatal(err)
	}
	for _, parent := range parents {
		if got := content(t, r, parent+"/io.max"); got != "253:300 rbps=5 wbps=5 riops=max wiops=max" {
			t.Errorf("%s has %q", parent, got)
		}
	}
	lines, err := r.Lines()
	if diff := cmp.Diff(map[uint64]Line{device: {ReadBPS: 5, WriteBPS: 5}}, lines); diff != "" || err != nil {
		t.Errorf("%v; lines (-want +got):\n%s", err, diff)
	}
}

func TestNodesThatCannotLimitSayWhy(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  error
	}{
		"cgroups of version 1":                {map[string]string{"blkio/kubepods/blkio.throttle.read_bps_device": ""}, ErrUnsupported},
		"both versions":                       {map[string]string{"blkio/tasks": "", "unified/cgroup.controllers": "cpu\n", "unified/kubepods/cgroup.procs": ""}, ErrUnsupported},
		"version 2 without io":                {map[string]string{"cgroup.controllers": "cpu memory pids iocost\n", "kubepods/cgroup.procs": ""}, ErrUnsupported},
		"nothing at all":                      {nil, ErrUnsupported},
		"a node on which there never was pod": {map[string]string{"cgroup.controllers": controllers, "system.slice/io.max": ""}, ErrNoPods},
	} {
		t.Run(name, func(t *testing.T) {
			r := tree(t, tc.files)
			if changed, err := r.Set(device, volume.Limits{BPS: 1}); !errors.Is(err, tc.want) || changed {
				t.Errorf("changed %t, %v, want %v", changed, err, tc.want)
			}
			if _, err := r.Lines(); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestAFileThatIsNotUnderstoodIsNotWritten(t *testing.T) {
	const odd = "253:300 rbps=1 speed=fast\n"
	r := tree(t, map[string]string{"cgroup.controllers": controllers, "kubepods/io.max": odd})
	if _, err := r.Set(device, volume.Limits{BPS: 1}); err == nil {
		t.Error("no error")
	}
	if got := content(t, r, "kubepods/io.max"); got != odd {
		t.Errorf("the file is now %q", got)
	}
}
