// Command lab runs User-Mode Linux machines with real LVM, alone or as the
// nodes of a real Kubernetes cluster, on one host without device-mapper.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/cluster"
)

// exitCode is an error that carries the exit code of a command run in the lab;
// the command has said itself what it had to say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "lab",
		Short:         "Machines with real LVM, alone or as nodes of a Kubernetes cluster, on one host",
		SilenceUsage:  true,
		SilenceErrors: true,
		// So that --dir before kubectl is ours, and what follows is kubectl's.
		TraverseChildren: true,
	}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "dir", cluster.DefaultDir, "directory of the cluster's state")
	cmd.AddCommand(vmCommand(), buildCommand())
	cmd.AddCommand(labCommands(&dir)...)
	return cmd
}
