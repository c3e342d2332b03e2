package main

import (
	"context"

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
