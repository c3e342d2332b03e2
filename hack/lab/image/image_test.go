package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sync/errgroup"
)

func write(t *testing.T, img Image) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "images", "a.tar")
	if err := Write(img, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnArchiveHoldsTheImage(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("ELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := write(t, Image{
		References: []string{"example.com/a:1"}, Entrypoint: []string{"/bin/a"}, Command: []string{"run"},
		Files: []File{{Path: "/bin/a", From: program}, {Path: "/bin/b", Link: "a"}, {Path: "/etc/x", Content: "y", Mode: 0o644}, {Path: "/tmp/", Mode: 0o1777}},
	})
	tag, err := name.NewTag("example.com/a:1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	got := []any{config.OS, config.Architecture, config.Config.Entrypoint, config.Config.Cmd}
	if diff := cmp.Diff([]any{"linux", "amd64", []string{"/bin/a"}, []string{"run"}}, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	want := []string{"bin/ 755", "bin/a 755 ELF", "bin/b 755 -> a", "etc/ 755", "etc/x 644 y", "tmp/ 1777"}
	if diff := cmp.Diff(want, listing(t, content)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// listing tells what a tar archive holds, a line for each entry.
func listing(t *testing.T, archive io.Reader) []string {
	t.Helper()
	var lines []string
	for entries := tar.NewReader(archive); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		line := header.Name + " " + strings.TrimLeft(string(octal(header.Mode)), "0")
		switch {
		case header.Linkname != "":
			line += " -> " + header.Linkname
		case len(text) > 0:
			line += " " + string(text)
		}
		lines = append(lines, line)
	}
}

func octal(mode int64) []byte {
	var digits []byte
	for ; mode > 0; mode /= 8 {
		digits = append([]byte{byte('0' + mode%8)}, digits...)
	}
	return digits
}

func TestTheSameFilesMakeTheSameArchive(t *testing.T) {
	img := Image{References: []string{"example.com/a:1"}, Files: []File{{Path: "/b", Content: "1"}, {Path: "/a/c", Content: "2"}}}
	one, err := os.ReadFile(write(t, img))
	if err != nil {
		t.Fatal(err)
	}
	img.Files[0], img.Files[1] = img.Files[1], img.Files[0]
	two, err := os.ReadFile(write(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if string(one) != string(two) {
		t.Error("the archives differ")
	}
}

func TestAFailedImageLeavesNothing(t *testing.T) {
	out := filepath.Join(t.TempDir(), "a.tar")
	err := Write(Image{References: []string{"example.com/a:1"}, Files: []File{{Path: "/a", From: "/no/such"}}}, out)
	if err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Fatalf("got %v, want the file that is missing", err)
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestABadNameIsRefused(t *testing.T) {
	err := Write(Image{References: []string{"Not A Name"}}, filepath.Join(t.TempDir(), "a.tar"))
	if err == nil || !strings.Contains(err.Error(), `"Not A Name"`) {
		t.Errorf("got %v", err)
	}
}

func TestAnotherContentIsAnotherFile(t *testing.T) {
	img := Image{References: []string{"registry.k8s.io/pause:3.10"}}
	one, two := archive("/d", img, "x"), archive("/d", img, "y")
	if one == two || !strings.HasPrefix(one, "/d/registry.k8s.io_pause_3.10-") {
		t.Errorf("files %s and %s", one, two)
	}
}

func TestTwoWriteTheSameImageAtOnce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "image.tar")
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			return Write(Image{References: []string{"example.org/image:1"}, Files: []File{{Path: "file", Content: strings.Repeat("x", 1<<20)}}}, out)
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(out), "*"))
	if hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".part-*")); err != nil || len(left)+len(hidden) != 1 {
		t.Errorf("left are %q and %q, %v", left, hidden, err)
	}
}
