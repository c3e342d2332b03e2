package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// baseModules are loaded in every machine: what the root needs, and what would
// otherwise cost a start of modprobe, slow here, at a bad moment.
var baseModules = []string{"overlay", "dm-mod", "dm-snapshot", "dm-thin-pool", "dm-flakey", "loop"}

// nodeModules are loaded in a Kubernetes node too.
var nodeModules = []string{"veth"}

// Dependencies answers, for modules.dep as depmod writes it, which files to
// insert in which order to have the module of that name.
type dependencies map[string][]string

func parseDependencies(r io.Reader) (dependencies, error) {
	deps := dependencies{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		file, needs, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return nil, fmt.Errorf("line %q of modules.dep: no colon", lines.Text())
		}
		// The file itself goes last; depmod lists what it needs nearest first.
		order := append([]string{file}, strings.Fields(needs)...)
		for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
			order[i], order[j] = order[j], order[i]
		}
		deps[moduleName(file)] = order
	}
	return deps, lines.Err()
}

func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// A loader inserts kernel modules, each once.
type loader struct {
	dir  string
	deps dependencies
	done map[string]bool
}

func newLoader(dir, release string) (*loader, error) {
	dir = filepath.Join(dir, release)
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("kernel %s has no modules: %w", release, err)
	}
	defer f.Close()
	deps, err := parseDependencies(f)
	if err != nil {
		return nil, fmt.Errorf("reading the modules of kernel %s: %w", release, err)
	}
	return &loader{dir: dir, deps: deps, done: map[string]bool{}}, nil
}

// load inserts the module and what it needs. params go to the module itself.
func (l *loader) load(name, params string) error {
	order, ok := l.deps[strings.ReplaceAll(name, "-", "_")]
	if !ok {
		return fmt.Errorf("module %s: the kernel has none of that name in %s", name, l.dir)
	}
	for i, file := range order {
		if l.done[file] {
			continue
		}
		given := ""
		if i == len(order)-1 {
			given = params
		}
		if err := l.insert(file, given); err != nil {
			return fmt.Errorf("loading module %s: %w", name, err)
		}
		l.done[file] = true
	}
	return nil
}

func (l *loader) insert(file, params string) error {
	f, err := os.Open(filepath.Join(l.dir, file))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), params, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("inserting %s: %w", file, err)
	}
	return nil
}
