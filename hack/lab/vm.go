package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/kernel"
	"github.com/open-local/open-local/hack/lab/machine"
	"github.com/open-local/open-local/hack/lab/vm"
)

// The exit codes of lab vm when there is none of the command, as timeout(1) and
// docker-run(1) have them.
const (
	codeTimeout = 124
	codeCrash   = 125
)

type vmFlags struct {
	disks, memory, scsiSize string
	scsi                    int
	keep                    string
	shares                  []string
	timeout                 time.Duration
	stdin                   bool
}

func vmCommand() *cobra.Command {
	var f vmFlags
	cmd := &cobra.Command{
		Use:   "vm [--disks 2x1G] -- COMMAND [ARGS...]",
		Short: "Run a command as root in a machine of its own with blank disks",
		Long: `Boots a Linux kernel with device-mapper on the host's own root file system and
runs COMMAND in it as root, in the present directory and with the present
environment. LAB_DISKS lists the blank disks, LAB_SCSI_DISKS those that have an
identity, and LAB=vm tells that this is such a machine.

The command sees the host's files and may write, and delete, anywhere: only what
it does below a --share reaches the host, the rest is gone with the machine.
The exit code is the command's; 124 after --timeout, 125 when the machine
crashed.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, argv []string) error { return f.run(cmd, argv) },
	}
	cmd.Flags().StringVar(&f.disks, "disks", "2x1G", "blank disks, as COUNTxSIZE,...")
	cmd.Flags().StringVar(&f.memory, "mem", "1G", "memory of the machine; the host gives only what is touched")
	cmd.Flags().IntVar(&f.scsi, "scsi-debug", 0, "SCSI disks with an identity, in memory")
	cmd.Flags().StringVar(&f.scsiSize, "scsi-size", "64M", "size of each SCSI disk")
	cmd.Flags().StringVar(&f.keep, "keep", "", "directory in which to keep disks and console; used again when it exists")
	cmd.Flags().StringArrayVar(&f.shares, "share", nil, "directory of the host that the command may write on")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "stop the machine after this time (0: never)")
	cmd.Flags().BoolVarP(&f.stdin, "stdin", "i", false, "pass standard input on to the command")
	return cmd
}

func (f vmFlags) run(cmd *cobra.Command, argv []string) error {
	options, err := f.options()
	if err != nil {
		return err
	}
	if err := machine.Prepare(cmd.Context(), machine.VM, nil, os.Stderr); err != nil {
		return err
	}
	kernel.Fetch(cmd.Context(), os.Stderr)
	code, err := vm.Run(cmd.Context(), argv, options)
	var crash *vm.CrashError
	switch {
	case errors.Is(err, vm.ErrTimeout):
		code = codeTimeout
	case errors.As(err, &crash):
		code = codeCrash
	case err != nil && code == 0:
		return err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

func (f vmFlags) options() (vm.Options, error) {
	disks, err := disk.Parse(f.disks)
	if err != nil {
		return vm.Options{}, err
	}
	memory, err := disk.ParseBytes(f.memory)
	if err != nil {
		return vm.Options{}, fmt.Errorf("--mem: %w", err)
	}
	scsiSize, err := disk.ParseBytes(f.scsiSize)
	if err != nil {
		return vm.Options{}, fmt.Errorf("--scsi-size: %w", err)
	}
	options := vm.Options{
		Disks: disks, Memory: memory, SCSI: f.scsi, SCSISize: scsiSize, Timeout: f.timeout,
		Keep: f.keep, Shares: f.shares, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if f.stdin {
		options.Stdin = os.Stdin
	}
	return options, nil
}
