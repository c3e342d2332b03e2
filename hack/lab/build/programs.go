package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Program is one that is built from a public Go module at the version which
// the go.mod in programs/<Module> names.
type Program struct {
	Name     string
	Module   string // directory below programs/ with go.mod and go.sum
	Requires string // the module whose version is the program's
	Package  string // below Requires; one that begins with ./ is below programs/<Module>
	Stamp    string // linker flags that tell the program its version, which %v stands for
}

const (
	kubernetes  = "k8s.io/kubernetes"
	containerd  = "github.com/containerd/containerd/v2"
	snapshotter = "github.com/kubernetes-csi/external-snapshotter/v8"

	kubernetesStamp = "-X k8s.io/component-base/version.gitVersion=%v -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
	containerdStamp = "-X github.com/containerd/containerd/v2/version.Version=%v"
	sidecarStamp    = "-X main.version=%v"
)

// programs are all that a lab can use, the slowest first.
var programs = []Program{
	{"kube-apiserver", "kubernetes", kubernetes, "/cmd/kube-apiserver", kubernetesStamp},
	{"kubelet", "kubernetes", kubernetes, "/cmd/kubelet", kubernetesStamp},
	{"kube-controller-manager", "kubernetes", kubernetes, "/cmd/kube-controller-manager", kubernetesStamp},
	{"kube-scheduler", "kubernetes", kubernetes, "/cmd/kube-scheduler", kubernetesStamp},
	{"kubectl", "kubernetes", kubernetes, "/cmd/kubectl", kubernetesStamp},
	{"etcd", "etcd", "go.etcd.io/etcd/server/v3", "", ""},
	{"containerd", "containerd", containerd, "./containerd", containerdStamp},
	{"containerd-shim-runc-v2", "containerd", containerd, "/cmd/containerd-shim-runc-v2", containerdStamp},
	{"ctr", "containerd", containerd, "/cmd/ctr", containerdStamp},
	{"csi-provisioner", "provisioner", "github.com/kubernetes-csi/external-provisioner/v6", "/cmd/csi-provisioner", sidecarStamp},
	{"csi-resizer", "resizer", "github.com/kubernetes-csi/external-resizer/v2", "/cmd/csi-resizer", sidecarStamp},
	{"csi-snapshotter", "snapshotter", snapshotter, "/cmd/csi-snapshotter", sidecarStamp},
	{"snapshot-controller", "snapshotter", snapshotter, "/cmd/snapshot-controller", sidecarStamp},
	{"helm", "helm", "helm.sh/helm/v3", "/cmd/helm", "-X helm.sh/helm/v3/internal/version.version=%v"},
}

// Names returns the names of all programs that can be built.
func Names() []string {
	names := make([]string, len(programs))
	for i, p := range programs {
		names[i] = p.Name
	}
	return names
}

// A Cache holds built programs, each under a key of everything that went into
// it, so that a program found is the right one.
type Cache struct {
	Dir      string
	Source   string    // the directory of this module
	Progress io.Writer // told about each program built
	// Jobs is how many modules are built at once; 0 means 2, because while programs of
	// one are linked, which takes one processor each, another can be compiled.
	Jobs int
}

// DefaultDir is where programs are kept for all labs of this user.
func DefaultDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a directory for built programs: %w", err)
	}
	return filepath.Join(dir, "open-local", "lab", "programs"), nil
}

// Open returns the cache in the default place.
func Open(progress io.Writer) (*Cache, error) {
	source, err := Source()
	if err != nil {
		return nil, err
	}
	dir, err := DefaultDir()
	if err != nil {
		return nil, err
	}
	return &Cache{Dir: dir, Source: source, Progress: progress}, nil
}

// Get returns the files of the programs named, building those that are not
// there. An interrupted build leaves nothing that is taken for a program.
func (c *Cache) Get(ctx context.Context, names ...string) (map[string]string, error) {
	compiler, err := compilerVersion(ctx, c.Source)
	if err != nil {
		return nil, err
	}
	files, missing := map[string]string{}, []target{}
	for _, name := range names {
		t, err := c.target(name, compiler)
		if err != nil {
			return nil, err
		}
		files[name] = t.file
		if _, err := os.Stat(t.file); errors.Is(err, os.ErrNotExist) {
			missing = append(missing, t)
		} else if err != nil {
			return nil, fmt.Errorf("looking for the built %s: %w", name, err)
		}
	}
	return files, c.make(ctx, missing)
}

// A target is a program with its version, its place in the cache and how it is
// made.
type target struct {
	name, version, file string
	dir, pkg            string // what is built, and where
	flags               []string
}

func (c *Cache) target(name, compiler string) (target, error) {
	for _, p := range programs {
		if p.Name != name {
			continue
		}
		dir := filepath.Join(c.Source, "programs", p.Module)
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil {
			return target{}, fmt.Errorf("reading the version of %s: %w", name, err)
		}
		sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
		if err != nil {
			return target{}, fmt.Errorf("reading the checksums of %s: %w", name, err)
		}
		version, err := required(string(mod), p.Requires)
		if err != nil {
			return target{}, fmt.Errorf("reading the version of %s: %w", name, err)
		}
		flags := []string{"-ldflags=-s -w " + strings.ReplaceAll(p.Stamp, "%v", version)}
		pkg, parts := p.Requires+p.Package, []string{p.Name, p.Requires + p.Package, version, strings.Join(flags, " "), compiler, string(mod), string(sum)}
		if strings.HasPrefix(p.Package, "./") {
			source, err := os.ReadFile(filepath.Join(dir, p.Package, "main.go"))
			if err != nil {
				return target{}, fmt.Errorf("reading the source of %s: %w", name, err)
			}
			pkg, parts = p.Package, append(parts, string(source))
		}
		file := filepath.Join(c.Dir, name+"-"+version+"-"+keyOf(parts...), name)
		return target{name, version, file, dir, pkg, flags}, nil
	}
	return target{}, fmt.Errorf("program %q: the lab does not know how to build it; it knows %s", name, strings.Join(Names(), ", "))
}

// required finds the version at which a go.mod requires a module.
func required(mod, module string) (string, error) {
	line := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(module) + `\s+(v\S+)`)
	if found := line.FindStringSubmatch(mod); found != nil {
		return found[1], nil
	}
	return "", fmt.Errorf("go.mod does not require %s", module)
}

// keyOf condenses the parts; a length before each keeps them apart.
func keyOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func compilerVersion(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOARCH")
	cmd.Dir = dir
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errNoGo
	}
	if err != nil {
		return "", fmt.Errorf("asking for Go's version: %w", err)
	}
	return string(out), nil
}

// make builds the targets and says so, one line for each.
func (c *Cache) make(ctx context.Context, targets []target) error {
	if len(targets) == 0 {
		return nil
	}
	fmt.Fprintf(c.Progress, "building %d programs into %s; they are kept\n", len(targets), c.Dir)
	Sweep(filepath.Join(c.Dir, "*", ".build-*"))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(c.Jobs, 2))
	log := &progress{out: c.Progress, total: len(targets)}
	for _, work := range together(targets) {
		group.Go(func() error {
			started := time.Now()
			stop := log.remind(work.name(), started)
			defer stop()
			if err := compile(ctx, work); err != nil {
				return err
			}
			log.done(work, time.Since(started))
			return nil
		})
	}
	return group.Wait()
}

// together has the programs of one module be built by one run of go build. Runs of their
// own, at one time, would each compile what the programs have in common, which is most of
// them.
func together(targets []target) []compilation {
	var all []compilation
	for _, t := range targets {
		at := slices.IndexFunc(all, func(c compilation) bool { return c.dir == t.dir && slices.Equal(c.flags, t.flags) })
		if at < 0 {
			all, at = append(all, compilation{dir: t.dir, flags: t.flags, made: map[string]string{}}), len(all)
		}
		all[at].made[t.pkg] = t.file
	}
	return all
}

// progress counts what is done.
type progress struct {
	total int

	mu    sync.Mutex // guards the fields below
	out   io.Writer
	count int
}

func (p *progress) done(work compilation, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count += len(work.made)
	fmt.Fprintf(p.out, "[%2d/%d] %s ... %d s\n", p.count, p.total, work.name(), int(took.Seconds()+0.5))
}

// remind says now and then that a long build is still going on.
func (p *progress) remind(name string, started time.Time) (stop func()) {
	ticker, quit := time.NewTicker(30*time.Second), make(chan struct{})
	go func() {
		for {
			select {
			case <-quit:
				return
			case now := <-ticker.C:
				p.mu.Lock()
				fmt.Fprintf(p.out, "        still building %s (%d s)\n", name, int(now.Sub(started).Seconds()))
				p.mu.Unlock()
			}
		}
	}()
	return func() { ticker.Stop(); close(quit) }
}
