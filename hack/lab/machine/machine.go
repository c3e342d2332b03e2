// Package machine checks that the host can carry a lab, and installs what is
// missing where it can. It does not start anything.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Package is one Debian package and the file by which it is recognised. So a
// host of another kind passes when it has the file from somewhere else.
type Package struct {
	Name, File string
}

// VM is what a single machine needs, its volumes included.
var VM = []Package{
	{"user-mode-linux", "/usr/bin/linux.uml"},
	{"patchelf", "/usr/bin/patchelf"},
	{"kmod", "/sbin/modprobe"},
	{"lvm2", "/sbin/lvm"},
	{"e2fsprogs", "/sbin/mkfs.ext4"},
	{"xfsprogs", "/sbin/mkfs.xfs"},
	{"btrfs-progs", "/sbin/mkfs.btrfs"},
}

// Cluster is what a lab needs besides VM.
var Cluster = []Package{
	{"crun", "/usr/bin/crun"},
	{"containernetworking-plugins", "/usr/lib/cni/ptp"},
	{"busybox-static", "/bin/busybox"},
}

// Tun is the device from which virtual network cards are made.
const Tun = "/dev/net/tun"

// host is the part of the system that the check looks at; a test replaces it.
type host struct {
	uid     int
	exists  func(path string) bool
	lock    func() (unlock func(), err error) // waits until nobody else installs
	install func(ctx context.Context, packages []string, progress io.Writer) error
}

// Prepare makes sure of root, the packages and the device files, and tells on
// progress when it installs packages.
func Prepare(ctx context.Context, packages []Package, devices []string, progress io.Writer) error {
	this := host{
		uid:     os.Geteuid(),
		exists:  func(path string) bool { _, err := os.Stat(path); return err == nil },
		install: install,
		lock:    lock,
	}
	return this.prepare(ctx, packages, devices, progress)
}

func (h host) prepare(ctx context.Context, packages []Package, devices []string, progress io.Writer) error {
	if h.uid != 0 {
		return errors.New("this user is not root: the lab makes namespaces, network cards and volume groups; run it with sudo or as root in a container")
	}
	if len(h.missing(packages)) > 0 {
		// Labs and machines that begin at one time want the same packages, and the lists of
		// apt-get have a lock for which it does not wait.
		unlock, err := h.lock()
		if err != nil {
			return err
		}
		defer unlock()
	}
	if missing := h.missing(packages); len(missing) > 0 {
		if err := h.get(ctx, missing, progress); err != nil {
			return err
		}
	}
	for _, device := range devices {
		if !h.exists(device) {
			return fmt.Errorf("device %s is missing: nodes get their network from it; load the module tun, or pass the device into the container", device)
		}
	}
	return nil
}

func (h host) missing(packages []Package) []string {
	var names []string
	for _, p := range packages {
		if !h.exists(p.File) {
			names = append(names, p.Name)
		}
	}
	return names
}

func (h host) get(ctx context.Context, names []string, progress io.Writer) error {
	list := strings.Join(names, " ")
	if !h.exists("/usr/bin/apt-get") {
		return fmt.Errorf("programs of the Debian packages %s are missing, and this system has no apt-get: install their equivalents, or use a Debian 12 machine or container", list)
	}
	fmt.Fprintf(progress, "installing Debian packages: %s\n", list)
	if err := h.install(ctx, names, progress); err != nil {
		return fmt.Errorf("installing the Debian packages %s: %w", list, err)
	}
	return nil
}

// lock waits until no other lab of this host installs packages.
func lock() (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(os.TempDir(), "open-local-lab-packages.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("waiting for others to install packages: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("waiting for others to install packages: %w", err)
	}
	return func() { file.Close() }, nil
}

// install fetches the lists first only if it must: on a machine that has them
// that is half of the time.
func install(ctx context.Context, names []string, _ io.Writer) error {
	args := append([]string{"-o", "DPkg::Lock::Timeout=300", "install", "-qy", "--no-install-recommends"}, names...)
	if apt(ctx, args...) == nil {
		return nil
	}
	if err := apt(ctx, "-o", "DPkg::Lock::Timeout=300", "update", "-q"); err != nil {
		return err
	}
	return apt(ctx, args...)
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "/usr/bin/apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
	return nil
}
