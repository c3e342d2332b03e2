package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/build"
)

func buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "build [PROGRAM...]",
		Short: "Build the programs of a cluster, all by default, and print where they are",
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 0 {
				names = build.Names()
			}
			cache, err := build.Open(os.Stderr)
			if err != nil {
				return err
			}
			files, err := cache.Get(cmd.Context(), names...)
			if err != nil {
				return err
			}
			slices.Sort(names)
			for _, name := range names {
				fmt.Println(files[name])
			}
			return nil
		},
	}
}
