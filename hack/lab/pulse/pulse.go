// Package pulse keeps User-Mode Linux kernels going. It knows one of their faults:
// on a busy host the timer of a kernel can be lost. The kernel then never takes the
// processor from the process it happens to run, and the machine stands still for
// ever. One alarm signal from outside is taken for a tick, and all goes on.
package pulse

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// every is how long a machine stands still at most.
const every = 2 * time.Second

// alarms is the bit of SIGALRM in a signal set.
const alarms = 1 << (syscall.SIGALRM - 1)

// Keep gives ticks to the kernel with that process ID, or to the one that is a child of
// the process, until ended is closed.
func Keep(pid int, ended <-chan struct{}) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
			for _, kernel := range kernels(pid) {
				give(kernel)
			}
		}
	}
}

// kernels returns the process if it is a kernel, and otherwise those of its children
// that are. A kernel's own children have its name, and a tick in one of them would
// bring the kernel down.
func kernels(pid int) []int {
	if isKernel(pid) {
		return []int{pid}
	}
	return slices.DeleteFunc(children(pid), func(child int) bool { return !isKernel(child) })
}

// isKernel reports whether a process is User-Mode Linux.
func isKernel(pid int) bool {
	name, err := os.ReadFile(file(pid, "comm"))
	return err == nil && strings.TrimSpace(string(name)) == "linux.uml"
}

// children returns the processes that the process has started, in any of its threads.
func children(pid int) []int {
	lists, err := filepath.Glob(file(pid, "task", "*", "children"))
	if err != nil {
		return nil // the pattern is well formed
	}
	var pids []int
	for _, list := range lists {
		words, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(words)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func file(pid int, elem ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, elem...)...)
}

// give sends one tick to a process that catches them. Any other would be ended by it,
// and a kernel catches them only some time after its start.
func give(pid int) bool {
	return catches(file(pid, "status")) && syscall.Kill(pid, syscall.SIGALRM) == nil
}

// catches reads whether a process has a handler of its own for the signal.
func catches(status string) bool {
	file, err := os.Open(status)
	if err != nil {
		return false
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if set, ok := strings.CutPrefix(lines.Text(), "SigCgt:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return err == nil && bits&alarms != 0
		}
	}
	return false
}
