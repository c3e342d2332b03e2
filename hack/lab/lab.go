package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/cluster"
	"github.com/open-local/open-local/hack/lab/daemon"
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
	cmd.Flags().StringVar(&o.SCSIDisks, "scsi-disks", "", "disks of each node that have a WWN and can fail, as COUNTxSIZE; they take its memory and are blank after a boot")
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
