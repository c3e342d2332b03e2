// Command containerd is containerd as it is, but for what it calls the version of the OCI
// runtime specification: the crun of Debian 12 takes 1.0 only, and nothing that a lab's
// containers are given is newer.
package main

import (
	"context"
	"fmt"
	"os"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins"
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	specs.Version = "1.0.2"
	if err := command.App().Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "containerd:", err)
		os.Exit(1)
	}
}
