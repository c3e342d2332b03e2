package hack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/open-local/open-local/"

// layers holds every package below pkg, from the bottom up. A package imports
// from its own layer and those before it.
var layers = []struct {
	name     string
	packages []string
}{
	{"pure", []string{"capacity", "volume", "slim", "allocator", "ledger", "initplan"}},
	{"hands", []string{"hostexec", "devfile", "begun", "devmapper", "blockcopy", "lvm", "blockdev", "wipe", "mounts", "iolimit"}},
	{"workflows", []string{"exclusive", "provision", "health"}},
	{"edges", []string{"agent", "controller", "directory", "driver", "extender", "metrics", "follow", "nodeapi", "orphans", "rpc", "sweep", "tlsfiles", "tracking"}},
}

// reaches are rules for all that a package depends on, however far away.
var reaches = []struct {
	pkg, mayNotReach, why string
}{
	{"capacity", `^[^/]*\.`, "it is arithmetic: the standard library is enough"},
	{"volume", `^k8s\.io/client-go|^os/exec$`, "decisions are values"},
	{"slim", `^k8s\.io/client-go|^os/exec$`, "who keeps records knows his caches"},
	{"allocator", `^k8s\.io/client-go|^os/exec$`, "decisions are values"},
	{"ledger", `^k8s\.io/client-go|^os/exec$`, "decisions are values"},
	{"initplan", `^k8s\.io/client-go|^os/exec$`, "decisions are values"},
	{"lvm", `^k8s\.io/(api|client-go)/|` + module + `apis/`, "tools do not know why they are used"},
	{"blockdev", `^k8s\.io/(api|client-go)/|` + module + `apis/`, "tools do not know why they are used"},
	{"provision", `container-storage-interface|^google\.golang\.org/grpc|^k8s\.io/client-go`, "it must be testable with structs"},
	{"exclusive", `container-storage-interface|^google\.golang\.org/grpc|^k8s\.io/client-go`, "it must be testable with structs"},
	{"extender", `/pkg/(lvm|blockdev|hostexec|driver|mounts|provision)$|container-storage-interface`, "the scheduler side never touches a disk"},
	{"controller", `/pkg/(lvm|hostexec|blockdev|mounts)$`, "it has no node"},
	{"orphans", `/pkg/(lvm|hostexec|blockdev|mounts|driver|agent|controller|extender)$`, "it has no node"},
	{"extender", `/pkg/(driver|agent|controller)$`, "the roles meet only in the API server"},
	{"driver", `/pkg/(extender|agent|controller)$`, "the roles meet only in the API server"},
	{"agent", `/pkg/(extender|driver|controller)$`, "the roles meet only in the API server"},
	{"controller", `/pkg/(extender|driver|agent)$`, "the roles meet only in the API server"},
}

// imports are rules for what a package names itself.
var imports = []struct {
	pkgs, mayNotImport, why string
	but                     []string
}{
	{"", `^os/exec$`, "hostexec is the one door to the system", []string{"pkg/hostexec"}},
	{"", `^k8s\.io/utils/exec$`, "hostexec is the one door to the system", []string{"pkg/mounts"}},
	{"pkg/(capacity|volume|allocator|ledger|initplan)", `^(log|log/slog|k8s\.io/klog.*)$`, "decisions are values; who asked logs them", nil},
	{"pkg/(capacity|volume|allocator|initplan)", `^(context|os|net|net/http)$`, "decisions are values; they do not wait", nil},
	{"", `^(io/ioutil|github\.com/pkg/errors)$`, "the standard library has it", nil},
}

func TestArrowsPointDown(t *testing.T) {
	rank := map[string]int{}
	for i, layer := range layers {
		for _, name := range layer.packages {
			rank[name] = i
		}
	}
	for _, p := range list(t, "..", "./pkg/...") {
		name := placed(p.ImportPath)
		if name == "client" {
			continue // generated
		}
		from, known := rank[name]
		if !known {
			t.Errorf("%s is in no layer: give it a place in this test and in the architecture", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if to, ours := rank[placed(imported)]; ours && strings.HasPrefix(imported, module+"pkg/") && to > from {
				t.Errorf("%s (%s) imports %s (%s): arrows point down only", p.ImportPath, layers[from].name, imported, layers[to].name)
			}
		}
	}
}

func TestWhatPackagesMayNotReach(t *testing.T) {
	deps := map[string][]string{}
	for _, p := range list(t, "..", "./pkg/...") {
		deps[p.ImportPath] = p.Deps
	}
	for _, rule := range reaches {
		reached, exists := deps[module+"pkg/"+rule.pkg]
		if !exists {
			t.Errorf("pkg/%s, of which there is a rule, does not exist", rule.pkg)
		}
		forbidden := regexp.MustCompile(rule.mayNotReach)
		for _, dep := range reached {
			if rule.pkg == "capacity" && strings.HasPrefix(dep, "vendor/") {
				continue // of the standard library
			}
			if forbidden.MatchString(dep) {
				t.Errorf("pkg/%s reaches %s: %s", rule.pkg, dep, rule.why)
			}
		}
	}
}

func TestWhatPackagesMayNotImport(t *testing.T) {
	for _, p := range list(t, "..", "./pkg/...", "./cmd/...", "./apis/...") {
		dir := strings.TrimPrefix(p.ImportPath, module)
		for _, rule := range imports {
			if slices.Contains(rule.but, dir) || !regexp.MustCompile("^"+rule.pkgs).MatchString(dir) {
				continue
			}
			forbidden := regexp.MustCompile(rule.mayNotImport)
			for _, imported := range p.Imports {
				if forbidden.MatchString(imported) {
					t.Errorf("%s imports %s: %s", dir, imported, rule.why)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	generated := regexp.MustCompile(`/pkg/client/|/nodepb$`)
	vague := []string{"util", "utils", "common", "helper", "helpers", "manager", "types"}
	for _, root := range []string{"..", "chart", "lab"} {
		for _, p := range list(t, root, "./...") {
			if generated.MatchString(p.ImportPath) {
				continue
			}
			if slices.Contains(vague, path.Base(p.ImportPath)) {
				t.Errorf("%s could hold anything: name it after what it does", p.ImportPath)
			}
			opening := "Package " + p.Name + " "
			if p.Name == "main" {
				opening = "Command "
			}
			if !strings.HasPrefix(p.Doc, opening) {
				t.Errorf("%s begins with %q, not with %q and what it is for", p.ImportPath, p.Doc, opening)
			}
		}
	}
}

// placed returns the name under which a package of ours is in a layer: the first
// part of its path below pkg.
func placed(importPath string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(importPath, module+"pkg/"), "/")
	return name
}

// A goPackage is what go list says of one.
type goPackage struct {
	ImportPath, Name, Doc string
	Imports, Deps         []string
}

func list(t *testing.T, dir string, patterns ...string) []goPackage {
	t.Helper()
	look(t, dir)
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-e", "-json=ImportPath,Name,Doc,Imports,Deps"}, patterns...)...)
	cmd.Dir = dir
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	said, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the packages %q in %s: %v\n%s", patterns, dir, err, complaints.Bytes())
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(said)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// look looks at every source file, because go test repeats a former result
// unless a file changed that the test itself had looked at.
func look(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), "_") {
			return fs.SkipDir
		}
		if err == nil && filepath.Ext(file) == ".go" {
			_, err = os.Stat(file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
