// Command init is process 1 of a machine of the lab, and of the process
// namespaces on the host in which machines run. In a machine the kernel's
// command line names the file with the configuration; in a namespace the
// arguments are the program to run.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/open-local/open-local/hack/lab/guest"
)

func main() {
	switch {
	case len(os.Args) > 1:
		os.Exit(contain(os.Args[1:]))
	case os.Getpid() == 1:
		// Whatever happened has been said by the child; there is no way on.
		_, err := guest.Reap([]string{os.Args[0]}, []*os.File{os.Stdin, os.Stdout, os.Stderr})
		report(err)
		report(guest.PowerOff())
	default:
		if err := boot(); err != nil {
			report(err)
			os.Exit(1)
		}
	}
}

// contain runs a program in the namespace of which this is the first process.
func contain(argv []string) int {
	inherited, err := strconv.Atoi(os.Getenv(guest.FilesVariable))
	if err != nil {
		inherited = 3
	}
	if fd, err := strconv.Atoi(os.Getenv(guest.LifelineVariable)); err == nil {
		go guest.Await(os.NewFile(uintptr(fd), "lifeline"))
	}
	var files []*os.File
	for fd := range inherited {
		files = append(files, os.NewFile(uintptr(fd), "inherited"))
	}
	code, err := guest.Reap(argv, files)
	if err != nil {
		report(err)
		return 126
	}
	return code
}

func boot() error {
	// The kernel passes what it does not know as environment.
	cfg, err := guest.ReadConfig(os.Getenv(guest.ConfigVariable))
	if err != nil {
		return err
	}
	return guest.Boot(cfg)
}

func report(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab machine:", err)
	}
}
