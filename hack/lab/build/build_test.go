package build

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryProgramHasAPinnedVersion(t *testing.T) {
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"etcd": "v3.6.5", "kube-apiserver": "v1.36.3", "kube-controller-manager": "v1.36.3", "kube-scheduler": "v1.36.3",
		"kubelet": "v1.36.3", "kubectl": "v1.36.3", "csi-provisioner": "v6.3.0", "csi-resizer": "v2.3.0",
		"csi-snapshotter": "v8.7.0", "snapshot-controller": "v8.7.0", "containerd": "v2.4.2",
		"containerd-shim-runc-v2": "v2.4.2", "ctr": "v2.4.2", "helm": "v3.22.0",
	}
	c := &Cache{Dir: "/cache", Source: source}
	seen := map[string]string{}
	for _, name := range Names() {
		made, err := c.target(name, "go1.26 amd64")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if made.version != want[name] {
			t.Errorf("%s is %s, want %s", name, made.version, want[name])
		}
		if other, ok := seen[made.file]; ok {
			t.Errorf("%s and %s are the same file %s", name, other, made.file)
		}
		seen[made.file] = name
	}
	if len(seen) != len(want) {
		t.Errorf("%d programs, want %d", len(seen), len(want))
	}
}

func TestAnotherCompilerMakesAnotherFile(t *testing.T) {
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cache{Dir: "/cache", Source: source}
	one, err := c.target("etcd", "go1.26.0 amd64")
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.target("etcd", "go1.26.1 amd64")
	if err != nil {
		t.Fatal(err)
	}
	if one.file == two.file {
		t.Errorf("both are %s", one.file)
	}
}

func TestTheKeyKeepsPartsApart(t *testing.T) {
	if keyOf("ab", "c") == keyOf("a", "bc") {
		t.Error("parts that run together have the same key")
	}
}

func TestAnUnknownProgramIsNamedWithThoseKnown(t *testing.T) {
	_, err := (&Cache{}).target("kubeadm", "")
	if err == nil || !strings.Contains(err.Error(), `program "kubeadm": the lab does not know`) || !strings.Contains(err.Error(), "kubelet") {
		t.Errorf("got %v", err)
	}
}

func TestRequired(t *testing.T) {
	mod := "module m\n\nrequire example.com/one v1.2.3 // indirect\n\nrequire (\n\texample.com/one/more v0.1.0\n\texample.com/two v2.0.0+incompatible\n)\n"
	for module, want := range map[string]string{"example.com/one": "v1.2.3", "example.com/one/more": "v0.1.0", "example.com/two": "v2.0.0+incompatible"} {
		if got, err := required(mod, module); err != nil || got != want {
			t.Errorf("%s: got %q and %v, want %s", module, got, err, want)
		}
	}
	if _, err := required(mod, "example.com/three"); err == nil {
		t.Error("a module that is not required has a version")
	}
}

// aModule writes a Go module with one command.
func aModule(t *testing.T, main string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n\ngo 1.26.0\n", "main.go": main} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAFailedBuildLeavesNothing(t *testing.T) {
	out := filepath.Join(t.TempDir(), "programs", "m")
	err := compile(t.Context(), compilation{dir: aModule(t, "package main\n\nfunc main() { none() }\n"), made: map[string]string{".": out}})
	if err == nil || !strings.Contains(err.Error(), "building m: ") || !strings.Contains(err.Error(), "undefined: none") {
		t.Errorf("got %v, want what the compiler said", err)
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAnInterruptedBuildLeavesNothing(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := compile(ctx, compilation{dir: aModule(t, "package main\n\nfunc main() {}\n"), made: map[string]string{".": out}}); err == nil {
		t.Fatal("a build went on after the end of its context")
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestProgramsOfAModuleAreBuiltByOneRun(t *testing.T) {
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cache{Dir: "/cache", Source: source}
	var targets []target
	for _, name := range Names() {
		made, err := c.target(name, "go1.26 amd64")
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, made)
	}
	var got []string
	for _, work := range together(targets) {
		got = append(got, work.name())
	}
	want := []string{
		"kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kubelet", "etcd", "containerd, containerd-shim-runc-v2, ctr",
		"csi-provisioner", "csi-resizer", "csi-snapshotter, snapshot-controller", "helm",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

func TestOneRunMakesSeveralPrograms(t *testing.T) {
	dir, out := aModule(t, "package main\n\nfunc main() {}\n"), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more", "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	one, two := filepath.Join(out, "1", "one"), filepath.Join(out, "2", "two")
	if err := compile(t.Context(), compilation{dir: dir, made: map[string]string{"example.com/m": one, "example.com/m/more": two}}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{one, two} {
		if info, err := os.Stat(file); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
		if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
			t.Errorf("beside %s: %v, %v", file, left, err)
		}
	}
}

func TestProgressCountsWhatIsDone(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, total: 14}
	p.done(compilation{made: map[string]string{"server": "etcd-v3.6.5-1/etcd"}}, 41400*time.Millisecond)
	p.done(compilation{made: map[string]string{"b": "x/kubelet", "a": "y/kubectl"}}, 700*time.Millisecond)
	want := "[ 1/14] etcd ... 41 s\n[ 3/14] kubectl, kubelet ... 1 s\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestSweepLeavesWhatMayBeAtWork(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{".build-old": 2 * abandoned, ".build-new": time.Minute, "kept": 2 * abandoned} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	Sweep(filepath.Join(dir, ".build-*"))
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{".build-new", "kept"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func TestAComplaintIsNotBuriedInDownloads(t *testing.T) {
	got := complaint("go: downloading a v1\n# pkg\nmain.go:3:1: undefined: x\n" + strings.Repeat("go: downloading b v1\n", 20))
	if want := "# pkg\nmain.go:3:1: undefined: x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
