// Command open-local is every role of open-local: the scheduler extender, the
// agent of a node, the CSI driver and the controller, one subcommand each. It
// reads flags, wires packages together and runs them until it is told to stop.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

func main() {
	os.Exit(run())
}

// run returns the exit status: 0 after a clean stop, 1 after an error.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer klog.Flush()

	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "open-local: %v\n", err)
		return 1
	}
	return 0
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "open-local",
		Short:         "Kubernetes volumes from the disks of the nodes themselves",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
	}
	logging := flag.NewFlagSet("logging", flag.ExitOnError)
	klog.InitFlags(logging)
	for _, name := range []string{"v", "vmodule"} {
		root.PersistentFlags().AddGoFlag(logging.Lookup(name))
	}
	root.AddCommand(schedulerCommand(), agentCommand(), csiCommand(), controllerCommand(), explainCommand(), orphansCommand(), versionCommand())
	return root
}
