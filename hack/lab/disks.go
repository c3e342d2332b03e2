package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/cluster"
)

// A diskOrder is given with what stands after its verb, the node first. What it answers is
// printed.
type diskOrder struct {
	use, short string
	args       int
	give       func(ctx context.Context, c *cluster.Cluster, args []string) (string, error)
}

// silent is an order that answers nothing.
func silent(order func(ctx context.Context, c *cluster.Cluster, args []string) error) func(context.Context, *cluster.Cluster, []string) (string, error) {
	return func(ctx context.Context, c *cluster.Cluster, args []string) (string, error) {
		return "", order(ctx, c, args)
	}
}

var diskOrders = []diskOrder{
	{"add NODE SIZE", "Give a node another blank disk and print its device", 2,
		func(ctx context.Context, c *cluster.Cluster, args []string) (string, error) {
			return c.AddDisk(ctx, args[0], args[1])
		}},
	{"remove NODE DISK", "Pull a disk out until it is returned or the node boots", 2,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.RemoveDisk(ctx, args[0], args[1])
		})},
	{"return NODE ID", "Plug a disk in again that was pulled out, and print its device", 2,
		func(ctx context.Context, c *cluster.Cluster, args []string) (string, error) {
			return c.ReturnDisk(ctx, args[0], args[1])
		}},
	{"discard NODE DISK", "Take a disk out for good, with what is on it", 2,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.DiscardDisk(ctx, args[0], args[1])
		})},
	{"swap NODE DISK DISK", "Make two disks come up under each other's names: at the next boot, SCSI disks now", 3,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.SwapDisks(ctx, args[0], args[1], args[2])
		})},
	{"grow NODE DISK SIZE", "Make a disk larger; SCSI disks, by whole gibibytes, also while they are in use", 3,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.GrowDisk(ctx, args[0], args[1], args[2])
		})},
	{"shrink NODE", "Make the SCSI disks of a node as small again as they were", 1,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error { return c.ShrinkDisks(ctx, args[0]) })},
	{"fail NODE DISK", "Make a SCSI disk one that the kernel has given up", 2,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.FailDisk(ctx, args[0], args[1])
		})},
	{"heal NODE DISK", "Make a SCSI disk well again that failed", 2,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.HealDisk(ctx, args[0], args[1])
		})},
	{"protect NODE DISK", "Make a SCSI disk read-only", 2,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.ProtectDisk(ctx, args[0], args[1], true)
		})},
	{"unprotect NODE DISK", "Make a SCSI disk writable again", 2,
		silent(func(ctx context.Context, c *cluster.Cluster, args []string) error {
			return c.ProtectDisk(ctx, args[0], args[1], false)
		})},
}

func diskCommand(dir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disk",
		Short: "List the disks of a running node, plug one in, pull one out, and worse",
		Long: `DISK is a device, such as /dev/ubdb, or who the disk is, such as serial-N1-b or
wwn-0x33333330000007d0: lab disk list tells.

Disks called /dev/ubd lie in files and keep what is on them over reboots. Those
called /dev/sd (lab up --scsi-disks) lie in the node's memory and are blank after
every boot, but can be torn out, fail and grow while somebody uses them.`,
	}
	list := &cobra.Command{
		Use:   "list NODE",
		Short: "List the disks that are plugged in: device, size and who it is",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return listDisks(cmd.Context(), *dir, args[0]) },
	}
	cmd.AddCommand(list)
	for _, order := range diskOrders {
		cmd.AddCommand(&cobra.Command{
			Use: order.use, Short: order.short, Args: cobra.ExactArgs(order.args),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := cluster.Open(*dir)
				if err != nil {
					return err
				}
				said, err := order.give(cmd.Context(), c, args)
				if err == nil && said != "" {
					fmt.Println(said)
				}
				return err
			},
		})
	}
	return cmd
}

func listDisks(ctx context.Context, dir, node string) error {
	c, err := cluster.Open(dir)
	if err != nil {
		return err
	}
	disks, err := c.ListDisks(ctx, node)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, d := range disks {
		fmt.Fprintf(table, "%s\t%s\t%s\n", d.Device, d.Size, d.ID)
	}
	return table.Flush()
}
