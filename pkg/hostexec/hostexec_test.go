package hostexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary play the programs that the tests run: a Runner
// passes no environment, so the part to play is an argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "play" {
		os.Exit(play(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func play(part string, args []string) int {
	switch part {
	case "echo":
		fmt.Println(strings.Join(args, " "))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "ask":
		n, err := os.Stdin.Read(make([]byte, 1))
		fmt.Printf("read %d, %v\n", n, err)
	case "fail":
		fmt.Print("half a report")
		fmt.Fprintln(os.Stderr, "  first line\n  second line")
		code, _ := strconv.Atoi(args[0])
		return code
	case "flood":
		n, _ := strconv.Atoi(args[0])
		fmt.Print(strings.Repeat("x", n))
	case "leave-a-daemon", "wait-with-a-child":
		child := exec.Command(os.Args[0], "play", "sleep")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			return 1
		}
		if err := os.WriteFile(args[0], []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
			return 1
		}
		if part == "wait-with-a-child" {
			_ = child.Wait()
		}
	case "sleep":
		select {}
	}
	return 0
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func TestOutputOfAProgramThatSucceeds(t *testing.T) {
	out, err := OnHost("/").Run(t.Context(), self(t), "play", "echo", "; rm -rf /", "$HOME")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("; rm -rf / $HOME\n", string(out)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestAFailedProgramIsAnExitErrorWithoutOutput(t *testing.T) {
	out, err := OnHost("/").Run(t.Context(), self(t), "play", "fail", "5")
	var exit *ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("got %v, want an *ExitError", err)
	}
	want := &ExitError{Name: self(t), Args: []string{"play", "fail", "5"}, Code: 5, Stderr: "  first line\n  second line\n"}
	if diff := cmp.Diff(want, exit); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if out != nil {
		t.Errorf("output %q came with an error", out)
	}
}

func TestExitErrorIsOneLine(t *testing.T) {
	for name, tc := range map[string]struct {
		err  ExitError
		want string
	}{
		"with a complaint": {
			ExitError{Name: "lvm", Args: []string{"vgextend", "share", "/dev/sdb"}, Code: 5, Stderr: "  no\n  room\n"},
			"lvm vgextend share /dev/sdb: exit 5: no room",
		},
		"without a complaint": {ExitError{Name: "true", Code: 1}, "true: exit 1"},
		"by a signal":         {ExitError{Name: "true", Code: -1}, "true: ended by a signal"},
		"with a very long command line": {
			ExitError{Name: "lvm", Args: []string{strings.Repeat("x", 1000)}, Code: 3},
			"lvm " + strings.Repeat("x", maxCommandLine-len("lvm ")) + "...: exit 3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.err.Error()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAProgramInheritsNothing(t *testing.T) {
	t.Setenv("LVM_SYSTEM_DIR", "/tmp/elsewhere")
	out, err := OnHost("/").Run(t.Context(), self(t), "play", "env")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		switch name, _, _ := strings.Cut(line, "="); name {
		case "PATH", "LC_ALL", "DM_DISABLE_UDEV":
		default:
			t.Errorf("the program inherited %q", line)
		}
	}
}

func TestUdevIsDisabledWhereNoneRuns(t *testing.T) {
	root := t.TempDir()
	contains := func() bool {
		return strings.Contains(strings.Join(environment(root), " "), "DM_DISABLE_UDEV=1")
	}
	if !contains() {
		t.Error("without udev LVM was not told so")
	}
	control := filepath.Join(root, "run/udev/control")
	if err := os.MkdirAll(filepath.Dir(control), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(control, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if contains() {
		t.Error("with udev running LVM was told there is none")
	}
}

func TestAQuestionIsAnsweredByEndOfFile(t *testing.T) {
	out, err := OnHost("/").Run(t.Context(), self(t), "play", "ask")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("read 0, EOF\n", string(out)); diff != "" {
		t.Errorf("what the program read (-want +got):\n%s", diff)
	}
}

func TestOutputIsBounded(t *testing.T) {
	const limit = 100 << 10 // more than a pipe holds
	out, err := onHost("/", limit).Run(t.Context(), self(t), "play", "flood", strconv.Itoa(limit))
	if err != nil || len(out) != limit {
		t.Errorf("at the limit: got %d bytes and error %v, want %d bytes", len(out), err, limit)
	}
	out, err = onHost("/", limit).Run(t.Context(), self(t), "play", "flood", strconv.Itoa(limit+1))
	if err == nil || out != nil {
		t.Errorf("above the limit: got %d bytes and error %v, want an error alone", len(out), err)
	}
}

func TestAMissingProgramIsSaidToBeMissing(t *testing.T) {
	_, err := OnHost("/").Run(t.Context(), "no-such-program-anywhere")
	if !errors.Is(err, ErrNotInstalled) {
		t.Errorf("got %v, want ErrNotInstalled", err)
	}
}

func TestADaemonLeftBehindDoesNotHoldUsUp(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	_, err := OnHost("/").Run(t.Context(), self(t), "play", "leave-a-daemon", pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(readPid(t, pidFile), syscall.SIGKILL); err != nil {
		t.Errorf("the daemon did not survive the program that started it: %v", err)
	}
}

func TestTheEndOfTheContextKillsTheWholeGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	done := make(chan error, 1)
	go func() {
		_, err := OnHost("/").Run(ctx, self(t), "play", "wait-with-a-child", pidFile)
		done <- err
	}()
	child := readPid(t, pidFile)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	eventually(t, "the child of the killed program to be gone", func() bool { return !alive(child) })
}

func TestNothingStartsAfterTheContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "pid")
	_, err := OnHost("/").Run(ctx, self(t), "play", "leave-a-daemon", file)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the program ran: %v", err)
	}
}

func TestCounterCountsLVMByCommand(t *testing.T) {
	counter := NewCounter(RunnerFunc(func(context.Context, string, ...string) ([]byte, error) { return nil, nil }))
	for _, command := range [][]string{{"lvm", "lvcreate", "-y"}, {"lvm", "lvcreate"}, {"lvm", "fullreport"}, {"mkfs.ext4", "-q"}, {"lvm"}} {
		if _, err := counter.Run(t.Context(), command[0], command[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]int{"lvm lvcreate": 2, "lvm fullreport": 1, "mkfs.ext4": 1, "lvm": 1}
	if diff := cmp.Diff(want, counter.Runs()); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	if counter.Total() != 5 {
		t.Errorf("total is %d, want 5", counter.Total())
	}
	counter.Reset()
	if counter.Total() != 0 {
		t.Errorf("total after Reset is %d", counter.Total())
	}
}

func readPid(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, "the program to say who its child is", func() bool {
		data, err := os.ReadFile(file)
		if err != nil || len(data) == 0 {
			return false
		}
		pid, err = strconv.Atoi(string(data))
		return err == nil
	})
	return pid
}

// alive reports whether pid runs; a zombie nobody has reaped yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// eventually waits for something another process does, which no clock of ours drives.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}
