package pulse

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestCatches(t *testing.T) {
	for name, tc := range map[string]struct {
		status string
		want   bool
	}{
		"a kernel that runs":         {"Name:\tlinux\nSigIgn:\t0000000000000001\nSigCgt:\t00000000180066da\n", true},
		"a kernel that only started": {"SigCgt:\t0000000000000000\n", false},
		"others are caught":          {"SigCgt:\t0000000000004002\n", false},
		"nonsense":                   {"SigCgt:\tzz\n", false},
		"nothing said":               {"Name:\tlinux\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "status")
			if err := os.WriteFile(file, []byte(tc.status), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := catches(file); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAProcessThatCatchesTicksGetsThem(t *testing.T) {
	ticks := make(chan os.Signal, 1)
	signal.Notify(ticks, syscall.SIGALRM)
	defer signal.Stop(ticks)
	if !give(os.Getpid()) {
		t.Fatal("no tick was given")
	}
	select {
	case <-ticks:
	case <-time.After(10 * time.Second):
		t.Error("the tick did not come")
	}
}

func TestAProcessThatDoesNotCatchTicksIsLeftAlone(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	if give(child.Process.Pid) {
		t.Error("a tick was given to a process that it ends")
	}
	if got := children(os.Getpid()); !slices.Contains(got, child.Process.Pid) {
		t.Errorf("the children are %v, want %d among them", got, child.Process.Pid)
	}
	if isKernel(child.Process.Pid) {
		t.Error("sleep is taken for a kernel")
	}
	if give(1 << 30) {
		t.Error("a tick was given to a process that is not there")
	}
}
