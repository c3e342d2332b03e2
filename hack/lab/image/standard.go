package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// format changes when images must be packed anew though their programs are the
// same.
const format = "2"

const busybox = "/bin/busybox"

// Pause is the image that holds a pod's namespaces.
const Pause = "registry.k8s.io/pause:3.10"

// sidecars are the images of CSI sidecars, and of a second scheduler, by the program
// that each holds in a directory.
var sidecars = []struct{ program, reference, directory string }{
	{"csi-provisioner", "registry.k8s.io/sig-storage/csi-provisioner:v6.3.0", "/"},
	{"csi-resizer", "registry.k8s.io/sig-storage/csi-resizer:v2.3.0", "/"},
	{"csi-snapshotter", "registry.k8s.io/sig-storage/csi-snapshotter:v8.7.0", "/"},
	{"snapshot-controller", "registry.k8s.io/sig-storage/snapshot-controller:v8.7.0", "/"},
	{"kube-scheduler", "registry.k8s.io/kube-scheduler:v1.36.3", "/usr/local/bin/"},
}

// Sidecars returns the programs of which there are images.
func Sidecars() []string {
	names := make([]string, len(sidecars))
	for i, s := range sidecars {
		names[i] = s.program
	}
	return names
}

// Standard returns the archives of the images of every lab: those of busybox,
// and one for each of the built programs that is a sidecar. They are kept in
// dir under a name that changes with their content.
func Standard(ctx context.Context, dir string, programs map[string]string) ([]string, error) {
	box, err := busyboxImages(ctx)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(busybox)
	if err != nil {
		return nil, fmt.Errorf("reading busybox: %w", err)
	}
	var archives []string
	for _, img := range box {
		archives = append(archives, archive(dir, img, string(content)))
		if err := ensure(img, archives[len(archives)-1]); err != nil {
			return nil, err
		}
	}
	for _, s := range sidecars {
		file, ok := programs[s.program]
		if !ok {
			continue
		}
		img := Image{
			References: []string{s.reference}, Entrypoint: []string{s.directory + s.program},
			Files: []File{{Path: s.directory + s.program, From: file}, {Path: "/tmp/", Mode: 0o1777}},
		}
		archives = append(archives, archive(dir, img, file)) // its path holds a key of its content
		if err := ensure(img, archives[len(archives)-1]); err != nil {
			return nil, err
		}
	}
	return archives, nil
}

func archive(dir string, img Image, content string) string {
	sum := sha256.Sum256([]byte(format + fmt.Sprintf("%q", []any{img, content})))
	base := strings.Map(func(r rune) rune {
		if r == '/' || r == ':' {
			return '_'
		}
		return r
	}, img.References[0])
	return filepath.Join(dir, base+"-"+hex.EncodeToString(sum[:6])+".tar")
}

func ensure(img Image, out string) error {
	if _, err := os.Stat(out); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("looking for image %s: %w", out, err)
	}
	return Write(img, out)
}

// busyboxImages are the image that only waits, a shell with tools, and a stand-in
// for nginx: it serves the same directory on the same port.
func busyboxImages(ctx context.Context) ([]Image, error) {
	if err := static(busybox); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("asking busybox for its programs: %w", err)
	}
	files := []File{
		{Path: "/bin/busybox", From: busybox},
		{Path: "/etc/passwd", Content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", Mode: 0o644},
		{Path: "/etc/group", Content: "root:x:0:\nnobody:x:65534:\n", Mode: 0o644},
		{Path: "/root/", Mode: 0o700}, {Path: "/tmp/", Mode: 0o1777}, {Path: "/mnt/"}, {Path: "/proc/"}, {Path: "/sys/"}, {Path: "/dev/"},
	}
	for applet := range bytes.FieldsSeq(out) {
		if string(applet) != "busybox" {
			files = append(files, File{Path: "/bin/" + string(applet), Link: "busybox"})
		}
	}
	page := File{
		Path: "/usr/share/nginx/html/index.html", Mode: 0o644,
		Content: "<!DOCTYPE html><title>open-local lab</title><p>busybox httpd, standing in for nginx\n",
	}
	return []Image{
		{References: []string{Pause}, Command: []string{"/bin/sleep", "2147483647"}, Files: []File{files[0], {Path: "/bin/sleep", Link: "busybox"}}},
		{References: []string{"docker.io/library/busybox:1.36"}, Command: []string{"/bin/sh"}, Files: files},
		{
			References: []string{"docker.io/library/nginx:1.27"}, Files: slices.Concat(files, []File{page}),
			// A first process ends at a signal only if it said that it would.
			Command: []string{"/bin/sh", "-c", "trap 'exit 0' TERM QUIT; httpd -f -p 80 -h /usr/share/nginx/html & wait"},
		},
	}, nil
}

// static refuses a program that needs libraries, which an image has not.
func static(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", program, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s needs shared libraries: install the Debian package busybox-static in place of busybox", program)
		}
	}
	return nil
}
