package guest

import (
	"bufio"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long processes have to end by themselves, and how often that
// is looked at.
const patience, glance = 5 * time.Second, 50 * time.Millisecond

// PowerOff ends all processes, unmounts what can be unmounted and switches the
// machine off. Only process 1 may call it.
func PowerOff() error {
	_ = unix.Kill(-1, unix.SIGTERM) // fails when nobody is left
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && others(); {
		time.Sleep(glance)
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	for others() {
		time.Sleep(glance)
	}
	unmountAll()
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// others collects ended processes and tells whether any are left.
func others() bool {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return false
		}
		if pid == 0 {
			return true
		}
	}
}

// unmountAll unmounts file systems on disks, the last mounted first. The root
// cannot be unmounted; it is made read only instead, so that all is written.
func unmountAll() {
	for _, target := range slices.Backward(diskMounts()) {
		if unix.Unmount(target, 0) != nil {
			_ = unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
}

func diskMounts() []string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil
	}
	defer f.Close()
	var targets []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && strings.HasPrefix(fields[0], "/dev/") {
			targets = append(targets, fields[1])
		}
	}
	return targets
}
