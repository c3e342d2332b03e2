package vm

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/hack/lab/guest"
)

func TestWhatAMachineSeesOfTheHost(t *testing.T) {
	tests := map[string]struct {
		cwd, program string
		writable     []string
		want         []guest.Share
		err          string
	}{
		"an ordinary directory needs no share":               {cwd: "/work", program: "sh"},
		"a directory that would be hidden is shared to read": {cwd: "/tmp/x", program: "sh", want: []guest.Share{{Path: "/tmp/x"}}},
		"so is that of a program":                            {cwd: "/work", program: "/tmp/y/a.test", want: []guest.Share{{Path: "/tmp/y"}}},
		"a directory to write on is shared so":               {cwd: "/work", program: "sh", writable: []string{"/work/out"}, want: []guest.Share{{Path: "/work/out", Writable: true}}},
		"the whole host is never shared to write on":         {cwd: "/work", program: "sh", writable: []string{"/"}, err: "could erase the host"},
		"nor by another name":                                {cwd: "/work", program: "sh", writable: []string{"/work/.."}, err: "could erase the host"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := visible(test.cwd, test.program, test.writable)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want an error with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("shares (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheKernelIsToldOfItsMachine(t *testing.T) {
	k := Kernel{
		Name: "n1", Dir: "/run/lab/n1", Init: "/lab/init", Memory: 1 << 30, Data: "/lab/n1-0.img",
		Disks: []Disk{{"/lab/n1-1.img", Serial("n1", 1)}, {}, {"/lab/n1-2.img", "N1-c"}}, Tap: "tap1",
	}
	want := []string{
		"mem=1073741824", "rootfstype=hostfs", "rootflags=/", "ro", "init=/lab/init", "LAB_CONFIG=/c.json",
		"con=null", "con0=null,fd:1", "ssl=null", "quiet", "umid=n1", "uml_dir=/run/lab/n1",
		"vec0:transport=tap,ifname=tap1,depth=128,gro=1",
		"ubdat=/lab/n1-0.img,,N1-a", "ubdbt=/lab/n1-1.img,,N1-b", "ubddt=/lab/n1-2.img,,N1-c",
	}
	if diff := cmp.Diff(want, k.arguments("/c.json")); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
}

func TestAnOrderToTheKernel(t *testing.T) {
	request, err := consoleRequest("remove ubdd")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(request[12:23]); got != "remove ubdd" || len(request) != 524 || binary.NativeEndian.Uint32(request[8:]) != 11 {
		t.Errorf("request of %d bytes with %q", len(request), got)
	}
	if _, err := consoleRequest(strings.Repeat("x", consoleData)); err == nil {
		t.Error("an order that does not fit was taken")
	}
}

func TestTheKernelsAnswer(t *testing.T) {
	answer := func(failed, more, length uint32, text string) []byte {
		out := binary.NativeEndian.AppendUint32(nil, failed)
		out = binary.NativeEndian.AppendUint32(out, more)
		out = binary.NativeEndian.AppendUint32(out, length)
		return append(out, text...)
	}
	tests := map[string]struct {
		datagram []byte
		more     bool
		text     string
		err      string
	}{
		"a good one":            {datagram: answer(0, 0, 3, "OK\x00"), text: "OK"},
		"one that goes on":      {datagram: answer(0, 1, 2, "ab"), text: "ab", more: true},
		"a refusal is an error": {datagram: answer(1, 0, 4, "busy"), text: "busy", err: "busy"},
		"half of one":           {datagram: []byte("short"), err: "too short"},
		"one that lies":         {datagram: answer(0, 0, 99, "x"), err: "99 bytes of text, but has 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			more, text, err := consoleAnswer(test.datagram)
			if more != test.more || text != test.text {
				t.Errorf("got %q and more %t, want %q and %t", text, more, test.text, test.more)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, want an error with %q", err, test.err)
			}
		})
	}
}
