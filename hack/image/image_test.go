package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

var said = label{
	reference: "docker.io/openlocal/open-local:v1", version: "v1", commit: "abc",
	created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
}

func TestTheArchiveHoldsAnImageOfOneFile(t *testing.T) {
	output := filepath.Join(t.TempDir(), "image.tar")
	digest, err := pack(output, said, programs(t, "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	path := unpack(t, output)
	index, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("the archive is not valid: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"io.containerd.image.name": said.reference, "org.opencontainers.image.ref.name": "v1"}
	if diff := cmp.Diff(want, manifest.Manifests[0].Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	image, err := path.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "amd64" || config.OS != "linux" || config.Config.Entrypoint[0] != "/open-local" {
		t.Errorf("the image is for %s/%s and runs %q", config.OS, config.Architecture, config.Config.Entrypoint)
	}
	if diff := cmp.Diff(map[string]string{"open-local": "program for amd64"}, files(t, image)); diff != "" {
		t.Errorf("files in the image (-want +got):\n%s", diff)
	}
}

func TestSeveralArchitecturesAreOneImage(t *testing.T) {
	output := filepath.Join(t.TempDir(), "image.tar")
	digest, err := pack(output, said, programs(t, "amd64", "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	outer, err := unpack(t, output).ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(outer); err != nil {
		t.Errorf("the archive is not valid: %v", err)
	}
	inner, err := outer.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range manifest.Manifests {
		got = append(got, m.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

func TestTheSameProgramGivesTheSameArchive(t *testing.T) {
	var archives [][]byte
	for range 2 {
		output := filepath.Join(t.TempDir(), "image.tar")
		if _, err := pack(output, said, programs(t, "amd64", "arm64")); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, content)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same program differ")
	}
}

func TestAProgramIsStaticKnowsItsVersionAndIsBuiltAlikeEverywhere(t *testing.T) {
	var binaries [][]byte
	for range 2 {
		dir := t.TempDir()
		source, err := os.ReadFile("testdata/hello/main.go")
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "main.go"), string(source))
		write(t, filepath.Join(dir, "go.mod"), "module hello\n")
		output := filepath.Join(dir, "hello")
		b := build{dir: dir, pkg: ".", version: "v1", commit: "abc", arch: runtime.GOARCH}
		if err := b.run(t.Context(), output); err != nil {
			t.Fatal(err)
		}
		binary, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		binaries = append(binaries, binary)

		printed, err := exec.CommandContext(t.Context(), output).Output()
		if err != nil || string(printed) != "v1 abc\n" {
			t.Errorf("the program says %q, %v", printed, err)
		}
		program, err := elf.NewFile(bytes.NewReader(binary))
		if err != nil {
			t.Fatal(err)
		}
		if program.Section(".interp") != nil {
			t.Error("the program needs a loader, which the image does not have")
		}
	}
	if !bytes.Equal(binaries[0], binaries[1]) {
		t.Error("the program depends on the directory that it was built in")
	}
}

func TestABuildThatFailsSaysWhy(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.go"), "package main\nfunc main() { nonsense }\n")
	write(t, filepath.Join(dir, "go.mod"), "module hello\n")
	err := build{dir: dir, pkg: ".", arch: runtime.GOARCH}.run(t.Context(), filepath.Join(dir, "hello"))
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("got %v", err)
	}
}

func TestTheReferenceIsThatOfTheChart(t *testing.T) {
	const chart = "appVersion: v7\n"
	for name, test := range map[string]struct{ values, want string }{
		"the version of the chart is the tag": {"images: {local: {registry: r.io, image: a/b, tag: ''}}", "r.io/a/b:v7"},
		"a tag of its own comes first":        {"images: {local: {registry: 'r.io:5000', image: a/b, tag: v8}}", "r.io:5000/a/b:v8"},
		"an image without a name is none":     {"images: {}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "Chart.yaml"), chart)
			write(t, filepath.Join(dir, "values.yaml"), test.values)
			got, err := referenceOfChart(dir)
			if got != test.want || (err != nil) != (test.want == "") {
				t.Errorf("got %q and %v, want %q", got, err, test.want)
			}
		})
	}
	if _, err := referenceOfChart("../../helm"); err != nil {
		t.Errorf("the chart of this repository: %v", err)
	}
}

func TestCutTag(t *testing.T) {
	for reference, want := range map[string][2]string{
		"docker.io/a/b:v1":        {"docker.io/a/b", "v1"},
		"registry:5000/a/b":       {"registry:5000/a/b", ""},
		"registry:5000/a/b:v1":    {"registry:5000/a/b", "v1"},
		"docker.io/openlocal/all": {"docker.io/openlocal/all", ""},
	} {
		name, tag, found := cutTag(reference)
		if name != want[0] || tag != want[1] || found != (want[1] != "") {
			t.Errorf("%s is %q and %q, %v", reference, name, tag, found)
		}
	}
}

func programs(t *testing.T, arches ...string) []program {
	t.Helper()
	var all []program
	for _, arch := range arches {
		file := filepath.Join(t.TempDir(), arch)
		write(t, file, "program for "+arch)
		all = append(all, program{arch: arch, file: file})
	}
	return all
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// unpack is what an importer does first.
func unpack(t *testing.T, archive string) layout.Path {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	for name, content := range entries(t, file) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), content)
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func files(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	all := map[string]string{}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, entries(t, content))
	}
	return all
}

func entries(t *testing.T, from io.Reader) map[string]string {
	t.Helper()
	all := map[string]string{}
	reader := tar.NewReader(from)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		all[header.Name] = string(content)
	}
}
