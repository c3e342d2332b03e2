package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Reap runs the program as a child and collects every process that is left to
// it, as process 1 of a machine or of a process namespace must. It returns when
// the child ended, with its exit code. It is apart from the child because
// collecting all would take the children of os/exec away from it.
func Reap(argv []string, files []*os.File) (int, error) {
	child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Files: files, Env: os.Environ()})
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for %s: %w", argv[0], err)
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == child.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// FilesVariable says how many descriptors the first process of a namespace hands
// on to its program.
const FilesVariable = "LAB_FILES"

// LifelineVariable names the descriptor whose end of input means that the owner
// of a process namespace is gone.
const LifelineVariable = "LAB_LIFELINE"

// Await ends this process, and with process 1 its whole namespace, when the
// lifeline does.
func Await(lifeline *os.File) {
	_, _ = io.Copy(io.Discard, lifeline) // an error ends it just as well
	os.Exit(1)
}
