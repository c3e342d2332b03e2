package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/cluster"
	"github.com/open-local/open-local/hack/lab/daemon"
	"github.com/open-local/open-local/hack/lab/wire"
)

// labCommands are those about a cluster. All share the flag --dir.
func labCommands(dir *string) []*cobra.Command {
	return []*cobra.Command{
		upCommand(dir), downCommand(dir), statusCommand(dir),
		programCommand(dir, "kubectl", "Run kubectl as the cluster's administrator"),
		programCommand(dir, "helm", "Run helm as the cluster's administrator"),
		nodeCommand(dir, "reboot", "Switch a node off in order, and on again", (*cluster.Cluster).Reboot),
		nodeCommand(dir, "kill", "Cut the power of a node; its disks keep what was written", (*cluster.Cluster).Kill),
		nodeCommand(dir, "start", "Switch on a node that was killed", (*cluster.Cluster).Start),
		nodeCommand(dir, "restart", "Kill a program of the control plane, which is started again", (*cluster.Cluster).Restart),
		diskCommand(dir), execCommand(dir), insideCommand(dir), loadCommand(dir), logsCommand(dir), daemonCommand(dir),
	}
}

func upCommand(dir *string) *cobra.Command {
	var o cluster.Options
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring up a Kubernetes cluster whose nodes have real LVM",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Dir, o.Progress = *dir, os.Stderr
			c, err := cluster.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Printf("export KUBECONFIG=%s\n", c.Kubeconfig())
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Nodes, "nodes", 2, "number of nodes; they are called n1, n2, ...")
	cmd.Flags().StringVar(&o.Disks, "disks", "2x4G", "blank disks of each node, as COUNTxSIZE,...; the first is /dev/ubdb and /dev/vdb")
	cmd.Flags().StringVar(&o.Memory, "mem", "2G", "memory of each node; the host gives only what is touched")
	cmd.Flags().StringVar(&o.SchedulerConfig, "scheduler-config", "", "file with a KubeSchedulerConfiguration (default: one with open-local's extender)")
	cmd.Flags().StringArrayVar(&o.Images, "image", nil, "docker or OCI archive that every node loads at once")
	return cmd
}

func downCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster and remove all of it but its logs",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return cluster.Down(*dir) },
	}
}

func statusCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			word := map[bool]string{true: "running", false: "off"}
			for _, p := range status.Components {
				fmt.Fprintf(table, "%s\t%s\t%d restarts\n", p.Name, word[p.Running], p.Restarts)
			}
			for _, n := range status.Nodes {
				fmt.Fprintf(table, "%s\t%s\t%s\n", n.Name, word[n.Running], n.IP)
			}
			fmt.Fprintf(table, "kubeconfig\t%s\n", c.Kubeconfig())
			return table.Flush()
		},
	}
}

// programCommand replaces this process by a program that talks to the cluster.
func programCommand(dir *string, name, short string) *cobra.Command {
	return &cobra.Command{
		Use:                name + " [ARGS...]",
		Short:              short,
		DisableFlagParsing: true, // they are the program's; so --dir goes before the name
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			env := append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
			return syscall.Exec(c.Program(name), append([]string{name}, args...), env)
		},
	}
}

// A nodeOrder is given to one node, or program, by name.
type nodeOrder func(c *cluster.Cluster, ctx context.Context, name string) error

func nodeCommand(dir *string, verb, short string, order nodeOrder) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			return order(c, cmd.Context(), args[0])
		},
	}
}

func diskCommand(dir *string) *cobra.Command {
	cmd := &cobra.Command{Use: "disk", Short: "Plug a disk into a running node, or pull one out"}
	add := &cobra.Command{
		Use:   "add NODE SIZE",
		Short: "Give a node another blank disk and print its device",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			device, err := c.AddDisk(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			fmt.Println(device)
			return nil
		},
	}
	remove := &cobra.Command{
		Use:   "remove NODE DEVICE",
		Short: "Pull a disk out of a node until its next boot; refused while the disk is open",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			return c.RemoveDisk(cmd.Context(), args[0], args[1])
		},
	}
	cmd.AddCommand(add, remove)
	return cmd
}

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

func loadCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "load ARCHIVE...",
		Short: "Give every node the images in docker or OCI archives",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, archives []string) error {
			c, err := cluster.Open(*dir)
			if err != nil {
				return err
			}
			for _, archive := range archives {
				if err := c.LoadImage(cmd.Context(), archive); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

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

// daemonCommand is what lab up starts, in namespaces of its own.
func daemonCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:    "daemon",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGINT, syscall.SIGHUP) // those are for who started it
			config, err := daemon.ReadConfig(*dir)
			if err != nil {
				return err
			}
			outside, err := net.FileListener(os.NewFile(3, "outside"))
			if err != nil {
				return fmt.Errorf("taking over the port of the API server: %w", err)
			}
			return daemon.Run(cmd.Context(), config, outside, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
	}
}
