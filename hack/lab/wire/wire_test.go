package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesArriveAsTheyWereSent(t *testing.T) {
	var line bytes.Buffer
	sender := New(nil, &line)
	long := bytes.Repeat([]byte("x"), maxPayload+1)
	for _, frame := range []struct {
		kind    Kind
		payload []byte
	}{{Start, nil}, {Stdout, []byte("out")}, {Stderr, long}} {
		if err := sender.Write(frame.kind, frame.payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := sender.WriteJSON(Exit, Result{Code: 3}); err != nil {
		t.Fatal(err)
	}

	receiver := New(&line, nil)
	if err := receiver.AwaitReady(); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	result, err := receiver.Receive(&stdout, &stderr)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Result{Code: 3}, result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if stdout.String() != "out" || !bytes.Equal(stderr.Bytes(), long) {
		t.Errorf("got %d and %d bytes of output", stdout.Len(), stderr.Len())
	}
}

func TestReceiveFails(t *testing.T) {
	tests := map[string]struct {
		line string
		lost bool
		want string
	}{
		"when the line ends at once":       {line: "", lost: true},
		"when the line ends in a frame":    {line: "\x01\x00\x00\x00\x09abc", lost: true},
		"when the line carries other text": {line: "Kernel panic - not syncing", lost: true, want: "not our protocol"},
		"when a frame is a request":        {line: "\x06\x00\x00\x00\x00", want: "not part of an answer"},
		"when the result is not JSON":      {line: "\x03\x00\x00\x00\x01x", want: "decoding"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(strings.NewReader(test.line), nil).Receive(io.Discard, io.Discard)
			if err == nil || errors.Is(err, ErrLost) != test.lost || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q and lost %t", err, test.want, test.lost)
			}
		})
	}
}

// dialogue runs a command as both sides see it.
func dialogue(t *testing.T, command Command, stdin string) (Result, string, string) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	go func() {
		server := New(far, far)
		request, err := server.Request()
		if err != nil {
			return
		}
		_ = server.WriteJSON(Exit, Run(context.Background(), server, request))
	}()
	client := New(near, near)
	if err := client.WriteJSON(Start, command); err != nil {
		t.Fatal(err)
	}
	go func() { _ = client.SendInput(strings.NewReader(stdin)) }()
	var stdout, stderr bytes.Buffer
	result, err := client.Receive(&stdout, &stderr)
	if err != nil {
		t.Fatal(err)
	}
	return result, stdout.String(), stderr.String()
}

func TestACommandRuns(t *testing.T) {
	tests := map[string]struct {
		command        Command
		stdin          string
		want           Result
		stdout, stderr string
	}{
		"its outputs stay apart":                         {command: shell("echo out; echo err >&2"), stdout: "out\n", stderr: "err\n"},
		"its exit code arrives":                          {command: shell("exit 7"), want: Result{Code: 7}},
		"its end by a signal arrives":                    {command: shell("kill -9 $$"), want: Result{Code: 137}},
		"its input arrives and ends":                     {command: Command{Argv: []string{"cat"}}, stdin: "in", stdout: "in"},
		"input longer than any buffer arrives":           {command: shell("cat; echo; cat /dev/null >&2"), stdin: strings.Repeat("long", 1<<17), stdout: strings.Repeat("long", 1<<17) + "\n"},
		"input that it does not read is no trouble":      {command: shell("exec <&-; echo done"), stdin: strings.Repeat("long", 1<<17), stdout: "done\n"},
		"its environment arrives":                        {command: Command{Argv: []string{"sh", "-c", "echo $A"}, Env: []string{"A=b", "PATH=/bin:/usr/bin"}}, stdout: "b\n"},
		"its directory arrives":                          {command: Command{Argv: []string{"pwd"}, Dir: "/"}, stdout: "/\n"},
		"a child that it leaves behind does not hold it": {command: shell("sleep 60 & echo done"), stdout: "done\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			result, stdout, stderr := dialogue(t, test.command, test.stdin)
			got := []any{result, stdout, stderr}
			if diff := cmp.Diff([]any{test.want, test.stdout, test.stderr}, got); diff != "" {
				t.Errorf("result, stdout, stderr (-want +got):\n%s", diff)
			}
		})
	}
}

func TestACommandThatCannotRunSaysWhy(t *testing.T) {
	for name, test := range map[string]struct {
		command Command
		code    int
		want    string
	}{
		"no such program":   {Command{Argv: []string{"/no/such"}}, 127, "no such file"},
		"not on the path":   {Command{Argv: []string{"no-such-program"}}, 127, "not found"},
		"no command at all": {Command{}, 126, "no command"},
		"not a program":     {Command{Argv: []string{"/etc"}}, 126, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			result, _, _ := dialogue(t, test.command, "")
			if result.Code != test.code || !strings.Contains(result.Error, test.want) {
				t.Errorf("got %+v, want code %d and %q", result, test.code, test.want)
			}
		})
	}
}

func shell(script string) Command { return Command{Argv: []string{"sh", "-c", script}} }
