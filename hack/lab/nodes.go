package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/cluster"
)

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
