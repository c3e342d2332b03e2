// Package vm starts machines: User-Mode Linux kernels, which are ordinary
// processes, booted on the host's own root file system. What a machine does
// inside is the matter of package guest.
package vm

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/open-local/open-local/hack/lab/disk"
	"github.com/open-local/open-local/hack/lab/guest"
	"github.com/open-local/open-local/hack/lab/kernel"
)

// A Kernel is one machine before it is started.
type Kernel struct {
	Name   string // also its name for uml_mconsole
	Dir    string // where its configuration and control socket go; short, for a socket's path is
	Log    string // the file with what the kernel and the machine's init say; empty: console.log in Dir
	Init   string // the built program guest/init
	Memory disk.Bytes
	Config guest.Config
	// Data is the file behind the machine's own disk, or empty.
	Data string
	// Disks are /dev/ubdb and so on. One without a file is a place where none is plugged in.
	Disks []Disk
	// Tap is the network interface of the host that is the machine's card.
	Tap string
	// Serial are the two ends of the serial line, or nil.
	SerialIn, SerialOut *os.File
}

// A Disk is a file that a machine has for a disk.
type Disk struct {
	File string
	// Serial is who the disk is, wherever it is plugged in: /sys/block/ubdX/serial.
	Serial string
}

// Serial is the serial number of the disk with which a machine begins as its number i,
// counting from 1; 0 is its own.
func Serial(machine string, i int) string { return strings.ToUpper(machine) + "-" + letter(i) }

// Start writes the machine's configuration and starts its kernel. adjust may
// change the command before, or be nil.
func (k Kernel) Start(adjust func(*exec.Cmd)) (*exec.Cmd, error) {
	if err := os.MkdirAll(k.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of machine %s: %w", k.Name, err)
	}
	uml, err := kernel.Find()
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", k.Name, err)
	}
	k.Config.Modules = uml.Modules
	config := filepath.Join(k.Dir, "config.json")
	if err := k.Config.Write(config); err != nil {
		return nil, fmt.Errorf("machine %s: %w", k.Name, err)
	}
	console, err := os.OpenFile(k.Console(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the console of machine %s: %w", k.Name, err)
	}
	defer console.Close() // the kernel has its own copy
	cmd := exec.Command(uml.Binary, slices.Concat(k.arguments(config), uml.Args)...)
	cmd.Stdout, cmd.Stderr = console, console
	if k.SerialIn != nil {
		cmd.ExtraFiles = []*os.File{k.SerialIn, k.SerialOut} // descriptors 3 and 4
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if adjust != nil {
		adjust(cmd)
	}
	processor, err := lend()
	if err != nil {
		return nil, fmt.Errorf("starting machine %s: %w", k.Name, err)
	}
	defer processor.close()
	if processor.claim != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, processor.claim) // its own until it ends
	}
	if err := processor.on(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting machine %s: %w", k.Name, err)
	}
	return cmd, nil
}

// Console is the file with what the kernel and the machine's init said.
func (k Kernel) Console() string { return cmp.Or(k.Log, filepath.Join(k.Dir, "console.log")) }

func (k Kernel) arguments(config string) []string {
	args := []string{
		"mem=" + strconv.FormatInt(int64(k.Memory), 10),
		"rootfstype=hostfs", "rootflags=/", "ro", // the root is never written: see guest
		"init=" + k.Init, guest.ConfigVariable + "=" + config,
		"con=null", "con0=null,fd:1", "ssl=null", "quiet",
		"umid=" + k.Name, "uml_dir=" + k.Dir,
	}
	if k.SerialIn != nil {
		args = append(args, "ssl0=fd:3,fd:4")
	}
	if k.Tap != "" {
		args = append(args, "vec0:transport=tap,ifname="+k.Tap+",depth=128,gro=1")
	}
	if k.Data != "" {
		args = append(args, Disk{k.Data, Serial(k.Name, 0)}.argument(0))
	}
	for i, d := range k.Disks {
		if d.File != "" {
			args = append(args, d.argument(i+1))
		}
	}
	return args
}

// argument is how the kernel is told of its disk number i, counting from 1; 0 is its own.
// The t has the disk refuse to discard: it takes 32 KiB at a time, and a mkfs of 5 GiB
// then takes ten seconds and not a seventh of one. Zeros are written instead.
func (d Disk) argument(i int) string {
	return fmt.Sprintf("ubd%st=%s,,%s", letter(i), d.File, d.Serial)
}

func letter(i int) string { return string(rune('a' + i)) }
