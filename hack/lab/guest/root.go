package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// labDir holds what only the lab needs in a machine.
	labDir = "/run/lab"
	// DataDir is where the machine's data disk is mounted.
	DataDir = labDir + "/data"
)

// ownDirs are directories that start empty in a machine, whatever the host has
// there, and are kept on its data disk. The layer above the host's files would
// not do for all: kubelet and containers want a plain file system.
var ownDirs = []string{
	"/etc/cni", "/etc/lvm/archive", "/etc/lvm/backup", "/mnt",
	"/var/lib/containerd", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods",
}

type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mountPoint) mount() error {
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mounting %s (%s) on %s: %w", m.source, m.fstype, m.target, err)
	}
	return nil
}

// makeRoot builds the machine's root and moves into it: the host's files, read
// only, below a layer that takes every write. So whatever a test or a pod does
// to /etc/lvm or /var, the host and the other machines never see it.
func makeRoot(cfg Config, modules *loader) error {
	early := []mountPoint{
		{"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
	}
	for _, m := range early {
		if err := m.mount(); err != nil {
			return err
		}
	}
	if err := loadAll(cfg, modules); err != nil {
		return err
	}
	root := labDir + "/root"
	if err := mountLayers(cfg.DataDisk, root); err != nil {
		return err
	}
	if err := fillRoot(cfg, root); err != nil {
		return err
	}
	return enter(root)
}

func loadAll(cfg Config, modules *loader) error {
	names := baseModules
	if cfg.Node != nil {
		names = slices.Concat(names, nodeModules)
	}
	for _, name := range names {
		if err := modules.load(name, ""); err != nil {
			return err
		}
	}
	if cfg.SCSI == 0 {
		return nil
	}
	if err := modules.load("sd_mod", ""); err != nil {
		return err
	}
	return modules.load("scsi_debug", fmt.Sprintf("add_host=%d dev_size_mb=%d per_host_store=1 delay=0 lbpu=1", cfg.SCSI, cfg.SCSISizeMB))
}

// mountLayers mounts the machine's root file system on root.
func mountLayers(dataDisk, root string) error {
	if err := os.MkdirAll(DataDir, 0o755); err != nil {
		return fmt.Errorf("making the directory for the machine's data: %w", err)
	}
	data := mountPoint{"tmpfs", DataDir, "tmpfs", 0, "mode=755"}
	if dataDisk != "" {
		data = mountPoint{dataDisk, DataDir, "ext4", unix.MS_NOATIME, ""}
	}
	if err := data.mount(); err != nil {
		return err
	}
	upper, work := DataDir+"/root/upper", DataDir+"/root/work"
	for _, dir := range []string{upper, work, root} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the layers of the root file system: %w", err)
		}
	}
	return mountPoint{"root", root, "overlay", 0, "lowerdir=/,upperdir=" + upper + ",workdir=" + work}.mount()
}

// fillRoot mounts below root what every Linux has.
func fillRoot(cfg Config, root string) error {
	mounts := []mountPoint{
		{"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""},
		{"devtmpfs", "/dev", "devtmpfs", 0, ""},
		{"devpts", "/dev/pts", "devpts", 0, "ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", 0, ""},
	}
	for _, dir := range ownDirs {
		own := DataDir + "/own" + dir
		if err := os.MkdirAll(own, 0o755); err != nil {
			return fmt.Errorf("making the machine's own %s: %w", dir, err)
		}
		mounts = append(mounts, mountPoint{own, dir, "", unix.MS_BIND, ""})
	}
	for _, share := range cfg.Shares {
		flags := uintptr(unix.MS_RDONLY)
		if share.Writable {
			flags = 0
		}
		mounts = append(mounts, mountPoint{"hostfs", share.Path, "hostfs", flags, share.Path})
	}
	// modprobe, also when the kernel calls it, looks here.
	mounts = append(mounts, mountPoint{"hostfs", "/lib/modules", "hostfs", unix.MS_RDONLY, cfg.Modules})
	for _, m := range mounts {
		m.target = filepath.Join(root, m.target)
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("making a mount point: %w", err)
		}
		if err := m.mount(); err != nil {
			return err
		}
	}
	if err := removeTerminals(filepath.Join(root, "/dev")); err != nil {
		return err
	}
	// The data disk stays reachable at the same place.
	data := filepath.Join(root, DataDir)
	if err := os.MkdirAll(data, 0o755); err != nil {
		return fmt.Errorf("making a mount point: %w", err)
	}
	return mountPoint{DataDir, data, "", unix.MS_BIND, ""}.mount()
}

// removeTerminals removes the device files of terminals that nobody opens: the kernel
// makes 600 of them, and LVM looks at each file in /dev every time it runs, which took a
// sixth of its time.
func removeTerminals(dev string) error {
	for _, pattern := range []string{"tty[0-9]*", "tty[a-z][0-9a-f]", "pty[a-z][0-9a-f]", "ttyS[0-9]*"} {
		found, err := filepath.Glob(filepath.Join(dev, pattern))
		if err != nil {
			return fmt.Errorf("looking for the device files of terminals: %w", err)
		}
		for _, file := range found {
			if filepath.Base(file) == filepath.Base(line) {
				continue
			}
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("removing the device file of a terminal: %w", err)
			}
		}
	}
	return nil
}

// enter makes root the root of everything, as switch_root does.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	// Kubernetes needs mounts made in a container to appear on the node.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("sharing the root: %w", err)
	}
	return os.Chdir("/")
}

// findSCSI returns the disks that scsi_debug made.
func findSCSI() []string {
	found, _ := filepath.Glob("/sys/block/sd*") // the pattern is good
	for i, path := range found {
		found[i] = "/dev/" + filepath.Base(path)
	}
	return found
}

// activateGroups does what a Debian host does at boot: it makes the volumes of
// every complete group usable.
func activateGroups() error {
	cmd := exec.Command("/sbin/vgchange", "--activate", "ay", "--sysinit")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DM_DISABLE_UDEV=1"}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("activating volume groups: the host has no lvm2")
	}
	if err != nil {
		return fmt.Errorf("activating volume groups: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
