package provision

import (
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/pkg/capacity"
)

func TestPaceSaysHowFarACopyIs(t *testing.T) {
	clock := testclock.NewFakePassiveClock(time.Unix(1, 0))
	p := newPace(clock)
	for _, test := range []struct {
		after time.Duration
		done  capacity.Bytes
		logs  bool
		want  string
	}{
		{0, 0, false, "copied 0 of 20Gi (0 %), 0/s"},
		{2 * time.Second, 960 * capacity.MiB, false, "copied 960Mi of 20Gi (5 %), 480Mi/s"},
		{4500 * time.Millisecond, 3120 * capacity.MiB, true, "copied 3.0Gi of 20Gi (15 %), 480Mi/s"},
		{4 * time.Second, 3120*capacity.MiB + 1, false, "copied 3.0Gi of 20Gi (15 %), 297Mi/s"},
		{time.Second, 20 * capacity.GiB, true, "copied 20Gi of 20Gi (100 %), 1.7Gi/s"},
	} {
		clock.SetTime(clock.Now().Add(test.after))
		if logs := p.step(test.done, 20*capacity.GiB); logs != test.logs {
			t.Errorf("at %s: logs: %t", test.want, logs)
		}
		if got := p.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
