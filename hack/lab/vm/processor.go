package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// share is how many machines a processor is lent to before nobody counts any more.
const share = 16

// A processor is lent to one machine. A User-Mode Linux kernel has one thread of
// control, which goes to and fro between it and the processes it traces: on
// different processors each step wakes an idle one, and a system call costs four
// times as much as on one.
type processor struct {
	number int      // less than 0: whichever there is
	claim  *os.File // locked as long as anybody has it open; nil when nobody counts
}

// lend returns the processor that the fewest machines of this host have.
func lend() (processor, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return processor{}, fmt.Errorf("asking for the processors of this process: %w", err)
	}
	for n := range share {
		for number, seen := 0, 0; seen < allowed.Count(); number++ {
			if !allowed.IsSet(number) {
				continue
			}
			seen++
			claim, err := claim(fmt.Sprintf("open-local-lab-cpu%d.%d", number, n))
			if err == nil {
				return processor{number, claim}, nil
			}
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return processor{}, fmt.Errorf("claiming processor %d: %w", number, err)
			}
		}
	}
	return processor{number: -1}, nil
}

// claim locks a file of temporary files until all who have it open have closed it.
func claim(name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// on runs start, whose new processes have the processor for their own and their
// children's.
func (p processor) on(start func() error) error {
	if p.number < 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, lent unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("asking for the processors of this thread: %w", err)
	}
	lent.Set(p.number)
	if err := unix.SchedSetaffinity(0, &lent); err != nil {
		return fmt.Errorf("choosing processor %d: %w", p.number, err)
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &before))
}

// close gives the processor back, as far as this process is concerned.
func (p processor) close() {
	if p.claim != nil {
		_ = p.claim.Close()
	}
}
