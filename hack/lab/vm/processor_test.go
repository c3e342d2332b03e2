package vm

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMachinesAreSpreadOverProcessors(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	count := map[int]int{}
	var first processor
	for i := range 2 * allowed.Count() {
		p, err := lend()
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		if i == 0 {
			first = p
		}
		count[p.number]++
	}
	for number, n := range count {
		if n != 2 {
			t.Errorf("processor %d was lent to %d of %d machines, want 2", number, n, 2*allowed.Count())
		}
	}
	first.close()
	again, err := lend()
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if again.number != first.number {
		t.Errorf("processor %d was given back, and %d was lent next", first.number, again.number)
	}
}

func TestWhatIsStartedOnAProcessorStaysThere(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p, err := lend()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	said := func() string {
		out, err := exec.CommandContext(t.Context(), "grep", "Cpus_allowed_list", "/proc/self/status").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(strings.TrimPrefix(string(out), "Cpus_allowed_list:"))
	}
	before := said()
	var there string
	if err := p.on(func() error { there = said(); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := strconv.Itoa(p.number); there != want {
		t.Errorf("a process started on processor %s has %s", want, there)
	}
	if after := said(); after != before {
		t.Errorf("before %s, after %s: the thread did not get its processors back", before, after)
	}
}
