// Package kernel finds the User-Mode Linux kernel that machines run, and fetches a
// newer one than the host's release of Debian has: from Linux 6.16 on a machine need
// not trace its processes (seccomp=), and a lab does the same work with half of the
// processor time. It does not start machines.
package kernel

import (
	"fmt"
	"os"
	"path/filepath"
)

// Variable chooses the kernel: "installed" is that of the host's own package.
const Variable = "LAB_KERNEL"

// A Kernel is a User-Mode Linux kernel on this host.
type Kernel struct {
	Binary  string
	Modules string // the directory with its modules, below its release
	// Args are kernel parameters that it can do with.
	Args []string
}

// installed is the kernel of the Debian package user-mode-linux.
var installed = Kernel{Binary: "/usr/bin/linux.uml", Modules: "/usr/lib/uml/modules"}

// Find returns the kernel that was fetched, or else the installed one.
func Find() (Kernel, error) {
	if os.Getenv(Variable) == "installed" {
		return installed, nil
	}
	dir, err := directory()
	if err != nil {
		return Kernel{}, err
	}
	if fetched := in(dir); there(fetched.Binary) {
		return fetched, nil
	}
	return installed, nil
}

// in returns the kernel that is, or will be, in a directory.
func in(dir string) Kernel {
	return Kernel{
		Binary:  filepath.Join(dir, "linux.uml"), // package pulse knows a kernel by this name
		Modules: filepath.Join(dir, "uml", "usr", "lib", "uml", "modules"),
		Args:    []string{"seccomp=auto"}, // it traces where the host lets it do nothing else
	}
}

// directory returns where the fetched kernel is kept for all labs of this user.
func directory() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a directory for the kernel: %w", err)
	}
	return filepath.Join(dir, "open-local", "lab", "kernel-"+release), nil
}

func there(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
