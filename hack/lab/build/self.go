// Package build makes the programs of a lab from Go modules and keeps them: the
// lab's own, and those of a Kubernetes cluster at pinned versions. It does not
// know how they are run.
package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const module = "github.com/open-local/open-local/hack/lab"

// SourceVariable names the directory of this module where it cannot be found.
const SourceVariable = "LAB_SOURCE"

// Source returns the directory of this module's source: the one around the
// working directory, or else where this program was compiled.
func Source() (string, error) {
	if dir := os.Getenv(SourceVariable); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the lab's source: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "hack/lab")} {
			if isSource(candidate) {
				return candidate, nil
			}
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		if dir := filepath.Dir(filepath.Dir(file)); isSource(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("finding the lab's source: not around the working directory; set %s to the directory hack/lab of the repository", SourceVariable)
}

func isSource(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && strings.HasPrefix(string(data), "module "+module+"\n")
}

// Own builds one of the lab's own programs, for example "guest/init", to the
// file out. The Go build cache makes that cheap when nothing changed.
func Own(ctx context.Context, program, out string) error {
	source, err := Source()
	if err != nil {
		return err
	}
	return compile(ctx, compilation{dir: source, made: map[string]string{"./" + program: out}})
}

// A compilation is one run of go build, for programs of one module.
type compilation struct {
	dir   string
	flags []string
	made  map[string]string // files, by the package of their program
}

// name is for people.
func (c compilation) name() string {
	var names []string
	for _, file := range c.made {
		names = append(names, filepath.Base(file))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// compile builds to temporary files first: a program that is there is whole, and one that
// runs is not written over.
func compile(ctx context.Context, c compilation) error {
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("building %s: %w", c.name(), err)
	}
	return nil
}

func (c compilation) run(ctx context.Context) error {
	packages := slices.Sorted(maps.Keys(c.made))
	for _, pkg := range packages {
		if err := os.MkdirAll(filepath.Dir(c.made[pkg]), 0o755); err != nil {
			return err
		}
	}
	beside, err := filepath.Abs(filepath.Dir(c.made[packages[0]]))
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp(beside, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if len(packages) == 1 { // go build names a program by its package, which need not be its name
		made := filepath.Join(temp, filepath.Base(c.made[packages[0]]))
		if err := c.goBuild(ctx, made, packages); err != nil {
			return err
		}
		return os.Rename(made, c.made[packages[0]])
	}
	if err := c.goBuild(ctx, temp+"/", packages); err != nil {
		return err
	}
	for _, pkg := range packages {
		if err := os.Rename(filepath.Join(temp, path.Base(pkg)), c.made[pkg]); err != nil {
			return err
		}
	}
	return nil
}

func (c compilation) goBuild(ctx context.Context, out string, packages []string) error {
	args := append([]string{"build", "-buildvcs=false", "-o", out}, c.flags...)
	return goRun(ctx, c.dir, append(args, packages...)...)
}

var errNoGo = errors.New("the go command is missing: install Go 1.26 or later and put it on PATH")

// goRun runs the go command in dir. Programs are static, because machines and
// images have no C library of their own.
func goRun(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second // compilers it started may outlive it for a moment
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS=linux")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errNoGo
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("go %s: %w: %s", args[0], err, complaint(string(out)))
	}
	return nil
}

// complaint is the end of what the go command said, without what it fetched.
func complaint(out string) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "go: downloading ")
	})
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// abandoned is the age after which unfinished work is nobody's: no build takes
// that long.
const abandoned = 6 * time.Hour

// Sweep removes what interrupted work left: old files and directories that match
// the pattern. That they remain is no harm but for the space they take.
func Sweep(pattern string) {
	left, _ := filepath.Glob(pattern) // our patterns are good
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.RemoveAll(path)
		}
	}
}
