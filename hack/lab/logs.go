package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/cluster"
)

func logsCommand(dir *string) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [NODE|PROGRAM]",
		Short: "Show the logs of a node or a program of the control plane, or list them",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			logs := filepath.Join(cmp.Or(*dir, cluster.DefaultDir), "log")
			files, err := filepath.Glob(filepath.Join(logs, "*.log"))
			if err != nil || len(files) == 0 {
				return errors.Join(fmt.Errorf("directory %s: there are no logs", logs), err)
			}
			if len(args) == 0 {
				fmt.Println(strings.Join(files, "\n"))
				return nil
			}
			files = slices.DeleteFunc(files, func(file string) bool {
				name := strings.TrimSuffix(filepath.Base(file), ".log")
				return name != args[0] && !strings.HasPrefix(name, args[0]+"-")
			})
			if len(files) == 0 {
				return fmt.Errorf("log %q: there is none in %s", args[0], logs)
			}
			argv := []string{"tail", "-n", "+1"}
			if follow {
				argv = []string{"tail", "-n", "20", "-F"}
			}
			tail, err := exec.LookPath("tail")
			if err != nil {
				return fmt.Errorf("showing logs: %w", err)
			}
			return syscall.Exec(tail, append(argv, files...), os.Environ())
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show the end and what comes")
	return cmd
}
