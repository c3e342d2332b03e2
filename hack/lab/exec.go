package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/cluster"
	"github.com/open-local/open-local/hack/lab/wire"
)

func execCommand(dir *string) *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "exec NODE -- COMMAND [ARGS...]",
		Short: "Run a command on a node as root",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			argv := args[1:]
			if argv[0] == "--" && len(argv) > 1 {
				argv = argv[1:]
			}
			return ended(c.Run(cmd.Context(), args[0], wire.Command{Argv: argv}, standard(stdin)))
		},
	}
	cmd.Flags().BoolVarP(&stdin, "stdin", "i", false, "pass standard input on to the command")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func insideCommand(dir *string) *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "inside -- COMMAND [ARGS...]",
		Short: "Run a command of the host in the network of the cluster",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			here, err := os.Getwd()
			if err != nil {
				return fmt.Errorf("finding the working directory: %w", err)
			}
			command := wire.Command{Argv: args, Dir: here, Env: append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())}
			return ended(c.RunInside(cmd.Context(), command, standard(stdin)))
		},
	}
	cmd.Flags().BoolVarP(&stdin, "stdin", "i", false, "pass standard input on to the command")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func standard(stdin bool) cluster.Streams {
	s := cluster.Streams{Stdout: os.Stdout, Stderr: os.Stderr}
	if stdin {
		s.Stdin = os.Stdin
	}
	return s
}

func ended(code int, err error) error {
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}
