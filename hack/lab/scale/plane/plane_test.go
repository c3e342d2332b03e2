package plane

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUsageIsRead(t *testing.T) {
	stat := "42 (a (strange) name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 200 18446744073709551615\n"
	status := "Name:\ta\nVmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n"
	got, err := parseUsage([]byte(stat), []byte(status))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Usage{RSS: 1 << 20, Peak: 2 << 20, CPU: 3 * time.Second}, got); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	if _, err := parseUsage([]byte("42 (cut) S 1"), nil); err == nil {
		t.Error("a line that was cut off was read")
	}
}

func TestWhoAsksWhomInEachMode(t *testing.T) {
	for name, test := range map[string]struct {
		o                   Options
		extenders           int
		reserves, publishes bool
	}{
		"with the extender":     {Options{Volumes: true, Extender: true, Capacity: true, Percentage: 100}, 1, true, true},
		"by capacity alone":     {Options{Volumes: true, Capacity: true}, 0, false, true},
		"without any volumes":   {Options{}, 0, false, false},
		"extender, no capacity": {Options{Volumes: true, Extender: true}, 1, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			test.o.Dir, test.o.Programs = t.TempDir(), map[string]string{Provision: "csi-provisioner", "open-local": "open-local"}
			p, err := New(test.o)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(p.file("scheduler.json"))
			if err != nil {
				t.Fatal(err)
			}
			var config struct {
				Extenders                []any
				PercentageOfNodesToScore int
			}
			if err := json.Unmarshal(text, &config); err != nil {
				t.Fatal(err)
			}
			if len(config.Extenders) != test.extenders || config.PercentageOfNodesToScore != test.o.Percentage {
				t.Errorf("the scheduler is told %s", text)
			}
			if got := slices.Contains(p.command(Controller), "--extender-address="+p.address(portReserve)); got != test.reserves {
				t.Errorf("the CSI controller asks the extender: %t", got)
			}
			if got := slices.Contains(p.command(Controller), "--publish-capacity="+WakeNamespace); got != test.publishes {
				t.Errorf("the CSI controller publishes capacity: %t", got)
			}
		})
	}
}

func TestAProgramThatEndsIsNoticed(t *testing.T) {
	p, err := launch(t.TempDir(), "short", nil, []string{"sh", "-c", "echo a last word; exit 3"})
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	want := "short ended (exit status 3); " + p.log + " ends with:\na last word"
	if err := p.ended(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAProgramIsStopped(t *testing.T) {
	p, err := launch(t.TempDir(), "long", nil, []string{"sleep", "1000"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ended(); err != nil {
		t.Fatal(err)
	}
	if usage, err := p.Usage(); err != nil || usage.RSS == 0 {
		t.Errorf("it takes %+v, %v", usage, err)
	}
	p.stop()
	if p.ended() == nil {
		t.Error("it runs on")
	}
}
