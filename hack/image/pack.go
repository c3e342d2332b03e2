package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entrypoint is the only file of the image.
const entrypoint = "open-local"

// label is what an image says of itself.
type label struct {
	reference, version, commit string
	created                    time.Time
}

// A program is the content of the image for one architecture.
type program struct {
	arch, file string
}

// pack writes the archive and returns the digest of the image in it. The archive
// appears whole or not at all.
func pack(output string, l label, programs []program) (v1.Hash, error) {
	scratch, err := os.MkdirTemp(filepath.Dir(output), ".image-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // a temporary directory

	index, digest, err := index(l, programs)
	if err != nil {
		return v1.Hash{}, err
	}
	dir := filepath.Join(scratch, "layout")
	if _, err := layout.Write(dir, index); err != nil {
		return v1.Hash{}, err
	}
	archive := filepath.Join(scratch, "archive.tar")
	if err := archiveOf(dir, archive); err != nil {
		return v1.Hash{}, err
	}
	return digest, os.Rename(archive, output)
}

// index is the outermost list of the archive: the image itself, or where there
// are several architectures, the list of its variants.
func index(l label, programs []program) (v1.ImageIndex, v1.Hash, error) {
	variants := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var only mutate.Appendable
	for _, p := range programs {
		image, err := p.image(l)
		if err != nil {
			return nil, v1.Hash{}, err
		}
		variants = mutate.AppendManifests(variants, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p.platform()}})
		only = image
	}
	descriptor := v1.Descriptor{Annotations: map[string]string{
		"io.containerd.image.name":          l.reference, // the name after an import into containerd
		"org.opencontainers.image.ref.name": l.version,
	}}
	if len(programs) == 1 {
		descriptor.Platform = programs[0].platform()
	} else {
		only = variants
	}
	digest, err := only.Digest()
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: only, Descriptor: descriptor}), digest, err
}

func (p program) platform() *v1.Platform { return &v1.Platform{OS: "linux", Architecture: p.arch} }

func (p program) image(l label) (v1.Image, error) {
	binary, err := os.ReadFile(p.file)
	if err != nil {
		return nil, err
	}
	content, err := layer(binary)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:   content,
		History: v1.History{Created: v1.Time{Time: l.created}, CreatedBy: "hack/image", Comment: l.version},
	})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy() // what was read belongs to the image
	config.OS, config.Architecture, config.Created = "linux", p.arch, v1.Time{Time: l.created}
	config.Config = l.config()
	return mutate.ConfigFile(image, config)
}

func (l label) config() v1.Config {
	return v1.Config{
		Entrypoint: []string{"/" + entrypoint},
		WorkingDir: "/",
		Env:        []string{"PATH=/"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "open-local",
			"org.opencontainers.image.source":   "https://github.com/open-local/open-local",
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version":  l.version,
			"org.opencontainers.image.revision": l.commit,
		},
	}
}

// layer is a layer of the one file.
func layer(binary []byte) (v1.Layer, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	header := &tar.Header{Name: entrypoint, Mode: 0o755, Size: int64(len(binary)), Format: tar.FormatPAX, Typeflag: tar.TypeReg}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed))
}

// archiveOf writes the files of a directory into a tar, in the order of their
// names and without what the file system says of times and owners.
func archiveOf(dir, output string) (err error) {
	file, err := os.Create(output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := tar.NewWriter(file)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(content))}); err != nil {
			return fmt.Errorf("archiving %s: %w", name, err)
		}
		_, err = w.Write(content)
		return err
	})
	return errors.Join(err, w.Close())
}
