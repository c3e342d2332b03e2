// Package image makes container images without a container engine or a base
// image: one layer with static programs, as a tar archive that docker and
// containerd load. It does not know who loads them.
package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// An Image is what to pack.
type Image struct {
	References []string // its names, for example docker.io/library/busybox:1.36
	Entrypoint []string
	Command    []string
	Files      []File
}

// A File is one entry of the image. Exactly one of From, Content and Link is
// set, or none for a directory, whose Path then ends in a slash.
type File struct {
	Path    string
	From    string // a file of the host
	Content string
	Link    string // a symbolic link to this
	Mode    int64  // 0: 0755
}

// Write packs the image into the file out, whole or not at all.
func Write(img Image, out string) error {
	packed, err := img.pack()
	if err != nil {
		return fmt.Errorf("packing image %s: %w", strings.Join(img.References, ", "), err)
	}
	tags := map[name.Tag]v1.Image{}
	for _, reference := range img.References {
		tag, err := name.NewTag(reference)
		if err != nil {
			return fmt.Errorf("packing an image: name %q: %w", reference, err)
		}
		tags[tag] = packed
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("writing image %s: %w", out, err)
	}
	part, err := os.CreateTemp(filepath.Dir(out), ".part-*") // others may write the same image at the moment
	if err != nil {
		return fmt.Errorf("writing image %s: %w", out, err)
	}
	temp := part.Name()
	err = errors.Join(tarball.MultiWrite(tags, part), part.Chmod(0o644), part.Close())
	if err == nil {
		err = os.Rename(temp, out)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing image %s: %w", out, err), os.Remove(temp))
	}
	return nil
}

func (img Image) pack() (v1.Image, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return img.layer(), nil })
	if err != nil {
		return nil, err
	}
	packed, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := packed.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.Architecture, config.OS = "amd64", "linux"
	config.Config.Entrypoint, config.Config.Cmd = img.Entrypoint, img.Command
	config.Config.Env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return mutate.ConfigFile(packed, config)
}

// layer streams the files as a tar archive. It is the same for the same files,
// times included, so that the image is too.
func (img Image) layer() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		for _, f := range img.entries() {
			if err := f.write(archive); err != nil {
				w.CloseWithError(fmt.Errorf("adding %s: %w", f.Path, err))
				return
			}
		}
		w.CloseWithError(archive.Close())
	}()
	return r
}

// entries are the files with the directories they lie in, in order.
func (img Image) entries() []File {
	all := map[string]File{}
	for _, f := range img.Files {
		all[f.Path] = f
		for dir := path.Dir(strings.TrimSuffix(f.Path, "/")); dir != "." && dir != "/"; dir = path.Dir(dir) {
			if _, ok := all[dir+"/"]; !ok {
				all[dir+"/"] = File{Path: dir + "/"}
			}
		}
	}
	files := make([]File, 0, len(all))
	for _, f := range all {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

func (f File) write(archive *tar.Writer) error {
	header := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Typeflag: tar.TypeReg}
	if f.Mode == 0 {
		header.Mode = 0o755
	}
	content := []byte(f.Content)
	switch {
	case strings.HasSuffix(f.Path, "/"):
		header.Typeflag = tar.TypeDir
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
	case f.From != "":
		var err error
		if content, err = os.ReadFile(f.From); err != nil {
			return err
		}
	}
	header.Size = int64(len(content))
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(archive, bytes.NewReader(content))
	return err
}
