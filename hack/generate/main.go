// Command generate makes what is made from the API types and from the node API:
// deep copies, clients, the definitions of both kinds, and the gRPC code. With
// -check it writes nothing and fails when what is there is not what it would
// make. It knows which tool makes what; the tools are built by make.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const module = "github.com/open-local/open-local"

// sources are the parts of the repository that the tools read.
var sources = []string{"go.mod", "go.sum", "apis", "hack/boilerplate.go.txt", proto}

// outputs match every file that is generated, and no other.
var outputs = []string{
	"apis/*/*/zz_generated.*.go", "helm/crds/*.yaml", "pkg/nodeapi/nodepb/*.pb.go", "pkg/client/**",
}

// A step is one tool with its arguments.
type step []string

// steps are what makes it all, in this order.
var steps = []step{
	{"deepcopy-gen", "--go-header-file", "hack/boilerplate.go.txt", "--output-file", "zz_generated.deepcopy.go", "./apis/storage/v1alpha1"},
	{"client-gen", "--go-header-file", "hack/boilerplate.go.txt", "--clientset-name", "versioned",
		"--input-base", module + "/apis", "--input", "storage/v1alpha1", "--fake-clientset=true",
		"--output-dir", "pkg/client/clientset", "--output-pkg", module + "/pkg/client/clientset"},
	{"lister-gen", "--go-header-file", "hack/boilerplate.go.txt",
		"--output-dir", "pkg/client/listers", "--output-pkg", module + "/pkg/client/listers", "./apis/storage/v1alpha1"},
	{"informer-gen", "--go-header-file", "hack/boilerplate.go.txt",
		"--versioned-clientset-package", module + "/pkg/client/clientset/versioned", "--listers-package", module + "/pkg/client/listers",
		"--output-dir", "pkg/client/informers", "--output-pkg", module + "/pkg/client/informers", "./apis/storage/v1alpha1"},
	{"controller-gen", "crd:crdVersions=v1", "paths=./apis/...", "output:crd:dir=helm/crds"},
}

const proto = "pkg/nodeapi/nodepb/node.proto"

func main() {
	check := flag.Bool("check", false, "write nothing; fail when something is stale")
	root := flag.String("root", ".", "the repository")
	tools := flag.String("tools", "bin/tools", "where the tools are")
	flag.Parse()
	if err := run(context.Background(), *root, *tools, *check); err != nil {
		fmt.Fprintf(os.Stderr, "generate: %v\n", err)
		os.Exit(1)
	}
}

// run generates into a copy of the sources, so that the working tree may be in
// any state, and what is no longer generated is noticed.
func run(ctx context.Context, root, tools string, check bool) error {
	scratch, err := os.MkdirTemp("", "open-local-generate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // a temporary directory

	for _, source := range sources {
		if err := copyTree(filepath.Join(root, source), filepath.Join(scratch, source)); err != nil {
			return err
		}
	}
	if err := forget(scratch); err != nil {
		return err
	}
	if err := generate(ctx, root, scratch, tools); err != nil {
		return err
	}
	return compare(root, scratch, check)
}

func generate(ctx context.Context, root, dir, tools string) error {
	tools, err := filepath.Abs(tools)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := execute(ctx, dir, append([]string{filepath.Join(tools, s[0])}, s[1:]...)...); err != nil {
			return err
		}
	}
	return execute(ctx, filepath.Join(root, "hack/tools"), "go", "run", "./protogen", dir, proto)
}

func execute(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running %s: %w\n%s", strings.Join(argv, " "), err, said)
	}
	return nil
}

// compare makes root as generated, or reports in what it differs.
func compare(root, generated string, check bool) error {
	have, err := contents(root)
	if err != nil {
		return err
	}
	want, err := contents(generated)
	if err != nil {
		return err
	}
	var stale []string
	all := maps.Clone(have)
	maps.Copy(all, want)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if bytes.Equal(have[name], want[name]) {
			continue
		}
		stale = append(stale, name)
		if check {
			continue
		}
		if err := put(filepath.Join(root, name), want[name]); err != nil {
			return err
		}
		fmt.Println(name)
	}
	if check && len(stale) > 0 {
		return fmt.Errorf("stale, run make generate:\n  %s", strings.Join(stale, "\n  "))
	}
	return nil
}

// put writes a file, or removes it where nothing is wanted.
func put(file string, content []byte) error {
	if content == nil {
		return os.Remove(file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}

// contents returns every generated file below root.
func contents(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, pattern := range outputs {
		top, everything := strings.CutSuffix(pattern, "/**")
		var found []string
		var err error
		if everything {
			found, err = below(filepath.Join(root, top))
		} else {
			found, err = filepath.Glob(filepath.Join(root, pattern))
		}
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			name, err := filepath.Rel(root, file)
			if err != nil {
				return nil, err
			}
			if files[name], err = os.ReadFile(file); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// forget removes what was generated before.
func forget(root string) error {
	old, err := contents(root)
	if err != nil {
		return err
	}
	for name := range old {
		err = errors.Join(err, os.Remove(filepath.Join(root, name)))
	}
	return err
}

func below(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

func copyTree(from, to string) error {
	files, err := below(from)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s does not exist", from)
	}
	for _, file := range files {
		name, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := put(filepath.Join(to, name), content); err != nil {
			return err
		}
	}
	return nil
}
