// Command image builds the program and packs it into one OCI archive, without a
// container engine: the static binary and nothing else, the same bytes for the
// same source. It knows nothing of registries; whoever wants the image there
// pushes the archive with a tool of their own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	root      string // of the repository
	output    string
	reference string // empty for the one in the chart
	arches    string // comma-separated
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("image", flag.ExitOnError)
	flags.StringVar(&o.root, "root", ".", "the repository")
	flags.StringVar(&o.output, "output", "_output/image/open-local.tar", "where the archive goes")
	flags.StringVar(&o.reference, "reference", "", "name and tag of the image; the chart's own when empty")
	flags.StringVar(&o.arches, "arch", runtime.GOARCH, "architectures, such as amd64,arm64")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return o.make(ctx)
}

func (o options) make(ctx context.Context) error {
	if o.reference == "" {
		var err error
		if o.reference, err = referenceOfChart(filepath.Join(o.root, "helm")); err != nil {
			return err
		}
	}
	_, version, found := cutTag(o.reference)
	if !found {
		return fmt.Errorf("reference %q has no tag", o.reference)
	}
	from := stateOf(ctx, o.root)

	scratch, err := os.MkdirTemp("", "open-local-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // a temporary directory

	var programs []program
	for arch := range strings.SplitSeq(o.arches, ",") {
		binary := filepath.Join(scratch, arch)
		build := build{dir: o.root, pkg: "./cmd/open-local", version: version, commit: from.commit, arch: arch}
		if err := build.run(ctx, binary); err != nil {
			return err
		}
		programs = append(programs, program{arch: arch, file: binary})
	}
	if err := os.MkdirAll(filepath.Dir(o.output), 0o755); err != nil {
		return err
	}
	digest, err := pack(o.output, label{reference: o.reference, version: version, commit: from.commit, created: from.when}, programs)
	if err != nil {
		return fmt.Errorf("packing %s: %w", o.output, err)
	}
	fmt.Printf("%s: %s (%s) %s\n", o.output, o.reference, o.arches, digest)
	return nil
}
